"""Optuna's cache of a database, for the one driver of a study: it reads again only what it has written itself.

Optuna reads every running trial again whenever it looks at the trials, which it does several times for each
suggestion: with hundreds of workers that alone takes seconds a trial. The study's lock says that nobody else writes to
those trials, so their newest state is known here.
"""

from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage

# A private name: the public storages have no way to say that there is no other writer.
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import TrialState


class SoleWriterStorage(_CachedStorage):
    """The storage of a process that alone writes to its study's trials; those that another one adds are seen."""

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._written: set[int] = set()
        self._newest: dict[int, int] = {}  # by study: the highest trial id that was read

    def set_trial_param(self, trial_id: int, param_name: str, value: float, distribution: BaseDistribution) -> None:
        super().set_trial_param(trial_id, param_name, value, distribution)
        self._written.add(trial_id)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        self._written.add(trial_id)
        return changed

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._written.add(trial_id)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, value)
        self._written.add(trial_id)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)
        self._written.add(trial_id)

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if study_id not in self._newest:
            super()._read_trials_from_remote_storage(study_id)
        with self._lock:
            newest = self._newest.setdefault(study_id, -1)
            trials = self._backend._get_trials(
                study_id, states=None, included_trial_ids=self._written, trial_id_greater_than=newest
            )
            self._add_trials_to_cache(study_id, trials)
            self._newest[study_id] = max([newest, *(trial._trial_id for trial in trials)])
            self._written -= {trial._trial_id for trial in trials}
