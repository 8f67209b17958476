"""Which study a folder is that of, where several share a storage."""

import shutil
from dataclasses import replace

import pytest

from tests.support.tiny_study import begin_study
from tune_jobs import open_saved, run_sweep
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import CONFIG
from tune_jobs.stages.pipeline import open_optuna
from tune_jobs.study.folder import HOME, home_of
from tune_jobs.study.saved import storage_url
from tune_jobs.study.trials import IDENTIFIER


@pytest.fixture
def storage(tmp_path):
    return f"journal:{tmp_path}/s.log"


def begun(folder, storage):
    """A study that has been driven, with a trial."""
    saved = begin_study(folder, storage=storage, pruner="none")
    saved.study.set_user_attr(HOME, home_of(folder))
    saved.study.ask()
    return saved


def reopened(saved):
    return open_optuna(saved.config, saved.data(), storage_url(saved.config))


def test_a_folder_of_the_same_name_is_refused_with_both_places(tmp_path, storage):
    first = begun(tmp_path / "a" / "study", storage)
    second = tmp_path / "b" / "study"
    with pytest.raises(StudyError) as caught:
        begin_study(second, storage=storage)
    for place in (first.folder, second, storage):
        assert str(place) in str(caught.value)
    with pytest.raises(StudyError, match="another name"):
        run_sweep(replace(first.config, out=tmp_path / "c" / "study"))
    assert reopened(first).user_attrs[IDENTIFIER] == first.study.user_attrs[IDENTIFIER]


def test_a_folder_with_a_study_of_its_own_meets_no_others(tmp_path, storage):
    first = begun(tmp_path / "a" / "study", storage)
    second = begun(tmp_path / "b" / "study", f"journal:{tmp_path}/other.log")
    with pytest.raises(StudyError, match="another name"):
        open_saved(second.folder, storage)
    shutil.copyfile(first.folder / CONFIG, second.folder / CONFIG)
    assert open_saved(second.folder, storage).study.user_attrs == first.study.user_attrs


def test_a_lost_record_is_made_up_for_where_the_study_was(tmp_path, storage):
    first = begun(tmp_path / "a" / "study", storage)
    (first.folder / CONFIG).write_text("{")
    assert len(reopened(first).trials) == 1


def test_a_moved_folder_holds_its_own_study(tmp_path):
    first = begun(tmp_path / "a", None)
    moved = first.folder.rename(tmp_path / "b")
    assert len(open_saved(moved).trials()) == 1
    config = replace(first.config, out=moved)
    data = replace(first.config.data, dataset=str(moved / "blobs.npz")).load()
    (moved / CONFIG).unlink()
    assert len(open_optuna(config, data, storage_url(config)).trials) == 1
