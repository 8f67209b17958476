"""What an experiment found: a page that works offline, the same as Markdown, and every table behind it as a CSV."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from edgenes.checkpoint import write_text
from tune_jobs.report.page import figure_html, page


@dataclass(frozen=True)
class Section:
    """A part of the page: plain text, a figure and a table under a heading, each of them if there is one.

    The rows of `table` are shown; `frame` is the data behind it, written as NAME.csv.
    """

    heading: str
    text: str = ""
    figure: go.Figure | None = None
    table: pd.DataFrame | None = None


@dataclass(frozen=True)
class Findings:
    """A study's title, its conclusions (plain sentences, computed from the numbers), its sections, and its frames."""

    title: str
    conclusions: Sequence[str]
    sections: Sequence[Section]
    frames: dict[str, pd.DataFrame]


def write_findings(folder: Path, findings: Findings, provenance: dict[str, Any]) -> Path:
    """Write report/index.html, report/report.md and a CSV for each frame; returns the page's path."""
    target = folder / "report"
    for name, frame in findings.frames.items():
        write_text(target / f"{name}.csv", frame.to_csv(index=False))
    body = [part for section in findings.sections for part in _section(section)]
    body += ["<h2>Configuration</h2>", f"<pre>{html.escape(json.dumps(provenance, indent=2))}</pre>"]
    lead = "<br>".join(html.escape(sentence) for sentence in findings.conclusions)
    write_text(target / "report.md", _markdown(findings))
    write_text(target / "index.html", page(findings.title, lead, "\n".join(body)))
    return target / "index.html"


def _section(section: Section) -> list[str]:
    parts = [f"<h2>{html.escape(section.heading)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.figure is not None:
        parts.append(figure_html(section.figure))
    if section.table is not None:
        parts.append(f"<div class='wide data'>{section.table.to_html(index=False, border=0, na_rep='')}</div>")
    return parts


def _markdown(findings: Findings) -> str:
    """The conclusions and tables, for a document."""
    parts = [f"# {findings.title}", "\n".join(f"- {sentence}" for sentence in findings.conclusions)]
    for section in findings.sections:
        if section.table is not None:
            parts += [f"## {section.heading}", *([section.text] if section.text else []), _rows(section.table)]
    return "\n\n".join(parts) + "\n"


def _rows(table: pd.DataFrame) -> str:
    names = [" ".join(filter(None, name)) if isinstance(name, tuple) else str(name) for name in table.columns]
    lines = [
        names,
        ["---"] * len(names),
        *table.astype(object).where(table.notna(), "").astype(str).to_numpy().tolist(),
    ]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
