"""From the finalists to the ensemble, without Ray: what is retrained fully, which hypernetwork wins, what it gives."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from edgenes.baselines import logistic_regression
from edgenes.candidates import Candidate
from edgenes.checkpoint import read_bytes, read_json, read_text
from edgenes.config import TrainingConfig
from edgenes.data import Dataset, Part
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError, ConfigError, StudyError
from edgenes.genotype import Genotype, random_genotypes, shared_edges
from edgenes.hypernetwork import Hypernetwork, control_error
from edgenes.metrics import ensemble_probabilities, summary
from edgenes.network import Network
from edgenes.seeds import stable_seed
from edgenes.selection import Selection, cross_fitted, select_affordable
from edgenes.training import predict
from edgenes.untrusted import reason, shown
from tune_jobs.config import SweepConfig
from tune_jobs.environment import environment
from tune_jobs.remote import StudyFiles
from tune_jobs.store import Retrained
from tune_jobs.study import feasible, finalists, trial_seed
from tune_jobs.trial import TrialSettings, trial_candidates

TEST_READS = "test_reads.jsonl"
HYPERNETWORK = "hypernetwork/hypernetwork.pt"
"""The hypernetwork that was chosen, in the study's folder."""
FINALISTS = "hypernetwork/finalists.json"
_SCORES = ("accuracy", "standard_error", "nll", "ece")


@dataclass(frozen=True)
class Finalist:
    """A trial that may win: its number, seed and value."""

    number: int
    seed: int
    value: float

    def candidates(self, settings: TrialSettings) -> list[Candidate]:
        """The candidates that the trial was valued on."""
        return trial_candidates(settings.config, Hypernetwork.load(settings.hypernetwork(self.number)), self.seed)


def finalist_entries(study: optuna.Study, config: SweepConfig) -> list[Finalist]:
    """The finalists among the trials that are complete now, best first; one only where none is feasible."""
    chosen = finalists(study, config.finalists)
    if chosen and not feasible(chosen[0]):
        chosen = chosen[:1]
    return [Finalist(trial.number, trial_seed(config.seed, trial.number), trial.values[0]) for trial in chosen]


@dataclass(frozen=True)
class Job:
    """One full retraining: a genotype and which of the study's training seeds."""

    genotype: Genotype
    repeat: int
    label: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a worker."""
        return {"genotype": self.genotype.to_dict(), "repeat": self.repeat, "label": self.label}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def random_baseline(settings: TrialSettings) -> list[Genotype]:
    """As many distinct random genotypes as a hypernetwork gives candidates."""
    config = settings.config
    generator = torch.Generator().manual_seed(stable_seed("random genotypes", config.seed))
    return random_genotypes(config.space, config.candidates, generator)


def retraining_jobs(settings: TrialSettings, entries: list[Finalist]) -> list[Job]:
    """All full retrainings that the end of a study needs, each once: finalists' candidates, then the baselines."""
    config = settings.config
    jobs = [
        Job(candidate.genotype, repeat, f"trial {finalist.number}, lambda {candidate.lam:.2f}")
        for finalist in entries
        for candidate in finalist.candidates(settings)
        for repeat in range(config.seeds_per_candidate)
    ]
    if config.baselines:
        jobs += [Job(settings.optimal, repeat, "optimal genotype") for repeat in range(config.ensemble_size)]
        jobs += [
            Job(genotype, repeat, "random genotype")
            for genotype in random_baseline(settings)
            for repeat in range(config.seeds_per_candidate)
        ]
    distinct: dict[tuple[Genotype, int], Job] = {}
    for job in jobs:
        distinct.setdefault((job.genotype, job.repeat), job)
    return list(distinct.values())


def final_training(settings: TrialSettings, repeat: int) -> TrainingConfig:
    """Configuration of a full retraining."""
    return settings.config.training_config(settings.config.final_epochs, repeat, settings.device)


@dataclass(frozen=True)
class Pool:
    """Fully retrained networks from which an ensemble is chosen: what they are and what they predict on V."""

    genotypes: list[Genotype]
    lams: list[float | None]
    repeats: list[int]
    records: list[Retrained]

    @property
    def predictions(self) -> np.ndarray:
        """Probabilities (networks, samples, classes) on V, in memory once."""
        return self.of(range(len(self.records)))

    def of(self, members: Sequence[int]) -> np.ndarray:
        """The probabilities of some of the networks, by position."""
        shape = (len(members), *self.records[members[0]].log_probabilities.shape) if members else (0, 0, 0)
        found = np.empty(shape)
        for row, k in zip(found, members, strict=True):
            row[:] = self.records[k].probabilities
        return found


def pool_of(settings: TrialSettings, data: Dataset, jobs: list[tuple[Genotype, float | None, int]]) -> Pool:
    """The stored retrainings of (genotype, lambda, repeat); one that failed (it is not there) is left out.

    Their weights stay where they are: only those of an ensemble's members are needed, and later.
    """
    found = []
    for genotype, lam, repeat in jobs:
        key = settings.store.key(final_training(settings, repeat), data, genotype)
        record = settings.store.find(key, weights=True)
        if record is not None:
            found.append((genotype, lam, repeat, replace(record, weights=None)))
    return Pool(*(list(column) for column in zip(*found, strict=True))) if found else Pool([], [], [], [])


def finalist_pool(settings: TrialSettings, data: Dataset, finalist: Finalist) -> Pool:
    """The fully retrained candidates of a finalist."""
    repeats = range(settings.config.seeds_per_candidate)
    candidates = finalist.candidates(settings)
    return pool_of(settings, data, [(c.genotype, c.lam, r) for c in candidates for r in repeats])


def choose_finalist(settings: TrialSettings, data: Dataset, entries: list[Finalist]) -> tuple[Finalist, list[dict]]:
    """The finalist whose fully retrained candidates give the best cross-fitted ensemble on V, and all their values.

    Ties go to the better value in the sweep, in whose order the finalists come. Raises StudyError if no finalist
    has enough retrained candidates.
    """
    size = settings.config.ensemble_size
    table, best = [], None
    for finalist in entries:
        pool = finalist_pool(settings, data, finalist)
        row = {"trial": finalist.number, "sweep_value": finalist.value, "networks": len(pool.records)}
        if len(pool.records) >= size:
            worth = cross_fitted(pool.predictions, data.validation.labels, size, settings.config.criterion)
            row |= {"value": worth.accuracy, "standard_error": worth.standard_error, "nll": worth.nll}
            if best is None or worth.accuracy > best[0]:
                best = worth.accuracy, finalist
        table.append(row)
    if best is None:
        raise StudyError(
            f"no finalist has {size} retrained candidates: see the failed retrainings above. Free memory, lower "
            "--channels or --batch-size, and run the command again."
        )
    return best[1], table


def read_test(data: Dataset, files: StudyFiles, purpose: str) -> Part:
    """The test part, after noting in the study's files that it is read: whoever reads it twice leaves a trace."""
    path = files.fetch(TEST_READS, fresh=True)
    cut_off = path.exists() and read_bytes(path)[-1:] not in (b"", b"\n")  # by a full disk
    with open(path, "a", encoding="utf-8") as file:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write("\n" * cut_off + json.dumps({"time": now, "purpose": purpose, "data": data.digest}) + "\n")
    files.publish(TEST_READS)
    return data.test


def test_reads(folder: Path, strict: bool = False) -> int:
    """How often the study has read its test part; a damaged line counts, or is a CheckpointError if `strict`."""
    path = folder / TEST_READS
    read = read_text if strict else read_bytes
    return len(read(path).splitlines()) if path.exists() else 0


@dataclass(frozen=True)
class _Evaluator:
    """Scores networks and probabilities on V and on T."""

    settings: TrialSettings
    data: Dataset
    test: Part

    def networks(self, pool: Pool, members: list[int]) -> list[Network]:
        settings, store = self.settings, self.settings.store
        found = []
        for k in members:
            record = store.find(pool.records[k].key, weights=True)
            if record is None:
                raise CheckpointError(
                    f"{store.folder / pool.records[k].key}.pt was removed or damaged meanwhile: run the command again."
                )
            training = final_training(settings, pool.repeats[k])
            found.append(store.network(record, training, self.data, pool.genotypes[k]))
        return found

    def on_test(self, networks: list[Network]) -> np.ndarray:
        """Probabilities (networks, samples, classes) on T."""
        return np.stack([np.exp(predict(n, self.test, self.data, self.settings.device)) for n in networks])

    def scores(self, validation: np.ndarray, test: np.ndarray) -> dict[str, dict[str, float]]:
        """{"validation": {...}, "test": {...}} of probabilities (samples, classes)."""
        return {
            "validation": _metrics(validation, self.data.validation.labels),
            "test": _metrics(test, self.test.labels),
        }

    def ensemble(self, pool: Pool, members: list[int]) -> dict[str, Any]:
        """Scores of the ensemble of the pool's `members`, by position."""
        test = self.on_test(self.networks(pool, members))
        return self.scores(ensemble_probabilities(pool.of(members)), ensemble_probabilities(test))


def _metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    found = summary(probabilities, labels)
    error = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / len(labels))
    return {**found, "standard_error": float(error)}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def final_ensemble(settings: TrialSettings, data: Dataset, finalist: Finalist, digest: str) -> dict[str, Any]:
    """The final trial: choose the ensemble of the best hypernetwork's candidates on V, read T once, save all.

    Reads HYPERNETWORK and writes `ensemble/` among the study's files, and returns the part of result.json that it
    decides. Raises CheckpointError if the hypernetwork's file is not the one with this digest.
    """
    config = settings.config
    hypernetwork = settings.files.fetch(HYPERNETWORK, fresh=True)
    if file_digest(hypernetwork) != digest:
        raise CheckpointError(f"{hypernetwork} is not the hypernetwork that was chosen: its SHA-256 is not {digest}.")
    error = control_error(Hypernetwork.load(hypernetwork), settings.optimal)
    labels = data.validation.labels
    pool = finalist_pool(settings, data, finalist)
    selection = select_affordable(pool.predictions, labels, config.ensemble_size, config.criterion)
    test = read_test(data, settings.files, f"final ensemble of trial {finalist.number}")
    target = settings.folder / "ensemble"
    chosen = save_ensemble(settings, data, pool, selection, test, target, {"hypernetwork": digest})
    for path in target.iterdir():
        settings.files.publish(f"ensemble/{path.name}")
    return {
        "control_error": error,
        **chosen,
        "baseline": _baselines(_Evaluator(settings, data, test), chosen["members"]),
        "test_reads": test_reads(settings.folder),
    }


def save_ensemble(
    settings: TrialSettings,
    data: Dataset,
    pool: Pool,
    selection: Selection,
    test: Part,
    folder: Path,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Save the pool's selected networks as an ensemble in `folder`, `about` (plain values) in its card.

    Returns what they are worth: {"selection", "members", "validation", "test"}.
    """
    members = list(selection.members)
    evaluate = _Evaluator(settings, data, test)
    networks = evaluate.networks(pool, members)
    on_test = evaluate.on_test(networks)
    validation = pool.of(members)
    rows = [
        {
            "digest": pool.genotypes[k].digest,
            "lambda": pool.lams[k],
            "shared": shared_edges(pool.genotypes[k], settings.optimal),
            "seed": final_training(settings, pool.repeats[k]).seed,
            "genotype": pool.genotypes[k].to_dict(),
            **evaluate.scores(validation[i], on_test[i]),
        }
        for i, k in enumerate(members)
    ]
    scores = evaluate.scores(ensemble_probabilities(validation), ensemble_probabilities(on_test))
    card = {
        "dataset": data.name,
        "data": data.digest,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **about,
        "members": rows,
        **scores,
        "config": settings.config.to_dict(),
        "environment": environment(),
        "device": settings.device,
    }
    configs = [final_training(settings, pool.repeats[k]) for k in members]
    Ensemble.of(networks, configs, data, card).save(folder)
    found = {
        "criterion": selection.criterion,
        "score": selection.score,
        "proven_optimal": selection.proven_optimal,
        "networks": len(pool.records),
    }
    return {"selection": found, "members": rows, **scores}


def _baselines(evaluate: _Evaluator, members: list[dict[str, Any]]) -> dict[str, Any]:
    """What the ensemble stands beside, each chosen on V alone."""
    settings, data = evaluate.settings, evaluate.data
    config, labels = settings.config, data.validation.labels
    best = min(members, key=lambda row: row["validation"]["nll"])
    parts = ("validation", "test")
    found = {
        "mean_member": {part: _mean([row[part] for row in members]) for part in parts},
        "best_member": {part: best[part] for part in parts},
    }
    if not config.baselines:
        return found
    found["logistic_regression"] = evaluate.scores(*logistic_regression(data, [data.validation, evaluate.test]))
    repeats = range(config.ensemble_size)
    optimal = pool_of(settings, data, [(settings.optimal, None, r) for r in repeats])
    if optimal.records:
        found["optimal_ensemble"] = evaluate.ensemble(optimal, list(range(len(optimal.records))))
    seeds = range(config.seeds_per_candidate)
    rivals = pool_of(settings, data, [(g, None, r) for g in random_baseline(settings) for r in seeds])
    if len(rivals.records) >= config.ensemble_size:
        chosen = select_affordable(rivals.predictions, labels, config.ensemble_size, config.criterion)
        found["random_ensemble"] = evaluate.ensemble(rivals, list(chosen.members))
    return found


def archive_result(folder: Path) -> None:
    """Keep result.json as the next free result-K.json before it is written anew."""
    path = folder / "result.json"
    if path.exists():
        k = 1
        while (folder / f"result-{k}.json").exists():
            k += 1
        path.rename(folder / f"result-{k}.json")


def read_result(folder: Path) -> dict[str, Any] | None:
    """result.json, or None without one; raises CheckpointError if it is damaged or not a whole result."""
    path = folder / "result.json"
    if not path.exists():
        return None
    result = read_json(path)
    try:
        _check_result(result)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{path} is no result of a study: {reason(error)}.") from error
    return result


def _check_result(result: dict[str, Any]) -> None:
    """Raise KeyError, TypeError, AttributeError or ConfigError unless the result has all that its readers ask for."""
    best, members = result["best_trial"], result["members"]
    _all((int,), result["trials"], best["number"], result["test_reads"], *(member["seed"] for member in members))
    _all((dict,), best["params"], result["config"])
    numbers = [best["value"], result["control_error"], *result["seconds"].values()]
    for scores in (result, *members, *result["baseline"].values()):
        test = scores["test"]
        numbers += [scores["validation"]["accuracy"], *(test[name] for name in _SCORES)]
    _all((int, float), *numbers)
    Genotype.from_dict(result["optimal"])
    for member in members:
        if Genotype.from_dict(member["genotype"]).digest != member["digest"]:
            raise TypeError(f"{shown(member['digest'])} is not the digest of the member's genotype")


def _all(types: tuple[type, ...], *values: Any) -> None:
    for value in values:
        if type(value) not in types:
            raise TypeError(f"{shown(value)} is no {' or '.join(each.__name__ for each in types)}")


def finished(folder: Path, trials: int) -> dict[str, Any] | None:
    """The result of a study that is finished with at least `trials` trials, or None."""
    try:
        result = read_result(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error} See what python -m tune_jobs doctor {folder} says.") from error
    return result if result is not None and result["trials"] >= trials else None
