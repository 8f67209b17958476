"""The report: one page that works offline, every frame behind a picture beside it as a CSV."""

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna import visualization
from optuna.trial import TrialState

from edgenes.predictor import PerformancePredictor
from edgenes.space.genotype import Genotype
from edgenes.space.hypernetwork import CONTROL_LIMIT
from tune_jobs.files.layout import PREDICTOR
from tune_jobs.progress.text import duration
from tune_jobs.report.cell_drawing import cell_frame, cell_svg
from tune_jobs.report.comparison import NAMES, comparison, member_rows, origin
from tune_jobs.report.control_drawing import control_frame, control_svg
from tune_jobs.report.figures import (
    ensemble_figure,
    predictor_frame,
    predictor_section,
    reliability_section,
    weight_figure,
    weight_frame,
)
from tune_jobs.report.page import Drawing, Section, write_page
from tune_jobs.report.style import with_error
from tune_jobs.study.optuna_study import METRICS, study_objectives
from tune_jobs.study.trials import own_trials, trials_frame


def write_report(folder: Path, study: optuna.Study, result: dict[str, Any]) -> Path:
    """Write report/index.html and its CSV files in the study's folder; returns the page's path."""
    trials = trials_frame(study)
    trials["value"] = trials["value"].fillna(trials["pruned_value"])
    ran = trials[
        trials["number"].isin([trial.number for trial in own_trials(study)])
    ]  # and not those that others added
    best = study.get_trials(deepcopy=False)[result["chosen"]["number"]]
    rows = comparison(result)
    genotypes = _genotypes(result)
    optimal, either_input = genotypes["Optimal genotype"], result["config"]["either_input"]
    frames = {
        "weights": weight_frame(ran),
        "control": control_frame(best.user_attrs["control_curve"], best.user_attrs.get("candidates", [])),
        "comparison": pd.DataFrame(rows),
        "reliability": pd.DataFrame(result["calibration"]["reliability"]),
        "members": pd.DataFrame(member_rows(result)),
        "cells": pd.concat(
            cell_frame(genotype, optimal, either_input).assign(cell=title) for title, genotype in genotypes.items()
        ),
        "trials": trials,
    }
    if _has_importances(study):
        importances = optuna.importance.get_param_importances(study)
        frames["importances"] = pd.DataFrame(importances.items(), columns=["parameter", "importance"])
    path = folder / PREDICTOR
    predictor = PerformancePredictor.load(path) if path.exists() else None
    if predictor is not None:
        frames["predictor"] = predictor_frame(predictor)
    sections = [
        Section(
            "The ensemble and its baselines",
            "Each dot is the test accuracy, its bar one standard error over the test images. Differences below two "
            "standard errors may be chance.",
            ensemble_figure(frames["comparison"]),
            _table(rows),
        ),
        Section(
            "The members",
            "Networks of the ensemble, chosen on V; dashed edges are not in the optimal genotype.",
            table=_members(result, genotypes),
        ),
        reliability_section(result["calibration"]),
        *([] if predictor is None else [predictor_section(predictor)]),
        Section(
            "Accuracy against the penalty's weight c",
            "Each point is a trial. Error bars are one standard error over the validation images. Trials whose "
            f"control error is above {CONTROL_LIMIT} edges are drawn, but cannot win.",
            weight_figure(frames["weights"]),
        ),
        Section("", figure=weight_figure(weight_frame(ran, "c_start"), "c_start")),
        Section(
            f"Does lambda control the genotype? (trial {best.number})",
            "Edges shared with the optimal genotype against lambda, the requested number. The dots show the validation "
            "accuracy of shortly retrained candidates.",
            drawings=[control_svg(frames["control"])],
        ),
        Section(
            "Cells",
            "Dashed edges are not in the optimal genotype.",
            drawings=[
                cell_svg(genotype, None if genotype is optimal else optimal, title, either_input)
                for title, genotype in genotypes.items()
            ],
        ),
        Section(
            "The study",
            "Optuna's own pictures: which parameters mattered, the best value so far, and each trial as a line through "
            "its parameters."
            + (
                " Those that taught the sampler, and did not run here, are among them."
                if len(ran) < len(trials)
                else ""
            ),
        ),
        *(Section("", figure=figure) for figure in study_figures(study)),
        Section(
            "Settings and versions",
            "All that is needed to repeat the study.",
            code=json.dumps(_provenance(result), indent=2),
        ),
    ]
    return write_page(folder / "report", f"EdgeNES study of {_data(result)}", _headline(result), sections, frames)


def _data(result: dict[str, Any]) -> str:
    """The data set's name."""
    return Path(result["config"]["dataset"]).stem


def _headline(result: dict[str, Any]) -> list[str]:
    test, spread = result["test"]["accuracy"], result["test"]["standard_error"]
    sentences = [
        f"On {_data(result)} an ensemble of {len(result['members'])} networks reaches a test accuracy of {test:.3f} ± "
        f"{spread:.3f} (one standard error). Its hypernetwork is that of trial {result['chosen']['number']} (control "
        f"error {result['control_error']:.2f}), the best of the finalists after full retraining. The best of the "
        f"sweep, after short ones, was trial {result['best_of_sweep']['number']}."
    ]
    if result["config"]["smoke_test"]:
        sentences.insert(0, "A smoke test: its networks are hardly trained, so that its numbers mean nothing.")
    if result.get("ended"):
        sentences.append(f"The sweep ended after {result['trials']} trials: {result['ended']}.")
    if not result["feasible"]:
        sentences.append("No trial was feasible: the one with the least control error was taken.")
    stages = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in result["seconds"].items())
    sentences.append(f"The study took {duration(sum(result['seconds'].values()))}: {stages}.")
    rivals = [row for row in comparison(result) if row["name"] == NAMES["random_ensemble"]]
    if rivals:
        difference = test - rivals[0]["test"]
        error = math.hypot(spread, rivals[0]["test_standard_error"])
        verdict = "not distinguishable from" if abs(difference) < 2 * error else "different from"
        sentences.append(
            f"The best ensemble of random genotypes, trained on as many images as what led to this one, reaches "
            f"{rivals[0]['test']:.3f}: {verdict} it on these images (two standard errors of the difference, taken as "
            "independent)."
        )
    return sentences


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "": row["name"],
            "validation": f"{row['validation']:.3f}",
            "test": with_error(row["test"], row["test_standard_error"]),
            "test NLL": f"{row['test_nll']:.3f}",
            "test ECE": f"{row['test_ece']:.3f}",
        }
        for row in rows
    )


def _members(result: dict[str, Any], genotypes: dict[str, Genotype]) -> pd.DataFrame:
    """The members' table, each with a small picture of its cells."""
    optimal, *cells = genotypes.values()
    either_input = result["config"]["either_input"]
    drawings = [Drawing(cell_svg(cell, optimal, either_input=either_input)) for cell in cells]
    return _table(member_rows(result)).assign(cell=drawings)


def _genotypes(result: dict[str, Any]) -> dict[str, Genotype]:
    """The optimal genotype and the members', by their titles."""
    genotypes = {"Optimal genotype": Genotype.from_dict(result["optimal"])}
    for k, member in enumerate(result["members"], start=1):
        title = f"Member {k}: {origin(member)}, test {member['test']['accuracy']:.3f}"
        genotypes[title] = Genotype.from_dict(member["genotype"])
    return genotypes


def _has_importances(study: optuna.Study) -> bool:
    """Importances need one objective and complete trials that differ."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return len(study.directions) == 1 and len({trial.values[0] for trial in complete}) > 1


def study_figures(study: optuna.Study) -> list[go.Figure]:
    """Optuna's own pictures, those that the number of complete trials allows."""
    if len(study.directions) > 1:
        names = [METRICS[name] for name in study_objectives(study)]
        figures = [visualization.plot_pareto_front(study, target_names=names)]
    else:
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
    names = ("best_of_sweep", "chosen", "config", "versions", "commit", "device", "seed", "seconds", "test_reads")
    return {name: result.get(name) for name in names}
