"""A study that begins with what an earlier one found: its trials, and its search where that would be the same."""

import json
import shutil

import pytest
from optuna.trial import TrialState, create_trial

from edgenes.errors import ConfigError
from tests.support.tiny_study import begin_study
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import GENOTYPE, PREDICTOR
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.stages.warm_start import earlier_study, take_search, teach
from tune_jobs.study.saved import open_saved
from tune_jobs.study.space import DEFAULT_PARAMS, search_space
from tune_jobs.study.trials import IDENTIFIER, ORIGIN, added_trials, finalists, finished_trials, origin

SPACE = search_space("exact")


def ran(saved, *values, **params):
    """Trials as the study's own driver leaves them: complete with a value, else pruned."""
    for value in values:
        number = len(saved.study.get_trials(deepcopy=False))
        saved.study.add_trial(
            create_trial(
                state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
                value=value,
                params={name: DEFAULT_PARAMS[name] for name in SPACE} | params,
                distributions=SPACE,
                user_attrs={ORIGIN: origin(saved.study.user_attrs[IDENTIFIER], number), "hypernetwork": "x.pt"},
                constraints={"control_error": -0.1},
            )
        )


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A study whose trials ended with .5, .7 and a pruned one, and one on the same data that has none yet."""
    place = tmp_path_factory.mktemp("warm")
    source = begin_study(place / "a")
    ran(source, 0.5, 0.7, None)
    begin_study(place / "b", seed=1)
    return place


@pytest.fixture
def pair(begun, tmp_path):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return open_saved(tmp_path / "a"), open_saved(tmp_path / "b")


def test_complete_trials_teach_once_and_are_none_of_the_studys_own(pair):
    source, saved = pair
    ran(saved, 0.2)
    for _ in range(2):
        line = teach(saved.study, saved.config, source, saved.data_digest)
    assert line.startswith("Warm start: 2 complete trials") and "other settings" not in line
    added = added_trials(saved.study)
    assert [trial.values for trial in added] == [[0.5], [0.7]]
    assert [trial.constraints for trial in added] == [{"control_error": -0.1}] * 2
    assert all("hypernetwork" not in trial.user_attrs for trial in added)
    assert finished_trials(saved.study) == 1
    assert [trial.values for trial in finalists(saved.study, 3)] == [[0.2]]


def test_what_makes_values_another_scale_is_said(pair):
    source, saved = pair
    config = SweepConfig.of(**saved.config.to_dict() | {"channels": 4, "sampler": "tpe"})
    assert "other settings: data, channels." in teach(saved.study, config, source, "another digest")


def test_trials_of_another_space_do_not_teach(pair):
    source, saved = pair
    config = SweepConfig.of(**saved.config.to_dict() | {"estimator": "both"})
    assert "0 complete trials" in (line := teach(saved.study, config, source, saved.data_digest))
    assert "2 with other parameters" in line and added_trials(saved.study) == []


def test_the_search_is_taken_where_it_would_be_the_same_and_only_by_a_study_without_its_own(pair):
    source, saved = pair
    files = StudyFiles(saved.folder)
    taken = {name: (source.folder / name).read_bytes() for name in (GENOTYPE, PREDICTOR)}
    assert take_search(files, saved.config, source, saved.data_digest) is None
    for name in taken:
        (saved.folder / name).unlink()
    other = SweepConfig.of(**saved.config.to_dict() | {"survey_epochs": 5})
    assert "other survey_epochs" in take_search(files, other, source, saved.data_digest)
    assert "other data" in take_search(files, saved.config, source, "another digest")
    assert not (saved.folder / GENOTYPE).exists()
    assert "predictor are those of" in take_search(files, saved.config, source, saved.data_digest)
    assert {name: (saved.folder / name).read_bytes() for name in taken} == taken


def test_what_cannot_teach_is_refused_at_once(pair, tmp_path):
    source, saved = pair
    plain = saved.config.to_dict()

    def config(**changes):
        return SweepConfig.of(**json.loads(json.dumps(plain | {"warm_start": str(source.folder)} | changes)))

    assert earlier_study(config()).folder == source.folder
    assert earlier_study(config(warm_start=None)) is None
    assert config().defining() == saved.config.defining()
    with pytest.raises(ConfigError, match="value control"):
        earlier_study(config(objectives=["value", "control"]))
    with pytest.raises(ConfigError, match="this study itself"):
        earlier_study(config(out=str(source.folder)))
    with pytest.raises(StudyError, match="nowhere"):
        earlier_study(config(warm_start=str(tmp_path / "nowhere")))
