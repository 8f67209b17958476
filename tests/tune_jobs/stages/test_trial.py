"""A trial of the sweep without Ray, on the digits: its outcome, reproduced, resumed, pruned, valued in each way."""

import dataclasses
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.data.loading import load_data
from edgenes.metrics import accuracy
from edgenes.predictor import PerformancePredictor
from edgenes.selection import cross_fitted
from edgenes.space.encoding import canonical
from edgenes.space.genotype import Genotype, random_genotype, random_genotypes, shared_edges
from edgenes.space.hypernetwork import CONTROL_LIMIT, Hypernetwork, control_error
from edgenes.training.retraining import make_network
from tests.support.toys import seeded
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.files.layout import PREDICTIONS, PREDICTOR
from tune_jobs.files.stored_trainer import CANDIDATE, candidate_key
from tune_jobs.files.study_files import StudyFiles
from tune_jobs.files.workplace import Workplace
from tune_jobs.messages import Status
from tune_jobs.stages.trial import run_trial
from tune_jobs.study.saved import context_of
from tune_jobs.study.space import DEFAULT_PARAMS, with_derived

PARAMS = with_derived(DEFAULT_PARAMS)
TINY = {"smoke_test": True, "nodes": 2, "search_channels": 2, "channels": 2, "cells": 1, "batch_size": 128}
SEED = 11


@cache
def digits():
    """The digits as a worker of the sweep has them: without T."""
    return load_data("digits").without_test()


@cache
def predictor_of(space):
    """A predictor for which skips are good, and convolutions from the second input bad."""
    genotypes = random_genotypes(space, 40, seeded(6))
    losses = [4 - str(one).count("skip") + str(one).count("1:sep") for one in genotypes]
    return PerformancePredictor(space).fit(genotypes, losses)


def context_for(folder, **changes):
    config = SweepConfig.of(**TINY | changes)
    if config.guided:
        predictor_of(config.space).save(folder / PREDICTOR)
    return context_of(config, Workplace(StudyFiles(folder)), random_genotype(config.space, seeded(2)), "cpu")


def run(context, params=PARAMS, report=lambda seen, state: None, resume=None, seed=SEED):
    return run_trial(context, digits(), 3, seed, params, report, resume)


def comparable(outcome):
    """The outcome without the time it took."""
    attributes = {name: value for name, value in outcome.attributes.items() if name != "seconds"}
    return replace(outcome, attributes=attributes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(context, outcome, reports) of a trial that nothing interrupted."""
    context, reports = context_for(tmp_path_factory.mktemp("whole")), []
    outcome = run(context, report=lambda seen, state: reports.append((seen, state is not None)))
    return context, outcome, reports


def test_latency_is_measured_where_it_is_an_objective(whole, tmp_path):
    outcome = run(context_for(tmp_path, objectives=("value", "latency")))
    assert outcome.attributes["latency"] > 0 and outcome.value == whole[1].value
    assert "latency" not in whole[1].attributes


def test_the_outcome_holds_the_objective_of_the_hypernetwork(whole):
    context, outcome, _ = whole
    attributes = outcome.attributes
    assert outcome.status == Status.COMPLETE
    plain = outcome.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain, "Optuna and Ray take plain values"
    hypernetwork = Hypernetwork.load(context.folder / attributes["hypernetwork"])
    assert outcome.control_error == attributes["control_error"] == control_error(hypernetwork, context.optimal)

    candidates = context.candidates(hypernetwork, SEED)
    assert len(candidates) == attributes["pool_size"] == 3
    assert len({canonical(candidate.genotype) for candidate in candidates}) == 3, "they compute different functions"
    rows = attributes["candidates"]
    assert [row["digest"] for row in rows] == [candidate.genotype.digest for candidate in candidates]
    labels, predictions = digits().validation.labels, []
    for row in rows:
        genotype = Genotype.from_dict(row["genotype"])
        training = context.setting.training_config(genotype, epochs=1)
        record = context.place.store.find(CANDIDATE, candidate_key(training, digits(), genotype)).value
        predictions.append(record.probabilities)
        assert row["accuracy"] == accuracy(record.probabilities, labels)
        assert row["shared"] == shared_edges(genotype, context.optimal)
    scored = cross_fitted(np.stack(predictions), labels, 2, "nll")
    assert (outcome.value, attributes["standard_error"]) == (scored.accuracy, scored.standard_error)
    sizes = [
        sum(weight.numel() for weight in make_network(training, one.genotype, 1, 10).parameters()) for one in candidates
    ]
    assert [row["parameters"] for row in rows] == sizes
    assert attributes["parameters"] == np.mean([sum(sizes[k] for k in half) for half in scored.members])
    assert attributes["mean_accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in rows]))


def test_each_epoch_is_reported_with_a_state_and_each_candidate_without(whole):
    _, outcome, reports = whole
    assert [seen.step for seen, _ in reports] == list(range(1, 16))
    assert [has_state for _, has_state in reports] == [True] * 12 + [False] * 3
    assert {seen.steps for seen, _ in reports} == {15}
    candidates = [seen for seen, _ in reports[12:]]
    assert [seen.intermediate_step for seen in candidates] == [1, 2, 3]
    assert candidates[-1].intermediate == pytest.approx(outcome.attributes["mean_accuracy"])


def test_a_trial_that_resumes_between_epochs_has_the_same_outcome(whole, tmp_path):
    _, expected, _ = whole
    context, path = context_for(tmp_path), tmp_path / "state.pt"

    class Stopped(Exception):
        pass

    def stop(seen, state):
        if seen.step == 5:
            save_checkpoint(path, "trial", state)
            raise Stopped

    with pytest.raises(Stopped):
        run(context, report=stop)
    steps = []
    outcome = run(context, report=lambda seen, _: steps.append(seen.step), resume=load_checkpoint(path, "trial"))
    assert steps == list(range(6, 16))
    assert comparable(outcome) == comparable(expected)


def test_an_infeasible_hypernetwork_is_pruned_with_its_reason_and_trains_no_candidate(tmp_path):
    context = context_for(tmp_path, prune_infeasible=True, nodes=4)
    params = PARAMS | {"c_start": 1e-6, "c_end": 1e-6}
    outcome = run(context, params)
    assert outcome.status == Status.PRUNED and outcome.value is None
    assert outcome.control_error > CONTROL_LIMIT
    assert f"control error {outcome.control_error:.2f}" in outcome.reason
    assert not (context.folder / PREDICTIONS).exists()
    assert (context.folder / outcome.attributes["hypernetwork"]).exists()


def test_the_mean_value_is_the_mean_accuracy_with_its_binomial_error(whole):
    context, expected, _ = whole
    again = dataclasses.replace(context, value="mean")
    outcome = run(again)
    value = expected.attributes["mean_accuracy"]
    assert outcome.value == outcome.attributes["mean_accuracy"] == value
    error = np.sqrt(value * (1 - value) / len(digits().validation))
    assert outcome.attributes["standard_error"] == pytest.approx(error)
    hits = [each.attributes["cache_hits"] for each in (expected, outcome)]
    assert hits == [0, 3], "the same trial finds its candidates in the store"


def test_the_one_shot_value_trains_no_candidate(tmp_path):
    short = {"guide": "supernet", "hypernetwork_epochs": 2}
    context = context_for(tmp_path / "one-shot", value="one-shot", **short)
    outcome, other = run(context), run(context, seed=SEED + 1)
    expected = run(context_for(tmp_path / "retrained", **short))
    assert outcome.status == Status.COMPLETE and 0 <= outcome.value <= 1
    assert not (context.folder / PREDICTIONS).exists() and outcome.attributes["cache_hits"] == 0
    drawn = [[row["digest"] for row in each.attributes["candidates"]] for each in (outcome, expected, other)]
    assert drawn[0] == drawn[1] != drawn[2], "the objective does not change what is drawn, the seed does"
