"""Settings: what cannot work is refused at once, and dictionaries give the same settings back."""

import dataclasses
import json

import pytest

from edgenes.config import (
    LATER,
    HypernetworkConfig,
    NetworkConfig,
    SearchConfig,
    TrainingConfig,
    digest,
    from_dict,
    to_dict,
)
from edgenes.errors import ConfigError
from edgenes.space.genotype import SearchSpace

CLASSES = [NetworkConfig, SearchConfig, HypernetworkConfig, TrainingConfig]


@pytest.mark.parametrize("cls", CLASSES)
def test_dictionaries_give_the_settings_back(cls):
    config = cls(seed=7, learning_rate=1)  # a whole number does where a fraction is expected
    if hasattr(config, "space"):
        config = dataclasses.replace(config, space=SearchSpace(nodes=2, cell_types=("normal", "reduction")))
    plain = to_dict(config)
    assert json.loads(json.dumps(plain)) == plain
    assert from_dict(cls, plain) == config
    assert from_dict(cls, {}) == cls()


@pytest.mark.parametrize(
    ("cls", "wrong", "message"),
    [
        (NetworkConfig, {"channels": 0}, "channels must be a number of at least 1, got 0"),
        (NetworkConfig, {"channels": 8.0}, "channels must be of type int, got 8.0"),
        (NetworkConfig, {"channels": "8"}, "channels must be of type int, got '8'"),
        (NetworkConfig, {"channels": True}, "channels must be of type int, got True"),
        (NetworkConfig, {"augment": 1}, "augment must be of type bool, got 1"),
        (NetworkConfig, {"epochs": 0}, "epochs"),
        (NetworkConfig, {"batch_size": 1}, "batch_size must be a number of at least 2"),
        (NetworkConfig, {"learning_rate": 0.0}, "learning_rate must be a number above 0"),
        (NetworkConfig, {"learning_rate": float("nan")}, "learning_rate must be a number above 0, got nan"),
        (NetworkConfig, {"learning_rate": float("inf")}, "learning_rate"),
        (NetworkConfig, {"learning_rate": "0.1"}, "learning_rate must be of type float"),
        (NetworkConfig, {"weight_decay": float("inf")}, "weight_decay"),
        (NetworkConfig, {"weight_decay": -1e-9}, "weight_decay"),
        (NetworkConfig, {"seed": -1}, "seed"),
        (NetworkConfig, {"stem_kernel": 2}, "stem_kernel must be odd, got 2"),
        (HypernetworkConfig, {"stem_kernel": 4}, "stem_kernel must be odd, got 4"),
        (TrainingConfig, {"cutout": 1.0}, "cutout must be a share in [0, 1), got 1.0"),
        (SearchConfig, {"architecture_weight_decay": -1e-3}, "architecture_weight_decay"),
        (HypernetworkConfig, {"architecture_weight_decay": 1e-3}, "architecture_weight_decay belongs to the search"),
        (SearchConfig, {"forward": "sample"}, "got 'sample'. Did you mean 'sampled'?"),
        (SearchConfig, {"gradient": "scores"}, "Did you mean 'score'?"),
        (SearchConfig, {"weight_paths": "unfair"}, "Did you mean 'fair'?"),
        (SearchConfig, {"paths": 1}, "paths must be a number of at least 2"),
        (SearchConfig, {"t_end": 0}, "t_end"),
        (SearchConfig, {"warmup": 1.0}, "warmup must be a fraction"),
        (SearchConfig, {"space": {"nodes": 2}}, "space must be of type SearchSpace"),
        (HypernetworkConfig, {"estimator": "exat"}, "Did you mean 'exact'?"),
        (HypernetworkConfig, {"interpolation": "spline"}, "corrected, as_printed"),
        (HypernetworkConfig, {"c_end": -1.0}, "c_end"),
        (HypernetworkConfig, {"epsilon": float("nan")}, "epsilon"),
        (HypernetworkConfig, {"pivots": 1}, "pivots must be a number of at least 2"),
        (HypernetworkConfig, {"penalty_lambdas": 0}, "penalty_lambdas"),
        (TrainingConfig, {"drop_path": 1.0}, "drop_path must be a probability"),
        (TrainingConfig, {"drop_path": -0.1}, "drop_path must be a probability"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_name_and_value(cls, wrong, message):
    with pytest.raises(ConfigError) as raised:
        cls(**wrong)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("cls", "value", "nearest"),
    [
        *((cls, {"learning_rat": 0.1}, "learning_rate") for cls in CLASSES),
        (SearchConfig, {"space": {"node": 2}}, "nodes"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(cls, value, nearest):
    with pytest.raises(ConfigError, match=f"Did you mean '{nearest}'"):
        from_dict(cls, value)


def test_the_digest_names_contents_and_not_the_device():
    config = TrainingConfig()
    assert digest(config) == digest(TrainingConfig(device="cuda")) == digest(to_dict(config))
    others = [dataclasses.replace(config, epochs=16), dataclasses.replace(config, seed=1), SearchConfig()]
    assert len({digest(each) for each in [config, *others]}) == 4
    assert digest(config, "a") != digest(config, "b") != digest("b", config)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    value = {"device": "cpu", "a": 1}
    digest(value)
    assert value == {"device": "cpu", "a": 1}


def test_fields_that_came_later_change_no_digest_until_they_are_set():
    for config in (TrainingConfig(), SearchConfig()):
        before = {name: value for name, value in to_dict(config).items() if name not in LATER}
        assert digest(before) == digest(config) != digest(dataclasses.replace(config, darts_layout=True))
    assert digest(TrainingConfig(cutout=0.5)) != digest(TrainingConfig())
    assert digest(SearchConfig(architecture_weight_decay=1e-3)) != digest(SearchConfig())
