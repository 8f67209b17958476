"""Two studies side by side: settings, trials, results, and which differences are more than noise."""

import json
from typing import Any

import numpy as np
import pandas as pd

from edgenes.checkpoint import write_text
from tune_jobs.errors import StudyError
from tune_jobs.files.curves import read_curve
from tune_jobs.files.layout import GENOTYPE, curve_path
from tune_jobs.progress.text import counted, one_line
from tune_jobs.report import statistics
from tune_jobs.report.comparison import comparison
from tune_jobs.study.optuna_study import study_seed
from tune_jobs.study.result import read_result
from tune_jobs.study.saved import SavedStudy, open_saved
from tune_jobs.study.space import with_derived
from tune_jobs.study.trials import trials_frame
from tune_jobs.tools.commands import Compare
from tune_jobs.tools.machine import DECIDING, recorded_device, recorded_environment

MEASURES = {
    "value": "value of the trial",
    "mean_accuracy": "mean accuracy of its candidates",
    "nll": "NLL of its ensemble",
    "control_error": "control error (edges)",
    "loss": "last loss of the search",
    "penalty": "last penalty",
}
"""What is compared over trials, the main measure first."""
COLUMNS = {
    "settings": ["setting", "a", "b"],
    "trials": ["number", "state A", "value A", "state B", "value B", "paired", "parameters"],
    "differences": ["title", "n", "mean_a", "mean_b", "difference", "low", "high", "conclusion"],
    "results": ["name", "mean_a", "error_a", "mean_b", "error_b", "difference", "low", "high", "conclusion"],
}
"""What the tables show of the answer's rows; low and high are ends of 95% intervals."""
_PLACES = ("out", "storage", "dry_run")


def run(command: Compare) -> dict[str, Any]:
    """The comparison as plain values; its page too where --out names one."""
    if command.out is not None and (command.out.suffix != ".html" or command.out.is_dir()):
        raise StudyError(f"--out names the page to write, such as compare.html; got {command.out}.")
    a, b = open_saved(command.a, command.storage_a), open_saved(command.b, command.storage_b)
    if a.folder.resolve() == b.folder.resolve():
        raise StudyError(f"{a.folder} is given twice: a comparison takes two studies.")
    curves = {"A": curves_of(a), "B": curves_of(b)}
    trials = paired_trials(measured_trials(a, curves["A"]), measured_trials(b, curves["B"]))
    pairs = int((trials["paired"] & trials["value A"].notna() & trials["value B"].notna()).sum())
    settings, differences = differing_settings(a, b), trial_differences(trials, pairs >= 2)
    results = result_differences(a, b)
    answer = {
        "a": _summary(a),
        "b": _summary(b),
        "settings": _records(settings),
        "pairing": describe_pairing(trials, pairs, study_seed(a.study) == study_seed(b.study)),
        "trials": _records(trials),
        "differences": differences,
        "results": results,
        "notes": notes_on(a, b, settings, [*differences, *results]),
        "conclusion": conclude(pairs >= 2, differences, results),
    }
    if command.out is not None:
        from tune_jobs.tools.compare_page import comparison_page  # plotly, which the text does without

        both = pd.concat(curves, names=["study"]).reset_index("study")
        write_text(command.out, comparison_page(answer, tables(answer), both))
        answer["page"] = str(command.out.absolute())
    return answer


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values, None where there is nothing."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _summary(saved: SavedStudy) -> dict[str, Any]:
    states = trials_frame(saved.study)["state"].value_counts()
    return {
        "folder": str(saved.folder),
        "seed": study_seed(saved.study),
        "trials": {state: int(count) for state, count in states.items()},
        "finished": read_result(saved.folder) is not None,
        "device": recorded_device(saved),
    }


def curves_of(saved: SavedStudy) -> pd.DataFrame:
    """The learning curves of all trials: trial, step, and what a step recorded."""
    rows = [
        {"trial": trial.number, **record}
        for trial in saved.trials()
        for record in read_curve(curve_path(saved.folder, trial.number))
    ]
    return pd.DataFrame(rows).reindex(columns=["trial", "step", "intermediate_step", "intermediate", *MEASURES])


def measured_trials(saved: SavedStudy, curves: pd.DataFrame) -> pd.DataFrame:
    """A row a trial: number, state, reason, parameters (JSON) and MEASURES, which only ended trials have."""
    trials = saved.trials()
    frame = trials_frame(saved.study).reindex(columns=["number", "state", "reason", "standard_error", *MEASURES])
    frame["parameters"] = [json.dumps(trial.params, sort_keys=True) for trial in trials]
    for measure in ("loss", "penalty"):
        frame[measure] = frame["number"].map(curves.dropna(subset=measure).groupby("trial")[measure].last())
    ended = frame["state"].isin(["COMPLETE", "PRUNED"])
    measures = frame[list(MEASURES)].apply(pd.to_numeric).replace([np.inf, -np.inf], np.nan)
    frame[list(MEASURES)] = measures.where(ended)
    return frame


def paired_trials(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Trials of the same number and parameters in one row, `paired`; the others in rows of their own."""
    trials = a.merge(b, how="outer", on=["number", "parameters"], suffixes=(" A", " B"), indicator="paired")
    trials["paired"] = (trials["paired"] == "both") & (trials["parameters"] != "{}")
    return trials.sort_values(["number", "state A"], ignore_index=True)


def differing_settings(a: SavedStudy, b: SavedStudy) -> pd.DataFrame:
    """Columns setting, a, b, kind ("study", "execution" or "environment") of what differs."""
    first, second, defining = _settings(a), _settings(b), a.config.defining()
    rows = []
    for name in first:
        if name not in _PLACES and first[name] != second[name]:
            study = name in defining or name in ("data", "optimal genotype")
            kind = "study" if study else "execution" if name in a.config.to_dict() else "environment"
            rows.append((name, first[name], second[name], kind))
    return pd.DataFrame(rows, columns=["setting", "a", "b", "kind"], dtype=object)


def _settings(saved: SavedStudy) -> dict[str, Any]:
    """The configuration, the data, the optimal genotype and the environment."""
    environment = recorded_environment(saved.folder)
    versions = environment.get("versions", {})
    return {
        **saved.config.to_dict(),
        "data": saved.data_digest,
        "optimal genotype": saved.optimal.digest if (saved.folder / GENOTYPE).exists() else None,
        "where it ran": recorded_device(saved),
        **{name: environment.get(name) for name in ("platform", "cpu", "commit")},
        **{name: versions.get(name) for name in DECIDING},
    }


def describe_pairing(trials: pd.DataFrame, pairs: int, same_seed: bool) -> dict[str, Any]:
    """{"paired", "pairs", "same_seed", "complete", "text"}: how trials are compared, and why."""
    complete = [int((trials[f"state {side}"] == "COMPLETE").sum()) for side in "AB"]
    if pairs >= 2:
        seeds = "the same seed each" if same_seed else "other seeds"
        left_out = f"{complete[0] - pairs} of A and {complete[1] - pairs} of B have no partner and are left out"
        text = f"compared in pairs: {pairs} of the same number and parameters, {seeds}; {left_out}"
    else:
        text = (
            f"compared as two groups, {complete[0]} of A and {complete[1]} of B: only {counted(pairs, 'trial')} of the "
            "same number and parameters in both"
        )
    return {"paired": pairs >= 2, "pairs": pairs, "same_seed": same_seed, "complete": complete, "text": text}


def trial_differences(trials: pd.DataFrame, paired: bool) -> list[dict[str, Any]]:
    """A row for each measure that both studies have: {"measure", "n", "mean_a", "mean_b", "difference", ...}."""
    rows = []
    for measure, title in MEASURES.items():
        values = trials[[f"{measure} A", f"{measure} B"]]
        if paired:
            values = values[trials["paired"]].dropna()
        a, b = (values[name].dropna().tolist() for name in values)
        if a and b:
            rows.append({"measure": measure, "title": title, **statistics.compare(a, b, paired=paired).to_dict()})
    return rows


def result_differences(a: SavedStudy, b: SavedStudy) -> list[dict[str, Any]]:
    """Test accuracy of the ensembles and of the baselines that both have, [] unless both studies are finished."""
    results = [read_result(saved.folder) for saved in (a, b)]
    if None in results:
        return []
    both = pd.merge(*(pd.DataFrame(comparison(result)) for result in results), on="name", suffixes=(" A", " B"))
    rows = []
    for row in both.to_dict("records"):
        errors = row["test_standard_error A"], row["test_standard_error B"]
        found = statistics.known_errors(row["test A"], errors[0], row["test B"], errors[1])
        rows.append({"name": row["name"], "error_a": errors[0], "error_b": errors[1], **found.to_dict()})
    return rows


def notes_on(a: SavedStudy, b: SavedStudy, settings: pd.DataFrame, rows: list[dict[str, Any]]) -> list[str]:
    """What a reader has to know before believing a difference."""
    changed = settings["setting"][settings["kind"] == "study"].tolist()
    causes = [name for name in changed if name not in ("data", "optimal genotype")]
    notes = []
    if settings.empty:
        notes.append("the studies have the same settings, data and environment.")
    if "data" in changed:
        notes.append("the data differ: accuracies are of other images, and no setting alone makes their difference.")
    if len(causes) > 1:
        notes.append(f"{len(causes)} settings differ ({', '.join(causes)}): a difference is of all of them together.")
    if ((settings["kind"] == "environment") & (settings["setting"] != "commit")).any():
        notes.append("the studies ran in other environments, which alone changes numbers a little.")
    if rows and "tpe" in (a.config.sampler, b.config.sampler):
        notes.append("trials proposed by TPE depend on earlier ones; the intervals take them as independent.")
    if any("name" in row for row in rows):
        notes.append(
            "a result is one ensemble: its interval is over the test images, and another seed may lie outside."
        )
    if len(rows) > 1 and any(row["conclusion"].startswith("B ") for row in rows):
        notes.append(f"each interval is a 95% interval by itself: among {len(rows)}, one may well miss by chance.")
    return notes


def conclude(paired: bool, differences: list[dict[str, Any]], results: list[dict[str, Any]]) -> str:
    """One sentence on the values of the trials, one on the ensembles."""
    if differences and differences[0]["measure"] == "value":
        main = differences[0]
        how = f"{main['n'][0]} pairs" if paired else f"{main['n'][0]} against {main['n'][1]} trials"
        sentence = f"Value of the trials: {_conclusion(main)} ({how})."
    else:
        sentence = "No value to compare: both studies need a complete trial."
    if results:
        sentence += f" Test accuracy of these two ensembles: {_conclusion(results[0])} (over images, not over seeds)."
    return sentence


def _conclusion(row: dict[str, Any]) -> str:
    if row["conclusion"] == "equal":
        return "equal"
    words = f"{row['conclusion']}; B - A is {row['difference']:+.3f}"
    if row["low"] is None:
        return f"{words}, and how much that varies is not known"
    words += f", 95% interval {row['low']:+.3f} to {row['high']:+.3f}"
    if row["conclusion"] == "not distinguishable":
        words += f"; a difference of {row['detectable']:.3f} could have been seen"
    return words


def tables(answer: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The tables that text and page show, by their names in the answer."""
    shown = {name: pd.DataFrame(answer[name], columns=columns) for name, columns in COLUMNS.items()}
    shown["settings"] = shown["settings"].map(lambda value: one_line("-" if value is None else value, 44))
    shown["differences"]["n"] = shown["differences"]["n"].map(lambda n: " and ".join(map(str, dict.fromkeys(n))))
    shown["trials"]["parameters"] = shown["trials"]["parameters"].map(params_text)
    return shown


def params_text(parameters: str) -> str:
    """A trial's parameters in short."""
    params = with_derived(json.loads(parameters))
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in params.items()
    )


def text(answer: dict[str, Any]) -> str:
    """The studies, every table, the notes and the conclusion."""
    lines = [_about("A", answer["a"]), _about("B", answer["b"])]
    titles = {
        "settings": "What differs in the settings, the data and the environment",
        "trials": f"Trials, {answer['pairing']['text']}",
        "differences": "Means over trials",
        "results": "Test accuracy of what the studies ended with",
    }
    for name, table in tables(answer).items():
        if len(table):
            rows = table.to_string(index=False, na_rep="-", float_format="{:.3f}".format, max_colwidth=100)
            lines += ["", titles[name], rows]
    lines += ["", *(f"Note: {note}" for note in answer["notes"]), f"Conclusion. {answer['conclusion']}"]
    if "page" in answer:
        lines.append(f"Page: {answer['page']}")
    return "\n".join(lines)


def _about(name: str, side: dict[str, Any]) -> str:
    states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(side["trials"].items()))
    ended = "finished" if side["finished"] else "not finished"
    return f"{name}  {side['folder']}: {states or 'no trials'}, seed {side['seed']}, {ended}"
