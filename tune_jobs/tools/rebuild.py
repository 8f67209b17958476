"""An ensemble whose file is damaged, built anew from the stored weights of its members."""

from typing import Any

from edgenes.checkpoint import read_json
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError
from edgenes.genotype import Genotype
from tune_jobs.final import HYPERNETWORK, file_digest, final_training
from tune_jobs.saved import SavedStudy
from tune_jobs.tools.folder import set_aside


def rebuild_ensemble(saved: SavedStudy, result: dict[str, Any]) -> None:
    """Write ensemble/ anew with the members of `result`, the files that are there set aside.

    The test part is not read. Raises DataError or StudyError if the data are not there, CheckpointError if the
    weights of a member are not.
    """
    folder, settings, data = saved.folder, saved.settings(), saved.data().without_test()
    repeats = range(max(saved.config.seeds_per_candidate, saved.config.ensemble_size))
    trainings = {training.seed: training for training in (final_training(settings, k) for k in repeats)}
    networks, configs = [], []
    for member in result["members"]:
        genotype, training = Genotype.from_dict(member["genotype"]), trainings.get(member["seed"])
        if training is None:
            raise CheckpointError(f"no training of the study has the seed {member['seed']} of a member.")
        key = settings.store.key(training, data, genotype)
        record = settings.store.find(key, weights=True)
        if record is None:
            raise CheckpointError(f"the weights of a member are not in predictions/{key}.pt: add --trials to go on.")
        networks.append(settings.store.network(record, training, data, genotype))
        configs.append(training)
    target = folder / "ensemble"
    try:
        card = read_json(target / "card.json")
    except CheckpointError:
        card = {name: result[name] for name in ("members", "validation", "test", "config", "device")}
        card |= {"dataset": data.name, "data": data.digest}
        card |= {"hypernetwork": file_digest(folder / HYPERNETWORK)}
    for name in ("ensemble.pt", "card.json"):
        if (target / name).exists():
            set_aside(target / name)
    Ensemble.of(networks, configs, data, card).save(target)
