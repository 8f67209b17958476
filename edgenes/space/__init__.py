"""The search space and its mathematics: genotypes, relaxed logits, the hypernetwork, the penalty."""
