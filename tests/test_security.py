"""Studies from strangers, and passwords: hostile files are refused, cheaply; what is secret is nowhere to be read."""

import contextlib
import hashlib
import json
import os
import pickle
import random
import re
import resource
import shutil
import sqlite3
import struct
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from edgenes import CheckpointError, ConfigError, Ensemble, Genotype, Hypernetwork, load_data
from edgenes.checkpoint import load_checkpoint, read_json, save_checkpoint
from edgenes.data.npz import read_npz
from edgenes.errors import EdgeNESError
from edgenes.space.genotype import SearchSpace, random_genotype
from studies.anneal_sweep import main
from tests.support import damage
from tests.support.toys import seeded
from tune_jobs.config.passwords import VARIABLE, redact
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.stages.pipeline import open_optuna
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.saved import (
    open_saved,
    plain_config,
    read_config,
    storage_url,
    stored_genotype,
    study_name,
)
from tune_jobs.study.space import search_space
from tune_jobs.study.storage import IN_VARIABLE, kept_from_children, resolve, storage_from
from tune_jobs.study.trials import trials_frame

SECRET = "hunter2xyzzy"
LITTLE, GIGABYTE = 2**27, 2**30  # bytes


# Passwords


@pytest.mark.parametrize(
    ("form", "url"),
    [
        ("--storage {}", f"postgresql://me:{SECRET}@host/db"),
        ("--storage={}", f"mysql://me@server:{SECRET}@host/db"),
        ("--storge {}", f"postgresql://host/db?user=me&password={SECRET}"),
        ("--dataset {}", f"mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D{SECRET}"),
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(tmp_path, monkeypatch, capsys, form, url):
    monkeypatch.chdir(tmp_path)
    assert main(form.format(url).split()) == 2
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert f"environment variable {VARIABLE}" in printed.err and "--storage file:FILE" in printed.err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=VARIABLE):  # the same on the way of the commands, and of Python
        read_config(study_of(tmp_path / "study"), url)
    with pytest.raises(ConfigError, match=VARIABLE):
        storage_url(SweepConfig.of(storage=url))


def test_what_workers_are_sent_holds_a_reference_and_no_url(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, f"postgresql://me:{SECRET}@127.0.0.1:1/db")
    folder = study_of(tmp_path / "study")
    config, _ = read_config(folder)
    assert config.storage == IN_VARIABLE and study_name(config) == "study"
    assert storage_url(config).endswith("@127.0.0.1:1/db")
    for sent in (pickle.dumps(config), json.dumps(config.to_dict()).encode(), repr(config).encode()):
        assert SECRET.encode() not in sent
    with kept_from_children():
        assert VARIABLE not in os.environ
    assert SECRET in os.environ[VARIABLE]
    (folder / "study.db").touch()  # a study that began in its folder stays there
    assert read_config(folder)[0].storage is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: (path.touch(0o640), path.write_text("sqlite:///x")), "chmod 600"),
        (lambda path: path.touch(0o600), "first line"),
        (lambda path: (path.touch(0o600), path.write_text(f"file:{path}")), "first line"),
        (lambda path: (path.touch(0o600), path.write_bytes(b"\xff\xfe")), "no text"),
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
    (folder / "config.json").write_text(json.dumps(plain_config(SweepConfig(), "0" * 16, None)))
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


@pytest.mark.parametrize("name", ["study.db", "trials"])
def test_the_sweep_follows_no_link_out_of_its_folder(tmp_path, name, capsys):
    folder, outside = tmp_path / "study", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("precious")
    (folder / name).symlink_to(outside)
    assert main(["--smoke-test", "--out", str(folder)]) == 1
    assert "leads out" in capsys.readouterr().err.replace("\n", " ")
    assert outside.read_text() == "precious" and os.listdir(folder) == [name]


def test_the_sweep_refuses_an_optuna_study_that_it_did_not_write(tmp_path, capsys):
    config = SweepConfig.of(smoke_test=True, out=tmp_path / "study")
    open_optuna(config, config.load(), storage_url(config)).set_user_attr("identity", ["seed"])
    assert main(["--smoke-test", "--out", str(tmp_path / "study")]) == 1
    assert "no settings on record" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"\xff", b"[", random_genotype(SearchSpace(nodes=2), seeded(0)).to_json().encode()]
)
def test_a_genotype_that_is_none_of_the_studys_space_is_refused(tmp_path, content):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "genotype.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"genotype\.json"):
        stored_genotype(tmp_path, SearchSpace(nodes=3))


def test_a_spreadsheet_computes_no_cell_of_the_trials(tmp_path):
    opened = open_study("anneal", tmp_path / "study.db", space=search_space("exact"))
    opened.ask(search_space("exact")).set_user_attr("reason", '=HYPERLINK("http://127.0.0.1/")')
    assert trials_frame(opened)["reason"][0].startswith("'=HYPERLINK")


def test_links_within_a_study_are_fine(study):
    (study / "other.json").symlink_to("config.json")
    moved = study.with_name("by another name")
    moved.symlink_to(study)
    assert len(open_saved(moved).trials()) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place, out: place.symlink_to(out), "a link that leads out"),
        (lambda place, out: place.symlink_to("../../outside"), "a link that leads out"),
        (lambda place, out: place.symlink_to(place), "a link that leads out"),
        (lambda place, out: place.symlink_to("/proc/self/cwd"), "a link that leads out"),
        (lambda place, out: os.mkfifo(place), "neither a file nor a folder"),
    ],
)
def test_what_leads_out_of_a_study_is_refused(study, make, message):
    outside = study.parent / "outside"
    outside.write_text("precious")
    (study / "trials").mkdir()
    make(study / "trials" / "0000.jsonl", outside)
    with pytest.raises(StudyError, match=message) as raised:
        open_saved(study)
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
    ],
)
def test_a_database_that_computes_is_refused(study, statements):
    with contextlib.closing(sqlite3.connect(study / "study.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    with scarce_memory(LITTLE), pytest.raises(StudyError, match="none of Optuna's, which only store"):
        open_saved(study)


# Files that ask for memory, or for more


@contextlib.contextmanager
def scarce_memory(more: int):
    """At most `more` bytes of address space beyond what the process has."""
    taken = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def short_message(error: BaseException) -> str:
    """The error's text, which is a short line, and not that memory was refused."""
    message = str(error)
    assert len(message) < 3000 and message.isprintable() and not re.search("allocate|MemoryError", message), message
    return message


def refusal(read) -> str:
    """The message with which `read()` refuses, before it has asked for much memory."""
    with scarce_memory(LITTLE), pytest.raises(EdgeNESError) as raised:
        read()
    return short_message(raised.value)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (DEEP, "nested too deeply"),
        ('{"space": {"nodes": 1, "nodes": 2}}', "the key 'nodes' stands there twice"),
        ('{"space": {"nodes": NaN}}', "NaN is no number of JSON"),
        ('{"space": {"nodes": 1e999}}', "beyond the numbers of a float"),
        ('{"space": {"nodes": ' + "9" * 5000 + "}}", "integer string"),
        ('{"\\ud800": 1}', "surrogates not allowed"),
        ('{"space": {"\\u001b[31m": 1}}', "search space"),
        (" " * (2**24 + 1), "at most"),
        ('{"space": {"nodes": 1000000000}, "cells": {}}', "nodes"),
    ],
)
def test_hostile_json_is_refused_wherever_it_stands(tmp_path, text, word):
    assert word in refusal(lambda: Genotype.from_json(text))
    (tmp_path / "config.json").write_text(text)
    refusal(lambda: read_config(tmp_path))


READERS = {"json": read_json, "checkpoint": lambda path: load_checkpoint(path, "trial"), "data": load_data}


@pytest.mark.parametrize("name", ["json pipe", "checkpoint pipe", "data pipe", "json giant", "checkpoint giant"])
def test_a_pipe_and_a_giant_file_are_refused(tmp_path, name):
    reader, what = name.split()
    path = tmp_path / "x.npz"
    if what == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 2**40)
    refusal(lambda: READERS[reader](path))


def test_paths_in_a_configuration_lead_nowhere(study):
    """What a configuration names is read at most; nothing is downloaded, and the folder stays the one opened."""
    elsewhere = study.parent / "elsewhere"
    hostile = {"out": str(elsewhere), "root": str(elsewhere), "storage": f"sqlite:///{elsewhere}/x.db"}
    stored = json.loads((study / "config.json").read_text())
    stored["options"] |= {**hostile, "dataset": "fashionmnist", "download": True}
    (study / "config.json").write_text(json.dumps(stored))
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
EVIL = b"\x80\x02cbuiltins\nbytearray\n" + number(2**31 - 1) + b"\x85R."
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


@pytest.mark.parametrize(
    ("entries", "method", "word"),
    [
        ({"data/1": bytes(2**28)}, zipfile.ZIP_DEFLATED, "compressed"),
        ({"DATA.PKL": EVIL}, zipfile.ZIP_STORED, ""),  # torch does not tell cases apart, Python does
        ({"DATA/0": bytes(4)}, zipfile.ZIP_STORED, "same name"),
    ],
)
def test_zip_files_that_torch_would_follow_are_refused(tmp_path, entries, method, word):
    path = checkpoint(tmp_path / "c.pt", b"K\x01", method, entries)
    assert word in refusal(lambda: load_checkpoint(path, "trial"))


def test_entries_that_are_longer_together_than_their_file_are_refused(tmp_path):
    path = checkpoint(tmp_path / "c.pt", b"K\x01")
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # of the directory, which declares the sizes
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(content)
    assert "larger than the file" in refusal(lambda: load_checkpoint(path, "trial"))


def test_other_formats_of_torch_are_refused(tmp_path):
    path = tmp_path / "c.pt"
    torch.save({"format": 1, "kind": "trial", "value": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert "damaged or no checkpoint" in refusal(lambda: load_checkpoint(path, "trial"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    assert "damaged or no checkpoint" in refusal(lambda: load_checkpoint(path, "trial"))
    for kind, number in ((torch.ones(3), 1), ("trial", True)):
        torch.save({"kind": kind, "format": number}, path)
        refusal(lambda: load_checkpoint(path, "trial"))


# Hypernetworks and ensembles


def hypernetwork_state() -> dict:
    return Hypernetwork(SearchSpace(nodes=2), 3, generator=seeded()).to_state()


def with_beta(beta) -> dict:
    return {"weights": {**hypernetwork_state()["weights"], "beta": beta}}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"pivots": 10**9}, "pivots must be between"),
        ({"space": {"nodes": 10**9}}, "nodes"),
        ({"space": None}, "search space"),
        ({"weights": {}}, "'alpha'"),
        (with_beta(torch.full((3, 1, 5), float("nan"))), "not finite"),
        (with_beta(torch.zeros(3, 1, 5).double()), "float64"),
        (with_beta("zeros"), "beta is 'zeros'"),
    ],
)
def test_a_hypernetwork_of_other_sizes_is_refused(tmp_path, changes, word):
    save_checkpoint(tmp_path / "h.pt", "hypernetwork", {**hypernetwork_state(), **changes})
    assert word in refusal(lambda: Hypernetwork.load(tmp_path / "h.pt"))


@pytest.fixture(scope="module")
def ensemble_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    damage.write_ensemble(folder)
    return folder


def write_ensemble(folder: Path, config: dict, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    (folder / "config.json").write_text(json.dumps(config | {"weights_sha256": hashlib.sha256(content).hexdigest()}))


def config_with(**changes):
    def change(state):
        state["configs"] = [{**config, **changes} for config in state["configs"]]

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (config_with(channels=10**12), "whole ensemble"),
        (config_with(**{"../../x": 1}), "a key of TrainingConfig"),
        (lambda state: state["configs"].pop(), "shorter"),
        (lambda state: state["weights"].pop("networks.0.stem.0.weight"), "'stem.0.weight'"),
        (lambda state: state.update(class_names=["x"] * 10**5), "classifier"),
        (lambda state: state.update(std=[0.0]), "a positive std"),
        (lambda state: state.update(image_size=0), "image size"),
        (lambda state: state["weights"].update(other=torch.ones(1)), "of no network: 'other'"),
        (
            lambda state: state["weights"].update({"networks.1.stem.0.weight": torch.ones(1)}),
            "stem.0.weight is",
        ),
        (lambda state: state.update(card=[]), "a card"),
        (lambda state: state.update(kind="bert"), "describes no ensemble"),
        (lambda state: state.update(format=2), "format 2"),
        (lambda state: state["genotypes"][0]["space"].update(nodes=10**9), "nodes"),
    ],
)
def test_an_ensemble_of_other_sizes_is_refused(tmp_path, ensemble_folder, change, word):
    state = json.loads((ensemble_folder / "config.json").read_text())
    state["weights"] = load_file(ensemble_folder / "model.safetensors")
    change(state)
    write_ensemble(tmp_path, state, save(state.pop("weights")))
    assert word in refusal(lambda: Ensemble.load(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(shape=[2**40]),
        lambda entry: entry.update(shape=[2**63, 2**63]),
        lambda entry: entry.update(shape=[0, 2**62], data_offsets=[0, 0]),
        lambda entry: entry.update(data_offsets=[0, 2**40]),
        lambda entry: entry.update(dtype="pickle"),
    ],
)
def test_weights_that_grow_are_refused(tmp_path, ensemble_folder, change):
    header, tensors = damage.split_tensors((ensemble_folder / "model.safetensors").read_bytes())
    change(header["networks.0.stem.0.weight"])
    text = json.dumps(header).encode()
    config = json.loads((ensemble_folder / "config.json").read_text())
    write_ensemble(tmp_path, config, struct.pack("<Q", len(text)) + text + tensors)
    assert "whole ensemble" in refusal(lambda: Ensemble.load(tmp_path))


def test_weights_of_another_ensemble_and_a_giant_file_are_refused(tmp_path, ensemble_folder):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(ensemble_folder / name, tmp_path)
    with open(tmp_path / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert "is damaged" in refusal(lambda: Ensemble.load(tmp_path))
    os.truncate(tmp_path / "model.safetensors", 2**40)
    assert "no study writes more" in refusal(lambda: Ensemble.load(tmp_path))


def test_an_ensemble_of_the_earlier_format_is_no_less_checked(tmp_path):
    for weights in ("x", [{"stem.0.weight": torch.ones(1)}]):
        state = {"configs": [], "genotypes": [], "weights": weights, "card": "{}"}
        save_checkpoint(tmp_path / "ensemble.pt", "ensemble", state)
        assert "whole ensemble" in refusal(lambda: Ensemble.load(tmp_path))


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
        (npy(header(f"({2**62},)", "|S0")), zipfile.ZIP_STORED, "declares shape"),
        (npy(header(f"(0, {2**70})")), zipfile.ZIP_STORED, "cannot be read"),
        (npy(header("(1,)", "<U1"), b"\xff\xff\xff\x7f"), zipfile.ZIP_STORED, "cannot be read"),
        (npy(header("(1,)"), b"12"), zipfile.ZIP_STORED, "longer than its header"),
    ],
    ids=["bomb", "empty text", "zero", "no character", "rest"],
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


# Damaged files


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return damage.cases(tmp_path_factory.mktemp("valid"))


@pytest.mark.parametrize(
    "name",
    ["genotype", "config", "checkpoint", "hypernetwork", "ensemble", "weights", "npz", "curve", "database", "journal"],
)
def test_a_damaged_file_is_read_or_refused_in_a_line(cases, tmp_path_factory, name):
    case, folder, refused = cases[name], study_of(tmp_path_factory.mktemp("damaged") / "study"), []

    @settings(max_examples={"database": 10, "ensemble": 20, "weights": 20}.get(name, 60), deadline=None, database=None)
    @given(seed=st.integers(0, 2**64))
    def read(seed):
        (folder / case.file).write_bytes(case.make(random.Random(seed)))
        start = time.process_time()
        try:
            with scarce_memory(GIGABYTE):
                case.read(folder / case.file)
        except EdgeNESError as error:
            refused.append(seed)
            short_message(error)
        assert time.process_time() - start < 10

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read()
    assert len(refused) >= 5
