"""EdgeNES and the methods it is compared with, each from data to an ensemble."""
