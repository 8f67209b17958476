"""Optuna's cache of a database, for the one driver of a study: it reads again only what it has written itself.

Optuna reads every running trial again whenever it looks at the trials, which it does several times for each
suggestion: with hundreds of workers that alone takes seconds a trial. The study's lock says that nobody else writes to
those trials, so their newest state is known here. It writes what belongs together in one commit, since most of a
trial's price is the disk's, which a commit waits for.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import TrialState


class SoleWriterStorage(_CachedStorage):
    """The storage of a process that alone writes to its study's trials; those that another one adds are seen."""

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._written: set[int] = set()
        self._newest: dict[int, int] = {}  # by study: the highest trial id that was read
        self._together = False

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What this thread writes meanwhile is committed at once: all of it, or, after an exception, none.

        Raises StorageInternalError if it was not committed though nothing was raised.
        """
        if self._together:
            yield
            return
        sessions, before = self._backend.scoped_session, self._view()
        self._together = True
        try:
            with self._backend.engine.connect() as connection, connection.begin() as transaction:
                sessions.remove()
                # The sessions of Optuna's methods then commit into this transaction, and roll all of it back.
                sessions(bind=connection, join_transaction_mode="rollback_only")
                yield
                if not transaction.is_active:
                    raise StorageInternalError("one of several writes was rolled back, and with it the others")
        except BaseException:
            self._studies, self._trial_id_to_study_id_and_number, self._study_id_and_number_to_trial_id = before[:3]
            self._newest = before[3]
            raise
        finally:
            sessions.remove()
            self._together = False

    def _view(self) -> tuple[dict, dict, dict, dict]:
        with self._lock:
            studies = {key: copy.copy(study) for key, study in self._studies.items()}
            for study in studies.values():
                study.trials, study.param_distribution = dict(study.trials), dict(study.param_distribution)
            by_id, by_number = self._trial_id_to_study_id_and_number, self._study_id_and_number_to_trial_id
            return studies, dict(by_id), dict(by_number), dict(self._newest)

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
            if not self._together:  # else it may still be rolled back
                self._written -= {trial._trial_id for trial in trials}


def written_together(study: optuna.Study) -> contextlib.AbstractContextManager[None]:
    """One commit for what is written to a study meanwhile, where its storage can: a journal has a line for each."""
    storage = study._storage  # a private name: there is no public way to a study's storage
    return storage.together() if isinstance(storage, SoleWriterStorage) else contextlib.nullcontext()
