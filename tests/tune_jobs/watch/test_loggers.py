"""TensorBoard's and MLflow's own readers, and one of W&B's files, read what two drivers logged; no log ends a study."""

import json
import logging

import pytest
import torch  # noqa: F401  tensorboardX imports it, which starts ldconfig: not while a test runs

from edgenes.errors import ConfigError
from tune_jobs.messages import Report
from tune_jobs.watch import loggers as module
from tune_jobs.watch.loggers import Logs, check_loggers, log_result, tracking_uri

KINDS = ("tensorboard", "mlflow")
SCORES = {"accuracy": 0.9, "nll": 0.3}
RESULT = {"trials": 12, "control_error": 0.2, "validation": SCORES, "test": SCORES, "chosen": {"number": 3}}
LOGGED = {f"{part}/{name}": value for part in ("validation", "test") for name, value in SCORES.items()}
LOGGED |= {"control_error": 0.2}


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
    log_result(("tensorboard",), tmp_path, RESULT)

    def curves(place):
        events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / place)).Reload()
        return {
            name: [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]
            for name in events.Tags()["scalars"]
        }

    steps = (1, 2, 3, 4)
    assert curves("sweep/trial-3") == {"step": [(k, k) for k in steps], "loss": [(k, 1 / k) for k in steps]}
    assert curves("result/final-ensemble") == {name: [(12, value)] for name, value in LOGGED.items()}


@pytest.mark.slow  # MLflow takes seconds to be imported, and to make its database
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


def wandb_records(path):
    """The records of a .wandb file: chunks as in LevelDB's log, in blocks of 32 KiB, after seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, found, whole = path.read_bytes(), 7, [], b""
    while at + 7 < len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            found.append(Record.FromString(whole))
            whole = b""
    return found


@pytest.mark.e2e  # W&B starts a process
def test_what_two_drivers_wrote_has_one_name_in_wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="needs the package wandb")
    for name, value in {"WANDB_MODE": "offline", "HOME": str(tmp_path), "WANDB_ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(name, value)
    study = tmp_path / "study"
    study.mkdir()
    drive(study, "wandb", [1, 2], ends=False)
    drive(study, "wandb", [3, 4], failed=True)
    log_result(("wandb",), study, RESULT)
    wandb.teardown()
    runs, losses, codes = [], [], []
    for path in sorted(study.glob("wandb/*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        records = wandb_records(path)
        codes += [record.exit.exit_code for record in records if record.HasField("exit")]
        runs += [record.run for record in records if record.HasField("run")][:1]
        rows = [record.history.item for record in records if record.HasField("history")]
        for row in rows:
            values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row}
            if "loss" in values:
                losses.append((values["_step"], values["loss"]))
    assert losses == [(k, 1 / k) for k in (1, 2, 3, 4)]
    assert [run.display_name for run in runs] == ["trial 3", "trial 3", "final ensemble"]
    assert [run.run_group for run in runs] == ["sweep", "sweep", "result"]
    assert {run.project for run in runs} == {"study"}
    assert runs[0].run_id == runs[1].run_id != runs[2].run_id
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert {name: config[name] for name in ("trial", "c_end")} == {"trial": 3, "c_end": 2.5}
    assert codes == [0, 1, 0]
    assert values.items() >= (LOGGED | {"_step": 12}).items()


def test_a_server_is_taken_from_mlflows_own_variable(tmp_path, monkeypatch):
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(tmp_path) == "http://127.0.0.1:5000"


@pytest.mark.parametrize("kind", module.PACKAGES)
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
