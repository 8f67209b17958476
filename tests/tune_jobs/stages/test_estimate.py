"""The estimate of a dry run: what it says, what it counts, and that it writes nothing."""

import dataclasses
import re

import pytest
import torch

from edgenes.errors import ConfigError
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.execution.footprint import Footprint
from tune_jobs.stages import estimate as module
from tune_jobs.stages.estimate import estimate, full_retrainings, prediction_bytes, surveyed_retrainings

SMALL = {"dry_run": True, "nodes": 1, "search_channels": 2, "channels": 2, "cells": 1}


@pytest.fixture(autouse=True)
def threads():
    """The estimate takes the threads of a trial."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def number(pattern, text):
    return float(re.search(pattern, text)[1])


def test_it_tells_trials_hours_memory_and_disk_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = estimate(SweepConfig.of(**SMALL, max_concurrent=1, out=tmp_path / "study", device="cpu"))
    assert text.startswith("12 trials on digits, 1 at once on this machine's cpu\n")
    # 3 finalists of 8 candidates; 3 of the optimal genotype; all 14 random ones
    assert "41 full retrainings at most" in text and "supernet" not in text  # which no part of this study trains
    assert number(r"whole study about ([\d.]+) min", text) >= 0
    assert 0.1 < number(r"memory about ([\d.]+) GiB", text) < 100
    assert number(r"disk about (\d+) MiB", text) >= 12
    assert list(tmp_path.iterdir()) == []


def test_it_counts_the_retrainings_of_the_configuration():
    config = SweepConfig.of(**SMALL, baselines=False, finalists=2, candidates=5, seeds_per_candidate=3, trials=40)
    assert full_retrainings(config) == 33


def test_it_says_what_predictions_take_on_disk_and_in_memory():
    config = SweepConfig.of(**SMALL, trials=40, candidates=5, finalists=2, ensemble_size=2, seeds_per_candidate=3)
    data = config.load()
    networks, table = 40 * 5 + 2 * 15 + 2 + 14, len(data.validation) * 10 * 4
    survey = 14 * len(data.architecture) * 10 * 4
    disk, memory, text = prediction_bytes(config, data)
    assert (disk, memory) == (networks * table + survey, 2 * (15 + 2) * table)
    assert f"{networks} candidates" in text and "14 networks of the survey" in text
    one_shot = dataclasses.replace(config, value="one-shot", guide="supernet")
    assert prediction_bytes(one_shot, data)[0] == 46 * table


@pytest.mark.parametrize(
    ("options", "retrainings"),
    [({}, 14), ({"nodes": 2}, 48), ({"survey": 12}, 12), ({"guide": "supernet"}, 0), ({"preset": "paper"}, 0)],
)
def test_the_survey_is_counted_where_a_predictor_guides(options, retrainings):
    """One node has 14 genotypes."""
    assert surveyed_retrainings(SweepConfig.of(**SMALL | options)) == retrainings


def test_hours_follow_the_guide(monkeypatch):
    """With steps and epochs that take a second each."""
    monkeypatch.setattr(module, "MEASURED", 1)
    monkeypatch.setattr(module, "_seconds", lambda work: 1.0)
    monkeypatch.setattr(module, "trial_footprint", lambda *given: Footprint(0, 0, 2**30))
    data = SweepConfig.of(**SMALL).load()
    full = {"search_epochs": 30, "survey_epochs": 8, "max_concurrent": 1, "baselines": False, "finalists": 1}
    steps, share = len(data.weights) // 64, len(data.weights) / len(data.training)
    same = 12 * 8 * 4 + (8 + 3) * 25
    for options, rest in (
        ({}, 14 * 8 * share + 12 * 2),
        ({"optimal": "darts"}, 14 * 8 * share + 12 * 2 + 30 * steps),
        ({"guide": "supernet"}, 12 * 35 * steps + 30 * steps),
    ):
        monkeypatch.setattr(module.time, "perf_counter", iter(range(100)).__next__)
        text = estimate(SweepConfig.of(**SMALL | full | options, device="cpu"))
        assert ("one step of the supernet" in text) == bool(options)
        amount, unit = re.search(r"whole study about ([\d.]+) (min|hours),", text).groups()
        assert float(amount) * {"min": 60, "hours": 3600}[unit] == pytest.approx(same + rest, rel=0.05)


def test_images_too_small_for_the_cells_are_refused_as_the_study_would():
    with pytest.raises(ConfigError):
        estimate(SweepConfig.of(**SMALL | {"cells": 30}))


def test_a_genotype_file_that_is_missing_is_refused_as_the_study_would(tmp_path):
    with pytest.raises(ConfigError, match="DARTS_V9"):
        estimate(SweepConfig.of(optimal=str(tmp_path / "DARTS_V9")))
