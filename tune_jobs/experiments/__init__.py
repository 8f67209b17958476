"""What the experiments of the paper have in common."""
