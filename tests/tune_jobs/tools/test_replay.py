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
from tune_jobs.stages import trial as trial_module
from tune_jobs.study.saved import open_saved
from tune_jobs.tools import replay as replay_module


@pytest.fixture
def replay(tool):
    """replay(folder, trial, *options) is the exit status and the answer of the command."""

    def run(*words):
        status, out, _ = tool("replay", *words, "--json")
        return status, json.loads(out)

    return run


def contents(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def alter_curve(folder, step, **changes):
    path = folder / "trials" / "0000.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [line | changes if line["step"] == step else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def alter_outcome(folder):
    """Another value, control error, accuracy of a candidate, operation of a genotype, and weight."""
    attributes = open_saved(folder).study.trials[0].user_attrs
    rows = attributes["candidates"]
    rows[2]["accuracy"] += 0.125
    edge = rows[1]["genotype"]["cells"]["reduction"][0][0]
    edge["operation"] = "max_pool_3x3" if edge["operation"] != "max_pool_3x3" else "skip_connect"
    with sqlite3.connect(folder / "study.db") as database:
        database.execute("update trial_values set value = 0.875 where trial_id = 1")
        for name, value in {"control_error": attributes["control_error"] + 1, "candidates": rows}.items():
            command = "update trial_user_attributes set value_json = ? where trial_id = 1 and key = ?"
            assert database.execute(command, (json.dumps(value), name)).rowcount == 1
    database.close()
    path = folder / "trials" / "0000-hypernetwork.pt"
    state = load_checkpoint(path, "hypernetwork")
    state["weights"]["beta"][0, 0, 0] += 1
    save_checkpoint(path, "hypernetwork", state)


def test_a_complete_trial_comes_out_as_recorded_and_the_study_is_not_touched(study, replay):
    for path in (study / "predictions").glob("*.pt"):  # stored predictions are not used
        record = torch.load(path, weights_only=True)
        torch.save(record | {"log_probabilities": torch.full_like(record["log_probabilities"], 1 / 3).log()}, path)
    before, threads = contents(study), torch.get_num_threads()
    status, answer = replay(study, 1)
    assert (status, answer["differences"], answer["exactly_equal"], answer["tolerance"]) == (0, [], True, 0)
    assert answer["compared"]["steps"] == 6
    wanted = {"loss", "penalty", "control_error", "candidate_accuracy", "value", "candidates", "hypernetwork", "state"}
    assert wanted <= set(answer["compared"]["metrics"])
    assert contents(study) == before
    assert answer["threads"] == 1 and torch.get_num_threads() == threads


def test_ctrl_c_ends_it_without_a_traceback(finished, monkeypatch, tool):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(replay_module, "run_trial", interrupt)
    assert tool("replay", finished, 0) == (130, "", "stopped\n")


def test_the_altered_numbers_are_found_and_no_others(study, replay):
    weights = load_checkpoint(study / "trials" / "0000-hypernetwork.pt", "hypernetwork")["weights"]
    alter_curve(study, 2, loss=0.5)
    alter_curve(study, 5, candidate_accuracy=0.25)
    alter_outcome(study)
    status, answer = replay(study, 0)
    assert status == 1 and not answer["equal"]
    found = {(row["step"], row["metric"]): row for row in answer["differences"]}
    assert found.keys() == {
        (2, "loss"),
        (5, "candidate_accuracy"),
        (None, "value"),
        (None, "control_error"),
        (None, "candidates[2].accuracy"),
        (None, "candidates[1].genotype.cells.reduction[0][0].operation"),
        (None, "hypernetwork.weights.beta"),
    }
    weight, right = found[None, "hypernetwork.weights.beta"], weights["beta"][0, 0, 0].item()
    assert (weight["recorded"], weight["replayed"]) == (pytest.approx(right + 1), pytest.approx(right))


def test_a_damaged_hypernetwork_is_an_error_and_a_missing_one_is_said(study, refused, replay):
    path = study / "trials" / "0000-hypernetwork.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert path.name in refused("replay", study, "0")
    path.unlink()
    status, answer = replay(study, 0)
    assert status == 0 and answer["notes"] == [f"{path.name} is missing: the hypernetwork is not compared"]


class TestTolerance:
    def test_a_difference_within_it_is_equal_and_is_told(self, study, tool, replay):
        right = json.loads((study / "trials" / "0000.jsonl").read_text().splitlines()[1])["loss"]
        alter_curve(study, 2, loss=right + 1e-3)
        status, text, _ = tool("replay", study, 0, "--tolerance", "1e-4")
        assert status == 1
        [line] = [line.split() for line in text.splitlines() if line.split()[:2] == ["2", "loss"]]
        assert "DIFFERENT in 1 of" in text and float(line[2]) - float(line[3]) == pytest.approx(1e-3)
        status, answer = replay(study, 0, "--tolerance", 1e-2)
        assert (status, answer["equal"], answer["exactly_equal"]) == (0, True, False)
        assert (answer["largest"]["step"], answer["largest"]["metric"]) == (2, "loss")

    @pytest.mark.parametrize("change", [{"platform": "another"}, {"cpu": "another"}, {"torch": "another"}, None])
    def test_elsewhere_differences_are_expected(self, study, monkeypatch, change, replay):
        monkeypatch.setattr(replay_module, "run_again", lambda *arguments: ([], {}))
        path = study / "environment.json"
        if change is None:
            path.unlink()
        else:
            recorded = json.loads(path.read_text())
            place = recorded["versions"] if "torch" in change else recorded
            place |= change
            path.write_text(json.dumps(recorded))
        answer = replay(study, 0)[1]
        [why] = answer["elsewhere"]
        assert answer["tolerance"] == 0.02 and ("another then" if change else "missing") in why
        assert replay(study, 0, "--tolerance", 0)[1]["tolerance"] == 0

    def test_a_negative_one_is_refused(self, finished, refused):
        assert "--tolerance" in refused("replay", finished, 0, "--tolerance=-1")


class TestStates:
    def test_a_trial_that_the_pruner_stopped_is_replayed_to_that_step(self, tmp_path, replay):
        saved = begin_study(tmp_path, trials=1, pruner="median")
        run_trials(saved, pruner=ThresholdPruner(lower=2.0, n_warmup_steps=2))
        assert saved.study.trials[0].user_attrs["pruned_step"] == 2
        status, answer = replay(tmp_path, 0)
        assert (status, answer["state"], answer["replayed_state"]) == (0, "PRUNED", "PRUNED")
        assert answer["compared"]["steps"] == 5
        alter_curve(tmp_path, 5, intermediate=0.125)
        assert [d["metric"] for d in replay(tmp_path, 0)[1]["differences"]] == ["intermediate"]

    def test_an_infeasible_trial_is_pruned_again(self, tmp_path, replay):
        saved = begin_study(tmp_path, trials=1, guide="supernet", hypernetwork_epochs=1, prune_infeasible=True)
        run_trials(saved)
        assert saved.study.trials[0].user_attrs["reason"].startswith("control error")
        status, answer = replay(tmp_path, 0)
        assert (status, answer["replayed_state"]) == (0, "PRUNED")
        assert {"control_error", "control_curve", "hypernetwork"} <= set(answer["compared"]["metrics"])

    def test_a_failure_comes_again_or_does_not(self, tmp_path, monkeypatch, told, replay):
        saved = begin_study(tmp_path, trials=1)

        def diverge(*arguments, **options):
            raise DivergedError("the loss became nan")

        with monkeypatch.context() as patch:
            patch.setattr(trial_module, "objective", diverge)
            run_trials(saved)
            text = told("replay", tmp_path, 0)
            assert "recorded: FAIL, the loss became nan" in text and "replayed: FAIL, the loss became nan" in text
        status, answer = replay(tmp_path, 0)
        assert (status, answer["replayed_state"]) == (1, "COMPLETE")
        assert [d["metric"] for d in answer["differences"]] == ["state"]

    def test_of_a_lost_process_the_curve_is_compared(self, tmp_path, replay):
        run_trials(begin_study(tmp_path, trials=1), stop_after=4, dies=True)
        status, answer = replay(tmp_path, 0)
        assert (status, answer["state"], answer["compared"]["steps"]) == (0, "FAIL", 4)
        assert answer["replayed_state"] == "COMPLETE" and "only its curve" in answer["notes"][0]
        alter_curve(tmp_path, 3, loss=0.5)
        assert [d["step"] for d in replay(tmp_path, 0)[1]["differences"]] == [3]

    def test_of_a_running_trial_what_is_recorded_is_compared(self, tmp_path, replay):
        saved = begin_study(tmp_path, trials=1)
        run_trials(saved, stop_after=2)
        saved.study._storage.set_trial_user_attr(1, "out_of_memory", {"accumulate": 2})
        status, answer = replay(tmp_path, 0)
        assert (status, answer["state"], answer["replayed_state"]) == (0, "RUNNING", None)
        assert answer["compared"]["steps"] == 2
        assert any("out of memory" in note for note in answer["notes"])

    @pytest.mark.parametrize("number, why", [(0, "has no parameters yet"), (3, "no trial 3; its trials: 0 to 0")])
    def test_a_trial_that_has_not_begun_or_is_not_there_is_refused(self, tmp_path, number, why, refused):
        begin_study(tmp_path, trials=1)
        assert why in refused("replay", tmp_path, number)
