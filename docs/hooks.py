"""The tables of the options, made while the site is built; `python docs/hooks.py` draws the figures of the concepts."""

import dataclasses
import inspect
import re
from pathlib import Path

import torch

from edgenes import (
    HypernetworkConfig,
    PerformancePredictor,
    SearchSpace,
    load_data,
    random_genotype,
    train_hypernetwork,
)
from edgenes.space.genotype import Genotype, deviate
from edgenes.space.hypernetwork import control_curve
from edgenes.training.schedules import linear
from tune_jobs.config.composition import pieces
from tune_jobs.config.sweep import SweepConfig
from tune_jobs.report.cell_drawing import cell_svg
from tune_jobs.report.control_drawing import control_frame, control_svg
from tune_jobs.report.style import BLUE, GREY, LINE, VERMILLION
from tune_jobs.report.svg import box, drawing, line, scale, text

SPACE = SearchSpace()
EPOCHS = 35


def on_page_markdown(markdown, page, config, files):
    """Put the tables of the options in the place of their mark."""
    return markdown.replace("<!-- options of the study -->", options(SweepConfig))


def options(kind: type) -> str:
    """A heading and a table for each piece of a configuration."""
    parts = {"study": kind, **pieces(kind)}
    return "\n\n".join(f"## {name.title()}\n\n{_table(part, set(parts))}" for name, part in parts.items())


def _table(piece: type, parts: set[str]) -> str:
    rows = ["| option | what it does | default |", "|---|---|---|"]
    words = _docstrings(piece)
    for each in dataclasses.fields(piece):
        if each.name not in parts:
            default = "" if each.default in (None, dataclasses.MISSING) else f"`{_shown(each.default)}`"
            rows.append(f"| `--{each.name.replace('_', '-')}` | {words.get(each.name, '')} | {default} |")
    return "\n".join(rows)


def _shown(value) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _docstrings(piece: type) -> dict[str, str]:
    """The text under each field, of a class and of those that it extends."""
    found: dict[str, str] = {}
    for kind in reversed(piece.__mro__):
        if dataclasses.is_dataclass(kind):
            pairs = re.findall(r'^    (\w+): [^\n]*\n    """(.*?)"""', inspect.getsource(kind), re.M | re.S)
            found |= {name: " ".join(words.split()).replace("|", "\\|") for name, words in pairs}
    return found


def figures() -> dict[str, str]:
    """The drawings of the concepts, by name."""
    optimal = random_genotype(SPACE, torch.Generator().manual_seed(1))
    other = deviate(optimal, 2, torch.Generator().manual_seed(3))
    return {
        "cell": cell_svg(optimal),
        "shared": cell_svg(other, optimal),
        "control": _control(optimal),
        "annealing": _annealing(),
        "parts": _parts(),
    }


def _control(optimal: Genotype) -> str:
    """The control curve of a hypernetwork that is guided by a predictor of made-up losses: convolutions are good."""
    generator = torch.Generator().manual_seed(0)
    genotypes = [random_genotype(SPACE, generator) for _ in range(60)]
    losses = [0.5 + 0.1 * str(genotype).count("pool") for genotype in genotypes]
    guide = PerformancePredictor(SPACE).fit(genotypes, losses)
    config = HypernetworkConfig(space=SPACE, epochs=EPOCHS)
    data = load_data("digits")
    found = train_hypernetwork(config, data, optimal, guide=guide).hypernetwork
    return control_svg(control_frame(control_curve(found, optimal, points_per_edge=8)))


def _annealing() -> str:
    """The weight c up, the temperature t down, by epoch."""
    x, y = scale(0, EPOCHS - 1, 56, 480), scale(0, 1, 200, 30)
    parts = [line([(x(0), y(level)), (x(EPOCHS - 1), y(level))], LINE) for level in (0, 0.5, 1)]
    parts += [text(46, y(level) + 4, f"{level:g}", 12, GREY, "end") for level in (0, 0.5, 1)]
    ends = {"c, weight of the penalty": (0.1, 1.0, BLUE), "t, temperature": (1.0, 0.2, VERMILLION)}
    for place, (name, (start, end, color)) in enumerate(ends.items()):
        values = [(x(epoch), y(linear(start, end, epoch, EPOCHS))) for epoch in range(EPOCHS)]
        parts += [line(values, color, 2), text(70 + 220 * place, 20, name, 13, color)]
    return drawing(510, 235, [*parts, text(268, 226, "epoch of the hypernetwork", 12, GREY, "middle")])


def _parts() -> str:
    """The four disjoint parts of a data set, and what each is for."""
    parts = []
    rows = [("W", "trains weights", BLUE), ("H", "trains the architecture", BLUE), ("V", "chooses", VERMILLION)]
    rows.append(("T", "is read once, at the end", GREY))
    for place, (name, use, color) in enumerate(rows):
        left = 12 + 172 * place
        parts += [box(left, 12, 160, 56, "white", color), text(left + 80, 36, name, 17, color, "middle")]
        parts.append(text(left + 80, 56, use, 12, GREY, "middle"))
    return drawing(700, 80, parts)


if __name__ == "__main__":
    for name, content in figures().items():
        (Path(__file__).parent / "figures" / f"{name}.svg").write_text(content)
