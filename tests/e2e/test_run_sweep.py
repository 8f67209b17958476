"""`run_sweep` as a notebook calls it: own data, an own operation, a selection that weighs its members."""

from dataclasses import replace

import numpy as np
from torch import nn

from edgenes import register_operation
from edgenes.space.operations import OPERATIONS
from tests.support.toys import blobs
from tune_jobs import SweepConfig, open_saved, run_sweep

TINY = {"nodes": 2, "search_channels": 2, "channels": 2, "cells": 1, "batch_size": 32, "hypernetwork_epochs": 2}


def blur(channels: int, stride: int, affine: bool, track: bool) -> nn.Module:
    """Mean of 5x5 pixels."""
    return nn.AvgPool2d(5, stride, 2)


def test_own_data_and_an_own_operation_end_in_an_ensemble(ray_local, tmp_path, monkeypatch):
    monkeypatch.setattr(OPERATIONS, "_entries", dict(OPERATIONS))  # for this test alone
    register_operation("blur", blur, parameter_free=True)
    data = replace(blobs(120), test=blobs(seed=1).validation)
    options = {"operations": ("blur", "sep_conv_3x3"), "selection": "greedy-with-replacement", "sampler": "random"}
    config = SweepConfig.of(smoke_test=True, **TINY, **options, out=tmp_path / "study", cache="off")
    result = run_sweep(config, data)
    members = result.values["members"]
    cells = [cell for member in members for cell in member["genotype"]["cells"].values()]
    operations = {edge["operation"] for cell in cells for node in cell for edge in node}
    assert operations <= {"blur", "sep_conv_3x3"}
    probabilities = result.ensemble.predict(data.test.images.transpose(0, 2, 3, 1))
    assert np.mean(probabilities.argmax(1) == data.test.labels) == result.values["test"]["accuracy"]
    assert run_sweep(config, data).values == result.values, "a finished study is not run again"
    assert open_saved(tmp_path / "study").config.networks.operations == ("blur", "sep_conv_3x3")
