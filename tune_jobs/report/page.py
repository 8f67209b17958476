"""A page of figures and tables, as HTML."""

import html

import plotly.graph_objects as go
import plotly.io

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#222;margin:0 auto;max-width:1100px;padding:1rem}
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.2rem;margin:2em 0 .3em;border-bottom:1px solid #ddd}
p{max-width:44em}table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.25em .8em;
text-align:right;white-space:nowrap;border-bottom:1px solid #eee}
td:first-child,th:first-child{text-align:left;white-space:normal}
.data td:first-child,.data th:first-child{white-space:nowrap}
.wide{overflow-x:auto}pre{background:#f6f6f6;padding:1em;overflow-x:auto;font-size:.8rem}
.lead{font-size:1.1rem}.cells{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(320px,100%),1fr));gap:1rem}
.cells>div{min-width:0}
"""


def page(title: str, lead: str, body: str) -> str:
    """One HTML page that works offline: plotly and the style are in it. `lead` and `body` are HTML."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><script>{plotly.offline.get_plotlyjs()}</script>"
        f"<h1>{html.escape(title)}</h1><p class=lead>{lead}</p>{body}</html>"
    )


def figure_html(figure: go.Figure) -> str:
    """A figure as the part of a `page`."""
    config = {"responsive": True, "displaylogo": False}
    return plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, config=config)
