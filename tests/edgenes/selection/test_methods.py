"""Selection against a brute force that shares no code with it, one suite for all methods, and cross-fitting."""

import re
import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenes import metrics, selection
from edgenes.errors import ConfigError
from edgenes.selection import METHODS, CrossFit, cross_fitted, exact_memory, select_ensemble
from edgenes.selection import accuracy_bound as correctness
from edgenes.selection import branch_and_bound as search
from edgenes.selection.branch_and_bound import BRANCHES
from edgenes.selection.cross_fit import stratified_halves
from edgenes.selection.problem import Problem, Record


def brute_losses(predictions, labels, size, criterion):
    """The loss of every subset, scored one by one as the documentation says."""
    p = np.asarray(predictions, dtype=np.float64)
    losses = {}
    for members in combinations(range(len(p)), size):
        mean = sum(p[i] for i in members) / size
        if criterion == "nll":
            losses[members] = -np.mean([np.log(max(mean[s, y], metrics.TINY)) for s, y in enumerate(labels)])
        else:
            losses[members] = -np.mean([int(np.argmax(mean[s])) == y for s, y in enumerate(labels)])
    return losses


def brute_force(predictions, labels, size, criterion):
    """The first of the subsets that tie with the best."""
    losses = brute_losses(predictions, labels, size, criterion)
    best = min(losses.values())
    return next(members for members, loss in losses.items() if loss <= best + 1e-12 * max(1, abs(best)))


@st.composite
def problems(draw):
    """Small pools with duplicates, ties, certain and impossible predictions, in both precisions."""
    candidates, samples, classes = draw(st.integers(1, 8)), draw(st.integers(1, 9)), draw(st.integers(2, 4))
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


@settings(max_examples=80)
@given(
    problems(),
    st.sampled_from(selection.CRITERIA),
    st.sampled_from([{}, {"TAIL": 1}, {"TAIL": 2, "NARROW": 0}, {"CHUNK_BYTES": 1, "FLUSH": 0}]),
    st.sampled_from([0, 10**6]),
)
def test_exact_is_the_brute_force(problem, criterion, paths, open_nodes):
    predictions, labels, size = problem
    with pytest.MonkeyPatch.context() as patch:
        for name, value in paths.items():
            patch.setattr(correctness, name, value)
        patch.setattr(search, "OPEN_NODES", open_nodes)  # with none the search is depth first
        found = select_ensemble(predictions, labels, size, criterion)
    assert found.members == brute_force(predictions, labels, size, criterion)
    assert found.proven_optimal and found.criterion == criterion and found.bound == found.score and found.gap == 0
    mean = metrics.ensemble_probabilities(predictions[list(found.members)])
    assert found.score == getattr(metrics, criterion)(mean, labels)
    assert type(found.score) is float and all(type(member) is int for member in found.members)


@settings(max_examples=30)
@given(problems(), st.sampled_from(selection.CRITERIA))
def test_no_subset_beats_the_bound_of_its_node(problem, criterion):
    predictions, labels, size = problem
    if not 1 < size < len(predictions):
        return
    checked = Problem.checked(predictions, labels, size, criterion)
    losses = brute_losses(predictions, labels, size, criterion)
    record = Record(checked)
    record.offer(max(losses, key=losses.get))  # the worst: nothing is pruned
    branches = BRANCHES[criterion](checked, record)
    assert branches.root_bound <= min(losses.values())
    position = np.argsort(branches.order)
    by_position = [(tuple(sorted(position[list(members)].tolist())), loss) for members, loss in losses.items()]
    nodes = [()]
    for depth in range(size - 1):
        grown = []
        for node in nodes:
            bounds, children = branches.expand(np.array([node], dtype=int).reshape(1, depth))
            for bound, child in zip(bounds, map(tuple, children), strict=True):
                assert bound <= min(loss for positions, loss in by_position if positions[: depth + 1] == child)
                grown.append(child)
        nodes = grown[:5]


@pytest.mark.parametrize("criterion", selection.CRITERIA)
def test_out_of_time_it_returns_the_best_found_with_a_bound_on_the_optimum(criterion):
    p, y = noise(7, candidates=10, samples=60, classes=3)
    found = select_ensemble(p, y, 4, criterion, max_seconds=0)
    best = select_ensemble(p, y, 4, criterion)
    greedy = select_ensemble(p, y, 4, criterion, "greedy")
    sign = 1 if criterion == "nll" else -1
    assert not found.proven_optimal and best.proven_optimal
    assert sign * found.bound <= sign * best.score <= sign * found.score <= sign * greedy.score
    assert found.gap == abs(found.score - found.bound) > 0


@pytest.mark.parametrize("criterion", selection.CRITERIA)
@pytest.mark.parametrize("size", [2, 15])
def test_memory_is_told_beforehand_and_refused_if_too_much(criterion, size):
    p, y = noise(0, candidates=24, samples=2000, classes=10)
    p = p.astype(np.float32)
    tracemalloc.start()
    select_ensemble(p, y, size, criterion, max_seconds=0.2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    needed = exact_memory(p.shape, size, criterion)
    assert peak < needed
    with pytest.raises(ConfigError, match="max_bytes"):
        select_ensemble(p, y, size, criterion, max_bytes=needed - 1)


def test_greedy_is_forward_selection():
    rng = np.random.default_rng(4)
    p, y = rng.dirichlet(np.ones(3), (8, 30)), rng.integers(3, size=30)
    members: list[int] = []
    for _ in range(4):
        rest = [i for i in range(8) if i not in members]
        members.append(min(rest, key=lambda i: metrics.nll(p[[*members, i]].mean(0), y)))
    assert select_ensemble(p, y, 4, method="greedy").members == tuple(sorted(members))


@pytest.mark.parametrize("criterion", selection.CRITERIA)
def test_ties_go_to_the_smallest_members_however_the_sums_round(criterion):
    # The copies make many subsets equal up to the order of addition, where float sums differ in a last bit.
    copies = [2, 0, 1, 1, 0, 2, 0]

    def content(members):
        return sorted(copies[member] for member in members)

    for seed in range(4):
        rng = np.random.default_rng(seed)
        distinct, labels = rng.dirichlet(np.ones(3), (3, 50)), rng.integers(3, size=50)
        found = select_ensemble(distinct[copies], labels, 3, criterion).members
        assert found == min(m for m in combinations(range(7), 3) if content(m) == content(found))


@pytest.mark.parametrize(("difference", "best"), [(1e-11, 1), (1e-14, 0)])
def test_a_difference_above_the_tolerance_is_no_tie(difference, best):
    right = np.array([0.5, 0.5 + difference])
    p = np.stack([right, 1 - right], axis=-1)[:, None]
    assert select_ensemble(p, np.zeros(1, dtype=int), 1).members == (best,)


WITHOUT_WEIGHTS = [name for name in METHODS if name not in ("weighted", "greedy-with-replacement")]
everything = pytest.mark.parametrize(
    ("method", "criterion"), [(method, criterion) for method in METHODS for criterion in selection.CRITERIA]
)


@settings(max_examples=60)
@given(problems(), st.sampled_from(selection.CRITERIA), st.sampled_from(list(METHODS)))
def test_every_method_chooses_validly_and_scores_what_it_chose(problem, criterion, method):
    predictions, labels, size = problem
    before = predictions.copy()
    with np.errstate(all="raise", under="ignore"):
        found = select_ensemble(predictions, labels, size, criterion, method)
    assert (predictions == before).all()
    assert found.members == tuple(sorted(set(found.members))) and set(found.members) <= set(range(len(predictions)))
    assert found.criterion == criterion and np.isfinite(found.score)
    if method in WITHOUT_WEIGHTS:
        assert len(found.members) == size and found.weights is None
        assert found.proven_optimal == (method in ("exact", "auto") or size in (1, len(predictions)))
        best = select_ensemble(predictions, labels, size, criterion)
        assert (found.score - best.score) * (1 if criterion == "nll" else -1) >= -1e-12
        assert found == best or not found.proven_optimal
        weights = np.full(size, 1 / size)
    else:
        assert len(found.members) <= size and not found.proven_optimal
        weights = np.array(found.weights)
        assert len(weights) == len(found.members) and weights.min() >= 0 and weights.sum() == pytest.approx(1)
    mean = np.einsum("k,ksc->sc", weights, predictions[list(found.members)].astype(np.float64))
    np.testing.assert_allclose(found.combine(predictions), mean, atol=1e-12)
    if criterion == "nll" or method not in WITHOUT_WEIGHTS:  # a mean added up otherwise may break a tie otherwise
        assert found.score == pytest.approx(
            getattr(metrics, criterion)(mean, labels), abs=1e-9 if criterion == "nll" else 1
        )
    if found.bound is not None:
        assert found.gap >= 0 and (
            found.bound <= found.score + 1e-12 if criterion == "nll" else found.bound >= found.score
        )


@everything
def test_the_order_of_candidates_does_not_matter_without_ties(method, criterion):
    rng = np.random.default_rng(3)
    p, y = rng.dirichlet(np.ones(3), (9, 1500)), rng.integers(3, size=1500)
    found = select_ensemble(p, y, 4, criterion, method)
    order = rng.permutation(9)
    again = select_ensemble(p[order], y, 4, criterion, method)
    assert sorted(order[list(again.members)]) == list(found.members)
    assert again.score == pytest.approx(found.score)


@everything
def test_of_copies_the_first_are_taken(method, criterion):
    rng = np.random.default_rng(5)
    p, y = np.repeat(rng.dirichlet(np.ones(3), (1, 40)), 6, axis=0), rng.integers(3, size=40)
    found = select_ensemble(p, y, 3, criterion, method)
    assert found.members == ((0,) if method == "greedy-with-replacement" else (0, 1, 2))
    assert found.score == pytest.approx(select_ensemble(p, y, 1, criterion).score)


@everything
def test_one_member_is_the_best_and_all_are_all(method, criterion):
    rng = np.random.default_rng(6)
    p, y = rng.dirichlet(np.ones(3), (5, 200)), rng.integers(3, size=200)
    one = select_ensemble(p, y, 1, criterion, method)
    assert len(one.members) == 1 and (one.weights in (None, (1.0,)))
    if method != "weighted":
        assert one.members[0] == np.argmin([brute_losses(p[[k]], y, 1, criterion)[0,] for k in range(5)])
    if method != "greedy-with-replacement":
        assert select_ensemble(p, y, 5, criterion, method).members == (0, 1, 2, 3, 4)


@everything
def test_impossible_labels_cost_what_the_metric_says_and_no_nan(method, criterion):
    y = np.zeros(6, dtype=int)
    p = np.zeros((4, 6, 3))
    p[..., 1] = 1
    p[2] = np.eye(3)[0]
    found = select_ensemble(p, y, 2, criterion, method)
    assert 2 in found.members
    hopeless = select_ensemble(p[[0, 1, 3]], y, 2, criterion, method)
    assert hopeless.score == pytest.approx(-np.log(metrics.TINY) if criterion == "nll" else 0)


def test_beam_of_enough_width_is_exact_and_of_width_one_greedy():
    p, y = noise(11, candidates=7, samples=50, classes=3)
    exact, greedy = (select_ensemble(p, y, 3, method=method).members for method in ("exact", "greedy"))
    assert select_ensemble(p, y, 3, method="beam", width=1000).members == exact
    assert select_ensemble(p, y, 3, method="beam", width=1).members == greedy


def test_greedy_with_replacement_weighs_by_its_picks():
    y = np.zeros(4, dtype=int)
    right = np.array([[0.9, 0.9, 0.9, 0.02], [0.1, 0.1, 0.1, 0.9], [0.01, 0.01, 0.01, 0.01], [0.01] * 4])
    found = select_ensemble(np.stack([right, 1 - right], -1), y, 4, method="greedy-with-replacement")
    assert found.members == (0, 1) and found.weights == (0.75, 0.25)


def test_weights_reach_the_mixture_that_generated_the_labels():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(4, 0.3), (3, 20_000))
    mixture = np.tensordot([0.7, 0.3, 0.0], p, 1)
    y = (mixture.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    found = select_ensemble(p, y, 2, method="weighted")
    assert found.members == (0, 1) and found.weights == pytest.approx((0.7, 0.3), abs=0.02)
    assert 0 <= found.gap < 1e-3
    assert found.bound <= select_ensemble(p, y, 2).score


def test_diverse_trades_quality_for_disagreement():
    y = np.zeros(10, dtype=int)
    right = np.full((3, 10), 0.9)  # 1 is a little worse than 0 and errs where it does; 2 errs elsewhere, more often
    right[0, :2], right[1, :2], right[2, 5:9] = 0.4, 0.35, 0.3
    p = np.stack([right, 1 - right], -1)
    assert select_ensemble(p, y, 2, method="diverse", trade_off=0).members == (0, 1)
    assert select_ensemble(p, y, 2, method="top").members == (0, 1)
    assert select_ensemble(p, y, 2, method="diverse", trade_off=1).members == (0, 2)


GOOD = np.full((3, 4, 2), 0.5)
LABELS = np.zeros(4, dtype=int)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": 0}, "got 0"),
        ({"size": 4}, "got 4"),
        ({"criterion": "acc"}, "criterion"),
        ({"method": "greed"}, "'greedy'"),
        ({"predictions": GOOD[0]}, "members, samples, classes"),
        ({"labels": LABELS + 2}, "0..1"),
    ],
)
def test_malformed_input_is_refused(change, word):
    arguments = {"predictions": GOOD, "labels": LABELS, "size": 2} | change
    for function in [select_ensemble] if "method" in change else [select_ensemble, cross_fitted]:
        with pytest.raises(ConfigError, match=re.escape(word)):
            function(**arguments)


def noise(seed, candidates=40, samples=200, classes=2):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), (candidates, samples))
    return p, rng.permutation(np.arange(samples) % classes)


@pytest.mark.parametrize("criterion", selection.CRITERIA)
def test_cross_fitting_is_the_protocol_written_out(criterion):
    rng = np.random.default_rng(5)
    y = np.repeat(np.arange(3), [5, 7, 9])
    p = rng.dirichlet(np.ones(3), (6, len(y)))
    result = cross_fitted(p, y, 2, criterion, seed=3)
    assert result == cross_fitted(p, y, 2, criterion, seed=3) != cross_fitted(p, y, 2, criterion, seed=4)
    assert result.proven_optimal
    first, second = stratified_halves(y, 3)
    one, two = (brute_force(p[:, half], y[half], 2, criterion) for half in (first, second))
    assert result.members == (one, two)
    mean = np.empty((len(y), 3))
    mean[second], mean[first] = p[list(one)].mean(0)[second], p[list(two)].mean(0)[first]
    correct = mean.argmax(1) == y
    assert result.accuracy == correct.mean()
    assert result.standard_error == pytest.approx(correct.std(ddof=1) / np.sqrt(len(y)))
    assert result.nll == pytest.approx(-np.log(mean[np.arange(len(y)), y]).mean())


def test_cross_fitting_turns_greedy_and_says_so_where_exact_would_take_too_long():
    p, y = noise(3)
    result = cross_fitted(p, y, 20)
    assert isinstance(result, CrossFit) and not result.proven_optimal
    first, _ = stratified_halves(y, 0)
    assert result.members[0] == select_ensemble(p[:, first], y[first], 20, method="greedy").members


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.integers(0, 1000))
def test_halves_are_disjoint_complete_and_stratified(labels, seed):
    labels = np.array(labels)
    first, second = stratified_halves(labels, seed)
    assert sorted([*first, *second]) == list(range(len(labels)))
    assert abs(len(first) - len(second)) <= 1
    counts = [np.bincount(labels[half], minlength=6) for half in (first, second)]
    assert np.abs(counts[0] - counts[1]).max() <= 1


def test_one_image_cannot_be_split():
    with pytest.raises(ConfigError, match="at least 2 samples"):
        cross_fitted([[[0.5, 0.5]]], [0], 1)
