"""What a study samples is what a trial uses."""

from dataclasses import replace

import pytest
from optuna.distributions import FloatDistribution

from edgenes.config import HypernetworkConfig
from edgenes.errors import ConfigError
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.space import DEFAULT_PARAMS, RATIOS, hypernetwork_config, search_space, with_derived

BASE = HypernetworkConfig()


def test_the_defaults_are_those_of_the_method():
    assert hypernetwork_config(BASE, DEFAULT_PARAMS, 3) == replace(BASE, seed=3)


@pytest.mark.parametrize("name", search_space("both"))
def test_every_parameter_changes_the_configuration(name):
    others = {"pivots": 9, "epsilon": 0.5, "estimator": "gumbel"}
    other = others[name] if name in others else 0.5 * DEFAULT_PARAMS[name]
    assert hypernetwork_config(BASE, {**DEFAULT_PARAMS, name: other}, 0) != BASE


def test_a_further_parameter_is_used_by_its_name():
    assert hypernetwork_config(BASE, {**DEFAULT_PARAMS, "architecture_lr": 0.02}, 0).architecture_lr == 0.02


@pytest.mark.parametrize("name", ["architecture_rate", "seed", "space"])
def test_a_parameter_that_no_trial_would_use_is_an_error_before_anything_is_sampled(name, tmp_path):
    space = search_space("exact") | {name: FloatDistribution(0.1, 1.0)}
    with pytest.raises(ConfigError, match=name):
        open_study("study", tmp_path / "study.db", space=space)


def test_derived_ends_follow_from_the_ratios():
    params = with_derived({"c_end": 2.0, "c_ratio": 0.1, "t_start": 3.0, "t_ratio": 0.5})
    assert params["c_start"] == pytest.approx(0.2) and params["t_end"] == 1.5
    assert with_derived({"c_end": 2.0}) == {"c_end": 2.0} and set(RATIOS) == {"c_ratio", "t_ratio"}
