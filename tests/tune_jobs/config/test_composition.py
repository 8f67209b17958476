"""Configurations composed of pieces: flat options, presets, mistakes, and what makes a study another study."""

import dataclasses
import json

import pytest

from edgenes.errors import ConfigError
from tune_jobs.cli import run_command
from tune_jobs.config.composition import pieces
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.config.presets import PRESETS
from tune_jobs.config.sweep import SweepConfig

KINDS = pytest.mark.parametrize("kind", [SweepConfig, ExperimentConfig])


@KINDS
def test_no_option_is_in_two_pieces(kind):
    names = [each.name for part in (kind, *pieces(kind).values()) for each in dataclasses.fields(part)]
    assert len(names) == len(set(names))


@KINDS
@pytest.mark.parametrize("options", [{}, {"preset": "darts", "cells": 4, "log": ("mlflow",)}, {"smoke_test": True}])
def test_flat_options_give_the_configuration_back(kind, options, tmp_path):
    config = kind.of(out=tmp_path, **options)
    plain = json.loads(json.dumps(config.to_dict()))
    assert kind.of(**plain) == config


@KINDS
def test_a_preset_decides_what_is_not_given(kind):
    assert kind.of() == kind()
    config = kind.of(preset="paper", channels=8)
    assert (config.networks.channels, config.networks.search_channels) == (8, 10)
    assert config.budget.final_epochs == PRESETS["paper"]["final_epochs"]
    assert kind.of(preset="paper", smoke_test=True).budget.candidates == 3
    assert kind.of(final_epochs=2).budget.short_epochs == 2, "a full retraining is no shorter than a short one"


@KINDS
def test_the_command_line_gives_the_same_as_flat_options(kind):
    seen = []
    words = [
        "--preset",
        "paper",
        "--smoke-test",
        "--channels",
        "12",
        "--no-auxiliary",
        "--log",
        "tensorboard",
        "mlflow",
    ]
    assert run_command(kind, "Help.", lambda config: seen.append(config) or 0, words) == 0
    options = {"preset": "paper", "smoke_test": True, "channels": 12, "log": ("tensorboard", "mlflow")}
    assert seen == [kind.of(**options)]


@KINDS
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"chanels": 3}, "'channels'"),
        ({"channels": "many"}, "channels"),
        ({"channels": 0}, "channels"),
        ({"preset": "lap"}, "laptop"),
        ({"forward": "sample"}, "'sampled'"),
        ({"gpus_per_trial": 1.5}, "1.5"),
        ({"storage_path": "relative"}, "relative"),
        ({"storage_path": "s3://key:secret@bucket"}, "credentials"),
        ({"ensemble_size": 9}, "ensemble of 9"),
        ({"short_epochs": 3, "final_epochs": 2}, "short_epochs"),
        ({"nodes": 1, "candidates": 100}, "100"),
        ({"cell_types": "both"}, "search_cells"),
        ({"cutout": 1.0}, "cutout"),
        ({"search_warmup": 1.0}, "warmup"),
        ({"gradient": "straight_through", "forward": "mixture"}, "gradient"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_option(kind, wrong, named):
    with pytest.raises(ConfigError) as raised:
        kind.of(**wrong)
    assert named.replace("_", "-") in str(raised.value).replace("_", "-")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"objectives": ("control",)}, "objectives"),
        ({"objectives": ("value", "parameters", "parameters")}, "objectives"),
        ({"objectives": ("value", "control", "parameters", "latency")}, "up to two"),
        ({"objectives": ("value", "control"), "pruner": "median"}, "pruner"),
        ({"optimal": "halving", "max_parameter_free": 2}, "max-parameter-free"),
        ({"search_warmup": 0.2}, "--optimal darts"),
        ({"optimal": "DARTS_V2"}, "--inputs-per-node 2 --cell-types both"),
        ({"value": "one-shot"}, "--guide supernet"),
        ({"guide": "predictr"}, "'predictor'"),
        ({"survey": 9}, "survey"),
        ({"finalists": 100_000}, "finalists"),
        ({"sampler": "tpo"}, "tpe"),
    ],
)
def test_a_mistake_of_a_sweep_names_the_option(wrong, named):
    with pytest.raises(ConfigError, match=named):
        SweepConfig.of(**wrong)


@pytest.mark.parametrize(
    ("options", "guide", "optimal"),
    [
        ({}, "predictor", "predictor"),
        ({"preset": "darts"}, "predictor", "predictor"),
        ({"preset": "paper"}, "supernet", "darts"),
        ({"preset": "paper", "guide": "predictor"}, "predictor", "predictor"),
        ({"guide": "supernet", "search_warmup": 0.2}, "supernet", "darts"),
        ({"optimal": "darts", "search_warmup": 0.2}, "predictor", "darts"),
        ({"optimal": "halving"}, "predictor", "halving"),
        ({"optimal": "genotype.json"}, "predictor", "file"),
    ],
)
def test_the_guide_decides_where_the_optimal_genotype_comes_from(options, guide, optimal):
    config = SweepConfig.of(cell_types="reduction", **options)
    assert (config.guide, config.guided, config.optimal_by) == (guide, guide == "predictor", optimal)


def test_a_published_genotype_is_optimal_in_the_space_that_has_it():
    config = SweepConfig.of(optimal="DARTS_V2", preset="darts")
    assert (config.optimal_by, config.genotype_file) == ("published", None)


def test_a_study_keeps_its_guide_under_another_preset():
    paper = SweepConfig.of(preset="paper", optimal="darts")
    spelled_out = {name: value for name, value in paper.to_dict().items() if name != "guide"} | {"preset": "laptop"}
    assert SweepConfig.of(**spelled_out).defining() != paper.defining()
    assert SweepConfig.of(**spelled_out, guide="supernet").defining() == paper.defining()


def test_the_survey_is_part_of_what_the_method_takes():
    setting = SweepConfig.of(survey=30, survey_epochs=5).setting("cpu")
    assert (setting.survey, setting.survey_epochs) == (30, 5)
    assert SweepConfig.of(final_epochs=3).budget.survey_epochs == 3, "a full retraining shortens the survey's"


def test_a_sweep_does_all_that_an_experiment_can():
    options = {"cell_types": "both", "search_cells": 3, "cells": 3, "drop_path": 0.1, "auxiliary": True, "images": 500}
    setting = SweepConfig.of(**options, retraining_batch_size=32).setting("cpu")
    training = setting.training
    assert (training.drop_path, training.auxiliary, training.batch_size) == (0.1, True, 32)
    assert setting.space.cell_types == ("normal", "reduction")
    assert setting == dataclasses.replace(ExperimentConfig.of(**options, retraining_batch_size=32).setting("cpu"))


def test_the_darts_preset_builds_and_trains_as_darts_does():
    setting = SweepConfig.of(preset="darts", optimal="darts").setting("cpu")
    assert setting.search.darts_layout and setting.hypernetwork.darts_layout and setting.training.darts_layout
    assert (setting.training.cutout, setting.search.architecture_weight_decay) == (0.5, 1e-3)
    assert (setting.training.channels, setting.training.cells, setting.training.drop_path) == (36, 20, 0.2)


def test_where_a_study_runs_does_not_make_it_another_study(tmp_path):
    one = SweepConfig.of(channels=4)
    assert SweepConfig.of(log=["mlflow", "mlflow"]).execution.log == ("mlflow",)
    same = SweepConfig.of(channels=4, trials=99, cpus_per_trial=2, out=tmp_path, log=("mlflow",), dataset="x.npz")
    assert one.defining() == same.defining() == SweepConfig.of(channels=4, networks_per_gpu=8).defining()
    for change in (
        {"seed": 1},
        {"channels": 5},
        {"short_epochs": 2},
        {"forward": "mixture"},
        {"value": "mean"},
        {"guide": "supernet"},
    ):
        assert SweepConfig.of(**{"channels": 4} | change).defining() != one.defining(), change


def test_the_storage_is_in_no_dictionary():
    assert SweepConfig(storage="sqlite:///x.db").to_dict()["storage"] is None
