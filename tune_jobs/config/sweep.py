"""What a study of the annealing is: one dataclass, from which the command line is generated."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgenes.config import GRADIENTS, HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.errors import ConfigError
from edgenes.methods.budget import Setting
from edgenes.nn.network import check_image_size
from edgenes.nn.supernet import FORWARDS
from edgenes.seeds import stable_seed
from edgenes.selection import CRITERIA
from edgenes.space.genotype import SearchSpace
from edgenes.space.penalty import ESTIMATORS
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.passwords import has_password

# No Gaussian process: Optuna's learns nothing from PRUNED and FAILed trials, and proposes them over again.
SAMPLERS = ("tpe", "random", "qmc")
PRUNERS = ("none", "median", "percentile", "hyperband", "successive-halving")
OPTIMA = ("darts", "halving")
"""Ways to find the optimal genotype."""
VALUES = ("retrained", "one-shot", "mean")
MOST = 100_000
"""Largest number of trials, epochs, candidates, retrainings: a configuration from a stranger may say any."""


@dataclass(frozen=True)
class SweepConfig:
    """Study how the annealing of EdgeNES decides the ensemble: sweep, finalists, final ensemble, report."""

    dataset: str = "digits"
    """digits (embedded), cifar10, cifar100, fashionmnist, an .npz with x_train, y_train, x_test, y_test, or a
    folder with train/CLASS/ and test/CLASS/ images."""
    root: Path | None = None
    """Where torchvision's data sets lie or go to."""
    download: bool = False
    """Let torchvision download a data set that is not there."""
    image_size: int | None = None
    """Resize images to this many pixels a side."""
    flip: bool | None = None
    """Whether a mirrored image keeps its label, for augmentation; by default only for the photo data sets."""
    optimal: str = "darts"
    """Where the optimal genotype comes from: darts (searched first), halving (successive halving of 8 random genotypes,
    or more where the operations of a search pay for them), or a genotype JSON file."""

    trials: int = 12
    """Trials of the sweep, complete and pruned ones together."""
    finalists: int = 3
    """Best feasible trials whose candidates are retrained fully, to choose the hypernetwork."""
    search_epochs: int = 20
    """Epochs of the DARTS search, over a part of the training images."""
    search_warmup: float | None = None
    """Share of the search in which the weights learn alone; by default that of SearchConfig."""
    search_weight_decay: float | None = None
    """Weight decay of the search's supernet; by default that of SearchConfig."""
    max_parameter_free: int | None = None
    """Most pools and skips in the searched genotype, the excess replaced by the likeliest other operations; by default
    as many as it has."""
    stop_parameter_free: int | None = None
    """End the search before its genotype comes to have more pools and skips than this; by default it never ends so."""
    hypernetwork_epochs: int = 35
    """Epochs in which a trial trains its hypernetwork."""
    short_epochs: int = 4
    """Epochs of the short retraining that values a trial's candidates."""
    final_epochs: int = 25
    """Epochs of the full retraining of the finalists' candidates and of the baselines."""

    nodes: int = 4
    """Intermediate nodes of a cell."""
    inputs_per_node: int = 1
    """Incoming edges of a node: 1 as in the paper, 2 as in DARTS."""
    search_channels: int = 8
    """Channels of the supernet before its first reduction."""
    partial_channels: int = 1
    """Let the supernet's operations see one in so many of the channels, as PC-DARTS (4 there): less time and memory."""
    search_cells: int = 1
    """Cells of the supernet."""
    channels: int = 8
    """Channels of the retrained networks before their first reduction."""
    cells: int = 2
    """Cells of the retrained networks."""
    batch_size: int = 64
    """Images a training step."""
    mixed_precision: bool = False
    """Forward passes of all trainings in bfloat16, for GPUs that are made for it."""
    ensemble_size: int = 3
    """Members of the ensemble."""
    candidates: int = 8
    """Distinct genotypes drawn from a hypernetwork."""
    seeds_per_candidate: int = 1
    """Full retrainings of each candidate, from different seeds."""
    criterion: Literal[*CRITERIA] = "nll"
    """What chooses an ensemble on the validation images."""

    estimator: Literal[*ESTIMATORS, "both"] = "exact"
    """Estimator of the shared-edge penalty: closed form, the paper's Gumbel sample, or both as a parameter."""
    forward: Literal[*FORWARDS] = "sampled"
    """Forward pass of the supernet."""
    gradient: Literal[*GRADIENTS] = "score"
    """Gradient of the architecture for the sampled forward pass."""
    second_order: bool = False
    """The architecture's gradient through a step of the weights, as DARTS's second order; up to 3 times the cost."""
    value: Literal[*VALUES] = "retrained"
    """What a trial is worth: the best ensemble of shortly retrained candidates, chosen on one half of the
    validation images and scored on the other; the same with the supernet's weights (fast, ranks poorly); or the
    mean accuracy of single retrained candidates."""
    objectives: tuple[Literal["value", "control"], ...] = ("value",)
    """value, or value and control: the second minimises the control error too."""
    sampler: Literal[*SAMPLERS] = "tpe"
    """Optuna's sampler."""
    pruner: Literal[*PRUNERS] = "none"
    """Optuna's pruner, asked after each retrained candidate."""
    prune_infeasible: bool = False
    """Do not retrain the candidates of a hypernetwork that misses the control error allowed."""
    baselines: bool = True
    """Retrain the optimal genotype and random genotypes too, to compare."""
    seed: int = 0
    """Seed of the whole study; equal seeds give equal numbers on the CPU."""

    max_concurrent: int | None = None
    """Trials at once; by default as many as fit."""
    cpus_per_trial: int = 1
    """CPUs, and threads, of a trial."""
    gpus_per_trial: float | Literal["auto"] | None = None
    """GPUs of a trial, fractions allowed; auto measures a trial's memory first and gives it the share of a card that
    holds that; by default 1 where the cluster has any, else 0."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where trials compute; auto takes a GPU where they have one."""
    storage: str | None = None
    """The Optuna study: an SQLAlchemy URL, or journal:PATH; by default study.db in the study's folder."""
    storage_path: str | None = None
    """Where workers leave checkpoints and predictions: a folder that all nodes share, or a URL of pyarrow's file
    systems, such as s3://BUCKET/PREFIX; by default the study's folder."""
    cache: str | None = None
    """Folder of what your studies have retrained and searched, for this one to take from and to add to, or off; by
    default EDGENES_CACHE, else edgenes in XDG_CACHE_HOME or ~/.cache. It is kept below 10 GB."""
    address: str | None = None
    """Ray cluster to join; by default RAY_ADDRESS, else Ray is started on this machine."""
    wait_for_nodes: int = 1
    """Begin when this many nodes have joined the Ray cluster; a study plans with the nodes it finds."""
    dashboard: bool = False
    """Start Ray's dashboard and print its address (needs no option on an existing cluster)."""
    log: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Write TensorBoard's event files, MLflow's runs, or both into the study's folder; MLflow's go to
    MLFLOW_TRACKING_URI where that is set."""
    out: Path | None = None
    """Folder of the study; by default runs/anneal-DATASET."""
    dry_run: bool = False
    """Measure one step, print the trials, hours, memory and disk that the study takes, and stop."""
    smoke_test: bool = False
    """The same path in under a minute: a few tiny trials."""

    def __post_init__(self):
        if self.smoke_test:
            for name, value in SMOKE.items():
                if getattr(self, name) == getattr(SweepConfig, name):  # what the user gave stays
                    object.__setattr__(self, name, value)
        if self.storage_path is not None:
            _check_storage_path(self.storage_path)
        for name in ("root", "out"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        object.__setattr__(self, "objectives", tuple(self.objectives))
        object.__setattr__(self, "log", tuple(dict.fromkeys(self.log)))
        counts = "trials finalists search_epochs hypernetwork_epochs short_epochs final_epochs ensemble_size"
        check_at_least(
            self, 1, *counts.split(), "candidates", "seeds_per_candidate", "cpus_per_trial", "wait_for_nodes"
        )
        check_at_least(self, 0, "seed")
        check_at_most(self, MOST, *counts.split(), "candidates", "seeds_per_candidate", "cpus_per_trial")
        if self.candidates > self.space.genotypes:
            raise ConfigError(
                f"{self.candidates} distinct candidates are asked for, and the search space has {self.space.genotypes} "
                "genotypes: lower --candidates or raise --nodes."
            )
        retrainings = self.finalists * self.candidates * self.seeds_per_candidate
        if retrainings > MOST:
            raise ConfigError(
                f"{retrainings} full retrainings are asked for, and at most {MOST} are made: lower --finalists, "
                "--candidates or --seeds-per-candidate."
            )
        if self.ensemble_size > self.candidates:
            raise ConfigError(
                f"an ensemble of {self.ensemble_size} cannot be chosen from {self.candidates} candidates: "
                "raise --candidates or lower --ensemble-size."
            )
        if self.max_concurrent is not None:
            check_at_least(self, 1, "max_concurrent")
        if self.gpus_per_trial not in (None, "auto"):
            check_at_least(self, 0, "gpus_per_trial")
            if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
                raise ConfigError(
                    f"gpus_per_trial must be a whole number, or a share of one GPU, got {self.gpus_per_trial}."
                )
        if self.objectives not in (("value",), ("value", "control")):
            raise ConfigError(f"objectives must be value, or value control, got {' '.join(self.objectives)}.")
        if len(self.objectives) == 2 and self.pruner != "none":
            raise ConfigError("Optuna has no pruning with two objectives: leave out --pruner or one objective.")
        if self.gradient == "straight_through" and self.forward != "sampled":
            raise ConfigError(f"--gradient straight_through belongs to --forward sampled, not {self.forward}.")
        for name in ("search_warmup", "search_weight_decay", "max_parameter_free", "stop_parameter_free"):
            if self.optimal != "darts" and getattr(self, name) is not None:
                raise ConfigError(
                    f"--{name.replace('_', '-')} belongs to --optimal darts: nothing else is searched so."
                )
        self.search_config("cpu"), self.training_config(self.final_epochs, 0, "cpu")  # each checks its own fields

    @property
    def genotype_file(self) -> Path | None:
        """The user's own optimal genotype; None where the study finds one."""
        return None if self.optimal in OPTIMA else Path(self.optimal)

    @property
    def space(self) -> SearchSpace:
        """The cells that are searched."""
        return SearchSpace(self.nodes, self.inputs_per_node)

    @property
    def folder(self) -> Path:
        """The study's folder."""
        name = f"anneal-{Path(self.dataset).stem}" + ("-smoke" if self.smoke_test else "")
        return (self.out or Path("runs") / name).absolute()

    def check_images(self, size: int) -> None:
        """Raise ConfigError if images of `size` pixels are too small for the cells."""
        check_image_size(self.space, self.search_cells, size)
        check_image_size(self.space, self.cells, size)

    def _supernet(self, device: str) -> dict[str, Any]:
        return {
            "space": self.space,
            "channels": self.search_channels,
            "cells": self.search_cells,
            "batch_size": self.batch_size,
            "mixed_precision": self.mixed_precision,
            "forward": self.forward,
            "gradient": self.gradient,
            "second_order": self.second_order,
            "partial_channels": self.partial_channels,
            "device": device,
        }

    def search_config(self, device: str) -> SearchConfig:
        """Configuration of the DARTS search."""
        against_collapse = {
            "warmup": self.search_warmup,
            "weight_decay": self.search_weight_decay,
            "max_parameter_free": self.max_parameter_free,
            "stop_parameter_free": self.stop_parameter_free,
        }
        return SearchConfig(
            epochs=self.search_epochs,
            seed=stable_seed("search", self.seed),
            **{name: value for name, value in against_collapse.items() if value is not None},
            **self._supernet(device),
        )

    def hypernetwork_config(self, params: dict[str, Any], seed: int, device: str) -> HypernetworkConfig:
        """Configuration of a trial's hypernetwork: what Optuna sampled, and the rest of the study."""
        names = ("c_start", "c_end", "t_start", "t_end", "pivots", "epsilon")
        sampled = {name: params[name] for name in names}
        estimator = params.get("estimator", self.estimator)
        return HypernetworkConfig(
            epochs=self.hypernetwork_epochs, seed=seed, estimator=estimator, **sampled, **self._supernet(device)
        )

    def training_config(self, epochs: int, repeat: int, device: str) -> TrainingConfig:
        """Configuration of a retraining; `repeat` counts the seeds, which all trials share so that caches hit."""
        return TrainingConfig(
            channels=self.channels,
            cells=self.cells,
            epochs=epochs,
            batch_size=self.batch_size,
            mixed_precision=self.mixed_precision,
            seed=stable_seed("retraining", self.seed, repeat),
            device=device,
        )

    def setting(self, device: str) -> Setting:
        """What the methods of `edgenes.methods.catalogue` take, with this study's budgets and seed."""
        return Setting(
            search=self.search_config(device),
            hypernetwork=HypernetworkConfig(epochs=self.hypernetwork_epochs, **self._supernet(device)),
            training=self.training_config(self.final_epochs, 0, device),
            short_epochs=self.short_epochs,
            candidates=self.candidates,
            size=self.ensemble_size,
            criterion=self.criterion,
            seed=self.seed,
        )

    def defining(self) -> dict[str, Any]:
        """The fields that make this study another study when they change; the data count by their digest."""
        return {name: value for name, value in self.to_dict().items() if name not in EXECUTION}

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the storage is left out, since its URL may hold a password."""
        return plain_values(self) | {"storage": None}


def plain_values(config: Any) -> dict[str, Any]:
    """The fields of a command line's dataclass as JSON has them: paths as text, tuples as lists."""
    plain = {each.name: getattr(config, each.name) for each in dataclasses.fields(config)}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _check_storage_path(place: str) -> None:
    """Raise ConfigError for a relative folder, another one on each node, and credentials, which would be stored."""
    if has_password(place):
        raise ConfigError(
            "--storage-path shows a password: leave the credentials to the environment (AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY) or to the cloud's own files, on every node."
        )
    if "://" not in place and not Path(place).is_absolute():
        raise ConfigError(
            f"--storage-path must be an absolute folder that all nodes share, or a URL such as s3://BUCKET/PREFIX, "
            f"got {place}."
        )


EXECUTION = frozenset(
    (
        "dataset",
        "root",
        "download",
        "image_size",
        "flip",
        "trials",
        "max_concurrent",
        "cpus_per_trial",
        "gpus_per_trial",
        "device",
        "storage",
        "storage_path",
        "cache",
        "address",
        "wait_for_nodes",
        "dashboard",
        "log",
        "out",
        "dry_run",
        "smoke_test",
    )
)
"""Fields that may change between two runs of one study (the data themselves are compared by digest)."""
SMOKE = {
    "trials": 2,
    "finalists": 1,
    "search_epochs": 2,
    "hypernetwork_epochs": 12,
    "short_epochs": 1,
    "final_epochs": 2,
    "candidates": 3,
    "ensemble_size": 2,
}
