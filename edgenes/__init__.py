"""EdgeNES: ensembles of neural networks searched in one shot, their diversity controlled by shared edges."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.dataset import Dataset, Part
from edgenes.data.loading import load_data
from edgenes.data.source import Source
from edgenes.data.sources import register_source
from edgenes.errors import CheckpointError, ConfigError, DataError, DivergedError, EdgeNESError
from edgenes.methods.baselines import register_method
from edgenes.selection import Selection, register_selection, select_ensemble
from edgenes.space.genotype import Edge, Genotype, SearchSpace, deviate, random_genotype, shared_edges
from edgenes.space.operations import register_operation
from edgenes.space.published import published_genotype
from edgenes.uncertainty import Abstention, ConformalSets, Uncertainty

if TYPE_CHECKING:
    from edgenes.ensemble import Ensemble
    from edgenes.estimator import EdgeNESClassifier
    from edgenes.nn.network import Network
    from edgenes.nn.supernet import Supernet
    from edgenes.predictor import PerformancePredictor
    from edgenes.space.hypernetwork import Candidate, Hypernetwork, control_curve, control_error, draw_candidates
    from edgenes.space.logits import ArchitectureLogits
    from edgenes.space.penalty import shared_edge_penalty
    from edgenes.training.darts import search_genotype
    from edgenes.training.edgenes import train_hypernetwork
    from edgenes.training.retraining import predict, train_network

__version__ = "0.2.0"

__all__ = [
    "Abstention",
    "ArchitectureLogits",
    "Candidate",
    "CheckpointError",
    "ConfigError",
    "ConformalSets",
    "DataError",
    "Dataset",
    "DivergedError",
    "Edge",
    "EdgeNESClassifier",
    "EdgeNESError",
    "Ensemble",
    "Genotype",
    "Hypernetwork",
    "HypernetworkConfig",
    "Network",
    "Part",
    "PerformancePredictor",
    "SearchConfig",
    "SearchSpace",
    "Selection",
    "Source",
    "Supernet",
    "TrainingConfig",
    "Uncertainty",
    "control_curve",
    "control_error",
    "deviate",
    "draw_candidates",
    "load_data",
    "predict",
    "published_genotype",
    "random_genotype",
    "register_method",
    "register_operation",
    "register_selection",
    "register_source",
    "search_genotype",
    "select_ensemble",
    "shared_edge_penalty",
    "shared_edges",
    "train_hypernetwork",
    "train_network",
]

_WITH_TORCH = {  # imported when they are used: a configuration is checked, and --help printed, without
    "ArchitectureLogits": "edgenes.space.logits",
    "Candidate": "edgenes.space.hypernetwork",
    "EdgeNESClassifier": "edgenes.estimator",
    "Ensemble": "edgenes.ensemble",
    "Hypernetwork": "edgenes.space.hypernetwork",
    "Network": "edgenes.nn.network",
    "PerformancePredictor": "edgenes.predictor",
    "Supernet": "edgenes.nn.supernet",
    "control_curve": "edgenes.space.hypernetwork",
    "control_error": "edgenes.space.hypernetwork",
    "draw_candidates": "edgenes.space.hypernetwork",
    "predict": "edgenes.training.retraining",
    "search_genotype": "edgenes.training.darts",
    "shared_edge_penalty": "edgenes.space.penalty",
    "train_hypernetwork": "edgenes.training.edgenes",
    "train_network": "edgenes.training.retraining",
}


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        return getattr(import_module(_WITH_TORCH[name]), name)
    raise AttributeError(f"module 'edgenes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_WITH_TORCH]
