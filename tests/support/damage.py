"""Damaged files for the readers of a study's files: valid ones, changed blindly, or by someone who knows the format."""

import io
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from edgenes import Ensemble, Genotype, Hypernetwork, load_data, random_genotype
from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.config import TrainingConfig
from edgenes.space.genotype import SearchSpace
from edgenes.training.retraining import make_network
from tests.support.toys import seeded
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.curves import CurveWriter, read_curve
from tune_jobs.files.layout import file_digest
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.saved import open_saved, plain_config, read_config
from tune_jobs.study.space import search_space

JUNK = [
    None,
    True,
    0,
    -1,
    2,
    10**9,
    0.5,
    "",
    "../../x",
    "a" * 5000,
    "skip_connect",
    "cuda:99",
    [],
    {},
    [[]],
    [0] * 3000,
]
TENSORS = [torch.zeros(()), torch.full((3,), float("nan")), torch.zeros(2, 3), torch.ones(4).long()]
Random = random.Random
Make = Callable[[Random], bytes]


def changed(rng: Random, value: Any, junk: list[Any]) -> Any:
    """Nested dicts and lists with one place replaced, removed, repeated or renamed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice(junk)
    copy = dict(value) if isinstance(value, dict) else list(value)
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    action = rng.random()
    if action < 0.7:
        copy[key] = changed(rng, value[key], junk)
    elif action < 0.8:
        del copy[key]
    elif isinstance(copy, list):
        copy[key:key] = [copy[key]] * rng.choice([1, 5, 100])
    else:
        copy[f"{key}x"] = copy.pop(key)
    return copy


def damaged(rng: Random, content: bytes) -> bytes:
    """Bytes flipped, overwritten, cut out or repeated, or a file cut off."""
    data = bytearray(content or b"x")
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at, length = rng.randrange(len(data) or 1), rng.choice([1, 2, 4, 8, 64])
        action = rng.randrange(5)
        if action == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            data[at : at + 4] = rng.choice([bytes(4), b"\xff\xff\xff\x7f", b"\xff" * 4, rng.randbytes(4)])
        elif action == 2:
            del data[at : at + length]
        elif action == 3:
            data[at:at] = data[at : at + length]
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def json_text(rng: Random, value: Any) -> bytes:
    """A changed value as JSON."""
    return json.dumps(changed(rng, value, JUNK)).encode()


def saved(rng: Random, state: dict[str, Any]) -> bytes:
    """A changed state as `save_checkpoint` writes it."""
    content = io.BytesIO()
    torch.save(changed(rng, state, JUNK + TENSORS), content)
    return content.getvalue()


class Case(NamedTuple):
    """A reader: `make(rng)` is the content of `file`, `read(path)` reads it and looks at what comes."""

    file: str
    make: Make
    read: Callable[[Path], Any]


def check_genotype(path: Path) -> None:
    genotype = Genotype.from_json(path.read_bytes().decode(errors="replace"))
    assert Genotype.from_json(genotype.to_json()) == genotype


def check_hypernetwork(path: Path) -> None:
    hypernetwork = Hypernetwork.load(path)
    hypernetwork.sample_genotypes(1.5, 2, torch.Generator())
    assert hypernetwork.genotype(1.0).space == hypernetwork.space


def check_ensemble(folder: Path, config: bytes, weights: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights)
    ensemble = Ensemble.load(folder)
    if ensemble.image_size <= 64:
        shape = (1, ensemble.image_size, ensemble.image_size, ensemble.mean.shape[1])
        assert ensemble.predict(np.zeros(shape, np.uint8)).shape == (1, len(ensemble.class_names))
    ensemble.save(folder)


def check_config(path: Path) -> None:
    config, _ = read_config(path.parent)
    assert config.folder == path.parent and config.storage is None


def split_tensors(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and numbers of a safetensors file."""
    start = 8 + struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:start]), content[start:]


def write_ensemble(folder: Path) -> None:
    """A small ensemble of two networks."""
    generator, config = seeded(), TrainingConfig(channels=2, cells=1)
    genotypes = [random_genotype(SearchSpace(nodes=2), generator) for _ in range(2)]
    networks = [make_network(config, genotype, 1, 3) for genotype in genotypes]
    Ensemble(networks, [config] * 2, (0.5,), (0.2,), 8, ("a", "b", "c"), {"dataset": "x"}).save(folder)


def cases(folder: Path) -> dict[str, Case]:
    """Every reader with its ways of making files, from valid ones that are written to `folder`."""
    (folder / "config.json").write_text(json.dumps(plain_config(SweepConfig(), "0" * 16, None)))
    (folder / "g.json").write_text(random_genotype(SearchSpace(nodes=2), seeded()).to_json())
    Hypernetwork(SearchSpace(nodes=2), 3, generator=seeded()).save(folder / "h.pt")
    write_ensemble(folder / "ensemble")
    save_checkpoint(folder / "s.pt", "trial", {"epoch": 3, "decks": [[1, 2], []], "rng": seeded().get_state()})
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:9], "y_test": labels[:9]}
    np.savez_compressed(folder / "a.npz", **arrays, class_names=np.array(["a", "b", "c"]))
    for step in range(4):
        CurveWriter().append(folder / "c.jsonl", {"step": step, "loss": float("nan"), "attempt": 1})
    for url in (f"sqlite:///{folder}/study.db", f"journal:{folder}/study.log"):
        opened = open_study("anneal", url, space=search_space("exact"))
        opened.tell(opened.ask(search_space("exact")), 0.5)
        opened.ask(search_space("exact"))

    def mixed(content: bytes, by_format: Make | None = None) -> Make:
        return lambda rng: by_format(rng) if by_format and rng.random() < 0.6 else damaged(rng, content)

    def text(name: str) -> Make:
        content = (folder / name).read_bytes()
        return mixed(content, lambda rng: json_text(rng, json.loads(content)))

    def checkpoint(name: str) -> Make:
        content, state = (folder / name).read_bytes(), torch.load(folder / name, weights_only=True)
        return mixed(content, lambda rng: saved(rng, state))

    def lines(name: str) -> Make:
        content = (folder / name).read_bytes()
        rows = content.splitlines()

        def one_changed(rng: Random) -> bytes:
            k = rng.randrange(len(rows))
            return b"\n".join([*rows[:k], json_text(rng, json.loads(rows[k])), *rows[k + 1 :]]) + b"\n"

        return mixed(content, one_changed)

    config, weights = (folder / "ensemble" / name for name in ("config.json", "model.safetensors"))

    def other_header(rng: Random) -> bytes:
        header, tensors = split_tensors(weights.read_bytes())
        text = json_text(rng, header)
        return struct.pack("<Q", len(text)) + text + tensors

    def with_weights(path: Path) -> None:
        described = json.loads(config.read_text())
        described["weights_sha256"] = file_digest(path)
        check_ensemble(path.parent / "ensemble", json.dumps(described).encode(), path.read_bytes())

    def with_config(path: Path) -> None:
        check_ensemble(path.parent / "ensemble", path.read_bytes(), weights.read_bytes())

    def read_journal(path: Path) -> None:
        open_saved(path.parent, f"journal:{path}").trials()

    npz, database = (folder / "a.npz").read_bytes(), (folder / "study.db").read_bytes()
    return {
        "genotype": Case("g.json", text("g.json"), check_genotype),
        "config": Case("config.json", text("config.json"), check_config),
        "checkpoint": Case("s.pt", checkpoint("s.pt"), lambda path: load_checkpoint(path, "trial")),
        "hypernetwork": Case("h.pt", checkpoint("h.pt"), check_hypernetwork),
        "ensemble": Case("e.json", text("ensemble/config.json"), with_config),
        "weights": Case("w.safetensors", mixed(weights.read_bytes(), other_header), with_weights),
        "npz": Case("a.npz", mixed(npz), lambda path: load_data(path, image_size=8)),
        "curve": Case("c.jsonl", lines("c.jsonl"), read_curve),
        "database": Case("study.db", mixed(database), lambda path: open_saved(path.parent).trials()),
        "journal": Case("study.log", lines("study.log"), read_journal),
    }
