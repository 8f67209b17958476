"""Networks of cells: operations, the mixed cell of the supernet, the discrete network."""
