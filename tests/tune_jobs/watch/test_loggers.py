"""TensorBoard's and MLflow's own readers read what a study logged, over two drivers, and no log ends a study."""

import logging

import pytest

from edgenes.errors import ConfigError
from tune_jobs.messages import Report
from tune_jobs.watch import loggers as module
from tune_jobs.watch.loggers import Logs, check_loggers, tracking_uri

KINDS = ("tensorboard", "mlflow")


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def drive(folder, kind, steps, ends=True, failed=False, number=3):
    """One driver: the trial goes through `steps` and ends, or does not end."""
    logs, name = Logs((kind,), folder, "sweep"), f"trial {number}"
    params = {"c_end": 2.5, "pivots": 4}
    logs.started(name, {"trial": number, "seed": 11, "attempt": 1, "checkpoint": None, "params": params})
    for step in steps:
        logs.reported(name, Report(step=step, metrics={"loss": 1 / step}, note="text"))
    logs.reported(name, Report(metrics={"loss": 99.0}))  # without a step
    if ends:
        logs.ended(name, failed)
    logs.close()


def test_what_two_drivers_wrote_is_one_trial_in_tensorboard(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the package tensorboard"
    )
    drive(tmp_path, "tensorboard", [1, 2], ends=False)
    drive(tmp_path, "tensorboard", [3, 4])
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "sweep" / "trial-3")).Reload()
    losses = events.Scalars("loss")
    assert [(event.step, event.value) for event in losses] == [(k, pytest.approx(1 / k)) for k in (1, 2, 3, 4)]
    assert set(events.Tags()["scalars"]) == {"loss", "step"}


def test_what_two_drivers_wrote_is_one_run_in_mlflow(tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking", reason="needs the package mlflow-skinny")
    monkeypatch.chdir(tmp_path / "..")
    drive(tmp_path, "mlflow", [1, 2], ends=False)
    drive(tmp_path, "mlflow", [3, 4])
    drive(tmp_path, "mlflow", [1], failed=True, number=4)
    client = tracking.MlflowClient(tracking_uri(tmp_path))
    experiment = client.get_experiment_by_name(tmp_path.name).experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert {name: run.info.status for name, run in runs.items()} == {"trial 3": "FINISHED", "trial 4": "FAILED"}
    run = runs["trial 3"]
    assert run.data.tags["stage"] == "sweep"
    assert run.data.params == {"trial": "3", "seed": "11", "c_end": "2.5", "pivots": "4"}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(k, 1 / k) for k in (1, 2, 3, 4)]
    assert not (tmp_path.parent / "mlruns").exists()  # nothing outside of the study's folder


def test_a_server_is_taken_from_mlflows_own_variable(tmp_path, monkeypatch):
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(tmp_path) == "http://127.0.0.1:5000"


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_package_is_named_before_anything_runs(kind, monkeypatch):
    check_loggers(KINDS)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"--log {kind} needs .* pip install {module.PACKAGES[kind][1]}"):
        check_loggers((kind,))
    check_loggers(())


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_that_cannot_be_written_says_so_once_and_stops(kind, tmp_path, caplog):
    (tmp_path / kind).write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        drive(tmp_path, kind, [1, 2, 3])
    assert [record.message.partition(":")[0] for record in caplog.records] == [f"--log {kind} ends here"]


def test_a_stage_without_curves_logs_nothing(tmp_path):
    Logs(KINDS, tmp_path, "finalists").started("trial 0", {})
    assert not list(tmp_path.iterdir())
