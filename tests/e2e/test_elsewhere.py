"""A real study whose trials are in PostgreSQL and whose files are on a server of the S3 protocol, killed on the way."""

from tests.faults.harness import SMOKE, STEP, Fault, drive, go_on, inspect
from tests.support.servers import PASSWORD
from tune_jobs.files.study_files import Remote


def test_killed_it_goes_on_from_its_remote_checkpoints(undisturbed, postgres_database, s3_url, tmp_path, monkeypatch):
    out = tmp_path / "study"
    options = (*SMOKE, "--storage-path", s3_url)
    monkeypatch.setenv("EDGENES_STORAGE", postgres_database)
    killed = drive(out, Fault("kill driver", STEP, nth=30), options=options)
    assert (killed.status, killed.fired) == (137, [True])
    remote = Remote(s3_url, out.name)
    assert any(name.startswith("ray/sweep-1/trial-") for name in remote.entries("ray/sweep-1"))
    ended = go_on(out, options=options)
    found = inspect(out, undisturbed, storage=postgres_database)
    assert found.problems == [] and found.repeated < 2 * 12  # it resumed, and did not start again
    assert remote.entries("ray") == []
    stored = {name.rpartition("/")[2] for name in remote.entries("predictions")}
    assert stored == {path.name for path in (undisturbed / "predictions").glob("*.pt")}
    texts = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert len(texts) > 10 and not any(PASSWORD.encode() in text for text in texts)
    assert PASSWORD not in ended.output + ended.errors + killed.output + killed.errors
