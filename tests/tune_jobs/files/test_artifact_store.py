"""One suite for every kind of artifact: computed once, resumed bit for bit, a damaged file computed again, shared."""

import dataclasses
import functools
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.dataset import build_dataset
from edgenes.errors import DivergedError, WriteError
from edgenes.methods.trainer import LocalTrainer, Member, Searched, TrainedHypernetwork
from edgenes.space.genotype import SearchSpace, random_genotype, random_genotypes
from edgenes.space.operations import OPERATIONS, register_operation
from edgenes.training.retraining import predict
from tests.support.toys import blobs, seeded
from tune_jobs.files import artifact_store, stored_trainer
from tune_jobs.files.artifact_store import ArtifactStore, cache_name, computed_with
from tune_jobs.files.cache import Cache
from tune_jobs.files.stored_trainer import (
    CANDIDATE,
    HYPERNETWORK,
    SEARCH,
    StoredTrainer,
    candidate_key,
    has_weights,
    network_of,
)
from tune_jobs.files.study_files import Remote, StudyFiles

DATA = blobs()
SPACE = SearchSpace(nodes=2)
SIZES = {"space": SPACE, "channels": 2, "batch_size": 32, "path_batch": 8, "paths": 4, "epochs": 2}
OPTIMAL = random_genotype(SPACE, seeded(1))
OTHER = random_genotype(SPACE, seeded(3))
CONFIGS = {
    "search": SearchConfig(**SIZES, seed=1),
    "hypernetwork": HypernetworkConfig(**SIZES, seed=2, trainable_pivots=True),
    "candidate": TrainingConfig(channels=2, cells=1, epochs=2, batch_size=32, seed=5),
}
KINDS = {"search": SEARCH, "hypernetwork": HYPERNETWORK, "candidate": CANDIDATE}
TRAINING = CONFIGS["candidate"]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as several networks are trained at once
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def trainer(folder, cache=None, remote=None, **options):
    return StoredTrainer(DATA, ArtifactStore(StudyFiles(folder, remote), cache), **options)


def ask(one, kind, genotype=OPTIMAL, **changes):
    """What the trainer has of this kind."""
    config = dataclasses.replace(CONFIGS[kind], **changes)
    if kind == "search":
        return one.search(config)
    if kind == "hypernetwork":
        return one.hypernetwork(config, genotype)
    return one.retrain([Member(genotype, config)])[0]


def bits(found):
    """All numbers of an artifact, as bytes."""
    if isinstance(found, Searched):
        return repr(found.trace)
    if isinstance(found, TrainedHypernetwork):
        weights = [value.numpy().tobytes() for state in found.trace for value in state["weights"].values()]
        return repr((weights, found.control_error))
    return found.probabilities.tobytes()


def stop_after(monkeypatch, count):
    """Stop when so many checkpoints are saved, of each epoch; returns the epochs of all, None of what is finished."""
    save, epochs = artifact_store.save_checkpoint, []

    def stopping(path, name, state):
        save(path, name, state)
        epochs.append(state.get("epoch"))
        if len(epochs) == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(artifact_store, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(artifact_store, "save_checkpoint", stopping)
    return epochs


def file(folder, kind):
    (path,) = (folder / KINDS[kind].folder).glob("*.pt")
    return path


@pytest.fixture(autouse=True)
def computed(monkeypatch):
    """The kinds that were computed, in order."""
    seen = []

    def watched(name, real):
        def counted(*arguments, **options):
            seen.append(name)
            return real(*arguments, **options)

        return counted

    for kind, name in zip(KINDS, ("traced_search", "traced_hypernetwork", "train_network"), strict=True):
        monkeypatch.setattr(stored_trainer, name, watched(kind, getattr(stored_trainer, name)))
    return seen


class TestEveryKind:
    def test_it_is_computed_once_and_equals_one_without_a_store(self, tmp_path, kind, computed):
        first, again = ask(trainer(tmp_path), kind), ask(trainer(tmp_path), kind)
        assert computed == [kind] and again.seconds == first.seconds > 0
        assert bits(first) == bits(again) == bits(ask(LocalTrainer(DATA), kind))

    def test_whatever_decides_it_is_in_its_key(self, tmp_path, kind, monkeypatch):
        keys = []

        def obtain(store, kind, key, *rest, **options):
            keys.append(key)
            raise LookupError

        monkeypatch.setattr(ArtifactStore, "obtain", obtain)
        changes = [{}, {"seed": 9}, {"epochs": 1}, {"channels": 4}] + [{"genotype": OTHER}] * (kind != "search")
        one = trainer(tmp_path)
        asked = [(one, change) for change in changes] + [(StoredTrainer(blobs(seed=1), one.store), {})]
        for each, change in asked:
            with pytest.raises(LookupError):
                ask(each, kind, **change)
        assert len(set(keys)) == len(asked)

    def test_two_workers_at_once_compute_it_once(self, tmp_path, kind, computed):
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda _: bits(ask(trainer(tmp_path), kind)), range(2)))
        assert computed == [kind] and found[0] == found[1]

    @pytest.mark.parametrize("last", [0, 1])
    def test_an_interrupted_one_resumes_to_the_same_bits(self, tmp_path, kind, monkeypatch, last):
        saved = stop_after(monkeypatch, last + 1)
        with pytest.raises(KeyboardInterrupt):
            ask(trainer(tmp_path / "a"), kind, epochs=3)
        found = ask(trainer(tmp_path / "a"), kind, epochs=3)
        assert saved == [0, 1, 2, None], "no epoch is repeated"
        assert bits(found) == bits(ask(LocalTrainer(DATA), kind, epochs=3))
        assert not list(tmp_path.rglob("*.unfinished"))

    def test_a_damaged_checkpoint_of_an_unfinished_one_is_passed_over(self, tmp_path, kind):
        expected = ask(trainer(tmp_path / "a"), kind)
        path = file(tmp_path / "a", kind).with_suffix(".unfinished")
        path.write_bytes(b"damaged")
        path.with_suffix(".pt").unlink()
        assert bits(ask(trainer(tmp_path / "a"), kind)) == bits(expected) and not path.exists()

    @pytest.mark.parametrize("damage", ["cut", "changed", "another"])
    def test_a_damaged_file_is_computed_again(self, tmp_path, kind, damage, computed, caplog):
        expected = ask(trainer(tmp_path), kind)
        path = file(tmp_path, kind)
        content = bytearray(path.read_bytes())
        if damage == "another":
            ask(trainer(tmp_path / "other"), kind, seed=9)
            content = bytearray(file(tmp_path / "other", kind).read_bytes())
        elif damage == "cut":
            del content[-100:]
        else:
            content[content.index(b"control_error" if kind == "hypernetwork" else b"seconds")] ^= 1
        path.write_bytes(content)
        computed.clear()
        with caplog.at_level(logging.WARNING):
            assert bits(ask(trainer(tmp_path), kind)) == bits(expected)
        assert computed == [kind] and path.name in caplog.text
        assert path.with_suffix(".damaged").read_bytes() == bytes(content)

    def test_another_study_takes_it_from_the_cache(self, tmp_path, kind, computed):
        cache = Cache(tmp_path / "cache")
        first, again = ask(trainer(tmp_path / "a", cache), kind), ask(trainer(tmp_path / "b", cache), kind)
        assert computed == [kind] and bits(first) == bits(again)
        (entry,) = (tmp_path / "cache").glob(f"{kind}-*.pt")
        entry.write_bytes(b"damaged")
        assert bits(ask(trainer(tmp_path / "c", cache), kind)) == bits(first) and len(computed) == 2
        cache.trim(0)
        assert bits(ask(trainer(tmp_path / "b"), kind)) == bits(first) and len(computed) == 2, "a study is whole"

    def test_one_that_was_begun_elsewhere_is_the_studys_alone(self, tmp_path, kind, monkeypatch):
        cache, real = Cache(tmp_path / "cache"), artifact_store.numerics
        with monkeypatch.context() as patch:
            stop_after(patch, 1)
            patch.setattr(artifact_store, "numerics", lambda device: real(device) | {"processor": "another"})
            with pytest.raises(KeyboardInterrupt):
                ask(trainer(tmp_path / "a", cache), kind)
        ask(trainer(tmp_path / "a", cache), kind)
        assert not list((tmp_path / "cache").glob("*.pt"))

    def test_with_a_remote_folder_it_holds_for_all_nodes(self, tmp_path, kind, computed):
        remote = Remote(str(tmp_path / "shared"), "study", "one")
        found = [ask(trainer(tmp_path / node, remote=remote), kind) for node in ("a", "b")]
        assert computed == [kind] and bits(found[0]) == bits(found[1])


def test_what_decides_the_last_bits_is_in_the_caches_name(monkeypatch):
    def name(kind=CANDIDATE):
        return cache_name(kind, "key", computed_with(kind, "cpu"))

    real = artifact_store.numerics("cpu")
    names = {name(), name(dataclasses.replace(CANDIDATE, version=CANDIDATE.version + 1))}
    for changed in real:
        monkeypatch.setattr(artifact_store, "numerics", lambda device, changed=changed: real | {changed: "another"})
        names.add(name())
    assert len(names) == len(real) + 2


def test_a_training_that_fits_only_in_parts_is_the_studys_alone(tmp_path, monkeypatch):
    real, cache = stored_trainer.train_network, Cache(tmp_path / "cache")

    def full(config, data, genotype, *, accumulate, **options):
        if accumulate == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(config, data, genotype, accumulate=accumulate, **options)

    monkeypatch.setattr(stored_trainer, "train_network", full)
    assert trainer(tmp_path / "a", cache).candidate(TRAINING, OPTIMAL).out_of_memory["accumulate"] == 2
    assert not list((tmp_path / "cache").glob("*.pt"))


def test_the_device_and_the_test_part_do_not_count():
    parts = (DATA.weights, DATA.architecture, DATA.validation, blobs(seed=1).validation)
    whole = build_dataset("blobs", DATA.class_names, *parts)
    keys = {candidate_key(TRAINING, data, OPTIMAL) for data in (whole, whole.without_test())}
    assert keys == {candidate_key(dataclasses.replace(TRAINING, device="cuda"), whole, OPTIMAL)}


def test_weights_are_kept_where_they_are_needed_and_give_the_stored_predictions(tmp_path, computed):
    cache = Cache(tmp_path / "cache")
    light = trainer(tmp_path / "a", cache, weights=False).candidate(TRAINING, OPTIMAL)
    assert not has_weights(light.value)
    full = trainer(tmp_path / "a", cache).candidate(TRAINING, OPTIMAL)
    assert not full.cached and len(computed) == 2, "predictions alone do not do"
    assert trainer(tmp_path / "a", cache, weights=False).candidate(TRAINING, OPTIMAL).cached
    shared = trainer(tmp_path / "b", cache).candidate(TRAINING, OPTIMAL)
    assert shared.shared and len(computed) == 2
    network = network_of(shared.value, TRAINING, DATA, OPTIMAL)
    assert np.array_equal(predict(network, DATA.validation, DATA), light.value.log_probabilities)


def test_networks_of_an_own_operation_stay_in_their_study(tmp_path, monkeypatch):
    """It is known by its name alone, and may be another one tomorrow."""
    monkeypatch.setattr(OPERATIONS, "_entries", dict(OPERATIONS))  # for this test alone
    register_operation("own", lambda channels, stride, affine, track: nn.AvgPool2d(3, stride, 1), parameter_free=True)
    genotype = random_genotype(SearchSpace(nodes=1, operations=("own", "sep_conv_3x3")), seeded(1))
    cache = Cache(tmp_path / "cache")
    for study in ("a", "b"):
        assert not trainer(tmp_path / study, cache).candidate(TRAINING, genotype).cached
    assert trainer(tmp_path / "b", cache).candidate(TRAINING, genotype).cached


def test_a_full_retraining_says_what_it_does(tmp_path):
    """Else its row says for minutes that it starts."""
    heard = []
    trainer(tmp_path, say=heard.append).candidate(TRAINING, OPTIMAL)
    assert heard == ["retraining for 2 epochs"]


GROUP = [
    Member(genotype, dataclasses.replace(TRAINING, seed=k))
    for k, genotype in enumerate(random_genotypes(SPACE, 3, seeded(1)))
]


@functools.cache
def uninterrupted():
    """The bits of the group's networks."""
    return list(map(bits, LocalTrainer(DATA).retrain(GROUP)))


class TestTogether:
    """Networks of a group are stored as if each had been trained alone."""

    @pytest.fixture(autouse=True)
    def trained(self, monkeypatch):
        """How many networks were trained at once, each time."""
        seen, real = [], stored_trainer.train_networks

        def counted(configs, *arguments, **options):
            seen.append(len(configs))
            return real(configs, *arguments, **options)

        monkeypatch.setattr(stored_trainer, "train_networks", counted)
        return seen

    def test_each_equals_the_one_trained_alone_and_counts_as_computed_once(self, tmp_path, trained, computed):
        one = trainer(tmp_path / "a")
        one.train_ahead([*GROUP, GROUP[0]])
        assert trained == [3] and not computed
        for member in GROUP:
            found = one.candidate(member.config, member.genotype)
            assert not found.cached and found.seconds > 0
            assert one.candidate(member.config, member.genotype).cached
            alone = trainer(tmp_path / "b").candidate(member.config, member.genotype)
            assert np.array_equal(found.value.log_probabilities, alone.value.log_probabilities)
            for name, weights in alone.value.weights.items():
                assert torch.equal(found.value.weights[name], weights), name
        assert computed == ["candidate"] * 3, "those of the other study"

    def test_what_is_there_is_not_trained_again(self, tmp_path, trained):
        cache = Cache(tmp_path / "cache")
        trainer(tmp_path / "a", cache).train_ahead(GROUP[:2])
        one = trainer(tmp_path / "b", cache)
        one.candidate(GROUP[2].config, GROUP[2].genotype)
        one.train_ahead(GROUP)
        assert trained == [2]
        shared = [one.candidate(member.config, member.genotype).shared for member in GROUP]
        assert shared == [True, True, False]

    @pytest.mark.parametrize("written", [1, 3, 4, 6])
    def test_an_interrupted_group_resumes_to_the_same_bits(self, tmp_path, monkeypatch, written):
        """Stopped after so many of its checkpoints: of some networks, of all, of two epochs, of the last epoch."""
        saved = stop_after(monkeypatch, written)
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path).train_ahead(GROUP)
        found = trainer(tmp_path).retrain(GROUP)
        assert len(saved) == 3 * (TRAINING.epochs + 1), "no epoch is repeated"
        assert list(map(bits, found)) == uninterrupted()
        assert not list(tmp_path.rglob("*.unfinished"))

    def test_one_that_fails_does_not_take_the_others_along(self, tmp_path, monkeypatch, computed):
        real = stored_trainer.train_network

        def diverging(configs, *arguments, **options):
            raise DivergedError("the loss became nan")

        def one_diverging(config, *arguments, **options):
            if config == GROUP[1].config:
                raise DivergedError("the loss became nan")
            return real(config, *arguments, **options)

        monkeypatch.setattr(stored_trainer, "train_networks", diverging)
        monkeypatch.setattr(stored_trainer, "train_network", one_diverging)
        one = trainer(tmp_path)
        one.train_ahead(GROUP)
        for k, member in enumerate(GROUP):
            if k == 1:
                with pytest.raises(DivergedError, match="nan"):
                    one.candidate(member.config, member.genotype)
            else:
                assert not one.candidate(member.config, member.genotype).cached

    def test_a_full_disk_is_not_the_networks_fault(self, tmp_path, monkeypatch):
        def full(*_):
            raise WriteError("no space")

        monkeypatch.setattr(artifact_store, "save_checkpoint", full)
        with pytest.raises(WriteError):
            trainer(tmp_path).train_ahead(GROUP)

    def test_what_another_worker_computes_is_left_to_it(self, tmp_path, trained):
        one = trainer(tmp_path)
        key = candidate_key(GROUP[1].config, DATA, GROUP[1].genotype)
        with one.store._lock(CANDIDATE, key):
            one.train_ahead(GROUP)
        assert trained == [2] and one.store.find(CANDIDATE, key) is None

    def test_it_says_how_far_it_is(self, tmp_path):
        heard = []
        trainer(tmp_path, say=lambda note, **steps: heard.append((note, steps))).train_ahead(GROUP)
        assert heard == [("retraining 3 networks at once", {"step": k, "steps": 2}) for k in (1, 2)]
