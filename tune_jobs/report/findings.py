"""What an experiment found: its page, and the same as Markdown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from edgenes.checkpoint import write_text
from tune_jobs.report.page import Section, heads, write_page

__all__ = ["Findings", "Section", "write_findings"]


@dataclass(frozen=True)
class Findings:
    """A study's title, its conclusions (plain sentences, computed from the numbers), its sections, and its frames."""

    title: str
    conclusions: Sequence[str]
    sections: Sequence[Section]
    frames: dict[str, pd.DataFrame]


def write_findings(folder: Path, findings: Findings, provenance: dict[str, Any]) -> Path:
    """Write report/index.html, report/report.md and a CSV for each frame; returns the page's path."""
    sections = [*findings.sections, Section("Configuration", code=json.dumps(provenance, indent=2))]
    path = write_page(folder / "report", findings.title, findings.conclusions, sections, findings.frames)
    write_text(path.with_name("report.md"), _markdown(findings))
    return path


def _markdown(findings: Findings) -> str:
    """The conclusions and tables, for a document."""
    parts = [f"# {findings.title}", "\n".join(f"- {sentence}" for sentence in findings.conclusions)]
    for section in findings.sections:
        if section.table is not None:
            parts += [f"## {section.heading}", *([section.text] if section.text else []), _rows(section.table)]
    return "\n\n".join(parts) + "\n"


def _rows(table: pd.DataFrame) -> str:
    texts = table.astype(object).where(table.notna(), "").astype(str).to_numpy().tolist()
    lines = [heads(table), ["---"] * table.shape[1], *texts]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
