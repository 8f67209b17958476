"""The study of the methods: its conclusions from numbers that are known, and the command as a person runs it."""

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from edgenes.methods import catalogue
from edgenes.methods.baselines import METHODS as REGISTERED
from edgenes.methods.baselines import register_method
from edgenes.methods.trainer import LocalTrainer
from studies import anneal_sweep
from studies.methods import MethodsConfig, conclusions, costs, findings, methods_frame, study, table
from tests.faults.harness import PREDICT, STEP, Ended, Fault, drive
from tests.support.small_study import SMALL, STUDIES, refusal
from tests.support.toys import blobs
from tune_jobs.__main__ import main as tools
from tune_jobs.cli import parsed
from tune_jobs.execution.run import no_handler_left
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.methods import EQUAL_COST, one_run
from tune_jobs.files.layout import EXPERIMENT

METHODS = ("random-nes", "edge-nes")
RUNS = 3  # of a seed: Random-NES at equal cost too
main = partial(experiment_main, MethodsConfig, "", study)


def frame(differences: dict[str, list[float]]) -> pd.DataFrame:
    """Rows of methods whose test accuracies differ from EdgeNES's by so much, seed by seed."""
    base, rows = [0.80, 0.82, 0.81, 0.84, 0.79], []
    for name, less in {REGISTERED["edge-nes"].label: [0.0] * 5, **differences}.items():
        for seed, difference in enumerate(less):
            accuracy = base[seed] + difference
            values = {"accuracy": accuracy, "nll": 1 - accuracy, "ece": 0.1}
            scores = {f"{who}_{what}": value for who in ("test", "member") for what, value in values.items()}
            units = ("steps", "images", "operations", "seconds")
            work = {f"{part}_{unit}": 1000.0 for part in ("search", "retraining") for unit in units}
            sizes = {"members": 3, "pool": 8, "parameter_free": 0.5}
            rows.append({"method": name, "seed": seed, **sizes, **scores, **work})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("sign", "loss", "accuracy"), [(1, "below", "above"), (-1, "above", "below")])
def test_a_method_that_is_better_or_worse_is_said_to_be(sign, loss, accuracy):
    differences = {"A": [sign * one for one in (0.05, 0.06, 0.05, 0.06, 0.05)], "B": [0.05, -0.06, 0.01, -0.02, 0.03]}
    first, second, third, fourth = conclusions(frame(differences))
    assert first.startswith(f"Test NLL: A is 0.054 {loss} EdgeNES") and "n = 5" in first
    assert third.startswith(f"Test accuracy: A is 5.4 points {accuracy} EdgeNES")
    for same in (second, fourth):
        assert "Not distinguishable from EdgeNES at this budget" in same and "5 searches could have detected" in same
    assert "B +0.2" in fourth


def test_equal_numbers_and_a_missing_reference_are_no_trouble():
    rows = frame({"Random": [0.0] * 5})
    assert all("Random +0.0" in said for said in conclusions(rows[rows["seed"] < 2]))
    assert "not run" in conclusions(rows[rows["method"] == "Random"])[0]


def test_tables_have_a_row_a_method():
    rows = frame({"Random": [0.01, 0.02, 0.0, 0.01, 0.0]})
    assert list(table(rows)["method"]) == list(costs(rows)["", "method"]) == ["EdgeNES", "Random"]
    assert table(rows)["ensemble"][0].startswith("0.812 [") and table(rows)["members of pool"][0] == "3 of 8"
    assert costs(rows)["search", "images, k"].tolist() == [1.0, 1.0]
    assert "one set of 300 test images" in findings(rows, 300).sections[2].text


def test_presets_are_the_papers_and_dartss_and_what_is_given_stays():
    setting, darts = MethodsConfig.of(preset="paper").setting("cpu"), MethodsConfig.of(preset="darts", final_epochs=3)
    assert (setting.search.epochs, setting.hypernetwork.epochs, setting.training.epochs) == (50, 150, 50)
    assert (setting.hypernetwork.pivots, setting.hypernetwork.epsilon, setting.training.batch_size) == (5, 0.2, 96)
    assert darts.space.max_edges == 16 and darts.budget.final_epochs == darts.budget.short_epochs == 3
    smoke = MethodsConfig.of(smoke_test=True, final_epochs=7)
    assert (smoke.seeds, smoke.budget.final_epochs, smoke.budget.search_epochs) == (2, 7, 2)
    assert MethodsConfig.of(smoke_test=True, seeds=5).seeds == 5
    assert MethodsConfig.of(methods=("darts", "random", "darts")).methods == ("darts", "random")


def test_a_baseline_of_the_users_own_is_compared(monkeypatch):
    monkeypatch.setattr(REGISTERED, "_entries", dict(REGISTERED))
    register_method("mine", catalogue.random_single, "Mine")
    assert parsed(MethodsConfig, ["--methods", "mine", "edge-nes"]).methods == ("mine", "edge-nes")
    setting = MethodsConfig.of(smoke_test=True, channels=2, cells=1).setting("cpu")
    bench = SimpleNamespace(trainer=LocalTrainer(blobs()), data=blobs(), of_seed=setting.of_seed)
    job = {"name": "mine seed 0", "method": "mine", "seed": 0}
    result = one_run(job, bench)
    scores = dict.fromkeys(("accuracy", "nll", "ece"), 0.5)
    rows = methods_frame([(job, result)], {job["name"]: {"ensemble": scores, "members": [scores]}})
    assert rows["method"].tolist() == ["Mine"] and rows["members"].tolist() == [1]


OPTIONS = (*SMALL, "--methods", *METHODS)


def run(out: Path, *options: str) -> str:
    """What the study says that ends in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main([*OPTIONS, *options, "--out", str(out)]) == 0
    return said.getvalue()


def disturbed(out: Path, *faults: Fault) -> Ended:
    """The study as a process with faults in it."""
    return drive(out, *faults, options=OPTIONS, script=STUDIES / "methods.py")


def exact(out: Path) -> pd.DataFrame:
    """The numbers of a study that do not depend on the machine's speed."""
    rows = pd.read_csv(out / "report" / "methods.csv")
    return rows[[name for name in rows if not name.endswith("seconds")]]


@pytest.fixture(scope="module")
def finished(ray_local, tmp_path_factory):
    out = tmp_path_factory.mktemp("methods") / "study"
    return out, run(out)


def test_the_command_ends_with_a_conclusion_and_a_report(finished):
    out, said = finished
    assert "EdgeNES" in said and "The report:" in said
    rows = pd.read_csv(out / "report" / "methods.csv")
    assert len(rows) == 2 * RUNS and rows["test_accuracy"].between(0, 1).all()
    pools = rows.groupby("method")["pool"].min()
    assert pools["Random-NES" + EQUAL_COST] > pools["Random-NES"]
    assert (rows["retraining_images"] > 0).all()
    result = json.loads((out / "result.json").read_text())
    assert {"config", "versions", "commit", "device", "conclusions"} <= result.keys()
    reads = (out / "test_reads.jsonl").read_text().splitlines()
    assert len(reads) == 1 and "6 ensembles, all chosen before" in reads[0]


def test_only_an_altered_job_and_more_seeds_are_computed_and_no_number_changes(finished, tmp_path):
    out = tmp_path / "moved"
    shutil.copytree(finished[0], out)
    altered = next((out / "jobs" / "methods").glob("edge*1.json"))
    altered.write_text(altered.read_text().replace('validation_accuracy": 0', 'validation_accuracy": 7', 1))
    assert 'validation_accuracy": 7' in altered.read_text()
    kept = {path: path.stat().st_mtime_ns for path in (out / "jobs").rglob("*.json") if path != altered}
    assert "3 of them from an earlier run" in run(out, "--seeds", "3")
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    rows = exact(out)
    assert len(rows) == 3 * RUNS
    pd.testing.assert_frame_equal(rows[rows["seed"] < 2].reset_index(drop=True), exact(finished[0]), check_exact=True)


def test_other_settings_are_refused(finished, capsys):
    said = refusal(main, capsys, *OPTIONS, "--final-epochs", "3", "--out", finished[0])
    assert "final_epochs: stored 2, asked 3" in said


def test_the_tools_and_the_command_of_another_kind_of_study_say_so(finished, capsys):
    for tool in ("status", "doctor"):
        assert tools([tool, str(finished[0])]) == 1
        assert "holds an experiment and no sweep" in capsys.readouterr().err
    assert anneal_sweep.main(["--smoke-test", "--out", str(finished[0])]) == 1
    assert "no study of this kind" in capsys.readouterr().err.replace("\n", " ")


def test_images_that_are_too_few_are_refused_before_anything_is_written(tmp_path, capsys):
    said = refusal(main, capsys, "--smoke-test", "--images", "5", "--out", tmp_path / "study")
    assert "are too few for W, H and V" in said
    assert not (tmp_path / "study" / EXPERIMENT).exists()


def test_a_damaged_account_of_the_experiment_is_named_with_what_to_do(tmp_path, capsys):
    (tmp_path / EXPERIMENT).write_text('{"defining": {')
    said = refusal(main, capsys, "--smoke-test", "--out", tmp_path)
    assert EXPERIMENT in said and "restore it from a copy" in said


@pytest.mark.e2e
def test_killed_workers_and_drivers_and_a_failed_job_change_no_number(finished, tmp_path):
    out = tmp_path / "disturbed"
    worker = Fault("kill", "edgenes.training.retraining:train_networks", nth=2)
    killed = disturbed(out, worker, Fault("kill driver", STEP, nth=20))
    assert killed.fired == [True, True] and killed.status == 137
    failed = disturbed(out, Fault("raise", "edgenes.methods.catalogue:draw_candidates", argument="once"))
    assert failed.status == 1 and "1 of " in failed.errors and "an accident: once" in failed.errors
    stopped = disturbed(out, Fault("signal driver", PREDICT, nth=4, argument=[signal.SIGTERM]))
    assert stopped.status == 130 and "Run the same command again" in stopped.errors
    run(out)
    pd.testing.assert_frame_equal(exact(out), exact(finished[0]), check_exact=True)


@pytest.mark.e2e
def test_ctrl_c_during_the_imports_of_a_study_is_a_line():
    code = """
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ExperimentConfig
check_command_line(ExperimentConfig, "A study.")
raise KeyboardInterrupt
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=STUDIES.parent)
    assert told.returncode != 0 and told.stderr == "stopped; run the same command again to resume.\n"


def test_no_handler_of_ctrl_c_outlives_a_stage():
    before = signal.getsignal(signal.SIGINT)
    with no_handler_left():
        signal.signal(signal.SIGINT, lambda *_: None)  # as Tune does
    assert signal.getsignal(signal.SIGINT) is before
