"""The study of the methods: its conclusions from numbers that are known, and the command as a person runs it."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edgenes.errors import ConfigError
from edgenes.methods import catalogue
from studies import anneal_sweep
from studies.methods import MethodsConfig, conclusions, costs, findings, main, table
from tests.faults.harness import PREDICT, STEP, Ended, Fault
from tests.support import small_study
from tune_jobs.__main__ import main as tools
from tune_jobs.execution.run import no_handler_left
from tune_jobs.files.layout import EXPERIMENT

METHODS = ("random-nes", "edge-nes")


def frame(differences: dict[str, list[float]]) -> pd.DataFrame:
    """Rows of methods whose test accuracies differ from EdgeNES's by so much, seed by seed."""
    base, rows = [0.80, 0.82, 0.81, 0.84, 0.79], []
    for name, less in {catalogue.METHODS["edge-nes"].label: [0.0] * 5, **differences}.items():
        for seed, difference in enumerate(less):
            accuracy = base[seed] + difference
            scores = {f"{who}_{what}": accuracy for who in ("test", "member") for what in ("accuracy", "nll", "ece")}
            units = ("steps", "images", "operations", "seconds")
            work = {f"{part}_{unit}": 1000.0 for part in ("search", "retraining") for unit in units}
            sizes = {"members": 3, "pool": 8, "parameter_free": 0.5, "validation_accuracy": accuracy}
            rows.append({"method": name, "seed": seed, **sizes, **scores, **work})
    return pd.DataFrame(rows)


class TestConclusions:
    def test_a_method_that_is_better_is_said_to_be(self):
        first, *others = conclusions(frame({"Random": [0.05, 0.06, 0.05, 0.06, 0.05]}))
        assert first.startswith("Random is 5.4 points above EdgeNES") and "n = 5" in first and not others

    def test_one_that_is_worse_too(self):
        (first,) = conclusions(frame({"Random": [-0.05, -0.06, -0.05, -0.06, -0.05]}))
        assert first.startswith("Random is 5.4 points below EdgeNES")

    def test_what_cannot_be_told_is_said_with_what_could_have_been(self):
        (only,) = conclusions(frame({"Random": [0.05, -0.06, 0.01, -0.02, 0.03]}))
        assert only.startswith("Not distinguishable from EdgeNES at this budget") and "Random +0.2" in only
        assert "5 searches could have detected" in only

    def test_several_comparisons_are_corrected(self):
        barely = [0.01, 0.03, 0.005, 0.035, 0.01]
        assert conclusions(frame({"A": barely}))[0].startswith("A is")
        several = conclusions(frame({name: list(np.roll(barely, k)) for k, name in enumerate("ABCDE")}))
        assert all(text.startswith("Not distinguishable") for text in several)

    def test_two_seeds_and_equal_numbers_are_no_trouble(self):
        few = frame({"Random": [0.0] * 5})
        assert "Random +0.0" in conclusions(few[few["seed"] < 2])[0]

    def test_without_edgenes_nothing_is_compared(self):
        rows = frame({"Random": [0.0] * 5})
        assert "not run" in conclusions(rows[rows["method"] == "Random"])[0]


def test_tables_have_a_row_a_method():
    rows = frame({"Random": [0.01, 0.02, 0.0, 0.01, 0.0]})
    assert list(table(rows)["method"]) == list(costs(rows)["", "method"]) == ["EdgeNES", "Random"]
    assert "[" in table(rows)["ensemble"][0]
    assert set(findings(rows, 300).frames) == {"methods", "accuracy"}
    assert "one set of 300 test images" in findings(rows, 300).sections[0].text


def test_presets_are_whole_and_what_is_given_stays():
    paper, darts = MethodsConfig(preset="paper"), MethodsConfig(preset="darts", final_epochs=3)
    assert (paper.dataset, paper.search_epochs, paper.hypernetwork_epochs, paper.final_epochs) == (
        "cifar100",
        *(50, 150, 50),
    )
    assert paper.setting("cpu").hypernetwork.pivots == 5 and paper.setting("cpu").hypernetwork.epsilon == 0.2
    assert paper.space.max_edges == 4 and paper.setting("cpu").training.batch_size == 96
    assert darts.space.max_edges == 16 and darts.search_cells == 8 and darts.final_epochs == darts.short_epochs == 3
    smoke = MethodsConfig(smoke_test=True, final_epochs=7)
    assert (smoke.seeds, smoke.final_epochs, smoke.search_epochs) == (2, 7, 2)
    assert MethodsConfig(smoke_test=True, seeds=5).seeds == MethodsConfig().seeds == 5
    assert MethodsConfig(methods=("darts", "random", "darts")).methods == ("darts", "random")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"search_epochs": 0}, "search_epochs must be a number of at least 1"),
        ({"retraining_batch_size": 1}, "retraining_batch_size must be a number of at least 2"),
        ({"cell_types": "both", "search_cells": 3}, "^cells must be a number of at least 3"),
        ({"search_warmup": 1.0}, "search_warmup must be a fraction in"),
        ({"max_parameter_free": 5}, "max_parameter_free must be at most 4"),
        ({"penalty_lambdas": 10**9}, "penalty_lambdas must be at most 100000"),
        ({"max_parameter_free": -1}, "max_parameter_free must be a number of at least 0"),
        ({"short_epochs": 4, "final_epochs": 3}, "raise --final-epochs"),
    ],
)
def test_mistakes_are_told_by_the_name_of_the_option(options, said):
    with pytest.raises(ConfigError, match=said):
        MethodsConfig(**options)


def run(out: Path, *options: str, faults: tuple[Fault, ...] = ()) -> Ended:
    return small_study.run("methods", out, "--methods", *METHODS, *options, faults=faults)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("methods") / "study"
    done = run(out)
    assert done.status == 0, done.errors
    return out, done.output


@pytest.mark.e2e
def test_the_command_ends_with_a_conclusion_and_a_report(finished):
    out, said = finished
    assert "EdgeNES" in said and "The report:" in said
    rows = pd.read_csv(out / "report" / "methods.csv")
    assert len(rows) == 2 * len(METHODS) and rows["test_accuracy"].between(0, 1).all()
    assert (rows["retraining_images"] > 0).all()
    result = json.loads((out / "result.json").read_text())
    assert {"config", "versions", "commit", "device", "conclusions"} <= result.keys()
    page = (out / "report" / "index.html").read_text()
    assert "Methods (Table 3)" in page and "Plotly" in page
    reads = (out / "test_reads.jsonl").read_text().splitlines()
    assert len(reads) == 1 and "4 ensembles, all chosen before" in reads[0]


@pytest.mark.e2e
def test_a_finished_study_is_read_but_for_an_altered_job_and_more_seeds_go_on(finished, tmp_path):
    out = tmp_path / "moved"
    shutil.copytree(finished[0], out)
    altered = next((out / "jobs" / "methods").glob("edge*1.json"))
    altered.write_text(altered.read_text().replace('"accuracy": 0', '"accuracy": 7', 1))
    kept = {path: path.stat().st_mtime_ns for path in (out / "jobs").rglob("*.json") if path != altered}
    more = run(out, "--seeds", "3")
    assert more.status == 0, more.errors
    assert "3 of them from an earlier run" in more.output
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert len(pd.read_csv(out / "report" / "methods.csv")) == 3 * len(METHODS)


@pytest.mark.e2e
def test_other_settings_are_refused(finished, capsys):
    said = small_study.refusal(main, capsys, finished[0], "--methods", *METHODS, "--final-epochs", "3")
    assert "final_epochs: stored 2, asked 3" in said


@pytest.mark.e2e
def test_the_tools_and_the_command_of_another_kind_of_study_say_so(finished, capsys):
    for tool in ("status", "doctor"):
        assert tools([tool, str(finished[0])]) == 1
        assert "holds an experiment and no sweep" in capsys.readouterr().err
    assert anneal_sweep.main(["--smoke-test", "--out", str(finished[0])]) == 1
    assert "no study of this kind" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seeds", "0"), "seeds must be a number of at least 1"),
        (("--images", "5"), "are too few for W, H and V"),
        (("--image-size", "100000"), "image_size should be 1 to 4096 pixels"),
        (("--methods",), "methods must name at least one of darts, random"),
        (("--ensemble-size", "4"), "an ensemble of 4 cannot be chosen from 3 candidates"),
    ],
)
def test_a_mistake_is_told_at_once(tmp_path, capsys, options, said):
    assert said in small_study.refusal(main, capsys, tmp_path / "study", "--methods", *METHODS, *options)
    assert not (tmp_path / "study" / EXPERIMENT).exists()


def test_a_damaged_account_of_the_experiment_is_told_with_what_to_do(tmp_path, capsys):
    (tmp_path / EXPERIMENT).write_text('{"defining": {')
    said = small_study.refusal(main, capsys, tmp_path, "--methods", *METHODS)
    assert "cannot be read as JSON" in said and "put it back from a copy" in said


@pytest.mark.e2e
def test_killed_workers_and_drivers_and_a_failed_job_change_no_number(finished, tmp_path):
    out = tmp_path / "disturbed"
    killed = run(
        out,
        faults=(Fault("kill", "edgenes.training.retraining:train_network", nth=2), Fault("kill driver", STEP, nth=20)),
    )
    assert killed.fired == [True, True] and killed.status == 137
    failed = run(out, faults=(Fault("raise", "edgenes.methods.catalogue:draw_candidates", argument="once"),))
    assert failed.status == 1 and "1 of " in failed.errors and "an accident: once" in failed.errors
    stopped = run(out, faults=(Fault("signal driver", PREDICT, nth=4, argument=[signal.SIGTERM]),))
    assert stopped.status == 130 and "Run the same command again" in stopped.errors
    assert run(out).status == 0
    exact = [name for name in pd.read_csv(out / "report" / "methods.csv") if not name.endswith("seconds")]
    tables = [pd.read_csv(folder / "report" / "methods.csv")[exact] for folder in (out, finished[0])]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.e2e
def test_ctrl_c_during_the_imports_is_a_line():
    studies = [path for path in small_study.STUDIES.glob("*.py") if path.name != "__init__.py"]
    for path in studies:
        imports = [line for line in path.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert imports[0].startswith("import tune_jobs.execution.interrupted"), path
    code = "import tune_jobs.execution.interrupted; raise KeyboardInterrupt"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=small_study.STUDIES.parent)
    assert told.returncode != 0 and told.stderr == "stopped; run the same command again to go on.\n"


def test_no_handler_of_ctrl_c_outlives_a_stage():
    before = signal.getsignal(signal.SIGINT)
    with no_handler_left():
        signal.signal(signal.SIGINT, lambda *_: None)  # as Tune does
    assert signal.getsignal(signal.SIGINT) is before
