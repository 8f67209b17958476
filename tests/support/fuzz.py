"""Damaged files for the readers of a study's files, used by tests/test_security.py.

Each case is a valid file, damaged blindly (bytes) or by someone who knows its format (JSON, pickles, zip entries,
headers). A reader returns something sound or raises an EdgeNESError with a short message; another exception, a case
that takes more than ten CPU seconds, and memory beyond a gigabyte are failures.
"""

import contextlib
import io
import json
import pickletools
import random
import re
import resource
import signal
import struct
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgenes import Ensemble, Genotype, Hypernetwork, load_data, random_genotype
from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.config import TrainingConfig
from edgenes.errors import EdgeNESError
from edgenes.space.genotype import SearchSpace
from edgenes.training.retraining import make_network
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.curves import CurveWriter, read_curve
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.saved import open_saved, plain_config, read_config
from tune_jobs.study.space import search_space

GIGABYTE = 2**30
SLOW = 10  # CPU seconds
LONGEST_MESSAGE = 3000  # characters

JUNK = [
    *(None, True, False, 0, -1, 1, 2, 3, 10**9, -(10**9), 2**63, 10**400, 0.5, -0.0, 1e308, 1e-320, "", "0", "..", "/"),
    *("../../x", "/etc/passwd", "\x00", "\x1b[31m", "é", "\ud800", "a" * 5000, "normal", "reduction", "skip_connect"),
    *("digits", "nll", "cuda:99", "journal:/x", "sqlite:////x", [], {}, [[]], [1, 2, 3], [0] * 3000, {"a": {"b": []}}),
    *({"input": 0, "operation": "skip_connect"}, [{"input": 0, "operation": "skip_connect"}], ["normal", "reduction"]),
]
TENSORS = [
    *(torch.zeros(()), torch.zeros(0), torch.full((3,), float("nan")), torch.zeros(2, 3), torch.ones(4).long()),
    *(torch.zeros(1).expand(10**9), torch.ones(3, dtype=torch.complex64), torch.ones(2).bool(), torch.ones(9)[::3]),
]
GLOBALS = [b"builtins\nbytearray", b"os\nsystem", b"torch._utils\n_rebuild_tensor_v2", b"torch\nSize"]
OPCODES = [op.code.encode("latin-1") for op in pickletools.opcodes]

Random = random.Random


def junk(rng: Random) -> Any:
    """A value that stands where none like it should."""
    if rng.random() > 0.05:
        return rng.choice(JUNK)
    value: Any = 1
    for _ in range(rng.choice([5, 200, 900])):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def changed(rng: Random, value: Any, make: Callable[[Random], Any] = junk) -> Any:
    """Nested dicts and lists with one place replaced, removed, repeated or renamed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return make(rng)
    copy = dict(value) if isinstance(value, dict) else list(value)
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    action = rng.random()
    if action < 0.7:
        copy[key] = changed(rng, value[key], make)
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
        at = rng.randrange(len(data) or 1)
        length = rng.choice([1, 2, 4, 8, 64])
        action = rng.randrange(5)
        if action == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            data[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, rng.randrange(2**32)]))
        elif action == 2:
            del data[at : at + length]
        elif action == 3:
            data[at:at] = data[at : at + length]
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def json_text(rng: Random, value: Any) -> bytes:
    """A changed value as JSON, at times with what only Python's parser takes or with a key that comes twice."""
    text = json.dumps(changed(rng, value))
    if rng.random() < 0.1:
        key = rng.choice(re.findall(r'"\w+": ', text) or ['"a": '])
        text = text.replace(key, f"{key}{rng.choice(['NaN', '1e999', '[' * 3000, '9' * 5000])}, {key}", 1)
    return text.encode("utf-8", "surrogatepass")


def rezipped(rng: Random, content: bytes, change: Callable[[Random, str, bytes], bytes]) -> bytes:
    """A zip file with valid checksums, in which `change` made another content of one entry."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        names = archive.namelist()
        chosen, renamed = rng.choice(names), rng.choice(names) if rng.random() < 0.1 else None
        with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED] * 6 + [zipfile.ZIP_DEFLATED])) as changes:
            for name in names:
                data = archive.read(name)
                data = change(rng, name, data) if name == chosen else data
                other = rng.choice([name.upper(), f"../{name}", name.removesuffix(".npy"), "x"])
                changes.writestr(other if name == renamed else name, data)
    return out.getvalue()


def pickled(rng: Random, name: str, content: bytes) -> bytes:
    """A pickle with a number, a name or an operation exchanged; other entries are damaged blindly."""
    if not name.endswith(".pkl"):
        return damaged(rng, content)
    operations = list(pickletools.genops(content))
    k = rng.randrange(len(operations) - 1)
    operation, at, end = operations[k][0].name, operations[k][2], operations[k + 1][2]
    if operation.startswith("BININT"):
        new = b"J" + struct.pack("<i", rng.choice([0, 1, -1, 255, 2**31 - 1, -(2**31), rng.randrange(10**6)]))
    elif operation == "GLOBAL":
        new = b"c" + rng.choice(GLOBALS) + b"\n"
    elif operation == "BINUNICODE" and rng.random() < 0.7:
        text = rng.choice(["0", "1", "cpu", "meta", "cuda", "storage", "../x", "\ud800", "trial"])
        encoded = text.encode("utf-8", "surrogatepass")
        new = b"X" + struct.pack("<I", len(encoded)) + encoded
    else:
        new = rng.choice([b"", content[at:end] * 2, rng.choice(OPCODES), b"h" + bytes([rng.randrange(40)])])
    return content[:at] + new + content[end:]


def saved(rng: Random, state: dict[str, Any]) -> bytes:
    """A changed state as `save_checkpoint` writes it."""
    content = io.BytesIO()
    try:
        torch.save(changed(rng, state, lambda rng: rng.choice(TENSORS) if rng.random() < 0.4 else junk(rng)), content)
    except (RecursionError, OverflowError, UnicodeEncodeError):
        torch.save(state, content)
    return content.getvalue()


def array_header(rng: Random, name: str, content: bytes) -> bytes:
    """An array with another header, or damaged blindly."""
    if rng.random() < 0.3:
        return damaged(rng, content)
    shapes = ["(1,)", "(-1,)", f"({10**9},)", "(2, 2)", "()", "(1000000000000, 8, 8)", f"(0, {2**70})", "'x'", "(60,)"]
    descr = rng.choice(["|u1", "<i8", "|O", "<U9999999", "|S0", "<U1", "|V0", "<f8", "x", "<M8[ns]", "|b1"])
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {rng.choice(shapes)}}}"
    header = rng.choice([header] * 8 + ["-" * 9000 + "1", "[" * 9000]) + " " * rng.choice([0, 60, 11000]) + "\n"
    version = rng.choice([(1, 0), (1, 0), (1, 0), (2, 0), (3, 0)])
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header.encode() + content[128:]


@dataclass
class Target:
    """A reader: `make(rng)` is the content of a file, `read(path)` reads it and looks at what comes."""

    file: str
    make: Callable[[Random], bytes]
    read: Callable[[Path], Any]
    counts: Counter = field(default_factory=Counter)


def check_genotype(path: Path) -> None:
    genotype = Genotype.from_json(path.read_bytes().decode(errors="replace"))
    assert Genotype.from_json(genotype.to_json()) == genotype


def check_hypernetwork(path: Path) -> None:
    hypernetwork = Hypernetwork.load(path)
    hypernetwork.sample_genotypes(1.5, 2, torch.Generator())
    assert hypernetwork.genotype(1.0).space == hypernetwork.space


def check_ensemble(path: Path) -> None:
    ensemble = Ensemble.load(path.parent)
    if ensemble.image_size <= 64:
        shape = (1, ensemble.image_size, ensemble.image_size, ensemble.mean.shape[1])
        assert ensemble.predict(np.zeros(shape, np.uint8)).shape == (1, len(ensemble.class_names))
    json.dumps(ensemble.card)


def check_config(path: Path) -> None:
    config, _ = read_config(path.parent)
    assert config.folder == path.parent and config.storage is None


def write_ensemble(folder: Path) -> None:
    """A small ensemble of two networks."""
    generator, config = torch.Generator().manual_seed(0), TrainingConfig(channels=2, cells=1)
    genotypes = [random_genotype(SearchSpace(nodes=2), generator) for _ in range(2)]
    networks = [make_network(config, genotype, 1, 3) for genotype in genotypes]
    Ensemble(networks, [config] * 2, (0.5,), (0.2,), 8, ("a", "b", "c"), {"dataset": "x"}).save(folder)


def targets(folder: Path) -> dict[str, Target]:
    """Every reader with its ways of making files, from valid ones that are written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    genotype = random_genotype(SearchSpace(nodes=2), generator).to_dict()
    config = plain_config(SweepConfig(), "0" * 16)
    (folder / "config.json").write_text(json.dumps(config))
    Hypernetwork(SearchSpace(nodes=2), 3, generator=generator).save(folder / "h.pt")
    write_ensemble(folder)
    weight = torch.nn.Parameter(torch.ones(4))
    weight.grad = torch.ones(4)
    optimizer = torch.optim.Adam([weight])
    optimizer.step()
    state = {"epoch": 3, "decks": [[1, 2], []], "optimizer": optimizer.state_dict(), "rng": generator.get_state()}
    save_checkpoint(folder / "s.pt", "trial", state)
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:9], "y_test": labels[:9]}
    np.savez_compressed(folder / "a.npz", **arrays, class_names=np.array(["a", "b", "c"]))
    for step in range(4):
        CurveWriter().append(folder / "c.jsonl", {"step": step, "loss": float("nan"), "attempt": 1})

    for url in (f"sqlite:///{folder}/study.db", f"journal:{folder}/study.log"):
        opened = open_study("anneal" if "sqlite" in url else "of journal", url, space=search_space("exact"))
        opened.tell(opened.ask(search_space("exact")), 0.5)
        opened.ask(search_space("exact"))

    def mixed(name: str, *ways: Callable[[Random], bytes]) -> Callable[[Random], bytes]:
        content = (folder / name).read_bytes()
        return lambda rng: rng.choice(ways)(rng) if rng.random() < 0.7 else damaged(rng, content)

    def checkpoint(name: str) -> Callable[[Random], bytes]:
        content = (folder / name).read_bytes()
        value = torch.load(folder / name, weights_only=True)
        return mixed(name, lambda rng: rezipped(rng, content, pickled), lambda rng: saved(rng, value))

    def lines(name: str) -> Callable[[Random], bytes]:
        rows = (folder / name).read_bytes().splitlines()

        def make(rng: Random) -> bytes:
            k = rng.randrange(len(rows))
            other = json_text(rng, json.loads(rows[k])).replace(b"\n", b"")
            return b"\n".join([*rows[:k], other, *rows[k + 1 :]]) + b"\n"

        return mixed(name, make)

    npz, database = (folder / "a.npz").read_bytes(), (folder / "study.db").read_bytes()
    (folder / "g.json").write_text(json.dumps(genotype))
    return {
        "genotype": Target("g.json", mixed("g.json", lambda rng: json_text(rng, genotype)), check_genotype),
        "config": Target("config.json", mixed("config.json", lambda rng: json_text(rng, config)), check_config),
        "checkpoint": Target("s.pt", checkpoint("s.pt"), lambda path: load_checkpoint(path, "trial")),
        "hypernetwork": Target("h.pt", checkpoint("h.pt"), check_hypernetwork),
        "ensemble": Target("ensemble.pt", checkpoint("ensemble.pt"), check_ensemble),
        "npz": Target(
            "a.npz",
            mixed("a.npz", lambda rng: rezipped(rng, npz, array_header)),
            lambda path: load_data(path, image_size=8),
        ),
        "curve": Target("c.jsonl", lines("c.jsonl"), read_curve),
        "database": Target(
            "study.db", lambda rng: damaged(rng, database), lambda path: open_saved(path.parent).trials()
        ),
        "journal": Target(
            "study.log", lines("study.log"), lambda path: open_saved(path.parent, f"journal:{path}").trials()
        ),
    }


class Slow(BaseException):
    """A case takes too long; no Exception, so that no reader takes it for damage."""


def _alarm(*_: Any) -> None:
    raise Slow


@contextlib.contextmanager
def scarce_memory(more: int) -> Iterator[None]:
    """At most `more` bytes of address space beyond what the process has."""
    taken = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def run_case(target: Target, content: bytes, folder: Path) -> str | None:
    """Read one file; what is wrong with that, or None. Counts what happened."""
    path = folder / target.file
    path.write_bytes(content)
    signal.signal(signal.SIGVTALRM, _alarm)
    signal.setitimer(signal.ITIMER_VIRTUAL, SLOW)
    try:
        with scarce_memory(GIGABYTE):
            target.read(path)
    except EdgeNESError as error:
        target.counts["refused"] += 1
        text = str(error)
        sound = len(text) <= LONGEST_MESSAGE and text.isprintable() and not re.search("allocate|MemoryError", text)
        return None if sound else f"not a short message, or after it took memory: {text[:300]!a}"
    except (Exception, Slow):
        return traceback.format_exc(limit=-6)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    target.counts["accepted"] += 1
    return None
