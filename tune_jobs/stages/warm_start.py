"""What a study takes of an earlier one: trials that teach its sampler, and the search where it would be the same."""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from edgenes.checkpoint import read_bytes, write_bytes
from edgenes.errors import ConfigError
from edgenes.predictor import PerformancePredictor
from tune_jobs.config.composition import flat
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.layout import GENOTYPE, PREDICTOR
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.study.saved import SavedStudy, open_saved, stored_genotype
from tune_jobs.study.space import misfit, search_space
from tune_jobs.study.trials import IDENTIFIER, ORIGIN, origin, own_trials

_KEPT = ("control_error", "standard_error", "c_start", "t_end")
_VALUE = ("value", "objectives")
_OUTSIDE = ("sampler", "pruner", "finalists", "seeds_per_candidate", "final_epochs", "baselines")
"""Options that change no value of a trial."""
_SEARCH = ("guide", "optimal", "survey", "survey_epochs", "search_epochs", "short_epochs", "final_epochs")
"""Options of the search beside those of networks and supernet; the seed may differ."""


def earlier_study(config: SweepConfig) -> SavedStudy | None:
    """The study of --warm-start; raises ConfigError, StudyError or CheckpointError if it cannot teach this one."""
    if config.warm_start is None:
        return None
    source = open_saved(config.warm_start)
    if source.folder == config.folder:
        raise ConfigError(f"--warm-start: {source.folder} is this study itself: give the folder of another one.")
    ours, theirs = config.defining(), source.config.defining()
    for name in _VALUE:
        if ours[name] != theirs[name]:
            raise ConfigError(
                f"--warm-start: the trials of {source.folder} have --{name} {_words(theirs[name])}, not "
                f"{_words(ours[name])}: they teach nothing here. Give the same --{name}, or another study."
            )
    return source


def teach(study: optuna.Study, config: SweepConfig, source: SavedStudy, data: str) -> str:
    """Add the complete trials of `source` that the study does not have yet; returns a line on what they are.

    `data` is the digest of the study's data. They are none of the study's own: no finalists, and not of its --trials.
    """
    space = search_space(config.search.estimator)
    source.trials()  # raises StudyError where the storage cannot be read
    complete = own_trials(source.study, TrialState.COMPLETE)
    fitting = [trial for trial in complete if misfit(trial, space) is None and space.keys() <= trial.params.keys()]
    known = {trial.user_attrs.get(ORIGIN) for trial in study.get_trials(deepcopy=False)}
    identifier = source.study.user_attrs.get(IDENTIFIER) or str(source.folder)
    lessons = [_lesson(trial, space, origin(identifier, trial.number)) for trial in fitting]
    study.add_trials([trial for trial in lessons if trial.user_attrs[ORIGIN] not in known])
    line = f"Warm start: {len(fitting)} complete trials of {source.folder} teach the sampler"
    if len(fitting) < len(complete):
        line += f", {len(complete) - len(fitting)} with other parameters do not"
    other = _differences(_scoring(config), _scoring(source.config), data, source.data_digest)
    return f"{line}. Their values come from other settings: {', '.join(other)}." if other else f"{line}."


def take_search(files: StudyFiles, config: SweepConfig, source: SavedStudy, data: str) -> str | None:
    """Take the optimal genotype and the predictor of `source` where the same search on the same data found them.

    Returns a line on it; None where there is nothing to take, or the study has its own already.
    """
    found = any(files.fetch(name).exists() for name in (GENOTYPE, PREDICTOR))
    if found or not (source.folder / GENOTYPE).exists():
        return None
    ours, theirs = _searching(config), _searching(source.config)
    if other := _differences(ours, theirs, data, source.data_digest):
        return f"The optimal genotype of {source.folder} is not taken: it comes from other {', '.join(other)}."
    stored_genotype(source.folder, config.space)
    if config.guided:
        PerformancePredictor.load(source.folder / PREDICTOR)
    for name in (PREDICTOR, GENOTYPE) if config.guided else (GENOTYPE,):
        write_bytes(files.folder / name, read_bytes(source.folder / name))
        files.publish(name)
    return f"The optimal genotype{' and the predictor are those' if config.guided else ' is that'} of {source.folder}."


def _lesson(trial: FrozenTrial, space: dict[str, BaseDistribution], came_from: str) -> FrozenTrial:
    """A trial as another study learns from it: without its files, its process and its pictures."""
    kept = {name: trial.user_attrs[name] for name in _KEPT if name in trial.user_attrs}
    return create_trial(
        values=trial.values,
        params={name: trial.params[name] for name in space},
        distributions=space,
        user_attrs=kept | {ORIGIN: came_from},
        system_attrs={name: value for name, value in trial.system_attrs.items() if name.startswith("constraints")},
    )


def _scoring(config: SweepConfig) -> dict[str, Any]:
    return {name: value for name, value in config.defining().items() if name not in _OUTSIDE}


def _searching(config: SweepConfig) -> dict[str, Any]:
    names = {*flat(config.networks), *flat(config.search), *_SEARCH}
    return {name: value for name, value in config.defining().items() if name in names}


def _differences(ours: dict[str, Any], theirs: dict[str, Any], data: str, source_data: str) -> list[str]:
    """The names of what differs, the seed apart."""
    names = [name for name in sorted({*ours} | {*theirs}) if name != "seed" and ours.get(name) != theirs.get(name)]
    return (["data"] if data != source_data else []) + names


def _words(value: Any) -> str:
    return " ".join(value) if isinstance(value, list | tuple) else str(value)
