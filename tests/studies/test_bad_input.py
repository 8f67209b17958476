"""What a user can get wrong: a message that says what to do, no traceback, and nothing that was stored is lost."""

from functools import partial

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from edgenes.errors import ConfigError
from edgenes.space.genotype import SearchSpace, random_genotype
from studies.anneal_sweep import main
from tests.support.small_study import refusal
from tests.support.toys import blobs, seeded
from tune_jobs.config.passwords import VARIABLE
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.run import Run
from tune_jobs.progress.display import Progress
from tune_jobs.stages.pipeline import open_optuna
from tune_jobs.study.saved import storage_url, study_name
from tune_jobs.study.space import DEFAULT_PARAMS, search_space


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Runs the command in an empty folder, and returns its message in one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return partial(refusal, main, capsys)


def test_a_folder_of_other_files_is_left_alone(refused, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("")
    assert "holds other files and no study of this kind: give --out" in refused("--smoke-test", "--out", "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]


def images(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (60, 8, 8), dtype=np.uint8),
        "y_train": np.arange(60) % 3,
        "x_test": rng.integers(0, 256, (30, 8, 8), dtype=np.uint8),
        "y_test": np.arange(30) % 3,
    } | changes
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--dataset", "digit"), 1, "did you mean 'digits'"),
        (("--dataset", "no/such.npz"), 1, "no/such.npz does not exist"),
        (("--dataset", "cifar10", "--root", "nothing"), 1, "download"),
        (("--datset", "digits"), 2, "--dataset"),
        (("--cells", "5"), 1, "at least 64x64"),
        (("--candidates", "1000", "--finalists", "1000"), 2, "1000000 full retrainings"),
        (("--hypernetwork-epochs", "1000000000"), 2, "hypernetwork_epochs must be at most 100000"),
        (("--second-order",), 2, "second_order"),
        (("--partial-channels", "3"), 2, "partial_channels"),
    ],
)
def test_a_setting_is_refused_before_anything_is_written(refused, tmp_path, arguments, status, words):
    assert words in refused(*arguments, status=status)
    assert not list(tmp_path.iterdir())


def test_images_that_do_not_fit_are_refused_with_their_array(refused, tmp_path):
    path = images(tmp_path / "data.npz", x_train=np.zeros((60, 64), np.uint8))
    message = refused("--dataset", path)
    assert "x_train" in message and "(60, 64)" in message
    path.write_text("these are no arrays")
    assert str(path) in refused("--dataset", path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("storage", ["postgresql://u:secret@127.0.0.1:1/x", "nosuch://u:secret@127.0.0.1:1/x"])
def test_a_storage_that_cannot_be_reached_is_named_without_its_password(refused, tmp_path, monkeypatch, storage):
    monkeypatch.setenv(VARIABLE, storage)
    message = refused("--out", "study")
    assert "u:***@127.0.0.1:1/x cannot be opened" in message and "sqlite:///PATH" in message
    assert "secret" not in message
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"secret" in path.read_bytes() for path in files)


def test_a_study_database_that_is_none_is_refused_and_kept(refused, tmp_path):
    path = tmp_path / "study" / "study.db"
    path.parent.mkdir()
    path.write_text("a file of the user's, of another kind\n" * 40)
    before = path.read_bytes()
    message = refused("--out", path.parent)
    assert "study.db cannot be opened" in message
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("kept")
    for out in ("file", "file/sub"):
        message = refused("--out", out)
        assert f"{out} cannot be written" in message and "--out" in message
    assert (tmp_path / "file").read_text() == "kept"


def test_an_optimal_genotype_that_does_not_fit_is_refused_with_its_file(refused, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(random_genotype(SearchSpace(nodes=2), seeded()).to_json())
    message = refused("--optimal", path, "--out", "study")
    assert str(path) in message and "--nodes, 2 there and 4 here" in message
    assert not (tmp_path / "study" / "study.db").exists()


def test_an_existing_study_refuses_other_data_and_keeps_its_trials(refused, tmp_path):
    images(tmp_path / "data.npz")
    config = SweepConfig.of(out="study")
    config.folder.mkdir()
    study = open_optuna(config, config.load(), storage_url(config))
    params = {name: value for name, value in DEFAULT_PARAMS.items() if name != "estimator"}
    study.add_trial(optuna.trial.create_trial(params=params, distributions=search_space("exact"), value=0.5))
    before = [(trial.state, trial.params, trial.value) for trial in study.trials]
    message = refused("--out", "study", "--dataset", "data.npz")
    assert "data: stored" in message and "--out" in message
    stored = optuna.load_study(study_name=study_name(config), storage=storage_url(config))
    assert stored.user_attrs == study.user_attrs
    assert [(trial.state, trial.params, trial.value) for trial in stored.trials] == before
    assert before[-1] == (TrialState.COMPLETE, params, 0.5)


@pytest.mark.parametrize(
    ("options", "nodes", "option"),
    [
        ({"gpus_per_trial": 1}, [{"CPU": 2}], "--gpus-per-trial"),
        ({"cpus_per_trial": 3}, [{"CPU": 2}] * 2, "--cpus-per-trial"),
        ({"device": "cuda"}, [{"CPU": 2}], "--device cuda"),
    ],
)
def test_resources_that_no_node_has_are_refused_at_once(options, nodes, option):
    execution = SweepConfig.of(**options).execution
    run = Run(execution, blobs(), Progress(), lambda: None, nodes, None, None)
    with pytest.raises(ConfigError, match=option):
        run.check_resources()


def test_a_cluster_that_does_not_answer_is_refused_at_once(refused):
    message = refused("--address", "127.0.0.1:1", "--out", "study")
    assert "127.0.0.1:1" in message and "--address" in message
