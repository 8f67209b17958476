"""Studies of other versions, and what a sweep shares with an experiment."""

import json
import shutil
from pathlib import Path

import pytest

from edgenes.config import digest
from edgenes.errors import DataError
from tests.support.tiny_study import begin_study
from tune_jobs import open_saved, run_sweep
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import CONFIG
from tune_jobs.study.optuna_study import check_settings


@pytest.mark.parametrize(("form", "reader"), [(None, "0.1"), (3, "The version that wrote it")])
def test_a_study_of_another_version_is_refused_with_the_version_that_reads_it(tmp_path, form, reader):
    stored = {"data": "a digest", "options": {}} | ({} if form is None else {"format": form})
    (tmp_path / CONFIG).write_text(json.dumps(stored))
    with pytest.raises(StudyError, match=reader):
        open_saved(tmp_path)
    with pytest.raises(StudyError, match=reader):
        run_sweep(SweepConfig.of(out=tmp_path))


def test_a_sweep_and_an_experiment_search_and_retrain_the_same():
    """So that each finds in the cache what the other has computed."""
    sweep, experiment = SweepConfig.of(seed=3).setting("cpu"), ExperimentConfig.of().setting("cpu").of_seed(3)
    assert digest(sweep.search_config()) == digest(experiment.search_config())
    genotype = sweep.random_genotypes(1)[0]
    assert digest(sweep.training_config(genotype)) == digest(experiment.training_config(genotype))


def test_a_setting_that_came_later_had_its_default_before(tmp_path):
    stored, asked = {"seed": 0}, {"seed": 0, "later": 1}
    check_settings(stored, asked, "the study", {"later": 1, "seed": 5})
    with pytest.raises(StudyError, match="later"):
        check_settings(stored, asked, "the study", {"later": 2})


def test_data_are_stored_with_their_whole_path_and_found_by_their_content_elsewhere(tmp_path, monkeypatch):
    saved = begin_study(tmp_path / "study")
    monkeypatch.chdir(saved.folder)
    located = SweepConfig.of(dataset="blobs.npz", root="~/data").located()
    assert located.data.dataset == str(saved.folder / "blobs.npz") and located.data.root == Path.home() / "data"
    assert SweepConfig.of(dataset="digits").located().data.dataset == "digits"

    moved = shutil.move(saved.folder / "blobs.npz", tmp_path / "other.npz")
    with pytest.raises(DataError, match="--dataset"):
        saved.data()
    monkeypatch.chdir(tmp_path)
    found = saved.with_data("other.npz", None)
    assert found.data().digest == saved.data_digest and found.config.data.dataset == str(moved)
    alike = begin_study(tmp_path / "alike", data_seed=5)
    with pytest.raises(StudyError, match=saved.data_digest):
        saved.with_data(alike.config.data.dataset, None).data()
