"""The page that people read beside a saved ensemble, with the header that the Hugging Face hub reads."""

import json
from collections.abc import Iterator
from typing import Any

from edgenes.config import TrainingConfig
from edgenes.parsing import printable
from edgenes.space.genotype import Genotype
from edgenes.space.operations import label

TAGS = ["edgenes", "ensemble", "neural-architecture-search", "uncertainty"]
METRICS = {"accuracy": "accuracy", "nll": "NLL (nats)", "ece": "ECE", "brier": "Brier score"}
ERRORS = {"accuracy": "standard_error", "nll": "nll_standard_error"}
NAMES = 20
"""Classes that are named."""

LIMITS = """\
- Every image gets one of these classes, an image of something else too: `ensemble.uncertainty(images)` shows what the
  members disagree about, and `edgenes.Abstention` decides which images are left to a person.
- The members and the calibration were chosen on the validation images, so the numbers on those are flattered.
- The test numbers hold for images from the same source as the training images. Other cameras, light or places can be
  worse: `python -m tune_jobs evaluate` measures them."""


def model_card(
    genotypes: list[Genotype],
    configs: list[TrainingConfig],
    weights: tuple[float, ...],
    shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    calibrated: bool,
    card: dict[str, Any],
) -> str:
    """Markdown: data, members and their cells, scores, limits, how to load it. `shape` is that of an image, (H, W, C).

    `card` is that of the ensemble: "dataset", "license", "validation", "test" and "members" are shown where they are
    there, as `tune_jobs` leaves them.
    """
    size = f"{shape[0]} x {shape[1]} pixels, {shape[2]} channel{'s' if shape[2] > 1 else ''}"
    data = printable(str(card.get("dataset", "unnamed data")))
    named = ", ".join(printable(name) for name in class_names[:NAMES]) + (", ..." if len(class_names) > NAMES else "")
    scores = _table(card, weights)
    parts = [
        _header(data, card),
        f"# Ensemble of {len(genotypes)} networks for {data}",
        "Its members were found by EdgeNES, one-shot neural ensemble search. It gives the "
        f"{'calibrated ' if calibrated else ''}mean of their probabilities, and how uncertain it is of each image.",
        "## Data",
        f"{data}: images of {size}; {len(class_names)} classes: {named}.",
        "## Numbers",
        scores or "None were noted.",
        "## Members",
        *(
            f"Member {k}: weight {weight:.2f}, {config.cells} cells, {config.channels} channels.\n\n"
            f"```text\n{draw(genotype)}\n```"
            for k, (genotype, config, weight) in enumerate(zip(genotypes, configs, weights, strict=True), start=1)
        ),
        "## Limits",
        LIMITS,
        "## Use",
        "```python\nfrom edgenes import Ensemble\n\n"
        'ensemble = Ensemble.from_pretrained("FOLDER or USER/NAME")\n'
        'probabilities = ensemble.predict(["image.png"])\n```',
    ]
    return "\n\n".join(parts) + "\n"


def draw(genotype: Genotype) -> str:
    """The cells of a genotype in text, a line an edge: from where, by which operation, into which node."""
    lines = []
    for name, cell in zip(genotype.space.cell_types, genotype.cells, strict=True):
        lines.append(f"{name} cell")
        for node, edges in enumerate(cell, start=2):
            for edge in edges:
                source = f"in {edge.input}" if edge.input < 2 else f"node {edge.input}"
                lines.append(f"  {source} {f' {label(edge.operation)} ':─^{28 - len(source)}}▶ node {node}")
    return "\n".join(lines)


def _header(data: str, card: dict[str, Any]) -> str:
    fields: dict[str, Any] = {
        "library_name": "edgenes",
        "license": str(card.get("license", "unknown")),
        "pipeline_tag": "image-classification",
        "tags": TAGS,
        "metrics": ["accuracy", "brier_score"],
    }
    test = _scores(card.get("test"))
    if test:
        metrics = [{"type": name, "value": value} for name, value in test.items() if name in METRICS]
        task, of = {"type": "image-classification"}, {"type": data, "name": data, "split": "test"}
        results = [{"task": task, "dataset": of, "metrics": metrics}]
        fields["model-index"] = [{"name": f"ensemble for {data}", "results": results}]
    lines = (f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items())  # also YAML
    return "\n".join(["---", *lines, "---"])


def _table(card: dict[str, Any], weights: tuple[float, ...]) -> str:
    """The scores of the ensemble, and of its members on the test images; "" where there are none."""
    members = card.get("members")
    members = members if isinstance(members, list) and len(members) == len(weights) else []
    rows = [("ensemble, test", card.get("test")), ("ensemble, validation", card.get("validation"))]
    rows += [(f"member {k}, test", m.get("test") if isinstance(m, dict) else None) for k, m in enumerate(members, 1)]
    lines = [f"| {name} | {' | '.join(_cells(found))} |" for name, each in rows if (found := _scores(each))]
    header = f"| images | {' | '.join(METRICS.values())} |\n|---|{'---|' * len(METRICS)}\n"
    return header + "\n".join(lines) + "\n\n± is a standard error." if lines else ""


def _cells(scores: dict[str, float]) -> Iterator[str]:
    for name in METRICS:
        spread = scores.get(ERRORS.get(name, ""))
        value = f"{scores[name]:.4f}" if name in scores else ""
        yield value if spread is None else f"{value} ± {spread:.4f}"


def _scores(value: Any) -> dict[str, float]:
    """The numbers among what a card has as scores."""
    found = value if isinstance(value, dict) else {}
    return {name: number for name, number in found.items() if type(number) in (int, float)}
