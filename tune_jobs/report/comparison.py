"""The ensemble beside its baselines, as tables."""

from typing import Any

NAMES = {
    "ensemble": "EdgeNES ensemble",
    "mean_member": "Mean single member",
    "best_member": "Best single member",
    "optimal_ensemble": "Optimal genotype, retrained n times",
    "random_ensemble": "Best n of random genotypes, equal cost",
    "logistic_regression": "Logistic regression",
}
"""What the rows of the final comparison are called."""


def comparison(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows {"name", "validation", "test", "test_standard_error", "test_nll", "test_ece"} of the final table."""
    found = {"ensemble": result, **result["baseline"]}
    return [_row(name, found[key]) for key, name in NAMES.items() if key in found]


def member_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The ensemble's members as rows of the same columns."""
    members = enumerate(result["members"], start=1)
    return [_row(f"Member {k}, {origin(member)}", member) for k, member in members]


def origin(member: dict[str, Any]) -> str:
    """Where a member's genotype comes from: the hypernetwork at a lambda, or the search."""
    return "the optimal genotype" if member["lambda"] is None else f"lambda {member['lambda']:.2f}"


def _row(name: str, scores: dict[str, Any]) -> dict[str, Any]:
    test = scores["test"]
    return {
        "name": name,
        "validation": scores["validation"]["accuracy"],
        "test": test["accuracy"],
        "test_standard_error": test["standard_error"],
        "test_nll": test["nll"],
        "test_ece": test["ece"],
    }
