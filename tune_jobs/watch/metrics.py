"""Numbers of a running study on Ray's Prometheus endpoint, all from the driver; Ray puts `ray_` before each name."""

import math
import time
from collections import Counter as Counted
from collections.abc import Callable

import optuna
from ray.util.metrics import Counter, Gauge

from tune_jobs.messages import Report, Status
from tune_jobs.study.trials import best_trial

LINGER = 30.0
"""Seconds for which an ended trial keeps its last values, so that each is scraped."""
TRIAL_GAUGES = {
    "edgenes_trial_step": ("step", "Steps of the trial that are done: epochs and candidates."),
    "edgenes_trial_planned_steps": ("steps", "Steps that the trial has."),
    "edgenes_trial_loss_nats": ("loss", "Cross-entropy of the last epoch."),
    "edgenes_trial_accuracy_ratio": ("intermediate", "Mean validation accuracy of the candidates retrained so far."),
    "edgenes_trial_control_error_edges": ("control_error", "Mean distance of shared edges from lambda."),
    "edgenes_trial_penalty_weight": ("c", "Weight c of the shared-edge penalty."),
    "edgenes_trial_temperature": ("temperature", "Temperature t of the draws."),
    "edgenes_trial_parameter_free_edges": ("parameter_free", "Pools and skips of the search's present genotype."),
    "edgenes_trial_operation_entropy_ratio": ("operation_entropy", "Entropy of its operations, 1 where all are alike."),
    "edgenes_trial_images_per_second": ("images_per_second", "Training images a second, in the last epoch."),
    "edgenes_trial_gpu_memory_bytes": ("gpu_memory_bytes", "The most GPU memory that the trial's worker reserved."),
}
"""A trial's gauges by name: what it shows of a report, and what it means."""
_TRIAL = ("study", "stage", "trial")
_RUNNING = "edgenes_trial_running"


class Metrics:
    """A study's gauges and counters; made once Ray runs.

    `edgenes_trial_running` is 1 for a running trial and 0 from its end on. `LINGER` later its gauges are taken from
    the endpoint, for which Ray has no call: it leaves out a gauge whose value is NaN.
    """

    def __init__(self, name: str, study: optuna.Study | None = None, clock: Callable[[], float] = time.monotonic):
        self._study, self._clock = study, clock
        self._name = name.encode("unicode_escape").decode()  # Ray's tags are ASCII, and a line of the endpoint is one
        self._gauges = {metric: Gauge(metric, text, _TRIAL) for metric, (_, text) in TRIAL_GAUGES.items()}
        self._gauges[_RUNNING] = Gauge(_RUNNING, "1 while the trial runs, 0 once it has ended.", _TRIAL)
        self._best = Gauge("edgenes_best_value_ratio", "Value of the best trial so far.", ("study",))
        self._trials = Gauge("edgenes_trials", "Trials of the Optuna study by state.", ("study", "state"))
        self._reports = Counter("edgenes_reports", "Reports of trials.", ("study", "stage"))
        self._ends = Counter("edgenes_trials_ended", "Trials that ended, by how.", ("study", "stage", "status"))
        self._shown: dict[tuple[str, str], set[str]] = {}
        self._ended: dict[tuple[str, str], float] = {}

    def started(self, stage: str, trial: str) -> None:
        """A trial began, or began again."""
        self._ended.pop((stage, trial), None)
        self._set(_RUNNING, 1, stage, trial)
        self.study()

    def reported(self, stage: str, trial: str, report: Report) -> None:
        """Show the numbers of a trial's report."""
        self._reports.inc(1, {"study": self._name, "stage": stage})
        numbers = {"gpu_memory_bytes": 0, **report.record()}  # a trial on the CPU holds none
        for metric, (key, _) in TRIAL_GAUGES.items():
            value = numbers.get(key)
            if isinstance(value, int | float) and math.isfinite(value):
                self._set(metric, value, stage, trial)

    def ended(self, stage: str, trial: str, status: Status) -> None:
        """Count how a trial ended, and let its values go after a while."""
        self._ends.inc(1, {"study": self._name, "stage": stage, "status": status.value})
        self._set(_RUNNING, 0, stage, trial)
        self._ended[stage, trial] = self._clock()
        self.study()

    def study(self) -> None:
        """Show the Optuna study's trials by state, and its best value once there is one."""
        if self._study is None:
            return
        states = Counted(trial.state.name for trial in self._study.get_trials(deepcopy=False))
        for state in optuna.trial.TrialState:
            self._trials.set(states[state.name], {"study": self._name, "state": state.name.lower()})
        best = best_trial(self._study)
        if best is not None:
            self._best.set(best[0].values[0], {"study": self._name})

    def fade(self) -> None:
        """Take away the gauges of trials that ended more than `LINGER` ago."""
        late = self._clock() - LINGER
        for stage, trial in [key for key, end in self._ended.items() if end < late]:
            del self._ended[stage, trial]
            for metric in self._shown.pop((stage, trial)):
                self._gauges[metric].set(math.nan, self._tags(stage, trial))

    def _set(self, metric: str, value: float, stage: str, trial: str) -> None:
        self._gauges[metric].set(value, self._tags(stage, trial))
        self._shown.setdefault((stage, trial), set()).add(metric)

    def _tags(self, stage: str, trial: str) -> dict[str, str]:
        return {"study": self._name, "stage": stage, "trial": trial}
