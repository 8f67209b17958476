"""A worker's share of a stage's jobs: networks that are trained at once, and each job by itself."""

import errno

import pytest

from edgenes.errors import ConfigError
from edgenes.methods.trainer import Member
from edgenes.space.genotype import SearchSpace, random_genotypes
from tests.edgenes.methods.test_survey import setting_of
from tests.support.toys import blobs, seeded
from tune_jobs.execution import jobs
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.files.workplace import Workplace
from tune_jobs.messages import Status

SETTING = setting_of(SearchSpace(2))
MEMBERS = [Member(one, SETTING.training_config(one)) for one in random_genotypes(SETTING.space, 3, seeded(1))]
JOBS = [{"name": name, "member": member.to_dict()} for name, member in zip("abc", MEMBERS, strict=True)]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """`work(function)` runs a share of three jobs: the last report, the members trained ahead, results by name."""
    sent, ahead = [], []
    monkeypatch.setattr(jobs, "send", sent.append)
    monkeypatch.setattr(jobs, "use_resources", lambda: None)

    def run(function, share=tuple(JOBS)):
        place, asked = Workplace(StudyFiles(tmp_path)), lambda trainer, members: ahead.extend(members)
        jobs.job_worker({"job": 1}, blobs(), "stage", [[], list(share)], function, asked, place, SETTING, {})
        found = [jobs._stored(place.files, "stage", job, lambda job, result: True, set()) for job in share]
        return sent[-1], ahead, found

    return run


def fails(wrong, error):
    def function(job, bench):
        if job["name"] == wrong:
            raise error
        return {"note": job["name"]}

    return function


def test_all_are_trained_at_once_and_each_has_its_result(work):
    last, ahead, found = work(fails("none", ConfigError("wrong")))
    assert last.status == Status.COMPLETE and not last.attributes["failed"]
    assert ahead == MEMBERS and [each["note"] for each in found] == ["a", "b", "c"]


def test_one_that_fails_is_said_and_the_others_have_their_results(work):
    last, _, found = work(fails("b", ConfigError("wrong")))
    (failed,) = last.attributes["failed"]
    assert last.status == Status.COMPLETE and failed["reason"] == "wrong"
    assert [each and each["note"] for each in found] == ["a", None, "c"]


def test_a_full_disk_ends_the_share(work):
    last, _, found = work(fails("b", OSError(errno.ENOSPC, "No space left on device")))
    assert last.status == Status.UNWRITABLE and [each is None for each in found] == [False, True, True]


def test_a_job_alone_fails_as_such(work):
    last, _, _ = work(fails("a", ConfigError("wrong")), share=JOBS[:1])
    assert last.status == Status.FAILED and last.reason == "wrong"
