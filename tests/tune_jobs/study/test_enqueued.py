"""Trials that a person wants first: names that people see, ranges, and their place in the study."""

import json

import pytest

from edgenes.errors import ConfigError
from tune_jobs.cli import run_command
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.study.enqueued import enqueued
from tune_jobs.study.optuna_study import open_study
from tune_jobs.study.space import DEFAULT_PARAMS, search_space, with_derived

SPACE = search_space("exact")


@pytest.mark.parametrize(
    "given",
    [
        {"c_end": 0.5},
        {"c_start": 0.05, "c_end": 0.5, "pivots": 3},
        {"t_start": 3, "t_end": 0.03, "epsilon": 0.2},
        {"c_ratio": 0.3, "c_end": 10},
    ],
)
def test_a_trial_has_the_values_in_the_names_that_were_given(given):
    params = enqueued(given, SPACE)
    assert params.keys() <= SPACE.keys()
    assert {name: with_derived(params)[name] for name in given} == pytest.approx(given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"c_end": 50}, r"c_end .* 0.003 to 10, got 50"),
        ({"c_end": True}, "c_end .* True"),
        ({"pivots": 4}, "pivots .* 2, 3, 5, 9, got 4"),
        ({"c_start": 0.6, "c_end": 0.5}, r"c_start .* 0.005 to 0.5 .* got 0.6"),
        ({"t_end": "low", "t_start": 2}, r"t_end .* 0.02 to 2 .* 'low'"),
        ({"c_start": 0.6}, "give c_end too"),
        ({"c_start": 0.3, "c_ratio": 0.3, "c_end": 1}, "not both"),
        ({"c_stop": 0.6}, r"'c_stop'.* c_end, c_ratio, c_start.*Did you mean c_start"),
        ({"estimator": "gumbel"}, "estimator"),
    ],
)
def test_an_impossible_value_is_an_error_with_parameter_range_and_value(given, named):
    with pytest.raises(ConfigError, match=named):
        enqueued(given, SPACE)


@pytest.mark.parametrize("text", ["{c_end: 0.5}", "0.5", "{}"])
def test_what_is_no_json_object_is_an_error_of_the_option(text):
    with pytest.raises(ConfigError, match="--enqueue"):
        SweepConfig.of(enqueue=[text])


def test_the_option_may_be_given_several_times():
    seen = []
    words = ["--enqueue", '{"c_end": 0.5}', "--enqueue", '{"pivots": 3}']
    assert run_command(SweepConfig, "Help.", lambda config: seen.append(config) or 0, words) == 0
    config = SweepConfig.of(**json.loads(json.dumps(seen[0].to_dict())))
    assert config.enqueued == [{"c_end": 0.5}, {"pivots": 3}] and config.defining() == SweepConfig().defining()


def test_they_come_before_the_defaults_and_once(tmp_path):
    def waiting(*params):
        study = open_study("s", f"journal:{tmp_path}/s.log", space=SPACE, enqueue=params)
        return [trial.system_attrs["fixed_params"] for trial in study.get_trials()]

    first, later = {"c_end": 0.5}, {"pivots": 3}
    assert waiting(first, first) == [first, dict.fromkeys(SPACE) | {n: DEFAULT_PARAMS[n] for n in SPACE}]
    assert waiting(first, later)[2:] == [later]
    assert len(waiting()) == 3
