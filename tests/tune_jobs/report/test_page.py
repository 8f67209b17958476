"""A page is whole, works offline and shows text as text; an experiment's has the same numbers as Markdown and CSV."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from tune_jobs.report.findings import Findings, write_findings
from tune_jobs.report.page import Section, table_html

TABLE = pd.DataFrame({"method": ["a|b", "<i>c</i>"], "accuracy": [0.5, np.nan], ("search", "s"): [1, 2]})


@pytest.fixture
def report(tmp_path):
    sections = [
        Section("First & foremost", "Words < 3.", go.Figure(), TABLE),
        Section("", drawings=["<svg>drawn</svg>"]),
        Section("Second", "No table.", code="x < 1"),
    ]
    findings = Findings("A <title>", ["One & another.", "Two."], sections, {"numbers": TABLE})
    path = write_findings(tmp_path, findings, {"seed": 0})
    assert path == tmp_path / "report" / "index.html"
    return path.parent


def test_the_page_works_offline_and_shows_text_as_text(report):
    page = (report / "index.html").read_text()
    for part in (
        "A &lt;title&gt;",
        "One &amp; another.<br>Two.",
        "<h2>First &amp; foremost</h2><p>Words &lt; 3.</p>",
        "&lt;i&gt;c&lt;/i&gt;",
        "<svg>drawn</svg>",
        "<pre>x &lt; 1</pre>",
        "&quot;seed&quot;: 0",
        "Plotly.newPlot",
    ):
        assert part in page
    for part in ("<i>c</i>", "<script src", "<link", "<h2></h2>"):
        assert part not in page


def test_the_markdown_has_conclusions_and_tables(report):
    lines = (report / "report.md").read_text().splitlines()
    assert lines[:4] == ["# A <title>", "", "- One & another.", "- Two."]
    assert "| method | accuracy | search s |" in lines and r"| a\|b | 0.5 | 1 |" in lines
    assert "| <i>c</i> |  | 2 |" in lines and "## Second" not in lines


def test_every_frame_is_a_csv(report):
    assert len(pd.read_csv(report / "numbers.csv")) == 2


def test_a_table_has_its_numbers_at_the_right_and_nothing_for_nan():
    rows = table_html(TABLE.assign(accuracy=[1 / 3, np.nan])).split("<tr>")[1:]
    assert "<th >method</th><th class=number>accuracy</th><th class=number>search s</th>" in rows[0]
    assert "<td class=number>0.333333</td><td class=number>1</td>" in rows[1]
    assert "<td class=number></td><td class=number>2</td>" in rows[2]
