"""The search of the optimal genotype, taken from the cache of all studies where it has been made there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgenes.checkpoint import load_checkpoint, save_checkpoint
from edgenes.config import SearchConfig, digest, to_dict
from edgenes.data import Dataset
from edgenes.errors import CheckpointError, ConfigError
from edgenes.genotype import Genotype
from edgenes.search import SEARCH_VERSION
from tune_jobs.cache import Cache
from tune_jobs.environment import numerics

Search = Callable[[], tuple[dict[str, Any], bool]]
"""Searches: returns {"genotype", "alpha", "beta", "out_of_memory"}, plain values and tensors on the CPU, and whether it
ran in one piece and with whole batches, so that another study's would find the same."""


def searched(
    cache: Cache | None, config: SearchConfig, data: Dataset, search: Search, folder: Path
) -> tuple[dict[str, Any], bool]:
    """What `search` returns, from the cache or searched now and put there, by way of `folder`; and if it was there."""
    if cache is None:
        return search()[0], False
    asked = {
        "config": to_dict(replace(config, device="cpu")),  # where it was searched is told by what follows
        "data": data.digest,
        "computed": {"version": SEARCH_VERSION, **numerics(config.device)},
    }
    name = f"search-{digest(asked)}"

    def read(path: Path) -> dict[str, Any]:
        found = load_checkpoint(path, "search")
        if {part: found.get(part) for part in asked} != asked:
            raise CheckpointError(f"{path} holds another search than its name says.")
        try:
            genotype = Genotype.from_dict(found["genotype"])
            sizes = [(type(found[part]), found[part].dim()) for part in ("alpha", "beta")]
        except (ConfigError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} holds no genotype and its logits.") from error
        if genotype.space != config.space or sizes != [(torch.Tensor, 3), (torch.Tensor, 2)]:
            raise CheckpointError(f"{path} holds a genotype of another search space.")
        return found

    with cache.claimed(name):
        found = cache.find(name, read)
        if found is not None:
            return found, True
        found, whole = search()
        if whole:
            source = folder / f"{name}.pt"
            save_checkpoint(source, "search", found | asked)
            cache.put(name, source)
            source.unlink()
        return found, False
