"""What the tree has to keep: small folders, and a wheel that holds all of them; the layers are in pyproject.toml."""

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


COMMANDS = [[f"studies/{path.name}"] for path in sorted((ROOT / "studies").glob("[!_]*.py"))]
COMMANDS += [["-m", "tune_jobs", *tool] for tool in ([], *([name] for name in TOOLS))]
HEAVY = ("torch", "ray", "optuna", "pandas", "sklearn", "scipy", "plotly")
REPORT = f"""
import atexit, runpy, sys
atexit.register(lambda: print("loaded", *(name for name in {HEAVY} if name in sys.modules)))
first = sys.argv.pop(1)
runpy.run_module(sys.argv.pop(1), run_name="__main__") if first == "-m" else runpy.run_path(first, run_name="__main__")
"""


def output(*arguments, status=0):
    """What Python prints with these arguments."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.mark.e2e
@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--no-such-option", 2)], ids=["help", "mistake"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_and_mistakes_import_nothing_that_takes_seconds(command, argument, status):
    assert output("-c", REPORT, *command, argument, status=status).splitlines()[-1] == "loaded"


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
