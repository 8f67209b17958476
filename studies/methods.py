"""Compare the paper's methods and those of the field: accuracy, NLL, ECE of ensemble and members, and costs (Table 3).

python studies/methods.py                            # digits, embedded: minutes on a laptop
python studies/methods.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pandas as pd

from edgenes.baselines import METHODS, NAMES, Member, run_method
from edgenes.metrics import ensemble_probabilities
from tune_jobs.experiment_config import ExperimentConfig
from tune_jobs.experiment_main import experiment_main


@dataclass(frozen=True, kw_only=True)
class MethodsConfig(ExperimentConfig):
    """All methods at one retraining budget: what each finds, and what it costs."""

    NAME: ClassVar[str] = "methods"

    methods: tuple[Literal[*METHODS], ...] = tuple(METHODS)
    """The methods to compare."""


def one_run(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """A method's run with one seed: members, their scores on V, costs."""
    from tune_jobs.experiment import scores

    outcome = run_method(job["method"], bench.of_seed(job["seed"]), bench.trainer)
    labels = bench.data.validation.labels
    found = scores(ensemble_probabilities(outcome.predictions), labels)
    return {
        "members": [member.to_dict() for member in outcome.members],
        "pool": [member.genotype.digest for member in outcome.pool],
        "validation": {"ensemble": found, "members": [scores(each, labels) for each in outcome.predictions]},
        "search": vars(outcome.search),
        "retraining": vars(outcome.retraining),
        "note": f"validation accuracy {found['accuracy']:.3f}",
    }
