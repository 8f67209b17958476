"""What a configuration chooses from; what the names stand for is in the modules that need torch."""

ESTIMATORS = ("exact", "gumbel")
"""Of the shared-edge penalty (`edgenes/space/penalty.py`)."""
INTERPOLATIONS = ("corrected", "as_printed")
"""Between the pivots of a hypernetwork (`edgenes/space/hypernetwork.py`)."""
FORWARDS = ("sampled", "gdas", "mixture")
"""Forward passes of a supernet (`edgenes/nn/supernet.py`)."""
GUIDES = ("predictor", "supernet")
"""Of the search and the hypernetwork: what estimates a genotype's loss after training."""
LEAST_SURVEY = 10
"""Genotypes that a predictor is fitted to at least (`edgenes/predictor.py`)."""
