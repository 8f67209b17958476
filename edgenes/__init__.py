"""EdgeNES: ensembles of neural networks searched in one shot, their diversity controlled by shared edges."""

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.data.dataset import Dataset, Part
from edgenes.data.loading import load_data
from edgenes.data.sources import Source, register_source
from edgenes.ensemble import Ensemble
from edgenes.errors import CheckpointError, ConfigError, DataError, DivergedError, EdgeNESError
from edgenes.methods.catalogue import register_method
from edgenes.nn.network import Network
from edgenes.nn.supernet import Supernet
from edgenes.selection import Selection, register_selection, select_ensemble
from edgenes.space.genotype import Edge, Genotype, SearchSpace, deviate, random_genotype, shared_edges
from edgenes.space.hypernetwork import Candidate, Hypernetwork, control_curve, control_error, draw_candidates
from edgenes.space.logits import ArchitectureLogits
from edgenes.space.operations import register_operation
from edgenes.space.penalty import shared_edge_penalty
from edgenes.training.darts import search_genotype
from edgenes.training.edgenes import train_hypernetwork
from edgenes.training.retraining import predict, train_network

__version__ = "0.2.0"

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
    "Source",
    "Supernet",
    "TrainingConfig",
    "control_curve",
    "control_error",
    "deviate",
    "draw_candidates",
    "load_data",
    "predict",
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
