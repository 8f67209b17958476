"""Clean removes what a finished study can do without, and nothing that it cannot."""

import json
import os

import pytest

from edgenes import Ensemble
from edgenes.errors import CheckpointError
from tests.support.tiny_study import begin_study, change_options
from tune_jobs import run_sweep
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import hypernetwork_path
from tune_jobs.files.lease import study_lock
from tune_jobs.study.saved import open_saved
from tune_jobs.tools.commands import Clean, Doctor
from tune_jobs.tools.folder import contents, full_retrainings


@pytest.fixture
def littered(study):
    """The study with Ray's files, leftovers, and files of the user."""
    folder = study
    place = folder / "ray" / "sweep-1" / "trial-0-ab"
    place.mkdir(parents=True)
    (place / "state.pt").write_bytes(bytes(5000))
    (folder / "predictions" / "0123.unfinished").write_bytes(bytes(3000))
    (folder / "predictions" / "0123.damaged").write_bytes(bytes(2000))
    (folder / "trials" / ".0000-hypernetwork.pt-ab12_xyz").write_bytes(bytes(1000))
    (folder / "result-1.json").write_text("{}")
    (folder / "notes.txt").write_text("the user's")
    return folder


def predictions(folder):
    return {path.stem for path in (folder / "predictions").glob("*.pt")}


def test_what_goes_and_what_stays(littered):
    before = contents(littered).files
    needed = set(full_retrainings(open_saved(littered)))
    assert needed < predictions(littered)
    answer = Clean(study=littered).run()
    after = contents(littered).files
    assert predictions(littered) == needed
    gone = before.keys() - after.keys()
    assert {name for name in gone if not name.startswith("predictions/")} == {
        "ray/sweep-1/trial-0-ab/state.pt",
        "trials/.0000-hypernetwork.pt-ab12_xyz",
    }
    assert not (littered / "ray").exists() and {"predictions/0123.unfinished", "predictions/0123.damaged"} <= gone
    assert not any(name.endswith(".lock") and name != "driver.lock" for name in after)
    told = {name for row in answer["removed"].values() for name in row["files"]}
    assert told == gone
    assert answer["bytes_before"] - answer["bytes_after"] == sum(before[name] for name in gone)
    assert answer["bytes_after"] == sum(size for name, size in after.items() if name != "driver.lock")
    json.dumps(answer)
    again = Clean(study=littered).run()
    assert not any(row["files"] for row in again["removed"].values())
    assert "nothing to remove" in Clean(study=littered).text(again)


def test_a_dry_run_says_the_same_and_touches_nothing(littered):
    before = contents(littered).files
    dry = Clean(study=littered, dry_run=True)
    promised = dry.run()
    assert contents(littered).files == before and "would go" in dry.text(promised)
    assert Clean(study=littered).run()["removed"] == promised["removed"]


def test_it_is_still_sound_finished_and_has_its_ensemble(littered):
    result = json.loads((littered / "result.json").read_text())
    Clean(study=littered).run()
    assert Doctor(study=littered).run()["sound"]
    assert [n.genotype.digest for n in Ensemble.load(littered / "ensemble").networks] == [
        member["digest"] for member in result["members"]
    ]
    assert run_sweep(open_saved(littered).config).values == result


class TestRefused:
    def unchanged(self, folder, error, words):
        before = contents(folder).files
        with pytest.raises(error, match=words):
            Clean(study=folder).run()
        assert {name: size for name, size in contents(folder).files.items() if name != "driver.lock"} == before

    def test_a_study_that_is_not_finished_or_has_got_more_trials(self, littered, tmp_path):
        change_options(littered, trials=9)
        for folder in (begin_study(tmp_path / "begun").folder, littered):
            self.unchanged(folder, StudyError, "is not finished")

    def test_a_driven_study(self, littered):
        with study_lock(littered):
            for dry in (False, True):
                with pytest.raises(StudyError, match=f"process {os.getpid()} on .* drives the study"):
                    Clean(study=littered, dry_run=dry).run()
            assert (littered / "ray").exists()

    def test_a_study_whose_finalist_lost_its_hypernetwork(self, littered):
        (littered / hypernetwork_path(open_saved(littered).finalists()[0].number)).unlink()
        self.unchanged(littered, CheckpointError, "see what doctor says")

    def test_a_result_of_other_trials(self, littered):
        path = littered / "result.json"
        result = json.loads(path.read_text())
        result["chosen"]["number"] = 7
        path.write_text(json.dumps(result))
        self.unchanged(littered, StudyError, "does not fit its trials")
