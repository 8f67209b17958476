"""The report: one page that works offline, every frame behind a picture beside it as a CSV."""

import html
import json
import math
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna import visualization
from optuna.trial import TrialState

from edgenes.checkpoint import write_text
from tune_jobs.report.cell_drawing import cell_figure, cell_frame
from tune_jobs.report.comparison import NAMES, comparison, member_rows
from tune_jobs.report.figures import (
    control_figure,
    control_frame,
    ensemble_figure,
    members_frame,
    weight_figure,
    weight_frame,
)
from tune_jobs.report.page import figure_html, page
from tune_jobs.study.trials import trials_frame


def write_report(folder: Path, study: optuna.Study, result: dict[str, Any]) -> Path:
    """Write report/index.html and its CSV files in the study's folder; returns the page's path."""
    target = folder / "report"
    target.mkdir(exist_ok=True)
    trials = trials_frame(study)
    if "pruned_value" in trials:
        trials["value"] = trials["value"].fillna(trials["pruned_value"])
    best = study.get_trials(deepcopy=False)[result["best_trial"]["number"]]
    weights, starts = weight_frame(trials), weight_frame(trials, "c_start")
    control = control_frame(best.user_attrs["control_curve"], best.user_attrs.get("candidates", []))
    rows = comparison(result)
    members = members_frame(rows)
    frames = {
        "weights": weights,
        "control": control,
        "comparison": pd.DataFrame(rows),
        "members": pd.DataFrame(member_rows(result)),
        "cells": _cells_frame(result),
        "trials": trials,
    }
    if _has_importances(study):
        importances = optuna.importance.get_param_importances(study)
        frames["importances"] = pd.DataFrame(importances.items(), columns=["parameter", "importance"])
    for name, frame in frames.items():
        write_text(target / f"{name}.csv", frame.to_csv(index=False))

    parts = [
        "<h2>The ensemble and what it stands beside</h2>",
        figure_html(ensemble_figure(members)),
        _table(rows[:1] + member_rows(result) + rows[1:]),
        "<h2>Weight of the regulariser against accuracy</h2>",
        "<p>Each point is a trial. Error bars are one standard error over the validation images; trials whose "
        "control error is above the limit may not win and are drawn all the same.</p>",
        figure_html(weight_figure(weights)),
        figure_html(weight_figure(starts, "c_start")),
        f"<h2>Control of the diversity: trial {best.number}</h2>",
        "<p>Edges shared with the optimal genotype against the lambda asked for, and the validation accuracy of "
        "shortly retrained candidates.</p>",
        figure_html(control_figure(control)),
        "<h2>Cells</h2>",
        *_cells(result),
        "<h2>The study</h2>",
        *[figure_html(figure) for figure in _study_figures(study)],
        "<h2>Configuration</h2>",
        f"<pre>{html.escape(json.dumps(_provenance(result), indent=2))}</pre>",
    ]
    write_text(target / "index.html", page("EdgeNES study", _headline(result), "\n".join(parts)))
    return target / "index.html"


def _headline(result: dict[str, Any]) -> str:
    test, spread = result["test"]["accuracy"], result["test"]["standard_error"]
    text = (
        f"An ensemble of {len(result['members'])} networks reaches a test accuracy of "
        f"<b>{test:.3f} ± {spread:.3f}</b> (one standard error), chosen from the hypernetwork of trial "
        f"{result['best_trial']['number']}, control error {result['control_error']:.2f}."
    )
    if not result["feasible"]:
        text += " <b>No trial was feasible: the one with the least control error was taken.</b>"
    rivals = [row for row in comparison(result) if row["name"] == NAMES["random_ensemble"]]
    if rivals:
        difference = test - rivals[0]["test"]
        error = math.hypot(spread, rivals[0]["test_standard_error"])
        verdict = "not distinguishable from" if abs(difference) < 2 * error else "different from"
        text += (
            f" The best ensemble of as many random genotypes reaches {rivals[0]['test']:.3f}: {verdict} it on "
            "these images (two standard errors of the difference, taken as independent)."
        )
    return text


def _table(rows: list[dict[str, Any]]) -> str:
    head = "<tr><th></th><th>validation</th><th>test</th><th>test NLL</th><th>test ECE</th></tr>"
    body = "".join(
        f"<tr><td>{html.escape(row['name'])}</td><td>{row['validation']:.3f}</td>"
        f"<td>{row['test']:.3f} ± {row['test_standard_error']:.3f}</td><td>{row['test_nll']:.3f}</td>"
        f"<td>{row['test_ece']:.3f}</td></tr>"
        for row in rows
    )
    return f"<div class=wide><table>{head}{body}</table></div>"


def _cells(result: dict[str, Any]) -> list[str]:
    optimal = result["optimal"]
    cells = [("Optimal genotype", cell_figure(optimal))]
    cells += [
        (
            f"Member {k + 1}: lambda {member['lambda']:.2f}, {member['shared']} shared edges, "
            f"test {member['test']['accuracy']:.3f}",
            cell_figure(member["genotype"], optimal),
        )
        for k, member in enumerate(result["members"])
    ]
    return [
        "<div class=cells>",
        *[f"<div><b>{title}</b>{figure_html(figure)}</div>" for title, figure in cells],
        "</div>",
    ]


def _cells_frame(result: dict[str, Any]) -> pd.DataFrame:
    """The edges of the optimal cell and of the members' cells, one a row."""
    optimal = result["optimal"]
    frames = [cell_frame(optimal).assign(cell="optimal genotype")]
    for k, member in enumerate(result["members"]):
        frames.append(cell_frame(member["genotype"], optimal).assign(cell=f"member {k + 1}"))
    return pd.concat(frames, ignore_index=True)


def _has_importances(study: optuna.Study) -> bool:
    """Importances need one objective and complete trials that differ."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return len(study.directions) == 1 and len({trial.values[0] for trial in complete}) > 1


def _study_figures(study: optuna.Study) -> list[go.Figure]:
    """Optuna's own pictures, those that the number of complete trials allows."""
    if len(study.directions) > 1:
        return [visualization.plot_pareto_front(study, target_names=["accuracy", "control error"])]
    figures = [
        visualization.plot_optimization_history(study, target_name="accuracy"),
        visualization.plot_parallel_coordinate(study, target_name="accuracy"),
    ]
    if _has_importances(study):
        figures.insert(0, visualization.plot_param_importances(study, target_name="accuracy"))
    for figure in figures:
        figure.update_layout(template="plotly_white", autosize=True)
    return figures


def _provenance(result: dict[str, Any]) -> dict[str, Any]:
    names = ("best_trial", "config", "versions", "commit", "device", "seed", "seconds", "test_reads")
    return {name: result.get(name) for name in names}
