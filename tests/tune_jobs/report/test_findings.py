"""The page of an experiment: whole, offline, safe, with the same numbers as Markdown and as CSV."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from tune_jobs.report.findings import Findings, Section, write_findings

TABLE = pd.DataFrame({"method": ["a|b", "<i>c</i>"], "accuracy": [0.5, np.nan], ("search", "s"): [1, 2]})
FINDINGS = Findings(
    "A <title>",
    ["One & another.", "Two."],
    [Section("First", "Words.", go.Figure(), TABLE), Section("Second", "No table.")],
    {"numbers": TABLE},
)


def test_the_page_works_offline_and_shows_text_as_text(tmp_path):
    path = write_findings(tmp_path, FINDINGS, {"seed": 0})
    page = path.read_text()
    assert path == tmp_path / "report" / "index.html"
    assert "A &lt;title&gt;" in page and "One &amp; another.<br>Two." in page and "&lt;i&gt;c&lt;/i&gt;" in page
    assert "<i>c</i>" not in page and "&quot;seed&quot;: 0" in page
    assert "<script src" not in page and "<link" not in page and "Plotly.newPlot" in page


def test_the_markdown_has_conclusions_and_tables(tmp_path):
    write_findings(tmp_path, FINDINGS, {})
    lines = (tmp_path / "report" / "report.md").read_text().splitlines()
    assert lines[:4] == ["# A <title>", "", "- One & another.", "- Two."]
    assert "| method | accuracy | search s |" in lines and r"| a\|b | 0.5 | 1 |" in lines
    assert "| <i>c</i> |  | 2 |" in lines and "## Second" not in lines


def test_every_frame_is_a_csv(tmp_path):
    write_findings(tmp_path, FINDINGS, {})
    assert len(pd.read_csv(tmp_path / "report" / "numbers.csv")) == 2
