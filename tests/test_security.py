"""Studies from strangers, and passwords: hostile files are refused, cheaply; what is secret is nowhere to be read."""

import hashlib
import json
import os
import pickle
import random
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from edgenes import CheckpointError, ConfigError, Ensemble, Hypernetwork
from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.errors import EdgeNESError
from edgenes.space.genotype import SearchSpace, random_genotype
from studies.anneal_sweep import main
from tests.support import damage
from tests.support.toys import seeded
from tune_jobs.config.passwords import VARIABLE, redact
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.errors import StudyError
from tune_jobs.stages.pipeline import open_optuna, run_sweep
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

SECRET = "hunter2xyzzy"


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
        run_sweep(SweepConfig.of(storage=url))


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


def test_links_within_a_study_are_fine(study):
    (study / "other.json").symlink_to("config.json")
    moved = study.with_name("by another name")
    moved.symlink_to(study)
    assert len(open_saved(moved).trials()) == 1


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


# Hypernetworks and ensembles


def refusal(read) -> str:
    """The message with which `read()` refuses, a short line."""
    with pytest.raises(EdgeNESError) as raised:
        read()
    return short_message(raised.value)


def short_message(error: BaseException) -> str:
    """The error's text, which is a short line."""
    message = str(error)
    assert len(message) < 3000 and message.isprintable(), message
    return message


class Evil:
    """Touches a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_runs_no_code(tmp_path):
    torch.save({"format": 1, "kind": "trial", "value": Evil(tmp_path / "ran")}, tmp_path / "c.pt")
    refusal(lambda: load_checkpoint(tmp_path / "c.pt", "trial"))
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "c.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # the trap works where nobody looks


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


def test_weights_of_another_ensemble_are_refused(tmp_path, ensemble_folder):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(ensemble_folder / name, tmp_path)
    with open(tmp_path / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert "is damaged" in refusal(lambda: Ensemble.load(tmp_path))


def test_an_ensemble_of_the_earlier_format_is_no_less_checked(tmp_path):
    for weights in ("x", [{"stem.0.weight": torch.ones(1)}]):
        state = {"configs": [], "genotypes": [], "weights": weights, "card": "{}"}
        save_checkpoint(tmp_path / "ensemble.pt", "ensemble", state)
        assert "whole ensemble" in refusal(lambda: Ensemble.load(tmp_path))


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

    @settings(max_examples={"database": 10, "ensemble": 10, "weights": 10}.get(name, 30), database=None)
    @given(seed=st.integers(0, 2**64))
    def read(seed):
        (folder / case.file).write_bytes(case.make(random.Random(seed)))
        try:
            case.read(folder / case.file)
        except EdgeNESError as error:
            refused.append(seed)
            short_message(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read()
    assert refused
