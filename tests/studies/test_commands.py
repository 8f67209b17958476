"""The experiments from their options on, in this process: conclusions, a report, and T read only where it is said."""

import importlib
from typing import NamedTuple

import pandas as pd
import pytest

from edgenes.errors import ConfigError
from studies.control import ControlConfig
from studies.convergence import ConvergenceConfig
from studies.deviation import DeviationConfig
from studies.diversity import DiversityConfig
from studies.methods import MethodsConfig
from studies.proxy import ProxyConfig
from studies.robustness import RobustnessConfig
from studies.speedup import SpeedupConfig
from studies.warmup import CONDITIONS, WarmupConfig
from tests.support.small_study import SMALL
from tune_jobs.experiments.cli import experiment_main


class Command(NamedTuple):
    kind: type
    options: str
    said: str
    frames: dict[str, tuple[int | None, str]]
    """By name: the number of rows, where it is certain, and what holds in each of them."""
    reads: int = 0


COMMANDS = [
    Command(
        ControlConfig,
        "--genotypes 1",
        "By default (exact penalty, fixed pivots, corrected map, eps 0.2, Lambda 4)",
        {"curves": (5 * 17 + 33, "0 <= shared <= Lambda"), "accuracy": (2 * 5, "0 <= accuracy <= 1")},
    ),
    Command(
        ConvergenceConfig,
        "",
        "The paper finds EdgeNES's area larger",
        {"convergence": (3 + 2 + 2 + 1, "0 <= test_accuracy <= 1")},
        reads=1,
    ),
    Command(
        DeviationConfig,
        "",
        "By argmax genotypes share exactly lambda edges",
        {"cells": (None, "1 <= genotypes <= 2 and 0 <= mean <= 1"), "control": (4, "0 <= samples <= 1")},
    ),
    Command(
        DiversityConfig,
        "",
        "Share of the members' NLL that a pair gains",
        {"pairs": (4 * 2 + 1, "gain > -1e-9 and 0 <= disagreement <= 1")},
    ),
    Command(
        ProxyConfig,
        "--genotypes 3 --pool 2",
        "trials have a value",
        {"genotypes": (None, "images_one_shot < images_short < images_full"), "trials": (3, "candidates <= 2")},
    ),
    Command(
        RobustnessConfig,
        "--methods predicted-deep-ens random-nes",
        "NLL of corrupted images",
        {
            "scores": (2, "gain > -1e-6"),
            "conditions": (2 * 3 * (1 + 15 * 5), "nll > 0 and 0 <= error <= 1"),
            "pairs": (None, "0 <= shared <= 4 and gain > -1e-9"),
        },
        reads=1,
    ),
    Command(
        SpeedupConfig,
        "",
        "Theorem 1 promises",
        {"counts": (2 * (4 + 2), "method == 'DartsEns' or distinct <= summed <= 2 * distinct <= 16")},
    ),
    Command(
        WarmupConfig,
        "--edges 1 2",
        "At c_end 1 the control error is",
        {"errors": (len(CONDITIONS), "error >= 0"), "accuracy": (2 * len(CONDITIONS), "0 <= accuracy <= 1")},
    ),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.kind.__name__)
def test_a_command_ends_with_conclusions_and_a_report(command, ray_local, tmp_path, capsys):
    out, study = tmp_path / "study", importlib.import_module(command.kind.__module__).study
    options = [*SMALL, "--seeds", "1", *command.options.split(), "--out", str(out)]
    status = experiment_main(command.kind, "", study, options)
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert command.said in printed.out and "The report:" in printed.out
    no_verdict = ("too little to tell", "are equal (n = 1)", "too few rows")
    assert any(words in printed.out for words in no_verdict), "one search shows no difference"
    for name, (rows, holds) in command.frames.items():
        frame = pd.read_csv(out / "report" / f"{name}.csv")
        assert rows in (None, len(frame)) and len(frame) and frame.eval(holds).all(), frame
    reads = out / "test_reads.jsonl"
    assert (len(reads.read_text().splitlines()) if reads.exists() else 0) == command.reads


@pytest.mark.parametrize(
    ("kind", "options", "field"),
    [
        (ControlConfig, {"genotypes": 0}, "genotypes"),
        (ControlConfig, {"either_input": True}, "either-input"),
        (ConvergenceConfig, {"ensemble_size": 1}, "ensemble_size"),
        (ConvergenceConfig, {"points": 1}, "points"),
        (ConvergenceConfig, {"hypernetwork_epochs": 1}, "hypernetwork_epochs"),
        (ConvergenceConfig, {"search_epochs": 1}, "search_epochs"),
        (MethodsConfig, {"seeds": 0}, "seeds"),
        (MethodsConfig, {"retraining_batch_size": 1}, "retraining_batch_size"),
        (MethodsConfig, {"cell_types": "both", "search_cells": 3}, "^cells"),
        (MethodsConfig, {"max_parameter_free": 5}, "max_parameter_free"),
        (MethodsConfig, {"penalty_lambdas": 10**9}, "penalty_lambdas"),
        (MethodsConfig, {"methods": ()}, "methods"),
        (MethodsConfig, {"methods": ("edge-ness",)}, "Did you mean 'edge-nes'"),
        (ProxyConfig, {"pool": 2}, "pool"),
        (ProxyConfig, {"trials": 1}, "trials"),
        (ProxyConfig, {"genotypes": 2}, "genotypes"),
        (RobustnessConfig, {"methods": ("edge-nes",)}, "predicted-deep-ens"),
        (RobustnessConfig, {"candidates": 3}, "candidates"),
        (SpeedupConfig, {"forward": "mixture"}, "forward"),
        (SpeedupConfig, {"weight_paths": ()}, "weight_paths"),
        (SpeedupConfig, {"ensemble_size": 1}, "ensemble_size"),
        (WarmupConfig, {"c_ends": (0.1, -1.0)}, "c_ends"),
        (WarmupConfig, {"c_end": 0.0}, "c_end"),
        (WarmupConfig, {"edges": (5,)}, "edges"),
    ],
)
def test_a_mistake_names_the_field(kind, options, field):
    with pytest.raises(ConfigError, match=field):
        kind.of(**options)
