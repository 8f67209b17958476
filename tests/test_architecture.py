"""What the tree has to keep: small folders, and a wheel that holds all of them; the layers are in pyproject.toml."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

from edgenes.methods.baselines import METHODS
from edgenes.space.operations import OPERATIONS
from tune_jobs.tools.commands import COMMANDS as TOOLS

ROOT = Path(__file__).parents[1]
ROOMS = ("edgenes", "tune_jobs", "studies", "benchmarks", "tests")
FOLDERS = sorted({path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_folder_has_at_most_twenty_files(folder):
    files = [path.name for path in (ROOT / folder).iterdir() if path.is_file()]
    assert len(files) <= 20, files


def test_the_wheel_finds_every_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = find_packages(str(ROOT), include=project["tool"]["setuptools"]["packages"]["find"]["include"])
    shipped = {str(folder).replace("/", ".") for folder in FOLDERS if folder.parts[0] in ("edgenes", "tune_jobs")}
    assert shipped <= {*found}


def test_the_wheel_finds_every_file_that_is_no_module():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = {path for name, globs in data.items() for glob in globs for path in folder_of(name).glob(glob)}
    files = [path for room in ("edgenes", "tune_jobs") for path in (ROOT / room).rglob("*") if path.is_file()]
    assert {path for path in files if path.suffix not in (".py", ".pyc")} == found


def folder_of(package):
    return ROOT / package.replace(".", "/")


def test_no_array_of_a_file_holds_objects():
    sources = [path.read_text() for room in ("edgenes", "tune_jobs", "studies") for path in (ROOT / room).rglob("*.py")]
    assert not [source for source in sources if "allow_pickle=True" in source]


COMMANDS = [["studies", path.stem] for path in sorted((ROOT / "studies").glob("[!_]*.py"))]
COMMANDS += [["tune_jobs", *tool] for tool in ([], *([name] for name in TOOLS))]
HEAVY = ("torch", "ray", "optuna", "pandas", "sklearn", "scipy", "plotly")
EACH = f"""
import json, os, runpy, sys
import tyro  # loaded once for all of them
out = sys.stdout
for room, *words in json.load(sys.stdin):
    if os.fork() == 0:
        script = f"studies/{{words.pop(0)}}.py" if room == "studies" else None
        sys.argv, sys.stdout, sys.stderr = [room, *words], open(os.devnull, "w"), open(os.devnull, "w")
        try:
            runpy.run_path(script, run_name="__main__") if script else runpy.run_module(room, run_name="__main__")
        except BaseException as end:
            status = getattr(end, "code", repr(end))
        print(json.dumps([status, *(name for name in {HEAVY} if name in sys.modules)]), file=out, flush=True)
        os._exit(0)
    os.wait()
"""


def output(*arguments, **options):
    """What Python prints with these arguments."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.e2e
def test_help_and_mistakes_import_nothing_that_takes_seconds():
    asked = [[*command, word] for command in COMMANDS for word in ("--help", "--no-such-option")]
    ended = map(json.loads, output("-c", EACH, input=json.dumps(asked)).splitlines())
    found = dict(zip(map(" ".join, asked), ended, strict=True))
    assert found == {" ".join(words): [0 if words[-1] == "--help" else 2] for words in asked}


@pytest.mark.e2e
def test_names_of_operations_and_baselines_are_known_without_torch():
    code = """
import sys
from edgenes.methods.baselines import METHODS
from edgenes.space.operations import OPERATIONS
print(*OPERATIONS, *METHODS, "torch" in sys.modules)
"""
    loaded = {**OPERATIONS, **METHODS}
    assert None not in loaded.values()
    assert output("-c", code).split() == [*loaded, "False"]
