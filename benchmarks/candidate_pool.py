"""A pool of real candidates to select from: random genotypes, each retrained shortly from scratch on real images.

`python -m benchmarks candidate_pool --npz PATH --out FOLDER` trains what is not in FOLDER yet, so it goes on where it
was stopped, and several may work on one folder if each has its own `--start`. `load_pool` reads it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgenes import Dataset, Part, SearchSpace, TrainingConfig, predict, random_genotype, train_network
from edgenes.data.dataset import build_dataset
from edgenes.data.sources import read_file
from edgenes.data.split import split_indices
from edgenes.errors import DataError
from edgenes.metrics import accuracy


@dataclass(frozen=True, kw_only=True)
class Options:
    """Retrain a pool of random genotypes."""

    npz: Path
    """Images: x_train, y_train, x_test, y_test."""
    out: Path
    """Folder of the pool."""
    networks: int = 100
    """Networks in the pool."""
    start: int = 0
    """First network to train here."""
    image_size: int = 16
    """Pixels to which the images are resized."""
    train_per_class: int = 200
    """Training images of each class."""
    validation_per_class: int = 50
    """Images of V of each class."""
    epochs: int = 5
    """Epochs of each retraining."""
    channels: int = 8
    """Channels of the first cell."""


@dataclass(frozen=True)
class Pool:
    """Probabilities float32 (networks, samples, classes) and labels of one part of the data."""

    predictions: np.ndarray
    labels: np.ndarray


def load_pool(folder: Path, part: str, networks: int | None = None) -> Pool:
    """The trained networks of a pool on `part`, validation or test; raises DataError if there are too few."""
    files = sorted(folder.glob("network-*.npz"))[:networks]
    if not files or (networks is not None and len(files) < networks):
        raise DataError(
            f"{folder} has {len(files)} networks of {networks or 'any'}: run `python -m benchmarks candidate_pool`."
        )
    predictions = None
    for k, file in enumerate(files):
        with np.load(file) as stored:
            one = np.exp(stored[part])
        if predictions is None:
            predictions = np.empty((len(files), *one.shape), np.float32)
        predictions[k] = one
    with np.load(folder / "labels.npz") as stored:
        return Pool(predictions, stored[part])


def read_images(options: Options) -> Dataset:
    """The asked-for number of images of each class; the test part whole."""
    source = read_file(options.npz).checked(options.image_size)
    images, labels = source.train_images.transpose(0, 3, 1, 2), source.train_labels
    halves = options.train_per_class // 2
    counts = np.array([halves, options.train_per_class - halves, options.validation_per_class])
    smallest = np.bincount(labels).min()
    if counts.sum() > smallest:
        raise DataError(f"a class has {smallest} training images, fewer than the {counts.sum()} asked for.")
    kept = np.concatenate([np.flatnonzero(labels == label)[: counts.sum()] for label in np.unique(labels)])
    images, labels = images[kept], labels[kept]
    parts = [
        Part(np.ascontiguousarray(images[i]), labels[i]) for i in split_indices(labels, counts / counts.sum(), seed=0)
    ]
    test = Part(np.ascontiguousarray(source.test_images.transpose(0, 3, 1, 2)), source.test_labels)
    return build_dataset(source.name, source.class_names, *parts, test, flip=True)


def write(path: Path, **arrays: np.ndarray) -> None:
    """An .npz that is there whole or not at all."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with open(partial, "wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)


def main(options: Options) -> None:
    """Train what is missing, one line a network."""
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    data = read_images(options)
    write(options.out / "labels.npz", validation=data.validation.labels, test=data.test.labels)
    generator = torch.Generator().manual_seed(0)
    genotypes = [random_genotype(SearchSpace(), generator) for _ in range(options.networks)]
    for k in range(options.start, options.networks):
        path = options.out / f"network-{k:03d}.npz"
        if path.exists():
            continue
        config = TrainingConfig(epochs=options.epochs, channels=options.channels, seed=k)
        network = train_network(config, data, genotypes[k])
        found = {part: predict(network, getattr(data, part), data) for part in ("validation", "test")}
        write(path, **found)
        print(f"{k} {genotypes[k].digest} accuracy {accuracy(np.exp(found['validation']), data.validation.labels):.3f}")
