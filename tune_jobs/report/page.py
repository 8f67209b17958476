"""A page that works offline: sections of text, figures, drawings and tables, and every frame beside it as a CSV."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io

from edgenes.checkpoint import write_text

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#222;margin:0 auto;max-width:1100px;padding:1rem}
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.2rem;margin:2em 0 .3em;border-bottom:1px solid #ddd}
p{max-width:44em}.lead{font-size:1.1rem}.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.25em .8em;text-align:left;white-space:nowrap;border-bottom:1px solid #eee}
td.number,th.number{text-align:right}
pre{background:#f6f6f6;padding:1em;overflow-x:auto;font-size:.8rem}
.drawings{display:flex;flex-wrap:wrap;gap:1rem}.drawings svg{max-width:100%;height:auto}
td svg{width:260px;height:auto;vertical-align:middle}summary{cursor:pointer}
@media(max-width:600px){body{padding:.5rem}td,th{padding:.25em .4em}}
@media print{body{max-width:none}h2{break-after:avoid}tr,svg,.plotly-graph-div{break-inside:avoid}}
@media screen and (prefers-color-scheme:dark){body{background:#15181b;color:#ddd}h2,td,th{border-color:#3a3f44}
pre{background:#22262a}svg:not(svg svg),.plotly-graph-div{filter:invert(.91) hue-rotate(180deg)}
.plotly-graph-div svg{filter:none}a{color:#8ab4f8}}
"""


@dataclass(frozen=True)
class Drawing:
    """SVG, as the cell of a table."""

    svg: str


@dataclass(frozen=True)
class Section:
    """A part of a page, each thing in it optional; one without a heading continues the section above.

    Args:
        drawings: SVG, side by side where the page is wide.
        code: text whose lines and spaces are kept, folded.
    """

    heading: str
    text: str = ""
    figure: go.Figure | None = None
    table: pd.DataFrame | None = None
    drawings: Sequence[str] = ()
    code: str = ""


def page(title: str, lead: Sequence[str], sections: Iterable[Section]) -> str:
    """One HTML page with plotly and the style in it; `lead` holds the sentences under the title."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><script>{plotly.offline.get_plotlyjs()}</script>"
        f"<h1>{html.escape(title)}</h1><p class=lead>{'<br>'.join(map(html.escape, lead))}</p>"
        f"{''.join(map(_section, sections))}</html>\n"
    )


def write_page(
    target: Path, title: str, lead: Sequence[str], sections: Iterable[Section], frames: Mapping[str, pd.DataFrame]
) -> Path:
    """Write index.html and NAME.csv for each frame into the folder `target`; returns the page's path."""
    target.mkdir(exist_ok=True)
    for name, frame in frames.items():
        write_text(target / f"{name}.csv", frame.to_csv(index=False))
    write_text(target / "index.html", page(title, lead, sections))
    return target / "index.html"


def heads(table: pd.DataFrame) -> list[str]:
    """The names of a table's columns, those of several levels joined."""
    return [" ".join(filter(None, name)) if isinstance(name, tuple) else str(name) for name in table.columns]


def table_html(table: pd.DataFrame) -> str:
    """A table with its words at the left of their columns, its numbers at the right, and empty cells for NaN."""
    sides = ["class=number" if pd.api.types.is_numeric_dtype(dtype) else "" for dtype in table.dtypes]
    rows = [_row("th", heads(table), sides), *(_row("td", row, sides) for row in table.itertuples(index=False))]
    return f"<div class=wide><table>{''.join(rows)}</table></div>"


def _row(tag: str, cells: Iterable[Any], sides: list[str]) -> str:
    texts = (cell.svg if isinstance(cell, Drawing) else html.escape(_cell(cell)) for cell in cells)
    return "<tr>" + "".join(f"<{tag} {side}>{text}</{tag}>" for side, text in zip(sides, texts, strict=True)) + "</tr>"


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>" if section.heading else ""]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.figure is not None:
        config = {"responsive": True, "displaylogo": False}
        parts.append(plotly.io.to_html(section.figure, include_plotlyjs=False, full_html=False, config=config))
    if section.table is not None:
        parts.append(table_html(section.table))
    if section.drawings:
        parts.append(f"<div class=drawings>{''.join(section.drawings)}</div>")
    if section.code:
        parts.append(f"<details><summary>Show</summary><pre>{html.escape(section.code)}</pre></details>")
    return "".join(parts)
