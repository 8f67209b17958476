"""What the tree has to keep: small folders, and a wheel that holds all of them; the layers are in pyproject.toml."""

import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

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
