"""A worker trains without PyTorch's compiler, to the same numbers as with it."""

import copy
import hashlib
import sys

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.space.genotype import random_genotype
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import train_hypernetwork
from edgenes.training.retraining import train_network
from tests.support.toys import blobs, seeded
from tune_jobs.execution.worker import use_resources

SMALL = {"channels": 4, "cells": 2, "batch_size": 32, "epochs": 2}


def resumed(train, config, *inputs):
    """What `train` gives, resumed after the first epoch."""
    states = []
    train(config, *inputs, report=lambda epoch, metrics, state: states.append(copy.deepcopy(state)))
    return train(config, *inputs, resume=states[0])


def trained() -> str:
    """Digest of what each kind of training gives."""
    data = blobs(64, size=16)
    search, hyper, training = SearchConfig(**SMALL), HypernetworkConfig(**SMALL), TrainingConfig(**SMALL)
    genotype = random_genotype(search.space, seeded())
    logits = resumed(search_genotype, search, data).logits
    hypernetwork = resumed(train_hypernetwork, hyper, data, genotype).hypernetwork
    network = resumed(train_network, training, data, genotype)
    tensors = [logits.alpha, logits.beta, *hypernetwork.state_dict().values(), *network.state_dict().values()]
    return hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()


def in_worker(prepared: bool) -> tuple[str, set[str]]:
    """That digest, and which modules of the compiler are loaded; twice prepared, as a worker's second trial is."""
    for _ in range(2 * prepared):
        use_resources()
    return trained(), {"torch._dynamo", "sympy", "triton"} & set(sys.modules)


def test_no_training_loads_the_compiler_and_the_numbers_are_those_with_it(ray_local):
    task = ray_local.remote(num_cpus=1, max_calls=1)(in_worker)  # each in a process of its own
    without, loaded = ray_local.get(task.remote(True))
    assert not loaded
    compiled, loaded = ray_local.get(task.remote(False))
    assert "torch._dynamo" in loaded  # so it is what a worker leaves out
    assert without == compiled
