"""Fuzz the readers of a study's files: python -m tests.fuzz --seconds 600.

Each case is a valid file, damaged blindly (bytes) or by someone who knows its format (JSON, pickles, zip entries,
headers). A reader returns something sound or raises an EdgeNESError with a short message; another exception, a case
that takes more than 10 s, and memory beyond a gigabyte are failures, whose files are kept.
"""

import argparse
import io
import json
import pickletools
import random
import re
import resource
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from edgenes import Ensemble, Genotype, Hypernetwork, load_data, random_genotype
from edgenes.checkpoint import load_checkpoint, read_json, save_checkpoint
from edgenes.config import TrainingConfig
from edgenes.errors import EdgeNESError
from edgenes.space.genotype import SearchSpace
from edgenes.training.retraining import make_network
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.curves import CurveWriter, read_curve
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.saved import open_saved, plain_config, read_config
from tune_jobs.study.space import search_space

HEADROOM = 2**30
"""Bytes of address space that a case may take."""
SLOW = 10  # seconds
LONGEST_MESSAGE = 3000  # characters

JUNK = [
    *(None, True, False, 0, -1, 1, 2, 3, 10**9, -(10**9), 2**63, 10**400, 0.5, -0.0, 1e308, 1e-320, "", "0", "..", "/"),
    *("../../x", "/etc/passwd", "\x00", "\x1b[31m", "é", "\ud800", "a" * 5000, "normal", "reduction", "skip_connect"),
    *("digits", "nll", "cuda:99", "journal:/x", "sqlite:////x", [], {}, [[]], [1, 2, 3], [0] * 3000, {"a": {"b": []}}),
    *({"input": 0, "operation": "skip_connect"}, [{"input": 0, "operation": "skip_connect"}], ["normal", "reduction"]),
]


def junk(rng: random.Random) -> Any:
    """A value that stands where none like it should."""
    if rng.random() < 0.05:
        value: Any = 1
        for _ in range(rng.choice([5, 200, 900])):
            value = [value] if rng.random() < 0.5 else {"a": value}
        return value
    return rng.choice(JUNK)


def changed(rng: random.Random, value: Any, make: Callable[[random.Random], Any] = junk) -> Any:
    """Nested dicts and lists with one to four places replaced, removed, repeated or renamed."""
    for _ in range(rng.randint(1, 4)):
        value = _changed_once(rng, value, make)
    return value


def _changed_once(rng: random.Random, value: Any, make: Callable[[random.Random], Any]) -> Any:
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return make(rng)
    copy = dict(value) if isinstance(value, dict) else list(value)
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    action = rng.random()
    if action < 0.7:
        copy[key] = _changed_once(rng, value[key], make)
    elif action < 0.8:
        del copy[key]
    elif action < 0.9 and isinstance(copy, list):
        copy[key:key] = [copy[key]] * rng.choice([1, 5, 100])
    elif isinstance(copy, dict):
        new = make(rng)
        copy[new if isinstance(new, str | int) and rng.random() < 0.5 else f"{key}x"] = copy.pop(key)
    return copy


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Bytes flipped, overwritten, cut out, repeated, inserted, or cut off."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + rng.choice([1, 2, 4, 8, 64, 10**9]))
        action = rng.randrange(6)
        if action == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif action == 1 and at < len(data):
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif action == 2:
            number = rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, rng.randrange(2**32)])
            data[at : at + 4] = struct.pack("<I", number)
        elif action == 3:
            del data[at:end]
        elif action == 4:
            data[at:at] = data[end : end + rng.randrange(200)]
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def json_text(rng: random.Random, value: Any) -> bytes:
    """A changed value as JSON, at times with what only Python's parser takes or with a key that comes twice."""
    text = json.dumps(changed(rng, value))
    if rng.random() < 0.1:
        key = rng.choice(re.findall(r'"\w+": ', text) or ['"a": '])
        text = text.replace(key, f"{key}{rng.choice(['NaN', '1e999', '[' * 3000, '9' * 5000])}, {key}", 1)
    return text.encode("utf-8", "surrogatepass")


def rezipped(rng: random.Random, content: bytes, change: Callable[[random.Random, str, bytes], bytes]) -> bytes:
    """A zip file with valid checksums, in which `change` made other contents of some entries."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    out = io.BytesIO()
    method = rng.choice([zipfile.ZIP_STORED] * 6 + [zipfile.ZIP_DEFLATED])
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        chosen = {rng.randrange(len(entries)) for _ in range(rng.randint(1, 2))}
        for k, (name, data) in enumerate(entries):
            data = change(rng, name, data) if k in chosen else data
            action = rng.random()
            if action < 0.02:
                name = junk_name(rng, name)
            archive.writestr(name, data)
            if action > 0.98:
                archive.writestr(junk_name(rng, name), damaged(rng, data or b"x"))
    data = out.getvalue()
    return damaged(rng, data) if rng.random() < 0.1 else data


def junk_name(rng: random.Random, name: str) -> str:
    return rng.choice([name, name.upper(), f"../{name}", f"/{name}", name.removesuffix(".npy"), "x", "constants.pkl"])


GLOBALS = [
    *(b"builtins\nbytearray", b"posix\nsystem", b"torch._utils\n_rebuild_tensor_v2", b"collections\nOrderedDict"),
    *(
        b"torch\nFloatStorage",
        b"torch\nSize",
        b"torch._utils\n_rebuild_parameter",
        b"torch\nLongStorage",
        b"os\nsystem",
    ),
]
OPCODES = [op.code.encode("latin-1") for op in pickletools.opcodes]


def pickled(rng: random.Random, name: str, content: bytes) -> bytes:
    """A pickle with numbers, names or operations exchanged; other entries are damaged blindly."""
    if not name.endswith(".pkl"):
        return damaged(rng, content) if content else b"1"
    operations = list(pickletools.genops(content))
    data = content
    for _ in range(rng.choice([1, 1, 2, 5])):
        k = rng.randrange(len(operations))
        operation, _, at = operations[k]
        end = operations[k + 1][2] if k + 1 < len(operations) else len(content)
        if len(data) != len(content):
            return damaged(rng, data)
        if operation.name.startswith("BININT"):
            number = rng.choice([0, 1, -1, 255, 2**31 - 1, -(2**31), rng.randrange(10**6)])
            new = b"J" + struct.pack("<i", number)
        elif operation.name == "GLOBAL":
            new = b"c" + rng.choice(GLOBALS) + b"\n"
        elif operation.name == "BINUNICODE" and rng.random() < 0.7:
            text = rng.choice(["0", "1", "9", "cpu", "meta", "cuda", "storage", "../x", "\ud800", "trial"])
            encoded = text.encode("utf-8", "surrogatepass")
            new = b"X" + struct.pack("<I", len(encoded)) + encoded
        else:
            new = rng.choice([b"", content[at:end] * 2, rng.choice(OPCODES), b"h" + bytes([rng.randrange(40)])])
        data = data[:at] + new + data[end:]
    return data


def tensor_junk(rng: random.Random) -> Any:
    """Junk that a checkpoint may hold, tensors among it."""
    tensors = [
        *(torch.zeros(()), torch.zeros(0), torch.full((3,), float("nan")), torch.zeros(2, 3), torch.ones(4).long()),
        *(torch.zeros(1).expand(10**9), torch.ones(3, dtype=torch.complex64), torch.ones(2).bool(), torch.ones(9)[::3]),
    ]
    return rng.choice(tensors) if rng.random() < 0.4 else junk(rng)


def saved(rng: random.Random, state: dict[str, Any]) -> bytes:
    """A changed state as `save_checkpoint` writes it."""
    content = io.BytesIO()
    try:
        torch.save(changed(rng, state, tensor_junk), content)
    except (RecursionError, OverflowError, UnicodeEncodeError):
        torch.save(state, content)
    return content.getvalue()


def array_header(rng: random.Random, name: str, content: bytes) -> bytes:
    """An array with another header, or damaged blindly."""
    if rng.random() < 0.3:
        return damaged(rng, content)
    shape = rng.choice(
        ["(1,)", "(-1,)", "(10**9,)", "(2, 2)", "()", "(1000000000000, 8, 8)", "(0, 2**70)", "'x'", "(60,)"]
    )
    descr = rng.choice(["|u1", "<i8", "|O", "<U9999999", "|S0", "<U1", "|V0", "<f8", "x", "<M8[ns]", "|b1"])
    header = f"{{'descr': {rng.choice([repr(descr), str([('a', descr)])])}, 'fortran_order': False, 'shape': {shape}}}"
    header = header.replace("10**9", str(10**9)).replace("2**70", str(2**70)) + " " * rng.choice([0, 60, 11000]) + "\n"
    if rng.random() < 0.1:
        header = rng.choice(["-" * 9000 + "1", "[" * 9000, "{" * 300])
    version = rng.choice([(1, 0), (1, 0), (1, 0), (2, 0), (3, 0)])
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header.encode() + content[128:]


def sql_changed(rng: random.Random, path: Path) -> None:
    """Change a row, or the schema, of an Optuna study in an SQLite file."""
    texts = [value for value in JUNK if isinstance(value, str) and value.isprintable()]
    with sqlite3.connect(path) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = rng.choice(tables)
        column = rng.choice([row[1] for row in connection.execute(f"PRAGMA table_info({table})")])
        statement = rng.choice(
            [f'UPDATE {table} SET "{column}" = ?'] * 8
            + [f"DELETE FROM {table}", f"DROP TABLE {table}", f"CREATE VIEW v{table} AS SELECT * FROM {table}"]
            + [f"CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END"]
        )
        try:
            value = rng.choice([None, 0.5, "\x00", "[", *texts, rng.randrange(5), json.dumps(rng.choice(JUNK))])
            connection.execute(statement, [value] if "?" in statement else [])
        except sqlite3.Error:
            pass
    connection.close()


class Corpus:
    """Valid files of every kind, small, in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        generator = torch.Generator().manual_seed(0)
        space = SearchSpace(nodes=2)
        self.genotype = random_genotype(space, generator).to_dict()
        self.config = plain_config(SweepConfig(), "0" * 16)
        hypernetwork = Hypernetwork(space, 3, generator=generator)
        hypernetwork.save(folder / "hypernetwork.pt")
        self.hypernetwork = {"format": 1, "kind": "hypernetwork", **hypernetwork.to_state()}
        config = TrainingConfig(channels=2, cells=1)
        genotypes = [random_genotype(space, generator) for _ in range(2)]
        networks = [make_network(config, genotype, 1, 3) for genotype in genotypes]
        Ensemble(networks, [config] * 2, (0.5,), (0.2,), 8, ("a", "b", "c"), {"dataset": "x"}).save(folder / "ensemble")
        self.ensemble = torch.load(folder / "ensemble" / "ensemble.pt", weights_only=True)
        weight = torch.nn.Parameter(torch.ones(4))
        optimizer = torch.optim.Adam([weight], betas=(0.5, 0.999))
        weight.grad = torch.ones(4)
        optimizer.step()
        state = {"epoch": 3, "decks": [[1, 2], []], "optimizer": optimizer.state_dict(), "rng": generator.get_state()}
        save_checkpoint(folder / "state.pt", "trial", state)
        self.state = {"format": 1, "kind": "trial", **state}
        rng = np.random.default_rng(0)
        for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
            images, labels = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 3
            arrays = {"x_train": images, "y_train": labels, "x_test": images[:9], "y_test": labels[:9]}
            save(folder / name, **arrays, class_names=np.array(["a", "b", "c"]))
        writer = CurveWriter()
        for step in range(4):
            writer.append(folder / "curve.jsonl", {"step": step, "loss": float("nan"), "attempt": 1})
        study = folder / "study"
        study.mkdir()
        (study / "config.json").write_text(json.dumps(self.config))
        for url in (f"sqlite:///{study}/study.db", f"journal:{folder}/study.log"):
            opened = open_study("anneal" if "sqlite" in url else "of journal", url, space=search_space("exact"))
            trial = opened.ask(search_space("exact"))
            trial.report(0.4, 1)
            trial.set_user_attr("reason", "none")
            trial.set_constraint("control_error", -0.1)
            opened.tell(trial, 0.5)
            opened.ask(search_space("exact"))

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@dataclass
class Target:
    """A reader: `make(rng)` is the content of a file, `read(path)` reads it and looks at what comes."""

    name: str
    file: str
    make: Callable[[random.Random], bytes]
    read: Callable[[Path], Any]
    counts: Counter = field(default_factory=Counter)
    memory: int = 0


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
        probabilities = ensemble.predict(np.zeros(shape, np.uint8))
        assert probabilities.shape == (1, len(ensemble.class_names))
    json.dumps(ensemble.card)


def check_config(path: Path) -> None:
    config, _ = read_config(path.parent)
    assert config.folder == path.parent and config.storage is None
    json.dumps(config.to_dict())


def check_study(path: Path) -> None:
    open_saved(path.parent).trials()


def check_journal(path: Path) -> None:
    open_saved(path.parent, f"journal:{path}").trials()


def targets(corpus: Corpus) -> list[Target]:
    """Every reader with its ways of making files."""

    def mixed(whole: Callable[[random.Random], bytes], *ways: Callable[[random.Random], bytes]):
        return lambda rng: rng.choice(ways)(rng) if rng.random() < 0.7 else damaged(rng, whole(rng))

    def of(name: str) -> Callable[[random.Random], bytes]:
        return lambda rng: corpus.read(name)

    def structured(value: Any) -> Callable[[random.Random], bytes]:
        return lambda rng: json_text(rng, value)

    def plain(value: Any) -> Callable[[random.Random], bytes]:
        return lambda rng: json.dumps(value).encode()

    def entries(name: str, change: Callable) -> Callable[[random.Random], bytes]:
        return lambda rng: rezipped(rng, corpus.read(name), change)

    def state(value: Any) -> Callable[[random.Random], bytes]:
        return lambda rng: saved(rng, value)

    def lines(name: str) -> Callable[[random.Random], bytes]:
        def make(rng: random.Random) -> bytes:
            rows = corpus.read(name).splitlines()
            k = rng.randrange(len(rows))
            rows[k : k + 1] = [json_text(rng, json.loads(rows[k])).replace(b"\n", b"")] * rng.choice([1, 1, 2])
            return b"\n".join(rows) + b"\n"

        return make

    def database(rng: random.Random) -> bytes:
        path = corpus.folder / "changed.db"
        shutil.copyfile(corpus.folder / "study" / "study.db", path)
        for _ in range(rng.randint(1, 3)):
            sql_changed(rng, path)
        return path.read_bytes()

    def checkpoint(name: str, value: Any) -> Callable[[random.Random], bytes]:
        return mixed(of(name), entries(name, pickled), state(value))

    def npz(name: str) -> Callable[[random.Random], bytes]:
        return mixed(of(name), entries(name, array_header))

    def load(path: Path) -> None:
        load_data(path, image_size=8)

    return [
        Target("genotype", "g.json", mixed(plain(corpus.genotype), structured(corpus.genotype)), check_genotype),
        Target("config", "config.json", mixed(plain(corpus.config), structured(corpus.config)), check_config),
        Target("json", "x.json", mixed(plain(corpus.config), structured(corpus.genotype)), read_json),
        Target("checkpoint", "s.pt", checkpoint("state.pt", corpus.state), lambda path: load_checkpoint(path, "trial")),
        Target("hypernetwork", "h.pt", checkpoint("hypernetwork.pt", corpus.hypernetwork), check_hypernetwork),
        Target("ensemble", "ensemble.pt", checkpoint("ensemble/ensemble.pt", corpus.ensemble), check_ensemble),
        Target("npz", "a.npz", npz("a.npz"), load),
        Target("npz, compressed", "b.npz", npz("b.npz"), load),
        Target("curve", "c.jsonl", mixed(of("curve.jsonl"), lines("curve.jsonl")), read_curve),
        Target("database", "study.db", mixed(of("study/study.db"), database), check_study),
        Target("journal", "study.log", mixed(of("study.log"), lines("study.log")), check_journal),
    ]


class Slow(BaseException):
    """A case takes too long; no Exception, so that no reader takes it for damage."""


def _alarm(*_: Any) -> None:
    raise Slow


def run_case(target: Target, content: bytes, folder: Path) -> str | None:
    """Read one file; what is wrong with that, or None. Counts what happened."""
    path = folder / target.file
    path.write_bytes(content)
    try:
        target.read(path)
    except EdgeNESError as error:
        target.counts["refused"] += 1
        text = str(error)
        if re.search("allocate|MemoryError", text):
            return f"it took memory before it refused: {text[:300]}"
        if len(text) > LONGEST_MESSAGE or not text.isprintable():
            return f"a message of {len(text)} characters, or one that cannot be printed: {text[:300]!a}"
        return None
    except (Exception, Slow):
        target.counts["failed"] += 1
        return traceback.format_exc(limit=-6)
    target.counts["accepted"] += 1
    return None


def kilobytes(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="time for all readers together")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first reader; drawn and printed if absent")
    parser.add_argument("--only", default=None, help="name of one reader")
    parser.add_argument("--keep", type=Path, default=None, help="folder for the files of failures")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _alarm)
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        corpus = Corpus(Path(name))
        chosen = [target for target in targets(corpus) if options.only in (None, target.name)]
        for target in chosen:
            folder = Path(name) / f"of {target.name}"
            folder.mkdir()
            shutil.copyfile(corpus.folder / "study" / "config.json", folder / "config.json")
            rng = random.Random(f"{seed} {target.name}")
            for _ in range(20):  # what is imported and cached at first use
                run_case(target, target.make(rng), folder)
            target.counts.clear()
            taken = kilobytes("VmSize") * 1024
            resource.setrlimit(resource.RLIMIT_AS, (taken + HEADROOM, resource.RLIM_INFINITY))
            until = time.monotonic() + options.seconds / len(chosen)
            while time.monotonic() < until:
                content = target.make(rng)
                Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
                before = kilobytes("VmRSS")
                signal.alarm(SLOW)
                wrong = run_case(target, content, folder)
                signal.alarm(0)
                target.memory = max(target.memory, kilobytes("VmHWM") - before)
                if wrong is not None:
                    failures += 1
                    case = f"{target.name}-{sum(target.counts.values())}"
                    print(f"--- {case}: {wrong}", flush=True)
                    if options.keep is not None:
                        options.keep.mkdir(parents=True, exist_ok=True)
                        (options.keep / case).write_bytes(content)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(f"seed {seed}")
    print(f"{'reader':<16} {'cases':>9} {'accepted':>9} {'refused':>9} {'failed':>7} {'peak MiB':>9}")
    for target in chosen:
        counts = target.counts
        row = f"{counts.total():>9} {counts['accepted']:>9} {counts['refused']:>9} {counts['failed']:>7}"
        print(f"{target.name:<16} {row} {target.memory / 1024:>9.1f}")
    print(f"{sum(target.counts.total() for target in chosen)} cases, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
