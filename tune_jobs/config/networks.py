"""The cells and networks of a study."""

from dataclasses import dataclass
from typing import Literal

from edgenes.space.genotype import SearchSpace
from edgenes.space.operations import DARTS_OPERATIONS
from edgenes.validation import check_at_least

CELL_TYPES = {"reduction": ("reduction",), "both": ("normal", "reduction")}


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The search space, the supernet, and the networks that are retrained."""

    nodes: int = 4
    """Intermediate nodes of a cell."""
    inputs_per_node: int = 1
    """Incoming edges of a node: paper 1, DARTS 2."""
    cell_types: Literal["reduction", "both"] = "reduction"
    """Kinds of cells that are searched: reduction cells, or normal cells too."""
    operations: tuple[str, ...] = DARTS_OPERATIONS
    """Operations of an edge, or your own by edgenes.register_operation."""
    search_channels: int = 8
    """Channels of the supernet before its first reduction."""
    partial_channels: int = 1
    """Use one in so many channels in the supernet (PC-DARTS: 4)."""
    search_cells: int = 1
    """Cells of the supernet."""
    channels: int = 8
    """Channels of the retrained networks before their first reduction."""
    cells: int = 2
    """Cells of the retrained networks."""
    batch_size: int = 64
    """Images a training step."""
    retraining_batch_size: int | None = None
    """Images a step of a retraining; by default as in the search."""
    drop_path: float = 0.0
    """Greatest probability with which a retraining drops a path."""
    auxiliary: bool = False
    """Retrain with an auxiliary head."""
    darts_layout: bool = False
    """Build stem, pools and auxiliary head as DARTS's code does."""
    cutout: float = 0.0
    """Side of the square that a retraining cuts out of each image, as a share of the image's."""
    mixed_precision: bool = False
    """Train in bfloat16, for GPUs that are made for it."""
    networks_per_gpu: int = 1
    """Networks that a trial on a GPU retrains at once."""

    def __post_init__(self):
        object.__setattr__(self, "operations", tuple(self.operations))
        check_at_least(self, 1, "search_channels", "channels", "networks_per_gpu")
        check_at_least(self, 3 if self.cell_types == "both" else 1, "search_cells", "cells")
        check_at_least(self, 2, "batch_size", *(["retraining_batch_size"] if self.retraining_batch_size else []))
        _ = self.space  # it checks its own fields

    @property
    def space(self) -> SearchSpace:
        """The cells that are searched."""
        return SearchSpace(self.nodes, self.inputs_per_node, CELL_TYPES[self.cell_types], self.operations)

    def check_images(self, size: int) -> None:
        """Raise ConfigError if images of `size` pixels are too small for the cells."""
        from edgenes.nn.network import check_image_size

        for cells in (self.search_cells, self.cells):
            check_image_size(self.space, cells, size)
