"""Stage 1: the optimal genotype."""

import time
from pathlib import Path
from typing import Any

from edgenes.checkpoint import write_text
from edgenes.errors import ConfigError
from edgenes.methods.budget import Setting
from edgenes.methods.cost import search_work
from edgenes.methods.halving import best_by_halving
from edgenes.metrics import accuracy
from edgenes.space.genotype import Genotype, SearchSpace
from tune_jobs.errors import StudyError
from tune_jobs.execution.jobs import Bench, Job, run_jobs
from tune_jobs.execution.run import Run
from tune_jobs.files.layout import GENOTYPE
from tune_jobs.files.workplace import Workplace
from tune_jobs.study.saved import stored_genotype

RANDOM_RIVALS = 6
"""Random genotypes that stand beside the searched one."""


def search_stage(run: Run, place: Workplace, setting: Setting, optimal: str, baselines: bool) -> Genotype:
    """Stage 1: the optimal genotype, found once, or the user's own; kept in search/genotype.json.

    `optimal` is "darts", "halving", or the path of a genotype's JSON file.
    """
    path = place.files.fetch(GENOTYPE)
    if path.exists():
        return stored_genotype(run.folder, setting.space)
    if optimal in ("darts", "halving"):
        job = {"name": optimal, "seed": setting.seed}
        results = run_jobs(run, place, setting, "search", search_job, [job], unit="search", baselines=baselines)
        if results.failed:
            raise StudyError(f"the search failed: {results.failed[0].reason}")
        run.progress.say(results.found[0]["summary"])
        genotype = Genotype.from_dict(results.found[0]["genotype"])
    else:
        genotype = read_genotype(Path(optimal), setting.space)
    write_text(path, genotype.to_json() + "\n")
    place.files.publish(GENOTYPE)
    return genotype


def read_genotype(path: Path, space: SearchSpace) -> Genotype:
    """The user's optimal genotype; raises ConfigError if it is no genotype of the study's space."""
    try:
        genotype = Genotype.from_json(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"--optimal must be darts, halving or a genotype file; {path} cannot be read: {error.strerror}."
        ) from error
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"--optimal must be darts, halving or a genotype file; {path}: {error}") from error
    if genotype.space != space:
        raise ConfigError(
            f"the genotype in {path} has {genotype.space.nodes} nodes with {genotype.space.inputs_per_node} inputs, "
            f"the study has {space.nodes} with {space.inputs_per_node}: give --nodes and --inputs-per-node alike."
        )
    return genotype


def search_job(job: Job, bench: Bench, baselines: bool) -> dict[str, Any]:
    """Search the optimal genotype; beside it the cheapest rival, random genotypes retrained as shortly as it."""
    setting, trainer, start = bench.setting, bench.trainer, time.monotonic()
    halving = job["name"] == "halving"
    if halving:  # what a search of the same operations pays for
        genotype = best_by_halving(setting, trainer, search_work(setting.search_config(), bench.data))
    else:
        genotype = trainer.search(setting.search_config()).genotype
    summary = f"Optimal genotype: {genotype} ({time.monotonic() - start:.0f} s)."
    if baselines:
        # Halving chose by the first retraining's score, which would flatter its choice.
        rivals = setting.random_genotypes(min(RANDOM_RIVALS, setting.space.genotypes))
        scores = []
        for one in (genotype, *rivals):
            config = setting.training_config(one, repeat=int(halving), epochs=setting.short_epochs)
            scores.append(accuracy(trainer.retrain(config, one).probabilities, bench.data.validation.labels))
        summary += (
            f" After {setting.short_epochs} epochs of retraining its validation accuracy is {scores[0]:.3f}; "
            f"{len(rivals)} random genotypes: mean {sum(scores[1:]) / len(rivals):.3f}, best {max(scores[1:]):.3f}."
        )
    return {"genotype": genotype.to_dict(), "summary": summary}
