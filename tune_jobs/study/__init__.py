"""The Optuna study: its space, samplers and storage, and what it has found."""
