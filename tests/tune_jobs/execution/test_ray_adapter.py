"""The adapter under the real Ray Tune: a killed worker, a failure and a pruned trial."""

import functools
import json
import os
import signal
import tempfile
from pathlib import Path

from optuna.pruners import MedianPruner
from ray import tune

from tune_jobs.execution.recording import RecordCallback, StudyPruning
from tune_jobs.execution.searcher import StudySearcher
from tune_jobs.files.curves import read_curve
from tune_jobs.files.layout import curve_path
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.samplers import make_sampler
from tune_jobs.study.space import search_space
from tune_jobs.study.trials import common_failure, trials_frame

SPACE = search_space("exact")
STEPS = 4
KILLED, FAILING, PRUNED = 0, 1, 3


def accident_prone():
    """A trainable that is pickled by value: its workers need not import this file, and torch with it."""

    def trainable(config):
        """Four candidates and a result; some trials meet with an accident, by their number."""
        number, place, done = config["trial"], tune.get_checkpoint(), 0
        if place:
            with place.as_directory() as folder:
                done = json.loads((Path(folder) / "state.json").read_text())
        for step in range(done + 1, STEPS + 1):
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "state.json").write_text(json.dumps(step))
                level = 0.1 if number == PRUNED else 0.5 + 0.01 * number
                report = {"stage": "candidates", "step": step, "intermediate": level, "intermediate_step": step}
                tune.report(report | {"control_error": 0.1}, checkpoint=tune.Checkpoint.from_directory(folder))
            if place is None and step == 2 and number == KILLED:
                os.kill(os.getpid(), signal.SIGKILL)
            if step == 2 and number == FAILING:
                tune.report({"status": "failed", "reason": "as asked", "traceback": "the end"})
                return
        attributes = {"nested": {"curve": [[0.0, 0.1]]}}
        result = {"status": "complete", "value": level, "control_error": 0.1, "attributes": attributes}
        tune.report(result | {"stage": "candidates", "step": STEPS})

    return trainable


def test_a_sweep_with_a_killed_worker_a_failure_and_a_pruned_trial(ray_local, tmp_path):
    study = open_study("s", tmp_path / "study.db", space=SPACE)
    study.pruner = MedianPruner(n_startup_trials=1)
    searcher = StudySearcher(
        study,
        SPACE,
        budget=4,
        max_failures=3,
        make_sampler=functools.partial(make_sampler, "tpe"),
        files=StudyFiles(tmp_path),
    )
    tune.Tuner(
        tune.with_resources(accident_prone(), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StudyPruning(searcher),
            num_samples=-1,
            max_concurrent_trials=1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="sweep-1",
            storage_path=str(tmp_path / "ray"),
            callbacks=[RecordCallback(searcher)],
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            verbose=0,
        ),
    ).fit()
    frame = trials_frame(study)
    assert frame["state"].tolist() == ["COMPLETE", "FAIL", "COMPLETE", "PRUNED", "COMPLETE"]
    assert frame["attempts"].tolist() == [2, 1, 1, 1, 1]
    assert common_failure(study) == "as asked"
    assert frame["pruned_step"][PRUNED] == 1
    assert study.trials[0].user_attrs["nested"] == {"curve": [[0.0, 0.1]]}
    for number, steps in enumerate([4, 2, 4, 1, 4]):
        curve = read_curve(curve_path(tmp_path, number))
        assert [line["step"] for line in curve] == list(range(1, steps + 1))
    assert [line["attempt"] for line in read_curve(curve_path(tmp_path, KILLED))] == [1, 1, 2, 2], "resumed"
    states = list((tmp_path / "ray").rglob("*.pkl"))
    assert any(path.name == "tuner.pkl" for path in states)
    assert all(b"study.db" not in path.read_bytes() for path in states)
