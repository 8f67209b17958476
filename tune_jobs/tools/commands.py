"""The options of each command. Nothing here imports torch, Ray or Optuna: only a command that runs does."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

from edgenes.selection import CALIBRATIONS, CRITERIA
from tune_jobs.tools.cluster_file import FILES

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, which the module of its name in this folder carries out."""

    module: ClassVar[str]
    """The module with `run(command)`, which returns plain values, and `text(answer)`, which puts them into words."""
    json: bool = False
    """Print JSON, for a program."""

    def run(self) -> dict[str, Any]:
        """Carry the command out; the answer as JSON-able values. Raises EdgeNESError with what to do."""
        return import_module(f"tune_jobs.tools.{self.module}").run(self)

    def text(self, answer: dict[str, Any]) -> str:
        """The answer in words."""
        return import_module(f"tune_jobs.tools.{self.module}").text(answer)

    def status(self, answer: dict[str, Any]) -> int:
        """The exit status: 0 unless the answer is bad news."""
        return 0


@dataclass(frozen=True, kw_only=True)
class StudyCommand(Command):
    """A command on one study."""

    study: Positional[Path]
    """The study's folder."""
    storage: str | None = None
    """The Optuna study, if it does not lie in the folder: as given to the sweep."""


@dataclass(frozen=True, kw_only=True)
class WithData(Command):
    """A command that needs the study's data: their content says that they are the same, wherever they lie."""

    dataset: str | None = None
    """The study's data set, if its file or folder is elsewhere now."""
    root: Path | None = None
    """Folder of torchvision's data sets, if that is elsewhere now."""


@dataclass(frozen=True, kw_only=True)
class Status(StudyCommand):
    """Show how far a study is: its driver, stages, trials, the best one, failures, disk."""

    module = "status"


@dataclass(frozen=True, kw_only=True)
class Doctor(StudyCommand):
    """Find a study's damaged files and a dead driver; exit status 1 if a file cannot be read. Nothing is changed."""

    module = "doctor"

    def status(self, answer: dict[str, Any]) -> int:
        return 0 if answer["sound"] else 1


@dataclass(frozen=True, kw_only=True)
class Clean(StudyCommand):
    """Shrink a finished study to what its report, its ensemble and further trials need.

    Stored candidates stay only for the finalists and the baselines; a resumed study retrains others that it needs.
    """

    module = "clean"
    dry_run: bool = False
    """Only show what would be removed."""


@dataclass(frozen=True, kw_only=True)
class CacheCommand(Command):
    """Show where the cache of all studies is and what it holds, or clear it: no study needs it."""

    module = "cache"
    cache: str | None = None
    """The cache's folder; by default that of the studies."""
    clear: bool = False
    """Remove all that it holds."""


@dataclass(frozen=True, kw_only=True)
class Export(StudyCommand):
    """Pack a study into one file, to resume it on another machine; it may be running."""

    module = "export_study"
    archive: Positional[Path]
    """The file to write, OUT.tar."""


@dataclass(frozen=True, kw_only=True)
class Import(WithData):
    """Unpack an exported study into a new folder, check every file, and print the command that resumes it."""

    module = "import_study"
    archive: Positional[Path]
    """The file that export wrote."""
    folder: Positional[Path]
    """The study's new folder."""


@dataclass(frozen=True, kw_only=True)
class Replay(WithData, StudyCommand):
    """Run one trial again from scratch and compare all numbers with its record; exit status 1 if one differs.

    The study's folder is only read.
    """

    module = "replay"
    trial: Positional[int]
    """The trial's number."""
    tolerance: float | None = None
    """Difference allowed, as a fraction of the larger number, absolute below 1. By default 0 on the CPU of the
    study's platform and versions, else 0.02."""
    device: Device = "auto"
    """Where to compute; auto is where the study did, or the CPU."""

    def status(self, answer: dict[str, Any]) -> int:
        return 0 if answer["equal"] else 1


@dataclass(frozen=True, kw_only=True)
class Reselect(WithData, StudyCommand):
    """Choose another ensemble from the study's hypernetwork, or from that of one trial, without a sweep.

    Candidates that the study has not stored are retrained. The members are chosen on the validation images, and the
    test images are read once more. A sweep may run in the same folder meanwhile.
    """

    module = "ensemble"
    size: int | None = None
    """Members of the ensemble; by default as many as the study's has."""
    candidates: int | None = None
    """Distinct genotypes to draw and to choose from; by default as many as the study's."""
    lambdas: Annotated[str | None, arg(name="lambda", metavar="LOW:HIGH")] = None
    """Numbers of edges shared with the optimal genotype at which to draw them; by default all. Where HIGH is the
    greatest, seeds of the optimal genotype itself are in the pool too, as in the study's."""
    trial: int | None = None
    """Trial whose hypernetwork to use; by default the one that the study chose."""
    selection: str | None = None
    """Method that chooses the members: exact, beam, diverse, greedy, greedy-with-replacement, top or weighted; auto is
    exact where that takes about a minute at most, else greedy; by default the study's."""
    calibration: Literal[*CALIBRATIONS] | None = None
    """How to calibrate the ensemble; by default as the study."""
    best_prefix: bool = False
    """Take the best ensemble of all sizes up to --size."""
    criterion: Literal[*CRITERIA] | None = None
    """What the best ensemble is best in; by default as in the study."""
    select_under: Literal["clean", "shift"] = "clean"
    """Images that choose and calibrate: V, or with shift V and a corrupted picture of each of its images."""
    device: Device = "auto"
    """Where to compute; auto is where the study did, or the CPU."""
    out: Path | None = None
    """Folder of the ensemble; by default one in ensembles/ whose name shows the settings."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Score an ensemble on labelled, corrupted and strange images, with a page: accuracy, NLL, ECE, Brier, AUROC."""

    module = "evaluate"
    ensemble: Positional[Path]
    """Folder of the ensemble, or of its study."""
    out: Path
    """Folder of the page and its tables; corruptions that were computed there are not computed again."""
    dataset: str | None = None
    """digits, cifar10, cifar100, fashionmnist, an .npz, or a folder of pictures; by default the study's."""
    root: Path | None = None
    """Folder of torchvision's data sets."""
    download: bool = False
    """Let torchvision download a data set that is not there."""
    skip_broken: bool = False
    """Leave out pictures that cannot be read, and list them; as in the study for its own data."""
    part: Literal["test", "validation", "all"] | None = None
    """By default test; of the study's own data validation, since its test images are read only on request. all is for
    other data."""
    shift: bool = False
    """Fifteen corruptions at five severities, computed of these images."""
    corrupted: Path | None = None
    """Folder of CIFAR-10-C or CIFAR-100-C: its arrays in the place of computed corruptions."""
    ood: tuple[str, ...] = ()
    """Strange images to detect: another data set, inverted, noise."""
    device: Device = "auto"
    """Where to compute; auto is a GPU where there is one."""


@dataclass(frozen=True, kw_only=True)
class Convert(WithData):
    """Write a saved ensemble as one file for other runtimes, and check it against predict.

    It takes uint8 images (batch, H, W, channels) and gives probabilities and their entropy. Normalisation, weights and
    calibration are in it.
    """

    module = "convert"
    ensemble: Positional[Path]
    """Folder of the ensemble, or of its study."""
    to: Literal["onnx", "torch"] = "onnx"
    """onnx (needs the extra `export`), or a program of torch.export."""
    out: Path
    """The file to write."""
    int8: bool = False
    """Round ONNX to int8 by training images, and print what that costs on the validation images."""


@dataclass(frozen=True, kw_only=True)
class Distill(WithData):
    """Train one network on an ensemble's probabilities, to predict at the cost of one member.

    It is trained on W and H as a member is, kept in the study's store, scored on the validation images beside the
    ensemble, and saved as an ensemble of one.
    """

    module = "distill"
    ensemble: Positional[Path]
    """Folder of the study, or of an ensemble in it."""
    storage: str | None = None
    """The Optuna study, if it does not lie in the study's folder."""
    member: int | None = None
    """The member, counted from 1, whose genotype and sizes the network has; by default the one with the largest weight,
    of equals the best on the validation images."""
    epochs: int | None = None
    """Epochs of the training; by default the member's."""
    device: Device = "auto"
    """Where to compute; auto is where the study did, or the CPU."""
    out: Path | None = None
    """Folder of the network; by default one in ensembles/ of the study."""


@dataclass(frozen=True, kw_only=True)
class Serve(Command):
    """Serve an ensemble by HTTP on Ray Serve (the extra `serve`): POST /predict, GET /health; Ctrl-C stops it."""

    module = "serve"
    ensemble: Positional[Path]
    """Folder of the ensemble, or of its study."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines reach it."""
    port: int = 8000
    """Port to listen on."""
    replicas: int = 1
    """Processes that compute."""
    cpus_per_replica: int = 1
    """CPUs, and threads, of each."""
    batch_size: int = 32
    """Waiting requests that are computed together, at most."""
    max_bytes: int = 10_000_000
    """Bytes of a request at most; larger ones are refused."""
    max_pixels: int = 25_000_000
    """Pixels of a picture at most; larger ones are refused before they are decoded."""
    address: str | None = None
    """Ray cluster to join; by default RAY_ADDRESS, else this machine's own. Where Ray Serve runs there already, its
    host and port stay."""


@dataclass(frozen=True, kw_only=True)
class Compare(Command):
    """Compare two studies: their settings, trials and ensembles, and which differences are only noise.

    Trials of the same number and parameters are pairs; with fewer than two pairs, all trials are compared as groups.
    """

    module = "compare"
    a: Positional[Path]
    """Folder of the first study, A."""
    b: Positional[Path]
    """Folder of the second study, B; differences are B - A."""
    storage_a: str | None = None
    """The Optuna study of A, if it does not lie in its folder."""
    storage_b: str | None = None
    """The Optuna study of B, if it does not lie in its folder."""
    out: Path | None = None
    """Write a page with the curves of both too, one .html file."""


@dataclass(frozen=True, kw_only=True)
class Submit(Command):
    """Check a study's arguments, print the command that runs it on a cluster, and run it."""

    module = "submit"
    target: Positional[str]
    """http://HOST:8265 or ray://HOST:10001 (a running cluster), CLUSTER.yaml (one of `ray up`), slurm or SCRIPT.sh."""
    arguments: Annotated[Positional[tuple[str, ...]], arg(metavar="[-- OPTION ...]")] = ()
    """Options of studies/anneal_sweep.py, after --. --out must be a folder that all nodes share."""
    dry_run: bool = False
    """Only print the command."""

    def status(self, answer: dict[str, Any]) -> int:
        return answer["status"] or 0


@dataclass(frozen=True, kw_only=True)
class ClusterFile(Command):
    """Print a file that starts a cluster: cluster-file slurm > my.sh. What to edit stands at its top."""

    module = "cluster_file"
    name: Positional[Literal[*FILES]]
    """local: machines over ssh; aws: EC2 with spot workers; slurm: a batch script; kuberay: a RayJob."""


COMMANDS: dict[str, Callable[..., Any]] = {
    "status": Status,
    "doctor": Doctor,
    "clean": Clean,
    "cache": CacheCommand,
    "export": Export,
    "import": Import,
    "replay": Replay,
    "ensemble": Reselect,
    "evaluate": Evaluate,
    "convert": Convert,
    "distill": Distill,
    "serve": Serve,
    "compare": Compare,
    "submit": Submit,
    "cluster-file": ClusterFile,
}
"""The commands, in the order of the help."""
