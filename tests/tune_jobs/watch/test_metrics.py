"""What a study's metrics say on Ray's own endpoint, from a trial's start until it is forgotten."""

import math
import time
from urllib.error import URLError

import optuna
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.watching import get
from tune_jobs.execution.speed import Speed
from tune_jobs.messages import Report, Status
from tune_jobs.study.trials import ORIGIN, origin


@pytest.fixture
def scraped(ray_local):
    """Waits until the endpoint shows what is expected, {(metric without its prefix, tags): value}."""

    def endpoint():
        [node] = ray_local.nodes()
        text = get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics").decode()
        tags = ("study", "stage", "trial", "state", "status")
        return {
            (sample.name.removeprefix("ray_edgenes_"), *(sample.labels[tag] for tag in tags if tag in sample.labels)): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("ray_edgenes_")
        }

    def wait(expected):
        deadline = time.monotonic() + 60
        while True:
            try:
                found = endpoint()
            except (URLError, ConnectionError):
                found = {}
            if {key: found.get(key) for key in expected} == expected or time.monotonic() > deadline:
                return found
            time.sleep(0.3)

    return wait


def test_a_trials_numbers_are_shown_while_it_runs_and_go_with_it(scraped):
    from tune_jobs.watch.metrics import LINGER, Metrics

    study, now = optuna.create_study(direction="maximize"), [100.0]
    metrics = Metrics("s", study, clock=lambda: now[0])
    trial = study.ask()
    for name in ("trial 0", "trial 1"):
        metrics.started("sweep", name)
        metrics.reported("sweep", name, Report(step=3, steps=15, metrics={"c": 0.5, "loss": math.nan}, note="text"))
    key = ("s", "sweep", "trial 0")
    found = scraped({("trial_step", *key): 3, ("trials", "s", "running"): 1, ("reports_total", "s", "sweep"): 2})
    assert found["trial_step", *key] == 3 and found["trial_planned_steps", *key] == 15
    assert found["trial_penalty_weight", *key] == 0.5 and found["trial_gpu_memory_bytes", *key] == 0
    assert ("trial_loss_nats", *key) not in found and ("trial_temperature", *key) not in found
    assert found["reports_total", "s", "sweep"] == 2 and found["trial_running", *key] == 1
    assert ("best_value_ratio", "s") not in found

    trial.set_user_attr(ORIGIN, origin(None, trial.number))
    trial.set_constraint("control_error", 0.1)
    study.tell(trial, 0.75)
    metrics.ended("sweep", "trial 0", Status.COMPLETE)
    now[0] += LINGER
    metrics.fade()  # not yet
    found = scraped({("trial_running", *key): 0, ("best_value_ratio", "s"): 0.75})
    assert found["trial_running", *key] == 0 and found["trial_step", *key] == 3
    assert found["best_value_ratio", "s"] == 0.75 and found["trials", "s", "complete"] == 1
    assert found["trials", "s", "running"] == 0 and found["trials_ended_total", "s", "sweep", "complete"] == 1

    now[0] += 0.1
    metrics.fade()
    metrics.reported("sweep", "trial 1", Report(step=4))
    gone = ("trial_running", "trial_step", "trial_planned_steps", "trial_penalty_weight", "trial_gpu_memory_bytes")
    found = scraped({("trial_step", "s", "sweep", "trial 1"): 4, **{(metric, *key): None for metric in gone}})
    assert found["trial_step", "s", "sweep", "trial 1"] == 4
    assert not [metric for metric in gone if (metric, *key) in found]


def test_the_speed_of_an_epoch_leaves_out_what_came_before_it(monkeypatch):
    ticks = iter([0.0, 2.0, 10.0, 10.5])
    monkeypatch.setattr("tune_jobs.execution.speed.time.monotonic", lambda: next(ticks))
    speed = Speed(images=100, device="cpu")
    assert speed.measured() == {"images_per_second": 50.0}
    speed.restart()
    assert speed.measured() == {"images_per_second": 200.0}


def test_a_study_of_any_name_has_metrics():
    """Ray's tags are ASCII: it raised, and the sweep with it."""
    from tune_jobs.watch.metrics import Metrics

    metrics = Metrics('ü\n"', optuna.create_study())
    metrics.started("search", "trial 0")
    metrics.reported("search", "trial 0", Report(metrics={"loss": 1.0}))
    metrics.ended("search", "trial 0", Status.COMPLETE)
