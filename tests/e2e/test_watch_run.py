"""A running study, looked at from outside: Ray's dashboard, Prometheus, optuna-dashboard, TensorBoard, MLflow."""

import json
import shutil
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.servers import only_where_asked
from tests.support.watching import Seen, dashboard_panels, watch
from tune_jobs.watch.loggers import tracking_uri

# The search is long enough to be seen on a busy machine.
OPTIONS = (
    "--smoke-test --guide supernet --search-epochs 20 --trials 1 --no-baselines --dashboard --log tensorboard mlflow"
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Seen:
    pytest.importorskip("mlflow", reason="needs the package mlflow-skinny")
    ray = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets need a short path
    try:
        found = watch(tmp_path_factory.mktemp("watched"), ray, *OPTIONS.split(), RAY_metrics_report_interval_ms="1000")
    finally:
        shutil.rmtree(ray, ignore_errors=True)
    assert found.status == 0, found.out.with_suffix(".log").read_text()
    return found


def test_ray_knows_the_study_by_name(seen):
    names = {name for kind, name in seen.actors if kind == "sweep_trial" and name}  # one that begins has none
    assert names == {"study sweep"}
    assert {"ray::study search darts", "ray::study sweep trial 0"} <= {title for title in seen.titles}
    [job] = seen.jobs
    assert job["metadata"]["study"] == "study" and job["metadata"]["folder"] == str(seen.out)
    assert job["metadata"]["dataset"] == "digits" and job["metadata"]["commit"]


def test_the_addresses_are_printed_at_once(seen):
    said = seen.out.with_suffix(".log").read_text()
    head = said[: said.index("Optimal genotype")]
    assert "Ray dashboard: http://127.0.0.1:" in head and f"--artifact-dir {seen.out}/artifacts" in head


def test_every_panel_of_the_grafana_dashboard_shows_data_of_a_real_prometheus(seen):
    only_where_asked()
    if shutil.which("prometheus") is None:
        pytest.skip("needs Debian's package prometheus")
    assert not set(dashboard_panels()) - set(seen.panels)
    assert 0 < seen.panels["Best value"] <= 1 and seen.panels["Images a second"] > 0
    assert seen.panels["GPU memory"] >= 0 and 0 < seen.panels["Progress of each trial"] <= 1


def test_optunas_dashboard_shows_pictures_and_notes_while_the_study_runs(seen):
    assert "how the annealing decides the ensemble, on digits" in seen.note
    assert set(seen.pictures) >= {"0 control.svg", "0 cell.svg"}
    for picture in seen.pictures.values():
        assert ElementTree.fromstring(picture).tag.endswith("svg")
    trial = seen.trials[0]
    assert trial["state"] == "Complete" and "**0." in trial["note"]["body"]


def test_what_was_logged_is_read_back(seen):
    curve = [json.loads(line) for line in (seen.out / "trials" / "0000.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in curve if "loss" in line]
    assert list((seen.out / "tensorboard" / "sweep" / "trial-0").iterdir())

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(seen.out))
    experiment = client.get_experiment_by_name("study").experiment_id
    runs = {(run.data.tags["stage"], run.info.run_name): run for run in client.search_runs([experiment])}
    assert set(runs) == {("search", "darts"), ("sweep", "trial 0"), ("result", "final ensemble")}
    history = client.get_metric_history(runs["sweep", "trial 0"].info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == losses
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
