"""Out of memory: real allocation failures are recognised, and half the batch is tried once."""

import pytest
import torch

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.errors import OutOfMemoryError
from edgenes.space.genotype import SearchSpace, random_genotype
from edgenes.training.bilevel import Bilevel
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import train_hypernetwork
from edgenes.training.memory import is_out_of_memory, micro_batches, with_less_memory
from edgenes.training.retraining import train_network
from tests.support.toys import assert_same, blobs, random_logits, reports_of, seeded

DATA = blobs()
SPACE = SearchSpace(2)


def exhaust():
    """A real failure of the allocator."""
    return torch.empty(2**50)


def raised(function):
    with pytest.raises((RuntimeError, MemoryError, ValueError)) as caught:
        function()
    return caught.value


def test_failures_of_real_allocators_are_recognised_and_others_are_not():
    assert is_out_of_memory(raised(exhaust))
    assert is_out_of_memory(raised(lambda: bytearray(2**50)))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not is_out_of_memory(raised(lambda: torch.zeros(2) @ torch.zeros(3)))
    assert not is_out_of_memory(raised(lambda: int("x")))


@pytest.mark.parametrize(("count", "parts", "sizes"), [(8, 2, [4, 4]), (7, 2, [4, 3]), (3, 2, [3]), (5, 4, [3, 2])])
def test_pieces_make_up_the_batch_and_none_is_too_small_for_batch_norm(count, parts, sizes):
    images, labels = torch.arange(count * 2.0).view(count, 2), torch.arange(count)
    pieces = list(micro_batches(images, labels, parts))
    assert [len(piece[1]) for piece in pieces] == sizes
    assert torch.equal(torch.cat([piece[0] for piece in pieces]), images)
    assert torch.equal(torch.cat([piece[1] for piece in pieces]), labels)
    assert [piece[2] for piece in pieces] == [size / count for size in sizes]


def test_half_the_batch_is_tried_once_from_the_start_and_recorded():
    tries = []

    def run(state, pieces):
        tries.append((state, pieces))
        return exhaust() if pieces == 1 else "done"

    result, note = with_less_memory(run, {"epoch": 3})
    assert result == "done" and tries == [({"epoch": 3}, 1), (None, 2)]
    assert note["accumulate"] == 2 and "memory" in note["reason"]


def test_what_fits_is_run_once_and_an_earlier_retry_is_still_recorded():
    assert with_less_memory(lambda state, pieces: pieces, None) == (1, None)
    assert with_less_memory(lambda state, pieces: pieces, {"accumulate": 1}) == (1, None)
    assert with_less_memory(lambda state, pieces: pieces, {"accumulate": 2})[1]["accumulate"] == 2


def test_a_second_failure_and_other_errors_are_raised():
    with pytest.raises(OutOfMemoryError, match="batch_size"):
        with_less_memory(lambda state, pieces: exhaust(), None)
    with pytest.raises(ZeroDivisionError):
        with_less_memory(lambda state, pieces: 1 / 0, None)


@pytest.mark.parametrize("forward", ["sampled", "mixture", "gdas"])
def test_accumulated_gradients_are_the_whole_batchs(forward, monkeypatch):
    """On a batch of two equal halves, batch norm's statistics are the same for a half and for the whole."""
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: None)

    def gradients(pieces):
        loop = Bilevel(SearchConfig(space=SPACE, channels=2, batch_size=16, forward=forward, epochs=1), DATA, pieces)
        monkeypatch.setattr(loop.optimizer, "step", lambda: None)
        loop.supernet.double()
        images, labels = loop.weights.draw(8, loop.generator)
        # Logits far apart: gdas draws for each piece again, and must draw the same.
        logits = random_logits(SPACE, scale=1e3, dtype=torch.float64)
        loss = loop.weight_step(torch.cat([images, images]).double(), torch.cat([labels, labels]), logits, 1.0)
        return loss, [p.grad for p in loop.supernet.parameters() if p.grad is not None]

    (whole, one), (halves, two) = gradients(1), gradients(2)
    assert whole.item() == pytest.approx(halves.item(), rel=1e-6)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_the_architectures_gradient_in_pieces_is_the_whole_batchs(monkeypatch):
    """Without the noise that each piece would draw again, on a batch of two equal halves."""
    monkeypatch.setattr("edgenes.space.logits.gumbel_noise", lambda like, generator: torch.zeros_like(like))

    def gradient(pieces):
        loop = Bilevel(SearchConfig(space=SPACE, channels=2, batch_size=16, forward="mixture", epochs=1), DATA, pieces)
        images, labels = loop.architecture.draw(8, loop.generator)
        twice = torch.cat([images, images]).double(), torch.cat([labels, labels])
        loop.architecture.draw = lambda *_: twice
        loop.supernet.double()
        logits = random_logits(SPACE, dtype=torch.float64)
        logits.alpha.requires_grad_()
        loss, value = loop.architecture_loss(logits, 1.0)
        loss.backward()
        return logits.alpha.grad, value

    (one, whole), (two, halves) = gradient(1), gradient(2)
    assert whole.item() == pytest.approx(halves.item(), rel=1e-6)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def test_a_score_gradient_in_pieces_is_finite_and_reaches_all_logits():
    loop = Bilevel(SearchConfig(space=SPACE, channels=2, path_batch=16, epochs=1), DATA, 2)
    logits = random_logits(SPACE)
    logits.alpha.requires_grad_(), logits.beta.requires_grad_()
    loss, value = loop.architecture_loss(logits, 1.0)
    loss.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.alpha.grad).all()
    assert (logits.alpha.grad != 0).float().mean() > 0.5


def test_a_training_in_pieces_resumes_in_pieces():
    genotype = random_genotype(SPACE, seeded())
    config = TrainingConfig(channels=2, epochs=2, batch_size=32)
    reports, whole = reports_of(lambda **callbacks: train_network(config, DATA, genotype, accumulate=2, **callbacks))
    resumed = train_network(config, DATA, genotype, resume=reports[0][2])
    assert_same(dict(whole.state_dict()), dict(resumed.state_dict()))
    once = train_network(config, DATA, genotype)
    assert not all(map(torch.equal, whole.parameters(), once.parameters()))


@pytest.mark.parametrize("train", [search_genotype, train_hypernetwork])
def test_the_searches_state_knows_the_pieces(train):
    kind = SearchConfig if train is search_genotype else HypernetworkConfig
    config = kind(space=SPACE, channels=2, epochs=1, batch_size=32)
    more = () if train is search_genotype else (random_genotype(SPACE, seeded()),)
    reports, _ = reports_of(lambda **callbacks: train(config, DATA, *more, accumulate=2, **callbacks))
    assert reports[-1][2]["accumulate"] == 2
