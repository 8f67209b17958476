"""The study of convergence: points, areas and conclusions from known numbers."""

import pandas as pd
import pytest

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.methods.budget import Setting
from edgenes.methods.catalogue import run_method
from edgenes.methods.trainer import LocalTrainer
from edgenes.space.genotype import SearchSpace
from studies.convergence import (
    DARTS,
    EDGE,
    POOLED,
    RANDOM,
    ConvergenceConfig,
    areas,
    conclusions,
    darts_points,
    edge_points,
    findings,
    points_of,
    turns,
)
from tests.support.toys import blobs

STEPS = 10
NOISE = [0.0, 0.002, -0.001, 0.001, -0.002]


def frame(above: list[float]) -> pd.DataFrame:
    """Curves of DartsEns that rise from 0.5 at 20 epochs to 0.9 at 60, EdgeNES's so much above, seed by seed."""
    rows = []
    for seed in range(5):
        base = 0.5 + NOISE[seed]
        height = {20: base, 40: base + 0.2, 60: base + 0.4}
        curves = {
            EDGE: {epochs: height[epochs] + above[seed] for epochs in (20, 40)},
            DARTS: height,
            POOLED: height,
            RANDOM: {0: 0.5 - NOISE[seed]},
        }
        for name, points in curves.items():
            for epochs, accuracy in points.items():
                row = {"curve": name, "seed": seed, "epochs": epochs, "iterations": STEPS * epochs}
                rows.append({**row, "test_accuracy": accuracy, "member_accuracy": accuracy})
    return pd.DataFrame(rows)


def test_points_are_even_over_what_is_common_and_go_to_the_end():
    points = points_of(ConvergenceConfig.of(points=3))  # 20 epochs of search, 35 of the hypernetwork, 3 members
    assert points == {EDGE: [21, 38, 55], DARTS: [21, 38, 55, 60]}
    assert points_of(ConvergenceConfig.of(preset="paper", points=2)) == {EDGE: [51, 150, 200], DARTS: [51, 150]}
    assert points_of(ConvergenceConfig.of(smoke_test=True)) == {EDGE: [3, 4, 6], DARTS: [3, 4]}  # each point once


@pytest.mark.parametrize(("total", "each"), [(6, [2, 2, 2]), (7, [3, 2, 2]), (8, [3, 3, 2])])
def test_searches_in_turns_add_up(total, each):
    assert turns(total, 3) == each


def test_the_preset_decides_the_retraining():
    kinds = [ConvergenceConfig.of(preset=preset).retraining for preset in ("laptop", "paper", "darts")]
    assert kinds == ["short", "full", "full"] and ConvergenceConfig.of(retraining="full").retraining == "full"


def test_the_ends_of_the_curves_are_the_methods_ensembles():
    small = {"epochs": 2, "channels": 2, "cells": 1, "batch_size": 32}
    setting = Setting(
        search=SearchConfig(space=SearchSpace(2), **small),
        hypernetwork=HypernetworkConfig(space=SearchSpace(2), **small),
        training=TrainingConfig(**small),
        candidates=3,
        size=2,
        seed=1,
    )
    trainer = LocalTrainer(blobs())
    edge = list(edge_points(setting, trainer, [3, 4]))
    assert [(name, done) for name, done, _ in edge] == [(EDGE, 3), (EDGE, 4)]
    assert tuple(edge[-1][2]) == run_method("edge-nes-supernet", setting, trainer).members
    darts = list(darts_points(setting, trainer, [3, 4]))
    assert [(name, done) for name, done, _ in darts] == [(DARTS, 3), (POOLED, 3), (DARTS, 4), (POOLED, 4)]
    assert tuple(darts[2][2]) == run_method("darts-ens", setting, trainer).members
    traces = [trainer.search(setting.search_config(run)).trace for run in range(2)]
    assert [member.genotype for member in darts[0][2]] == [traces[0][1], traces[1][0]]  # 3 epochs: 2 and 1
    assert len({member.config.seed for member in darts[0][2]}) == 2
    assert {member.genotype for member in darts[1][2]} <= {traces[0][1], traces[1][0]}


def test_areas_are_mean_heights_over_the_common_range():
    found = areas(frame([0.1] * 5))
    assert (found.low, found.high, found.range()) == (20, 40, "200 to 400")
    assert found.frame.loc[0].to_dict() == pytest.approx({EDGE: 0.7, DARTS: 0.6, POOLED: 0.6, RANDOM: 0.5})


@pytest.mark.parametrize(("sign", "word", "verdict"), [(1, "above", "so it is"), (-1, "below", "here it is smaller")])
def test_a_difference_is_said_beside_the_papers(sign, word, verdict):
    found = areas(frame([sign * one for one in (0.05, 0.06, 0.05, 0.06, 0.05)]))
    means, first, paper, pool, random = conclusions(found)
    assert means.startswith("Mean test accuracy, in percent, over iterations 200 to 400")
    assert first.startswith(f"EdgeNES is 5.4 points {word} DartsEns") and verdict in paper
    assert pool.startswith("DartsEns of a pool is 5.4 points") and random.startswith("Random-NES is ")


def test_all_comparisons_are_corrected_together():
    _, first, paper, *_ = conclusions(areas(frame([0.01, 0.03, 0.005, 0.035, 0.01])))
    assert first.startswith("EdgeNES is not distinguishable from DartsEns") and "by itself" in first
    assert paper.endswith("neither confirm nor refute that.")


def test_table_and_picture_have_all_curves():
    first, second = findings(frame([0.1] * 5), 4, 300).sections
    names = [EDGE, DARTS, POOLED, RANDOM]
    assert "one set of 300 test images" in first.text and list(second.table["curve"]) == names
    assert second.table["at the curve's end"][1].startswith("0.9")
    assert second.table["at the range's end"][1].startswith("0.7")
    assert {line.name for line in first.figure.data if line.mode == "lines+markers"} == set(names)
