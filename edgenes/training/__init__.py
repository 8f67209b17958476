"""The training loops: search, hypernetwork, retraining, and what they share."""
