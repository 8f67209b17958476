"""Budgets by name: option -> value; what a preset does not name has its default."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {},
    # Section 3.1 and the paper's code. Where they differ: Adam's betas are (0.5, 0.9) in the text and (0.5, 0.999) in
    # the code, its rate 0.02 and 0.3; here (0.5, 0.999) and 0.1, with which the hypernetwork learns its control. The
    # text draws lambda from U[-0.2, 4.2], the code from U[0, 4.2]: the text's. The text has Gumbel-softmax in the
    # forward pass, the code a plain softmax: the text's. The text's pivots train, the code detaches them: fixed, as
    # they control better (studies/control.py has both). One lambda a step, no warm-up. Batches are 64 in the search
    # and 96 in the retraining.
    "paper": {
        "dataset": "cifar100",
        "search_channels": 10,
        "channels": 16,
        "retraining_batch_size": 96,
        "search_epochs": 50,
        "hypernetwork_epochs": 150,
        "short_epochs": 5,
        "final_epochs": 50,
        "search_warmup": 0.0,
        "penalty_lambdas": 1,
        "estimator": "gumbel",
        "forward": "mixture",
    },
    # DARTS's networks and retraining (Liu et al., 2019); docs/FORMATS.md names what differs.
    "darts": {
        "dataset": "cifar100",
        "inputs_per_node": 2,
        "cell_types": "both",
        "search_channels": 16,
        "search_cells": 8,
        "channels": 36,
        "cells": 20,
        "retraining_batch_size": 96,
        "drop_path": 0.2,
        "auxiliary": True,
        "darts_layout": True,
        "cutout": 0.5,
        "architecture_weight_decay": 1e-3,
        "search_warmup": 0.0,
        "search_epochs": 50,
        "hypernetwork_epochs": 150,
        "survey_epochs": 25,
        "short_epochs": 25,
        "final_epochs": 600,
    },
}
SMOKE: dict[str, Any] = {
    "search_epochs": 2,
    "hypernetwork_epochs": 4,
    "survey": 11,
    "survey_epochs": 1,
    "short_epochs": 1,
    "final_epochs": 2,
    "candidates": 3,
    "ensemble_size": 2,
}
"""The smallest study that does everything; each kind of study adds its own counts."""
