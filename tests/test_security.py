"""Studies from strangers, and passwords: hostile files are refused, cheaply; what is secret is nowhere to be read."""

import ast
import contextlib
import io
import json
import os
import pickle
import random
import re
import resource
import shutil
import sqlite3
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes import CheckpointError, ConfigError, Ensemble, Genotype, Hypernetwork, load_data
from edgenes.checkpoint import load_checkpoint, read_json, save_checkpoint
from edgenes.config import TrainingConfig
from edgenes.data.npz import read_npz
from edgenes.errors import EdgeNESError
from edgenes.space.genotype import SearchSpace, random_genotype
from studies.anneal_sweep import main
from tests.support import fuzz
from tests.support.toys import seeded
from tune_jobs.config.passwords import VARIABLE, redact
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.execution.run import Run
from tune_jobs.files.curves import read_curve
from tune_jobs.files.integrity import check_database, check_folder
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.progress.display import Progress
from tune_jobs.stages.pipeline import open_optuna
from tune_jobs.stages.search import search_stage
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.saved import load_study_data, open_saved, plain_config, read_config, storage_url, study_name
from tune_jobs.study.space import search_space
from tune_jobs.study.storage import IN_VARIABLE, kept_from_children, resolve, storage_from
from tune_jobs.study.trials import trials_frame

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "studies" / "anneal_sweep.py"
SECRET = "hunter2xyzzy"
LITTLE = 128 * 2**20  # bytes


# What the code may not contain


ALLOWED = {"tune_jobs/tools/submit.py": ["yaml"]}  # plain values of the user's own cluster file
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "yaml", "jsonpickle"}


def dangers(source: str) -> list[str]:
    """What could run code from a file or a string."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in names if name.partition(".")[0] in FORBIDDEN_MODULES]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
            found.append(called)
        if called.startswith("yaml.") and not called.startswith("yaml.safe_load"):
            found.append(called)
        if called == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if called.endswith(("read_pickle", "jit.load")) or options.get("shell") == "True":
            found.append(called)
        if options.get("allow_pickle", "False") != "False":
            found.append(f"{called} with pickles")
    return found


def test_no_code_is_ever_read_from_a_file():
    sources = [path for folder in ("edgenes", "tune_jobs", "studies") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 50
    found = {str(path.relative_to(ROOT)): dangers(path.read_text()) for path in sources}
    assert {name: why for name, why in found.items() if why and why != ALLOWED.get(name)} == {}


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from pickle import loads", "import yaml.loader", "yaml.load(text)"),
        *("torch.load(path)", "eval(text)"),
        *("torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "pd.read_pickle(path)"),
        *("numpy.lib.format.read_array(file, allow_pickle=flag)", "subprocess.run(line, shell=True)"),
    ],
)
def test_the_search_for_it_finds_it(line):
    assert dangers(line)


# Passwords


POSTGRES = '''
"""Stands for a driver: it connects, and its error tells all that it knows."""
import os, pathlib, socket
__version__, paramstyle = "1.31.2", "format"
class Error(Exception): pass
class Warning(Exception): pass
InterfaceError = DatabaseError = OperationalError = IntegrityError = ProgrammingError = DataError = Error
InternalError = NotSupportedError = Error
def connect(**options):
    lines = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    pathlib.Path(os.environ["PROBE"]).write_bytes(b"\\n".join(lines))
    try:
        socket.create_connection((options["host"], options["port"]), timeout=5)
    except OSError as error:
        raise Error(f"{options}: {error}") from error
'''


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the list of processes is read from /proc")
@pytest.mark.parametrize("way", ["variable", "file"])
def test_the_password_of_a_server_that_does_not_answer_is_nowhere(tmp_path, way):
    url = f"postgresql+pg8000://me:{SECRET}@127.0.0.1:1/studies"
    site, probe, run = tmp_path / "site", tmp_path / "processes", tmp_path / "run"
    site.mkdir()
    run.mkdir()
    (site / "pg8000.py").write_text(POSTGRES)
    environment = {**os.environ, "PYTHONPATH": f"{site}:{ROOT}", "PROBE": str(probe)}
    environment.pop(VARIABLE, None)
    words = [sys.executable, str(SCRIPT), "--smoke-test", "--out", str(run / "study")]
    if way == "variable":
        environment[VARIABLE] = url
    else:
        private = tmp_path / "url"
        private.touch(0o600)
        private.write_text(f"{url}\n")
        words += ["--storage", f"file:{private}"]
    done = subprocess.run(words, cwd=run, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "postgresql+pg8000://me:***@127.0.0.1:1/studies cannot be opened" in done.stderr
    assert "Connection refused" in done.stderr and "Traceback" not in done.stderr
    processes = probe.read_bytes()
    assert b"anneal_sweep.py" in processes  # the driver itself was seen
    files = [path for path in run.rglob("*") if path.is_file()]
    told = [done.stdout.encode(), done.stderr.encode(), processes, *(path.read_bytes() for path in files)]
    assert not any(SECRET.encode() in text for text in told)
    assert not any(SECRET in str(path) for path in run.rglob("*"))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@host/db",
        f"mysql://me@server:{SECRET}@host/db",
        f"postgresql://host/db?user=me&password={SECRET}",
        f"mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D{SECRET}",
    ],
)
@pytest.mark.parametrize("form", ["--storage {}", "--storage={}", "--storge {}", "--dataset {}"])
def test_a_password_on_the_command_line_is_refused_and_not_repeated(tmp_path, monkeypatch, capsys, url, form):
    monkeypatch.chdir(tmp_path)
    assert main(form.format(url).split()) == 2
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert f"environment variable {VARIABLE}" in printed.err and "--storage file:FILE" in printed.err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=VARIABLE):  # the same on the way of the commands, and of Python
        read_config(study_of(tmp_path / "study"), url)
    with pytest.raises(ConfigError, match=VARIABLE):
        storage_url(SweepConfig(storage=url))


def test_what_workers_are_sent_holds_a_reference_and_no_url(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, f"postgresql://me:{SECRET}@127.0.0.1:1/db")
    folder = study_of(tmp_path / "study")
    config, _ = read_config(folder)
    assert config.storage == IN_VARIABLE and study_name(config) == "study"
    assert storage_url(config).endswith("@127.0.0.1:1/db")
    for sent in (pickle.dumps(config), json.dumps(config.to_dict()).encode(), repr(config).encode()):
        assert SECRET.encode() not in sent
    with kept_from_children():
        done = subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True)
    assert b"PATH" in done.stdout and SECRET.encode() not in done.stdout
    assert SECRET in os.environ[VARIABLE]
    (folder / "study.db").touch()  # a study that began in its folder stays there
    assert read_config(folder)[0].storage is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: (path.touch(0o644), path.write_text("sqlite:///x")), "chmod 600"),
        (lambda path: (path.touch(0o640), path.write_text("sqlite:///x")), "chmod 600"),
        (lambda path: path.touch(0o600), "first line"),
        (lambda path: (path.touch(0o600), path.write_text(f"file:{path}")), "first line"),
        (lambda path: (path.touch(0o600), path.write_bytes(b"\xff\xfe")), "no text"),
        (lambda path: path.mkdir(), "is no file"),
        (lambda path: os.mkfifo(path, 0o600), "is no file"),
        (lambda path: None, "No such file"),
    ],
)
def test_a_file_with_the_url_is_private_and_holds_one(tmp_path, make, message):
    make(tmp_path / "url")
    with pytest.raises(ConfigError, match=message):
        resolve(f"file:{tmp_path / 'url'}")


def test_references_lead_to_the_storage(tmp_path, monkeypatch):
    private = tmp_path / "url"
    private.touch(0o600)
    private.write_text(f"sqlite:///{tmp_path}/studies.db\nnothing else counts\n")
    assert resolve(f"file:{private}") == f"sqlite:///{tmp_path}/studies.db"
    monkeypatch.setenv(VARIABLE, f"file:{private}")
    storage_from(IN_VARIABLE)
    assert (tmp_path / "studies.db").exists()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ConfigError, match="names no storage"):
        resolve(IN_VARIABLE)


def test_a_raw_character_in_a_password_shows_no_part_of_it():
    for password in (f"a@{SECRET}", f"{SECRET}@b", f"a@b:{SECRET}", f"a/{SECRET}@b"):
        with pytest.raises(StudyError) as raised:
            storage_from(f"postgresql+pg8000://me:{password}@127.0.0.1:1/db")
        assert SECRET not in str(raised.value) and "%40" in str(raised.value)
    assert redact(f"mysql://me@server:{SECRET}@host/db") == "mysql://me@server:***@host/db"


# A study's folder


def study_of(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(plain_config(SweepConfig(), "0" * 16)))
    return folder


@pytest.fixture(scope="module")
def study_db(tmp_path_factory) -> Path:
    """The Optuna study of an otherwise empty study."""
    path = tmp_path_factory.mktemp("study") / "study.db"
    opened = open_study("anneal", path, space=search_space("exact"))
    opened.tell(opened.ask(search_space("exact")), 0.5)
    return path


@pytest.fixture
def study(tmp_path, study_db) -> Path:
    folder = study_of(tmp_path / "study")
    shutil.copyfile(study_db, folder / "study.db")
    return folder


@pytest.mark.parametrize("name", [".writable", "study.db", "trials", "predictions", "config.json"])
def test_the_sweep_follows_no_link_out_of_its_folder(tmp_path, name, capsys):
    folder, outside = tmp_path / "study", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("precious")
    (folder / name).symlink_to(outside)
    assert main(["--smoke-test", "--out", str(folder)]) == 1
    assert "leads out" in capsys.readouterr().err.replace("\n", " ")
    assert outside.read_text() == "precious" and os.listdir(folder) == [name]


STRANGE = {
    "identity": (lambda study, trial: study.set_user_attr("identity", ["seed"]), "no settings on record"),
    "attempts": (lambda study, trial: trial.set_user_attr("attempts", "3"), "holds '3' as its attempts"),
    "checkpoint": (lambda study, trial: trial.set_user_attr("checkpoint", "ray/\0"), "the path of its checkpoint"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_the_sweep_refuses_an_optuna_study_that_it_did_not_write(tmp_path, name, capsys):
    change, words = STRANGE[name]
    config = SweepConfig(smoke_test=True, out=tmp_path / "study")
    opened = open_optuna(config, load_study_data(config))
    change(opened, opened.ask(search_space("exact")))
    assert main(["--smoke-test", "--out", str(tmp_path / "study")]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"\xff", b"[", random_genotype(SearchSpace(nodes=2), seeded(0)).to_json().encode()]
)
def test_the_sweep_refuses_a_genotype_that_is_none_of_its_space(tmp_path, content):
    config = SweepConfig(out=tmp_path)
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "genotype.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"genotype\.json"):
        search_stage(Run(config, None, None, Progress(), lambda: None, [], StudyFiles(tmp_path), None))


def test_a_spreadsheet_computes_no_cell_of_the_trials(tmp_path):
    opened = open_study("anneal", tmp_path / "study.db", space=search_space("exact"))
    opened.ask(search_space("exact")).set_user_attr("reason", '=HYPERLINK("http://127.0.0.1/")')
    assert trials_frame(opened)["reason"][0].startswith("'=HYPERLINK")


def test_links_within_a_study_are_fine(study):
    assert len(open_saved(study).trials()) == 1
    (study / "trials").mkdir()
    (study / "trials" / "other.json").symlink_to("../config.json")
    (study / "again").symlink_to(study / "trials")
    os.link(study / "config.json", study / "trials" / "config.json")
    moved = study.with_name("by another name")
    moved.symlink_to(study)
    assert len(open_saved(moved).trials()) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place, out: place.symlink_to(out), "a link that leads out"),
        (lambda place, out: place.symlink_to("../../outside"), "a link that leads out"),
        (lambda place, out: place.symlink_to(out / "not-yet-there"), "a link that leads out"),
        (lambda place, out: place.symlink_to(out.parent), "a link that leads out"),
        (lambda place, out: place.symlink_to(place), "a link that leads out"),
        (lambda place, out: place.symlink_to("/proc/self/cwd"), "a link that leads out"),
        (lambda place, out: os.link(out, place), "the same file as one outside"),
        (lambda place, out: os.mkfifo(place), "neither a file nor a folder"),
    ],
)
def test_what_leads_out_of_a_study_is_refused(study, make, message):
    outside = study.parent / "outside"
    outside.write_text("precious")
    (study / "trials").mkdir()
    make(study / "trials" / "0000.jsonl", outside)
    for check in (check_folder, open_saved):
        with pytest.raises(StudyError, match=message) as raised:
            check(study)
        assert "0000.jsonl" in str(raised.value)
    assert outside.read_text() == "precious"


def hot_journal(database: Path, named: Path) -> None:
    """A rollback journal beside `database` that names another file, as only a transaction over several does."""
    content = database.read_bytes()
    page = struct.unpack(">H", content[16:18])[0]
    magic, name = bytes.fromhex("d9d505f920a163d7"), str(named).encode()
    header = (magic + struct.pack(">IIIII", 0, 0, len(content) // page, 512, page)).ljust(512, b"\0")
    tail = struct.pack(">I", 2**30 // page + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    database.with_name(f"{database.name}-journal").write_bytes(header + tail)


def test_a_journal_that_would_delete_a_file_is_refused(study):
    victim = study.parent / "precious"
    victim.write_text("precious")
    hot_journal(study / "study.db", victim)
    with pytest.raises(StudyError, match="names another file, which SQLite would delete"):
        open_saved(study)
    assert victim.exists()
    with contextlib.closing(sqlite3.connect(study / "study.db")) as connection:
        connection.execute("SELECT * FROM trials").fetchall()
    assert not victim.exists()  # the trap works where nobody looks


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TRIGGER t AFTER UPDATE ON trials BEGIN DELETE FROM studies; END"],
        ["DROP TABLE trial_values", "CREATE VIEW trial_values AS SELECT randomblob(1000000000)"],
        ["DROP TABLE TRIALS", "CREATE TABLE TRIALS (trial_id INTEGER, state TEXT AS (hex(zeroblob(400000000))))"],
        ["DROP TABLE study_directions", "CREATE TABLE study_directions (x DEFAULT (zeroblob(900000000)))"],
        ["CREATE INDEX i ON trials (number) WHERE number > 0"],
    ],
)
def test_a_database_that_computes_is_refused(study, statements):
    with contextlib.closing(sqlite3.connect(study / "study.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    with scarce_memory(), pytest.raises(StudyError, match="none of Optuna's, which only store"):
        open_saved(study)


def test_other_tables_beside_optunas_are_nobodys_business(study):
    with contextlib.closing(sqlite3.connect(study / "study.db")) as connection:
        connection.execute("CREATE TABLE mine (x DEFAULT 1 CHECK (x > 0))")
        connection.execute("CREATE VIEW also_mine AS SELECT * FROM mine")
    assert len(open_saved(study).trials()) == 1


def test_a_page_that_is_used_twice_is_refused(study):
    path = study / "study.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, ?, ?)",
            [(f"k{i}", json.dumps("x" * 900)) for i in range(40)],
        )
        connection.commit()
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'trial_user_attributes'").fetchone()
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(path.read_bytes())
    page = (root[0] - 1) * size
    assert content[page] == 5  # an interior page of a table, whose cells begin with the number of a child
    cells = struct.unpack(">H", content[page + 3 : page + 5])[0]
    places = struct.unpack(f">{cells}H", content[page + 12 : page + 12 + 2 * cells])
    child = content[page + places[0] : page + places[0] + 4]
    for place in places:
        content[page + place : page + place + 4] = child
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the database is damaged"):
        check_database(path)
    with pytest.raises(StudyError, match="the database is damaged"):
        open_saved(study)


# Files that ask for memory, or for more


@contextlib.contextmanager
def scarce_memory(more: int = LITTLE):
    """At most `more` bytes of address space beyond what the process has."""
    taken = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refusal(read) -> str:
    """The message with which `read()` refuses, before it has asked for much memory."""
    with scarce_memory(), pytest.raises(EdgeNESError) as raised:
        read()
    message = str(raised.value)
    assert not re.search("allocate|MemoryError", message), message
    assert len(message) < 2000 and message.isprintable()
    return message


def test_memory_is_scarce_in_these_tests():
    with scarce_memory(), pytest.raises(MemoryError):
        bytearray(2 * LITTLE)


DEEP = "[" * 100_000
HUGE = {
    "nodes": ({"nodes": 10**9}, "nodes"),
    "many operations": ({"operations": ["skip_connect"] * 10**6}, "operations"),
    "long name": ({"cell_types": ["x" * 10**6]}, "cell_types"),
    "inputs": ({"inputs_per_node": 10**30}, "inputs_per_node"),
    "unknown": ({"x" * 10**6: 1}, "search space"),
    "no dict": ([1] * 10**6, "search space"),
}


@pytest.mark.parametrize("case", HUGE)
def test_a_huge_space_is_refused(case):
    space, word = HUGE[case]
    assert word in refusal(lambda: Genotype.from_dict({"space": space, "cells": {}}))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (DEEP, "nested too deeply"),
        ('{"space": ' + DEEP, "nested too deeply"),
        ('{"space": {"nodes": 1, "nodes": 2}}', "the key 'nodes' stands there twice"),
        ('{"space": {"nodes": NaN}}', "NaN is no number of JSON"),
        ('{"space": {"nodes": 1e999}}', "beyond the numbers of a float"),
        ('{"space": {"nodes": ' + "9" * 5000 + "}}", "integer string"),
        ('{"\\ud800": 1}', "surrogates not allowed"),
        ('{"space": {"\\u001b[31m": 1}}', "search space"),
        (" " * (2**24 + 1), "at most"),
    ],
)
def test_hostile_json_is_refused_wherever_it_stands(tmp_path, text, word):
    assert word in refusal(lambda: Genotype.from_json(text))
    (tmp_path / "config.json").write_text(text)
    refusal(lambda: read_config(tmp_path))
    refusal(lambda: read_curve(tmp_path / "config.json") or read_config(tmp_path))


@pytest.mark.parametrize("read", [read_json, read_curve, lambda path: load_checkpoint(path, "trial")])
def test_a_giant_file_and_a_pipe_are_refused(tmp_path, read):
    path = tmp_path / "giant"
    path.touch()
    os.truncate(path, 2**40)
    assert str(2**40) in refusal(lambda: read(path))
    path.unlink()
    os.mkfifo(path)
    refusal(lambda: read(path))


def test_paths_in_a_configuration_lead_nowhere(study):
    """What a configuration names is read at most; nothing is downloaded, and the folder stays the one opened."""
    elsewhere = study.parent / "elsewhere"
    hostile = {"out": str(elsewhere), "root": str(elsewhere), "storage": f"sqlite:///{elsewhere}/x.db"}
    config = {**json.loads((study / "config.json").read_text()), **hostile, "dataset": "fashionmnist", "download": True}
    (study / "config.json").write_text(json.dumps(config))
    saved = open_saved(study)
    assert saved.folder == study and saved.config.storage is None
    with pytest.raises(EdgeNESError, match="fashionmnist is not in"):
        saved.data()
    assert not elsewhere.exists()


# Checkpoints


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def tensor(size: int, claimed: int, strides: int = 1) -> bytes:
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(claimed) + b"tQ"
    shape = number(size) + b"\x85" + number(strides) + b"\x85"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(0) + shape + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def checkpoint(path: Path, value: bytes, method: int = zipfile.ZIP_STORED, entries: dict[str, bytes] | None = None):
    """A checkpoint of kind "trial" whose "value" is the pickled `value`."""
    body = b"\x80\x02}(" + text("format") + b"K\x01" + text("kind") + text("trial") + text("value") + value + b"u."
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        held = {"data.pkl": body, "byteorder": b"little", "version": b"3\n", "data/0": bytes(4), **(entries or {})}
        for name, content in held.items():
            archive.writestr(f"archive/{name}", content)
    return path


def test_the_crafted_checkpoints_are_sound_but_for_what_is_wrong_with_them(tmp_path):
    loaded = load_checkpoint(checkpoint(tmp_path / "c.pt", tensor(1, 1)), "trial")
    assert torch.equal(loaded["value"], torch.zeros(1))
    assert load_checkpoint(checkpoint(tmp_path / "c.pt", b"]" + number(7) + b"a"), "trial") == {"value": [7]}


NINE_MORE = [b"](" + b"h%c" % k * 9 + b"eq%c" % (k + 1) for k in range(9)]
LAUGHS = b"](](" + number(1) * 9 + b"eq\0" + b"".join(NINE_MORE) + b"e"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (b"cbuiltins\nbytearray\n" + number(2**31 - 1) + b"\x85R", "bytearray"),
        (b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n)R", "rebuild_meta"),
        (b"cos\nsystem\n" + text("true") + b"\x85R", "os system"),
        (tensor(2**31 - 1, 1, strides=0), "more than its bytes can hold"),
        (tensor(2**31 - 1, 2**31 - 1), "size"),
        (tensor(10**6, 1), "storage"),
        (LAUGHS, "more than its bytes can hold"),
        (b"]" * 5000 + b"a" * 4999, "recursion"),
        (b"]q\x00h\x00a", "recursion"),
        (b"\x8f", "set"),
    ],
    ids=["bytearray", "meta", "system", "stride 0", "storage", "view", "laughs", "deep", "itself", "set"],
)
def test_a_pickle_that_grows_is_refused(tmp_path, value, word):
    path = checkpoint(tmp_path / "c.pt", value)
    assert word in refusal(lambda: load_checkpoint(path, "trial"))


def test_zip_files_that_torch_would_follow_are_refused(tmp_path):
    sound, path = b"K\x01", tmp_path / "c.pt"
    bomb = {"data/1": bytes(2**28)}
    checkpoint(path, sound, zipfile.ZIP_DEFLATED, bomb)
    assert path.stat().st_size < 2**20
    assert "compressed" in refusal(lambda: load_checkpoint(path, "trial"))
    evil = b"\x80\x02cbuiltins\nbytearray\n" + number(2**31 - 1) + b"\x85R."
    for name in ("DATA.PKL", "data.PKL"):  # torch does not tell cases apart, Python does
        checkpoint(path, sound, entries={name: evil})
        refusal(lambda: load_checkpoint(path, "trial"))
    checkpoint(path, sound, entries={"DATA/0": bytes(4)})
    assert "same name" in refusal(lambda: load_checkpoint(path, "trial"))
    for size in (18, 22):  # where a directory declares how long an entry is in the file, and how long in truth
        content = bytearray(checkpoint(path, sound).read_bytes())
        entry = content.index(b"PK\x01\x02")
        content[entry + size + 2 : entry + size + 6] = struct.pack("<I", 2**31)
        path.write_bytes(content)
        refusal(lambda: load_checkpoint(path, "trial"))
    checkpoint(path, sound, zipfile.ZIP_LZMA)  # longer than uncompressed, here
    assert "compressed" in refusal(lambda: load_checkpoint(path, "trial"))
    checkpoint(path, sound, entries={f"{k}": b"" for k in range(1000)})
    assert load_checkpoint(path, "trial") == {"value": 1}
    directory = zipfile.ZipFile(checkpoint(path, sound)).start_dir
    content = path.read_bytes()
    first = content[directory : content.index(b"PK\x01\x02", directory + 1)]
    many = 200_000
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, many % 2**16, many % 2**16, len(first) * many, directory, 0)
    path.write_bytes(content[:directory] + first * many + end)
    assert f"{many} entries" in refusal(lambda: load_checkpoint(path, "trial"))


def test_overlapping_entries_are_refused(tmp_path):
    """Many entries of a directory that are one and the same entry of the file."""
    path = tmp_path / "c.pt"
    save_checkpoint(path, "trial", {"value": torch.zeros(250_000)})
    with zipfile.ZipFile(path, "a") as archive:
        [data] = [entry for entry in archive.infolist() if entry.filename.endswith("data/0")]
        for k in range(1, 1000):
            twin = zipfile.ZipInfo(data.filename[:-1] + str(k))
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(twin, name, getattr(data, name))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive._didModify = True
    assert len(zipfile.ZipFile(path).namelist()) > 1000
    assert "larger than the file" in refusal(lambda: load_checkpoint(path, "trial"))


def test_other_formats_of_torch_and_pickles_are_refused(tmp_path):
    path, state = tmp_path / "c.pt", {"format": 1, "kind": "trial", "value": torch.ones(3)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert torch.load(path, weights_only=True)["kind"] == "trial"  # torch alone would read it
    assert "damaged or no checkpoint" in refusal(lambda: load_checkpoint(path, "trial"))
    path.write_bytes(pickle.dumps({"format": 1, "kind": "trial"}))
    assert "damaged or no checkpoint" in refusal(lambda: load_checkpoint(path, "trial"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    assert "damaged or no checkpoint" in refusal(lambda: load_checkpoint(path, "trial"))


KINDS = [
    *((torch.ones(3), 1), (torch.ones(0), 1), (["trial"], 1)),
    *(("trial", torch.ones(2)), ("trial", True), ("trial", None)),
]


@pytest.mark.parametrize(("kind", "number"), KINDS)
def test_a_kind_or_a_format_of_another_type_is_refused(tmp_path, kind, number):
    torch.save({"kind": kind, "format": number}, tmp_path / "c.pt")
    message = refusal(lambda: load_checkpoint(tmp_path / "c.pt", "trial"))
    assert ("has format" if isinstance(kind, str) else "expected a checkpoint of kind 'trial'") in message


# Hypernetworks and ensembles


def hypernetwork_state() -> dict:
    return Hypernetwork(SearchSpace(nodes=2), 3, generator=seeded()).to_state()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"pivots": 10**9}, "pivots must be between"),
        ({"pivots": True}, "pivots must be between"),
        ({"pivots": 4}, "alpha"),
        ({"space": {"nodes": 10**9}}, "nodes"),
        ({"space": {"nodes": 8}}, "alpha"),
        ({"space": None}, "search space"),
        ({"interpolation": ["corrected"]}, "interpolation"),
        ({"weights": {}}, "'alpha'"),
        ({"weights": None}, "None"),
    ],
)
def test_a_hypernetwork_of_other_sizes_is_refused(tmp_path, changes, word):
    save_checkpoint(tmp_path / "h.pt", "hypernetwork", {**hypernetwork_state(), **changes})
    assert word in refusal(lambda: Hypernetwork.load(tmp_path / "h.pt"))


@pytest.mark.parametrize(
    ("beta", "word"),
    [
        (torch.full((3, 1, 5), float("nan")), "not finite"),
        (torch.zeros(3, 1, 5).double(), "float64"),
        (torch.zeros(5), "beta is"),
        ("zeros", "beta is 'zeros'"),
    ],
)
def test_weights_that_are_none_are_refused(tmp_path, beta, word):
    state = hypernetwork_state()
    assert state["weights"]["beta"].shape == (3, 1, 5)
    state["weights"]["beta"] = beta
    save_checkpoint(tmp_path / "h.pt", "hypernetwork", state)
    assert word in refusal(lambda: Hypernetwork.load(tmp_path / "h.pt"))
    del state["space"]
    save_checkpoint(tmp_path / "h.pt", "hypernetwork", state)
    assert "'space' is missing" in refusal(lambda: Hypernetwork.load(tmp_path / "h.pt"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return fuzz.Corpus(tmp_path_factory.mktemp("corpus"))


def config_with(**changes):
    def change(state):
        state["configs"] = [{**config, **changes} for config in state["configs"]]

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (config_with(channels=10**6), "stem.0.weight is"),
        (config_with(channels=10**12), "whole ensemble"),
        (config_with(cells=10**9), "cells must be at most"),
        (config_with(cells=100), "whole ensemble"),
        (config_with(stem_kernel=10**9 + 1), "whole ensemble"),
        (config_with(seed=10**30), "whole ensemble"),
        (config_with(**{"../../x": 1}), "a key of TrainingConfig"),
        (lambda state: state["configs"].pop(), "shorter"),
        (lambda state: state["weights"].append(state["weights"][0]), "longer"),
        (lambda state: state["weights"][0].pop("stem.0.weight"), "'stem.0.weight'"),
        (lambda state: state.update(class_names=["x"] * 10**5), "classifier"),
        (lambda state: state.update(class_names=[1, 2, 3]), "class names"),
        (lambda state: state.update(mean=[0.5] * 2, std=[0.2] * 2), "stem.0.weight is"),
        (lambda state: state.update(std=[0.0]), "a positive std"),
        (lambda state: state.update(mean=[float("nan")]), "a positive std"),
        (lambda state: state.update(mean=[True]), "a positive std"),
        (lambda state: state.update(image_size=0), "image size"),
        (lambda state: state.update(card=DEEP), "nested too deeply"),
        (lambda state: state.update(card="[]"), "a card"),
        (lambda state: state["genotypes"][0]["space"].update(nodes=10**9), "nodes"),
    ],
)
def test_an_ensemble_of_other_sizes_is_refused(tmp_path, corpus, change, word):
    state = torch.load(io.BytesIO(corpus.read("ensemble/ensemble.pt")), weights_only=True)
    change(state)
    torch.save(state, tmp_path / "ensemble.pt")
    assert word in refusal(lambda: Ensemble.load(tmp_path))


def test_the_card_beside_an_ensemble_is_never_obeyed(tmp_path, corpus):
    (tmp_path / "ensemble.pt").write_bytes(corpus.read("ensemble/ensemble.pt"))
    (tmp_path / "card.json").write_text(json.dumps({"members": ["../../../etc/passwd"], "weights": "/etc/passwd"}))
    assert Ensemble.load(tmp_path).card == {"dataset": "x"}


# Arrays


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header) + 1)
    return b"\x93NUMPY" + version + length + header.encode() + b"\n" + content


def header(shape: str, descr: str = "|u1") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize(
    ("content", "method", "word"),
    [
        (npy(header(f"({2**28},)"), bytes(2**28)), zipfile.ZIP_DEFLATED, "these are no pictures"),
        (npy(header("(3,)") + " " * 2**26, bytes(3), b"\x02\x00"), zipfile.ZIP_DEFLATED, "version"),
        (npy(header(f"({2**62},)", "|S0")), zipfile.ZIP_STORED, "declares shape"),
        (npy(header("(1,)", f"<U{2**28}")), zipfile.ZIP_STORED, "declares shape"),
        (npy(header(f"(0, {2**70})")), zipfile.ZIP_STORED, "cannot be read"),
        (npy("-" * 9000 + "1"), zipfile.ZIP_STORED, "cannot be read"),
        (npy("[" * 30_000), zipfile.ZIP_STORED, "cannot be read"),
        (npy(header("(1,)", "<U1"), b"\xff\xff\xff\x7f"), zipfile.ZIP_STORED, "cannot be read"),
        (npy(header("(1,)"), b"12"), zipfile.ZIP_STORED, "longer than its header"),
        (npy(header("(1,)"), b"1"), zipfile.ZIP_BZIP2, "compressed in a way"),
    ],
    ids=["bomb", "header", "empty text", "wide text", "zero", "minus", "nested", "no character", "rest", "bzip2"],
)
def test_an_array_that_grows_is_refused(tmp_path, content, method, word):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", content)
    assert word in refusal(lambda: read_npz(path, ("x",)))


def test_the_member_that_was_checked_is_the_one_that_is_read(tmp_path):
    """numpy prefers a member of the plain name, whose header nobody would have looked at."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(header("(3,)"), b"\x01\x02\x03"))
        archive.writestr("x", npy(header(f"({2**26},)"), bytes(2**26)))
    assert read_npz(path, ("x",))["x"].tolist() == [1, 2, 3]
    assert np.load(path)["x"].shape == (2**26,)


def test_a_pipe_is_no_data_set(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    assert "no regular file" in refusal(lambda: load_data(tmp_path / "x.npz"))


# Fuzzing, a few seconds of it; python -m tests.fuzz does more


FUZZED = ("genotype", "config", "json", "checkpoint", "hypernetwork", "ensemble", "npz", "npz, compressed", "curve")


@pytest.mark.parametrize("name", [*FUZZED, "database", "journal"])
def test_damaged_files_are_read_or_refused(corpus, tmp_path_factory, name):
    [target] = [target for target in fuzz.targets(corpus) if target.name == name]
    folder = tmp_path_factory.mktemp("fuzz") / f"of {name}"
    study_of(folder)
    examples = {"database": 5, "ensemble": 20}.get(name, 60)

    @settings(max_examples=examples, deadline=None, database=None)
    @given(seed=st.integers(0, 2**64))
    def read(seed):
        wrong = fuzz.run_case(target, target.make(random.Random(seed)), folder)
        assert wrong is None, wrong

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read()
    assert target.counts.total() >= 5 and target.counts["refused"]


def test_the_fuzzer_tells_what_is_wrong(tmp_path):
    def fails(path):
        raise KeyError("x")

    def boasts(path):
        raise CheckpointError("x" * 10**4)

    def takes(path):
        raise CheckpointError("Unable to allocate 3 GiB")

    for read in (fails, boasts, takes):
        assert fuzz.run_case(fuzz.Target("x", "x", None, read), b"", tmp_path)
    assert fuzz.run_case(fuzz.Target("x", "x", None, lambda path: None), b"", tmp_path) is None


def test_an_ensemble_and_a_genotype_of_our_own_pass(tmp_path, corpus):
    (tmp_path / "ensemble.pt").write_bytes(corpus.read("ensemble/ensemble.pt"))
    assert [config.channels for config in Ensemble.load(tmp_path).configs] == [TrainingConfig(channels=2).channels] * 2
    genotype = random_genotype(SearchSpace(), seeded())
    assert Genotype.from_json(genotype.to_json()) == genotype
