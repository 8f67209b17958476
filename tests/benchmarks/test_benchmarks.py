"""`python -m benchmarks` lists what there is, runs it, and names the nearest where there is none of a name."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import benchmarks, main

FOLDER = Path(__file__).parents[2]


def test_each_has_a_line_and_is_listed(capsys):
    assert {"selection", "startup", "two_workers"} <= benchmarks().keys()
    assert not {"printing", "reference", "__main__"} & benchmarks().keys()
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, line in benchmarks().items():
        assert line.endswith((".", "?")) and f"  {name} " in out and line in out


def test_an_unknown_one_names_the_nearest(capsys):
    assert main(["selectio"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: benchmark") and "'selection'" in error


@pytest.mark.parametrize("name", benchmarks())
def test_each_says_its_options(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"python -m benchmarks {name}" in capsys.readouterr().out


@pytest.mark.e2e
def test_the_ways_of_a_convolution_are_printed_side_by_side():
    command = [sys.executable, "-m", "benchmarks", "convolutions", "--sizes", "4", "8", "--steps", "8", "1"]
    command += ["--genotypes", "2", "--repeats", "1"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert "| images, channels | kernel, stride, dilation | plain | ours |" in lines
    assert sum(line.startswith("| 4x4, 8 |") for line in lines) == 8
    [step] = [line.strip("| ").split(" | ") for line in lines if line.startswith("| 8x8x1 |")]
    assert float(step[1]) > 0 and float(step[2]) > 0


def test_an_error_of_the_user_is_one_line(tmp_path, capsys):
    assert main(["selection", "--dataset", str(tmp_path / "none.npz"), "--pool", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_exact_selection_is_timed_beside_the_plain_way(tmp_path, capsys):
    options = f"--pool {tmp_path} --networks 3 --epochs 1 --images 100 --tasks 3 2 nll --repeats 2 --plain-seconds 0.01"
    assert main(["selection", *options.split()]) == 0
    assert "| 3 choose 2, nll | 3 |" in capsys.readouterr().out and len(list(tmp_path.iterdir())) == 3
