"""Names that a configuration chooses from; what they name is in the modules that need torch."""

ESTIMATORS = ("exact", "gumbel")
"""Of the shared-edge penalty (`edgenes/space/penalty.py`)."""
INTERPOLATIONS = ("corrected", "as_printed")
"""Between the pivots of a hypernetwork (`edgenes/space/hypernetwork.py`)."""
FORWARDS = ("sampled", "gdas", "mixture")
"""Forward passes of a supernet (`edgenes/nn/supernet.py`)."""
