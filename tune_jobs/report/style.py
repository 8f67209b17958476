"""One look for all figures: colours, fonts, margins, and the small parts that several figures share."""

import pandas as pd
import plotly.graph_objects as go

# Okabe and Ito's blue and vermillion, which the colour-blind tell apart.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
GREY, INK, LINE = "#8A8F98", "#24292F", "#E3E6EA"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


def style(figure: go.Figure, title: str | None, height: int) -> None:
    """Gives a figure the common look, a title and a height in pixels; its width is that of the page."""
    axis = {
        "gridcolor": LINE,
        "linecolor": GREY,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "tickcolor": GREY,
        "automargin": True,
        "title": {"standoff": 8},
    }
    figure.update_layout(
        template=go.layout.Template(
            layout={
                "font": {"family": FONT, "size": 13, "color": INK},
                "paper_bgcolor": "white",
                "plot_bgcolor": "white",
                "xaxis": axis,
                "yaxis": axis,
                "hoverlabel": {"bgcolor": "white", "font": {"family": FONT, "size": 12}},
            }
        ),
        autosize=True,
        height=height,
        margin={"l": 60, "r": 16, "t": 70, "b": 60},
        title={
            "text": title,
            "x": 0,
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12, "l": 12},
            "font": {"size": 17},
        },
        # Growing upwards from the plot, with room for two rows of entries on a narrow page.
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"},
        modebar={"remove": ["zoom", "pan", "zoomIn", "zoomOut", "autoScale", "select", "lasso"]},
        hovermode="closest",
    )


def with_error(value: float, error: float) -> str:
    """A value and its standard error, where that is known, to three decimals."""
    return f"{value:.3f}" + ("" if pd.isna(error) else f" ± {error:.3f}")
