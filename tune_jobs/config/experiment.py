"""What the paper's experiments have in common: data, budgets by preset, seeds, and where they run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgenes.config import GRADIENTS, HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.dataset import Dataset
from edgenes.data.loading import load_data
from edgenes.errors import ConfigError
from edgenes.methods.budget import Setting
from edgenes.nn.network import check_image_size
from edgenes.nn.supernet import FORWARDS
from edgenes.selection import CRITERIA
from edgenes.space.genotype import SearchSpace
from edgenes.space.penalty import ESTIMATORS
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.sweep import MOST, SweepConfig, plain_values

PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {
        "seeds": 5,
        "dataset": "digits",
        "nodes": 4,
        "inputs_per_node": 1,
        "cell_types": "reduction",
        "search_channels": 8,
        "search_cells": 1,
        "channels": 8,
        "cells": 2,
        "batch_size": 64,
        "retraining_batch_size": 64,
        "drop_path": 0.0,
        "auxiliary": False,
        "search_epochs": 20,
        "hypernetwork_epochs": 35,
        "short_epochs": 4,
        "final_epochs": 25,
        "candidates": 8,
        "ensemble_size": 3,
        "search_warmup": SearchConfig.warmup,
        "penalty_lambdas": HypernetworkConfig.penalty_lambdas,
        "estimator": "exact",
        "forward": "sampled",
    },
    # Section 3.1 and the paper's code. Where they differ: Adam's betas are (0.5, 0.9) in the text and (0.5, 0.999) in
    # the code, its rate 0.02 and 0.3; here (0.5, 0.999) and 0.1, with which the hypernetwork learns its control. The
    # text draws lambda from U[-0.2, 4.2], the code from U[0, 4.2]: the text's. The text has Gumbel-softmax in the
    # forward pass, the code a plain softmax: the text's. The text's pivots train, the code detaches them: fixed, as
    # they control better (studies/control.py has both). One lambda a step, no warm-up. Batches are 64 in the search
    # and 96 in the retraining.
    "paper": {
        "dataset": "cifar100",
        "search_channels": 10,
        "channels": 16,
        "retraining_batch_size": 96,
        "search_epochs": 50,
        "hypernetwork_epochs": 150,
        "short_epochs": 5,
        "final_epochs": 50,
        "search_warmup": 0.0,
        "penalty_lambdas": 1,
        "estimator": "gumbel",
        "forward": "mixture",
    },
    # DARTS's own sizes (Liu et al., 2019): 8 cells searched and 20 retrained, two inputs a node, both kinds of cells.
    # Its pass is the mixture's, its rate for the architecture 3e-4, and its images are cut out; here sampled paths, as
    # in laptop, whose search takes a tenth of the time (--forward mixture has the other), and no cutout.
    "darts": {
        "dataset": "cifar100",
        "inputs_per_node": 2,
        "cell_types": "both",
        "search_channels": 16,
        "search_cells": 8,
        "channels": 36,
        "cells": 20,
        "retraining_batch_size": 96,
        "drop_path": 0.2,
        "auxiliary": True,
        "search_warmup": 0.0,
        "search_epochs": 50,
        "hypernetwork_epochs": 150,
        "short_epochs": 25,
        "final_epochs": 600,
    },
}
"""Budgets by preset; what `paper` and `darts` do not say is as in `laptop`."""
SMOKE = {
    "seeds": 2,
    "search_epochs": 2,
    "hypernetwork_epochs": 4,
    "short_epochs": 1,
    "final_epochs": 2,
    "candidates": 3,
    "ensemble_size": 2,
}
CELL_TYPES = {"reduction": ("reduction",), "both": ("normal", "reduction")}
_EXECUTION = (
    "seeds",
    "dataset",
    "root",
    "download",
    "image_size",
    "images",
    "flip",
    "max_concurrent",
    "cpus_per_trial",
    "gpus_per_trial",
    "device",
    "storage_path",
    "cache",
    "address",
    "wait_for_nodes",
    "dashboard",
    "out",
    "smoke_test",
    "preset",
)


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """What all experiments take. Where a default is None, the preset decides."""

    NAME: ClassVar[str] = "experiment"
    """The study's name, and the first part of its folder's."""

    preset: Literal[*PRESETS] = "laptop"
    """Budgets: laptop (digits, minutes), paper (CIFAR-100, the paper's sizes), darts (DARTS's own sizes)."""
    seeds: int | None = None
    """Independent searches, by default 5; more of them go on with a finished study."""
    smoke_test: bool = False
    """The same path in a minute or two: two seeds and tiny budgets."""

    dataset: str | None = None
    """digits (embedded), cifar10, cifar100, fashionmnist, an .npz with x_train, y_train, x_test, y_test, or a
    folder with train/CLASS/ and test/CLASS/ images."""
    root: Path | None = None
    """Where torchvision's data sets lie or go to."""
    download: bool = False
    """Let torchvision download a data set that is not there."""
    image_size: int | None = None
    """Resize images to this many pixels a side."""
    images: int | None = None
    """Use so many of the training images, drawn class by class; by default all."""
    flip: bool | None = None
    """Whether a mirrored image keeps its label, for augmentation; by default only for the photo data sets."""

    search_epochs: int | None = None
    """Epochs of a DARTS search."""
    hypernetwork_epochs: int | None = None
    """Epochs of a hypernetwork."""
    short_epochs: int | None = None
    """Epochs of a short retraining."""
    final_epochs: int | None = None
    """Epochs of a full retraining."""
    nodes: int | None = None
    """Intermediate nodes of a cell."""
    inputs_per_node: int | None = None
    """Incoming edges of a node: 1 as in the paper, 2 as in DARTS."""
    cell_types: Literal["reduction", "both"] | None = None
    """Kinds of cells that are searched."""
    search_channels: int | None = None
    """Channels of the supernet before its first reduction."""
    search_cells: int | None = None
    """Cells of the supernet."""
    channels: int | None = None
    """Channels of the retrained networks before their first reduction."""
    cells: int | None = None
    """Cells of the retrained networks."""
    batch_size: int | None = None
    """Images a step of the search."""
    retraining_batch_size: int | None = None
    """Images a step of a retraining."""
    drop_path: float | None = None
    """Greatest probability with which a retraining drops a path."""
    auxiliary: bool | None = None
    """Train with an auxiliary head."""
    candidates: int | None = None
    """Networks in the pool that an ensemble is chosen from."""
    ensemble_size: int | None = None
    """Members of an ensemble."""
    criterion: Literal[*CRITERIA] = "nll"
    """What chooses an ensemble on the validation images."""
    estimator: Literal[*ESTIMATORS] | None = None
    """Estimator of the shared-edge penalty."""
    forward: Literal[*FORWARDS] | None = None
    """Forward pass of the supernet."""
    gradient: Literal[*GRADIENTS] = "score"
    """Gradient of the architecture for the sampled forward pass."""
    search_warmup: float | None = None
    """Share of the search in which the weights learn alone."""
    penalty_lambdas: int | None = None
    """Lambdas over which a step of the penalty is averaged."""
    max_parameter_free: int | None = None
    """Most pools and skips in a searched genotype, against collapse; by default as many as it has."""
    c_start: float = HypernetworkConfig.c_start
    """Weight of the penalty in the first epoch."""
    c_end: float = HypernetworkConfig.c_end
    """Weight of the penalty in the last epoch."""
    t_start: float = HypernetworkConfig.t_start
    """Temperature in the first epoch."""
    t_end: float = HypernetworkConfig.t_end
    """Temperature in the last epoch."""
    mixed_precision: bool = False
    """Forward passes of all trainings in bfloat16, for GPUs that are made for it."""

    max_concurrent: int | None = None
    """Jobs at once; by default as many as fit."""
    cpus_per_trial: int = 1
    """CPUs, and threads, of a job."""
    gpus_per_trial: float | None = None
    """GPUs of a job, fractions allowed; by default 1 where the cluster has any, else 0."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where jobs compute; auto takes a GPU where they have one."""
    storage_path: str | None = None
    """Where workers leave what they computed: a folder that all nodes share, or a URL of pyarrow's file systems, such
    as s3://BUCKET/PREFIX; by default the study's folder."""
    cache: str | None = None
    """Folder of what your studies have retrained and searched, for this one to take from and to add to, or off; by
    default EDGENES_CACHE, else edgenes in XDG_CACHE_HOME or ~/.cache."""
    address: str | None = None
    """Ray cluster to join; by default RAY_ADDRESS, else Ray is started on this machine."""
    wait_for_nodes: int = 1
    """Begin when this many nodes have joined the Ray cluster."""
    dashboard: bool = False
    """Start Ray's dashboard and print its address (needs no option on an existing cluster)."""
    out: Path | None = None
    """Folder of the study; by default runs/STUDY-DATASET."""

    def __post_init__(self):
        decided = PRESETS["laptop"] | PRESETS[self.preset] | (SMOKE if self.smoke_test else {})
        for name, value in decided.items():
            if getattr(self, name) is None:  # what the user gave stays
                # a full retraining that was asked to be shorter than a short one shortens that
                shorter = name == "short_epochs" and self.final_epochs
                object.__setattr__(self, name, min(value, self.final_epochs) if shorter else value)
        for name in ("root", "out"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        self._check()
        self.execution, self.setting("cpu")  # each checks its own fields

    def _check(self) -> None:
        """Raise ConfigError by the names of the options, which the configurations made of them do not know."""
        counts = ("seeds", "search_epochs", "hypernetwork_epochs", "short_epochs", "final_epochs", "candidates")
        check_at_least(self, 1, *counts, "ensemble_size", "penalty_lambdas")
        check_at_least(self, 1, "search_channels", "channels")
        check_at_least(self, 3 if self.cell_types == "both" else 1, "search_cells", "cells")
        check_at_least(self, 2, "batch_size", "retraining_batch_size")
        check_at_most(self, MOST, *counts, "penalty_lambdas")
        if not 0 <= self.search_warmup < 1:
            raise ConfigError(f"search_warmup must be a fraction in [0, 1), got {self.search_warmup}.")
        if self.short_epochs > self.final_epochs:
            raise ConfigError(
                f"a short retraining of {self.short_epochs} epochs is longer than a full one of {self.final_epochs}: "
                "lower --short-epochs or raise --final-epochs."
            )
        if self.max_parameter_free is not None:
            check_at_most(self, self.space.max_edges, "max_parameter_free")
        if self.images is not None:
            check_at_least(self, 1, "images")

    @property
    def folder(self) -> Path:
        """The study's folder."""
        name = f"{self.NAME}-{Path(self.dataset).stem}" + ("-smoke" if self.smoke_test else "")
        return (self.out or Path("runs") / name).absolute()

    @property
    def execution(self) -> SweepConfig:
        """What decides where the study runs, as the sweep has it."""
        names = "root download image_size flip nodes inputs_per_node search_channels search_cells channels cells"
        names += " max_concurrent cpus_per_trial gpus_per_trial device storage_path cache address wait_for_nodes"
        names += " dashboard batch_size candidates ensemble_size"
        shared = {name: getattr(self, name) for name in names.split()}
        return SweepConfig(dataset=self.dataset, out=self.folder, **shared)

    @property
    def space(self) -> SearchSpace:
        """The cells that are searched."""
        return SearchSpace(self.nodes, self.inputs_per_node, CELL_TYPES[self.cell_types])

    def setting(self, device: str, seed: int = 0) -> Setting:
        """The budgets of one seed."""
        supernet = {
            "space": self.space,
            "channels": self.search_channels,
            "cells": self.search_cells,
            "batch_size": self.batch_size,
            "mixed_precision": self.mixed_precision,
            "forward": self.forward,
            "gradient": self.gradient,
            "device": device,
        }
        schedule = {name: getattr(self, name) for name in ("c_start", "c_end", "t_start", "t_end", "estimator")}
        return Setting(
            search=SearchConfig(
                epochs=self.search_epochs,
                warmup=self.search_warmup,
                max_parameter_free=self.max_parameter_free,
                **supernet,
            ),
            hypernetwork=HypernetworkConfig(
                epochs=self.hypernetwork_epochs, penalty_lambdas=self.penalty_lambdas, **supernet, **schedule
            ),
            training=TrainingConfig(
                channels=self.channels,
                cells=self.cells,
                epochs=self.final_epochs,
                batch_size=self.retraining_batch_size,
                mixed_precision=self.mixed_precision,
                drop_path=self.drop_path,
                auxiliary=self.auxiliary,
                device=device,
            ),
            short_epochs=self.short_epochs,
            candidates=self.candidates,
            size=self.ensemble_size,
            criterion=self.criterion,
            seed=seed,
        )

    def load(self) -> Dataset:
        """The data; raises DataError or ConfigError if they, or their images, do not fit."""
        data = load_data(self.dataset, self.root, self.download, self.image_size, flip=self.flip, images=self.images)
        for cells in (self.search_cells, self.cells):
            check_image_size(self.space, cells, data.image_size)
        return data

    def defining(self) -> dict[str, Any]:
        """The fields that make this study another study when they change; the data count by their digest."""
        return {name: value for name, value in self.to_dict().items() if name not in _EXECUTION}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return plain_values(self)
