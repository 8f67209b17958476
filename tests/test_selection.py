"""Selection against a brute force that shares no code with it, and cross-fitting on pure noise."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes import metrics, selection
from edgenes.errors import ConfigError
from edgenes.selection import CrossFit, Selection, cross_fitted, select_ensemble


def brute_force(predictions, labels, size, criterion):
    """All subsets, scored one by one as the documentation says; the first of those that tie with the best."""
    p = np.asarray(predictions, dtype=np.float64)
    scored = []
    for members in combinations(range(len(p)), size):
        mean = sum(p[i] for i in members) / size
        if criterion == "nll":
            loss = -np.mean([np.log(max(mean[s, y], metrics.TINY)) for s, y in enumerate(labels)])
        else:
            loss = -np.mean([int(np.argmax(mean[s])) == y for s, y in enumerate(labels)])
        scored.append((loss, members))
    best = min(loss for loss, _ in scored)
    return next(members for loss, members in scored if loss <= best + 1e-12 * max(1, abs(best)))


@st.composite
def problems(draw):
    """Small pools with duplicates, ties, certain and impossible predictions, in both precisions."""
    candidates, samples, classes = draw(st.integers(1, 7)), draw(st.integers(1, 9)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    kind = draw(st.sampled_from(["smooth", "grid", "one-hot", "mixed"]))
    smooth = rng.dirichlet(np.ones(classes), (candidates, samples))
    counts = rng.multinomial(4, np.ones(classes) / classes, (candidates, samples)) / 4
    certain = np.eye(classes)[rng.integers(classes, size=(candidates, samples))]
    which = rng.integers(3, size=(candidates, 1, 1))
    mixed = np.where(which == 0, smooth, np.where(which == 1, counts, certain))
    predictions = {"smooth": smooth, "grid": counts, "one-hot": certain, "mixed": mixed}[kind]
    copies = draw(st.lists(st.tuples(*[st.integers(0, candidates - 1)] * 2), max_size=3))
    for source, target in copies:
        predictions[target] = predictions[source]
    return (
        predictions.astype(draw(st.sampled_from([np.float32, np.float64]))),
        rng.integers(classes, size=samples),
        draw(st.integers(1, candidates)),
    )


@settings(deadline=None, max_examples=300)
@given(problems(), st.sampled_from(selection.CRITERIA), st.sampled_from([1, 2**25]))
def test_exact_is_the_brute_force(problem, criterion, block):
    predictions, labels, size = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "BLOCK_BYTES", block)  # with 1 byte each block is a single subset
        found = select_ensemble(predictions, labels, size, criterion)
    assert found.members == brute_force(predictions, labels, size, criterion)
    assert found.proven_optimal and found.criterion == criterion
    mean = metrics.ensemble_probabilities(predictions[list(found.members)])
    assert found.score == getattr(metrics, criterion)(mean, labels)
    assert type(found.score) is float and all(type(member) is int for member in found.members)


@settings(deadline=None, max_examples=100)
@given(problems(), st.sampled_from(selection.CRITERIA))
def test_greedy_is_valid_never_better_than_exact_and_modest(problem, criterion):
    predictions, labels, size = problem
    greedy = select_ensemble(predictions, labels, size, criterion, method="greedy")
    exact = select_ensemble(predictions, labels, size, criterion)
    assert greedy.members == tuple(sorted(set(greedy.members))) and len(greedy.members) == size
    assert greedy.proven_optimal == (size in (1, len(predictions)))
    if greedy.proven_optimal:
        assert greedy == exact
    worse = greedy.score - exact.score if criterion == "nll" else exact.score - greedy.score
    assert worse >= -1e-12


def test_greedy_is_forward_selection():
    rng = np.random.default_rng(4)
    p, y = rng.dirichlet(np.ones(3), (8, 30)), rng.integers(3, size=30)
    members: list[int] = []
    for _ in range(4):
        rest = [i for i in range(8) if i not in members]
        members.append(min(rest, key=lambda i: metrics.nll(p[[*members, i]].mean(0), y)))
    assert select_ensemble(p, y, 4, method="greedy").members == tuple(sorted(members))


def test_greedy_misses_what_exact_finds_and_does_not_claim_otherwise():
    # Candidate 0 is best alone, but 1 and 2 complete each other: right wherever the other is unsure.
    labels = np.zeros(4, dtype=int)
    right = np.array([[0.60, 0.60, 0.60, 0.60], [0.95, 0.95, 0.3, 0.3], [0.3, 0.3, 0.95, 0.95]])
    p = np.stack([right, 1 - right], axis=-1)
    greedy = select_ensemble(p, labels, 2, method="greedy")
    exact = select_ensemble(p, labels, 2)
    assert exact == Selection((1, 2), pytest.approx(-np.log(0.625)), "nll", True)
    assert greedy.members == (0, 1) and not greedy.proven_optimal


@pytest.mark.parametrize("criterion", selection.CRITERIA)
def test_ties_go_to_the_smallest_members_however_the_sums_round(criterion):
    # The copies make many subsets equal up to the order of addition, where float sums differ in a last bit.
    copies = [2, 0, 1, 1, 0, 2, 0]

    def content(members):
        return sorted(copies[member] for member in members)

    for seed in range(20):
        rng = np.random.default_rng(seed)
        distinct, labels = rng.dirichlet(np.ones(3), (3, 50)), rng.integers(3, size=50)
        found = select_ensemble(distinct[copies], labels, 3, criterion).members
        assert found == min(m for m in combinations(range(7), 3) if content(m) == content(found))


def test_a_difference_above_the_tolerance_is_no_tie():
    labels = np.zeros(1, dtype=int)
    right = np.array([0.5, 0.5 + 1e-11])
    p = np.stack([right, 1 - right], axis=-1)[:, None]
    assert select_ensemble(p, labels, 1).members == (1,)
    right = np.array([0.5, 0.5 + 1e-14])
    p = np.stack([right, 1 - right], axis=-1)[:, None]
    assert select_ensemble(p, labels, 1).members == (0,)


def test_what_takes_too_long_is_refused_with_its_size_and_a_way_out():
    p, y = np.full((60, 100, 2), 0.5), np.zeros(100, dtype=int)
    with pytest.raises(ConfigError, match=r'50,063,860 subsets.*minutes.*max_seconds = 60.*method="greedy"'):
        select_ensemble(p, y, 6, max_seconds=60)
    assert comb(60, 6) == 50_063_860
    with pytest.raises(ConfigError, match="years"):
        select_ensemble(p, y, 30)
    assert select_ensemble(p, y, 30, method="greedy").members == tuple(range(30))


def test_memory_stays_far_below_one_array_of_all_subsets():
    import tracemalloc

    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(2), (24, 500)), rng.integers(2, size=500)
    tracemalloc.start()
    select_ensemble(p, y, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < comb(24, 4) * 500 * 8 / 20


GOOD = np.full((3, 4, 2), 0.5)
LABELS = np.zeros(4, dtype=int)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, r"1\.\.3.*got 0"),
        ({"size": 4}, r"1\.\.3.*got 4"),
        ({"size": 1.5}, "whole number"),
        ({"criterion": "acc"}, "nll, accuracy; got 'acc', nearest is 'accuracy'"),
        ({"method": "greed"}, "exact, greedy; got 'greed', nearest is 'greedy'"),
        ({"predictions": GOOD[0]}, r"\(members, samples, classes\)"),
        ({"predictions": np.log(GOOD)}, "np.exp"),
        ({"predictions": GOOD * 1.01}, "adds to 1.01"),
        ({"predictions": np.where(np.arange(2) == 0, np.nan, GOOD)}, "finite; 12 of 24"),
        ({"labels": LABELS[:3]}, r"shape \(4,\)"),
        ({"labels": LABELS + 2}, r"0\.\.1"),
        ({"labels": LABELS.astype(float)}, "integers"),
    ],
)
def test_malformed_input_is_refused(change, message):
    arguments = {"predictions": GOOD, "labels": LABELS, "size": 2} | change
    with pytest.raises(ConfigError, match=message):
        select_ensemble(**arguments)
    if "method" not in change:
        with pytest.raises(ConfigError, match=message):
            cross_fitted(**arguments)


def noise(seed, candidates=40, samples=200, classes=2):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), (candidates, samples))
    return p, rng.permutation(np.arange(samples) % classes)


def test_cross_fitting_gives_noise_what_it_is_worth_and_the_naive_maximum_does_not():
    naive, crossed = [], []
    for seed in range(20):
        p, y = noise(seed)
        naive.append(select_ensemble(p, y, 2, "accuracy").score)
        crossed.append(cross_fitted(p, y, 2, "accuracy", seed).accuracy)
    error = np.sqrt(0.25 / (200 * 20))  # of the mean of 20 accuracies over 200 independent images each
    assert abs(np.mean(crossed) - 0.5) < 4 * error
    assert np.mean(naive) > 0.5 + 8 * error


@pytest.mark.parametrize("criterion", selection.CRITERIA)
def test_cross_fitting_finds_what_is_truly_better(criterion):
    p, y = noise(1)
    p[[3, 17]] = 0.45 * p[[3, 17]] + 0.55 * np.eye(2)[y]
    result = cross_fitted(p, y, 2, criterion)
    assert result.members == ((3, 17), (3, 17)) and result.accuracy == 1 and result.standard_error == 0
    assert result.proven_optimal


def test_cross_fitting_is_the_protocol_written_out():
    rng = np.random.default_rng(5)
    y = np.repeat(np.arange(3), [5, 7, 9])
    p = rng.dirichlet(np.ones(3), (6, len(y)))
    result = cross_fitted(p, y, 2, "nll", seed=3)
    first, second = selection._stratified_halves(y, 3)
    one, two = (brute_force(p[:, half], y[half], 2, "nll") for half in (first, second))
    assert result.members == (one, two)
    mean = np.empty((len(y), 3))
    mean[second], mean[first] = p[list(one)].mean(0)[second], p[list(two)].mean(0)[first]
    correct = mean.argmax(1) == y
    assert result.accuracy == correct.mean()
    assert result.standard_error == pytest.approx(correct.std(ddof=1) / np.sqrt(len(y)))
    assert result.nll == pytest.approx(-np.log(mean[np.arange(len(y)), y]).mean())


def test_cross_fitting_is_deterministic_in_its_seed():
    p, y = noise(2)
    results = [cross_fitted(p, y, 3, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert results[0] == results[1]
    assert len({result.members for result in results}) > 1


def test_cross_fitting_turns_greedy_and_says_so_where_exact_would_take_too_long():
    p, y = noise(3)
    result = cross_fitted(p, y, 20)
    assert isinstance(result, CrossFit) and not result.proven_optimal
    first, _ = selection._stratified_halves(y, 0)
    assert result.members[0] == select_ensemble(p[:, first], y[first], 20, method="greedy").members


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.integers(0, 1000))
def test_halves_are_disjoint_complete_and_stratified(labels, seed):
    labels = np.array(labels)
    first, second = selection._stratified_halves(labels, seed)
    assert sorted([*first, *second]) == list(range(len(labels)))
    assert abs(len(first) - len(second)) <= 1
    counts = [np.bincount(labels[half], minlength=6) for half in (first, second)]
    assert np.abs(counts[0] - counts[1]).max() <= 1


def test_one_image_cannot_be_split():
    with pytest.raises(ConfigError, match="at least 2 samples"):
        cross_fitted([[[0.5, 0.5]]], [0], 1)
