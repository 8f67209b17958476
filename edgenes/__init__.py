"""EdgeNES: ensembles of neural networks searched in one shot, their diversity controlled by shared edges."""

from edgenes.candidates import Candidate, draw_candidates
from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data import Dataset, Part, load_data
from edgenes.ensemble import Ensemble
from edgenes.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    EdgeNESError,
    StudyError,
)
from edgenes.genotype import Edge, Genotype, SearchSpace, deviate, random_genotype, shared_edges
from edgenes.hypernetwork import Hypernetwork, control_curve, control_error
from edgenes.network import Network
from edgenes.regularizer import shared_edge_penalty
from edgenes.relaxation import ArchitectureLogits
from edgenes.search import search_genotype, train_hypernetwork
from edgenes.selection import Selection, select_ensemble
from edgenes.supernet import Supernet
from edgenes.training import predict, train_network

__version__ = "0.1.0"

__all__ = [
    "ArchitectureLogits",
    "Candidate",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Dataset",
    "DivergedError",
    "Edge",
    "EdgeNESError",
    "Ensemble",
    "Genotype",
    "Hypernetwork",
    "HypernetworkConfig",
    "Network",
    "Part",
    "SearchConfig",
    "SearchSpace",
    "Selection",
    "StudyError",
    "Supernet",
    "TrainingConfig",
    "control_curve",
    "control_error",
    "deviate",
    "draw_candidates",
    "load_data",
    "predict",
    "random_genotype",
    "search_genotype",
    "select_ensemble",
    "shared_edge_penalty",
    "shared_edges",
    "train_hypernetwork",
    "train_network",
]
