"""The notebooks run as they stand but for shorter trainings, and the wheel brings all that its command needs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(path, 4)
    for cell in book.cells:
        cell.source = re.sub(r"(survey|short|final)_epochs=\d+", r"\1_epochs=1", cell.source)
    NotebookClient(book, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    stored = nbformat.read(path, 4)
    for new, old in zip(book.cells, stored.cells, strict=True):
        assert [output.output_type for output in new.get("outputs", [])][-1:] == [
            output.output_type for output in old.get("outputs", [])
        ][-1:], new.source


def test_the_wheel_has_the_command_and_runs_a_study(tmp_path):
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    place, source = tmp_path / "site", tmp_path / "source"
    for name in ("edgenes", "tune_jobs", "studies"):  # a build leaves files beside its sources
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", place, source], check=True
    )
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"}

    def said(*arguments: str) -> str:
        command = [place / "bin" / "edgenes", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "ensemble" in said("--help") and "trials" in said("study", "--dry-run")
    assert "RayJob" in said("cluster-file", "kuberay")
