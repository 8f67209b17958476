"""A trial run again: equal to the last bit, and whatever is not is found; nothing of the study is touched."""

import hashlib
import json
import sqlite3

import pytest
import torch
from optuna.pruners import ThresholdPruner

from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.errors import DivergedError
from tests.support.tiny_study import begin_study, run_trials
from tune_jobs.__main__ import main
from tune_jobs.stages import trial as trial_module
from tune_jobs.study.saved import open_saved
from tune_jobs.tools import replay as replay_module


def replay(folder, trial, capsys, *options):
    """(exit status, answer) of the command."""
    status = main(["replay", str(folder), str(trial), "--json", *map(str, options)])
    return status, json.loads(capsys.readouterr().out)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in folder.rglob("*")
    }


def alter_curve(folder, step, **changes):
    path = folder / "trials" / "0000.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [line | changes if line["step"] == step else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def alter_database(folder, command, *values):
    with sqlite3.connect(folder / "study.db") as database:
        assert database.execute(command, values).rowcount == 1
    database.close()


def alter_attribute(folder, name, change):
    value = open_saved(folder).study.trials[0].user_attrs[name]
    where = f"key = '{name}' and trial_id = 1"
    alter_database(folder, f"update trial_user_attributes set value_json = ? where {where}", json.dumps(change(value)))


def with_accuracy(rows):
    rows[2]["accuracy"] += 0.125
    return rows


def with_genotype(rows):
    nodes = rows[1]["genotype"]["cells"]["reduction"]
    nodes[0][0]["operation"] = "max_pool_3x3" if nodes[0][0]["operation"] != "max_pool_3x3" else "skip_connect"
    return rows


class TestEqual:
    @pytest.mark.parametrize("number", [0, 1])
    def test_a_complete_trial_comes_out_as_recorded_and_the_study_is_not_touched(self, finished, capsys, number):
        before = contents(finished)
        status, answer = replay(finished, number, capsys)
        assert (status, answer["differences"], answer["exactly_equal"], answer["tolerance"]) == (0, [], True, 0)
        assert answer["compared"]["steps"] == 6
        wanted = {"loss", "penalty", "control_error", "candidate_accuracy", "value", "candidates", "hypernetwork"}
        assert wanted <= set(answer["compared"]["metrics"])
        assert contents(finished) == before

    def test_stored_predictions_are_not_used(self, study, capsys):
        for path in (study / "predictions").glob("*.pt"):
            record = torch.load(path, weights_only=True)
            uniform = torch.full_like(record["log_probabilities"], 1 / 3).log()
            torch.save(record | {"log_probabilities": uniform}, path)
        assert replay(study, 0, capsys)[1]["exactly_equal"]

    def test_torch_keeps_its_threads(self, finished, capsys):
        before = torch.get_num_threads()
        assert replay(finished, 0, capsys)[1]["threads"] == 1
        assert torch.get_num_threads() == before

    def test_ctrl_c_ends_it_without_a_traceback(self, finished, capsys, monkeypatch):
        def interrupt(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(replay_module, "run_trial", interrupt)
        assert main(["replay", str(finished), "0"]) == 130
        assert capsys.readouterr().err.strip() == "stopped"


class TestDifferent:
    @pytest.mark.parametrize(
        "alter, step, metric",
        [
            (lambda folder: alter_curve(folder, 2, loss=0.5), 2, "loss"),
            (lambda folder: alter_curve(folder, 5, candidate_accuracy=0.25), 5, "candidate_accuracy"),
            (
                lambda folder: alter_database(folder, "update trial_values set value = 0.875 where trial_id = 1"),
                None,
                "value",
            ),
            (lambda folder: alter_attribute(folder, "control_error", lambda error: error + 1), None, "control_error"),
            (lambda folder: alter_attribute(folder, "candidates", with_accuracy), None, "candidates[2].accuracy"),
            (lambda folder: alter_attribute(folder, "candidates", with_genotype), None, "candidates[1].genotype"),
        ],
        ids=["loss", "candidate", "value", "control_error", "accuracy", "genotype"],
    )
    def test_the_altered_number_is_found_and_no_other(self, study, capsys, alter, step, metric):
        alter(study)
        status, answer = replay(study, 0, capsys)
        assert status == 1 and not answer["equal"]
        assert [(d["step"], d["metric"]) for d in answer["differences"]] == [(step, metric)]

    def test_an_altered_weight_of_the_hypernetwork_is_found(self, study, capsys):
        path = study / "trials" / "0000-hypernetwork.pt"
        state = load_checkpoint(path, "hypernetwork")
        right = state["weights"]["beta"][0, 0, 0].item()
        state["weights"]["beta"][0, 0, 0] += 1
        save_checkpoint(path, "hypernetwork", state)
        status, answer = replay(study, 0, capsys)
        assert status == 1
        [found] = answer["differences"]
        assert found["metric"] == "hypernetwork.weights.beta"
        assert (found["recorded"], found["replayed"]) == (pytest.approx(right + 1), pytest.approx(right))

    def test_a_damaged_hypernetwork_is_found_and_a_missing_one_is_said(self, study, capsys):
        path = study / "trials" / "0000-hypernetwork.pt"
        path.write_bytes(path.read_bytes()[:-100])
        assert [d["metric"] for d in replay(study, 0, capsys)[1]["differences"]] == ["hypernetwork"]
        path.unlink()
        status, answer = replay(study, 0, capsys)
        assert status == 0
        assert answer["notes"] == ["0000-hypernetwork.pt is missing: the hypernetwork is not compared"]

    def test_the_table_shows_step_metric_recorded_and_replayed(self, study, capsys):
        alter_curve(study, 2, loss=0.5)
        assert main(["replay", str(study), "0"]) == 1
        text = capsys.readouterr().out
        assert "DIFFERENT in 1 of" in text
        [line] = [line.split() for line in text.splitlines() if line.split()[:2] == ["2", "loss"]]
        assert line[2] == "0.5" and float(line[3]) != 0.5


class TestTolerance:
    def test_a_difference_within_it_is_equal_and_is_told(self, study, capsys):
        right = json.loads((study / "trials" / "0000.jsonl").read_text().splitlines()[1])["loss"]
        alter_curve(study, 2, loss=right + 1e-3)
        assert replay(study, 0, capsys)[0] == 1
        assert replay(study, 0, capsys, "--tolerance", 1e-4)[0] == 1
        status, answer = replay(study, 0, capsys, "--tolerance", 1e-2)
        assert (status, answer["equal"], answer["exactly_equal"]) == (0, True, False)
        assert (answer["largest"]["step"], answer["largest"]["metric"]) == (2, "loss")

    @pytest.mark.parametrize(
        "change", [{"platform": "another"}, {"cpu": "another"}, {"versions": {"torch": "1.0"}}, None]
    )
    def test_elsewhere_differences_are_expected(self, study, capsys, change):
        path = study / "environment.json"
        if change is None:
            path.unlink()
        else:
            recorded = json.loads(path.read_text())
            versions = recorded["versions"] | change.get("versions", {})
            path.write_text(json.dumps(recorded | change | {"versions": versions}))
        answer = replay(study, 0, capsys)[1]
        assert answer["tolerance"] == 0.02
        [why] = answer["elsewhere"]
        assert ("another then" in why or "torch: 1.0 then" in why) if change else "missing" in why
        assert replay(study, 0, capsys, "--tolerance", 0)[1]["tolerance"] == 0

    def test_a_negative_one_is_refused(self, finished, capsys):
        assert main(["replay", str(finished), "0", "--tolerance=-1"]) == 1
        assert "--tolerance must be a number of at least 0" in capsys.readouterr().err


class TestStates:
    def test_a_trial_that_the_pruner_stopped_is_replayed_to_that_step(self, tmp_path, capsys):
        saved = begin_study(tmp_path, trials=1, pruner="median")
        run_trials(saved, pruner=ThresholdPruner(lower=2.0, n_warmup_steps=2))
        assert saved.study.trials[0].user_attrs["pruned_step"] == 2
        status, answer = replay(tmp_path, 0, capsys)
        assert (status, answer["state"], answer["replayed_state"]) == (0, "PRUNED", "PRUNED")
        assert answer["compared"]["steps"] == 5
        alter_curve(tmp_path, 5, intermediate=0.125)
        assert [d["metric"] for d in replay(tmp_path, 0, capsys)[1]["differences"]] == ["intermediate"]

    def test_an_infeasible_trial_is_pruned_again(self, tmp_path, capsys):
        saved = begin_study(tmp_path, trials=1, hypernetwork_epochs=1, prune_infeasible=True)
        run_trials(saved)
        assert saved.study.trials[0].user_attrs["reason"].startswith("control error")
        status, answer = replay(tmp_path, 0, capsys)
        assert (status, answer["replayed_state"]) == (0, "PRUNED")
        assert {"control_error", "control_curve", "hypernetwork"} <= set(answer["compared"]["metrics"])

    def test_a_failure_comes_again_or_does_not(self, tmp_path, capsys, monkeypatch):
        saved = begin_study(tmp_path, trials=1)

        def diverge(*arguments, **options):
            raise DivergedError("the loss became nan")

        with monkeypatch.context() as patch:
            patch.setattr(trial_module, "objective", diverge)
            run_trials(saved)
            status, answer = replay(tmp_path, 0, capsys)
            assert (status, answer["state"], answer["replayed_reason"]) == (0, "FAIL", "the loss became nan")
            assert "it fails here too: the loss became nan" in answer["notes"]
        status, answer = replay(tmp_path, 0, capsys)
        assert (status, answer["replayed_state"]) == (1, "COMPLETE")
        assert [d["metric"] for d in answer["differences"]] == ["state"]
        assert "it does not fail here" in answer["notes"]

    def test_of_a_lost_process_the_curve_is_compared(self, tmp_path, capsys):
        run_trials(begin_study(tmp_path, trials=1), stop_after=4, dies=True)
        status, answer = replay(tmp_path, 0, capsys)
        assert (status, answer["state"], answer["compared"]["steps"]) == (0, "FAIL", 4)
        assert "it does not fail here" in answer["notes"]
        alter_curve(tmp_path, 3, loss=0.5)
        assert [d["step"] for d in replay(tmp_path, 0, capsys)[1]["differences"]] == [3]

    def test_of_a_running_trial_what_is_recorded_is_compared(self, tmp_path, capsys):
        run_trials(begin_study(tmp_path, trials=1), stop_after=2)
        status, answer = replay(tmp_path, 0, capsys)
        assert (status, answer["state"], answer["replayed_state"]) == (0, "RUNNING", None)
        assert answer["compared"]["steps"] == 2

    def test_running_out_of_memory_then_is_said(self, tmp_path, capsys):
        saved = begin_study(tmp_path, trials=1)
        run_trials(saved, stop_after=2)
        saved.study._storage.set_trial_user_attr(1, "out_of_memory", {"accumulate": 2})
        assert any("out of memory" in note for note in replay(tmp_path, 0, capsys)[1]["notes"])

    @pytest.mark.parametrize("number, why", [(0, "has no parameters yet"), (3, "no trial 3; its trials: 0 to 0")])
    def test_a_trial_that_has_not_begun_or_is_not_there_is_refused(self, tmp_path, capsys, number, why):
        begin_study(tmp_path, trials=1)
        assert main(["replay", str(tmp_path), str(number)]) == 1
        assert why in capsys.readouterr().err
