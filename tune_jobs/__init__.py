"""How a study runs: Ray Tune executes, an Optuna study remembers."""
