"""Two studies side by side: settings, trials, results, and which differences are more than noise."""

import json
from typing import Any

import numpy as np
import pandas as pd

from edgenes.checkpoint import write_text
from tune_jobs.errors import StudyError
from tune_jobs.files.curves import read_curve
from tune_jobs.files.layout import GENOTYPE, curve_path
from tune_jobs.progress.text import one_line
from tune_jobs.report import statistics
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
    "loss": "last loss of the supernet",
    "penalty": "last penalty",
}
"""What is compared over trials, the main measure first."""
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
    pairs = int((trials["paired"] & trials[["value A", "value B"]].notna().all(axis=1)).sum())
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

        write_text(command.out, comparison_page(answer, pd.concat(curves, names=["study"]).reset_index("study")))
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
    rows = []
    configs, defining = (a.config.to_dict(), b.config.to_dict()), a.config.defining()
    for name in configs[0]:
        if name not in _PLACES:
            rows.append((name, *(config[name] for config in configs), "study" if name in defining else "execution"))
    rows.append(("data", a.data_digest, b.data_digest, "study"))
    rows.append(("optimal genotype", _genotype(a), _genotype(b), "study"))
    rows.append(("where it ran", recorded_device(a), recorded_device(b), "environment"))
    found = [recorded_environment(saved.folder) for saved in (a, b)]
    rows += [(name, *(one.get(name) for one in found), "environment") for name in ("platform", "cpu", "commit")]
    rows += [(name, *(one.get("versions", {}).get(name) for one in found), "environment") for name in DECIDING]
    different = [row for row in rows if row[1] != row[2]]
    return pd.DataFrame(different, columns=["setting", "a", "b", "kind"], dtype=object)


def _genotype(saved: SavedStudy) -> str | None:
    return saved.optimal.digest if (saved.folder / GENOTYPE).exists() else None


def describe_pairing(trials: pd.DataFrame, pairs: int, same_seed: bool) -> dict[str, Any]:
    """{"paired", "pairs", "same_seed", "complete", "text"}: how trials are compared, and why."""
    complete = [int((trials[f"state {side}"] == "COMPLETE").sum()) for side in "AB"]
    if pairs >= 2:
        by = "the same seed each" if same_seed else "other seeds"
        text = f"compared in pairs: {pairs} of the same number and parameters, {by}"
        if complete != [pairs, pairs]:
            text += f"; {complete[0] - pairs} of A and {complete[1] - pairs} of B have no partner and are left out"
    else:
        why = f"only {pairs} pair has" if pairs else "no pair has"
        text = (
            f"compared as two groups, {complete[0]} of A and {complete[1]} of B: {why} the same number and parameters"
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
    from tune_jobs.report.comparison import comparison

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
    if "data" in changed:
        notes.append("the data differ: accuracies are of other images, and no setting alone makes their difference.")
    if "value" in changed:
        notes.append("the setting value differs: the trials have other objectives.")
    if len(causes) > 1:
        notes.append(f"{len(causes)} settings differ ({', '.join(causes)}): a difference is of all of them together.")
    if ((settings["kind"] == "environment") & (settings["setting"] != "commit")).any():
        notes.append("the studies ran in other environments, which alone changes numbers a little.")
    if rows and "tpe" in (a.config.sampler, b.config.sampler):
        notes.append("trials proposed by TPE depend on earlier ones; the intervals take them as independent.")
    if any("name" in row for row in rows):
        notes.append(
            "a result is one ensemble on one set of test images: its interval is over images, taken as independent, "
            "and another seed of the same settings may lie outside it."
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
    by, seen = f"by {abs(row['difference']):.3f}", ""
    if row["low"] is not None:
        by += f", 95% interval of B - A {row['low']:+.3f} to {row['high']:+.3f}"
        seen = f"; a difference of {row['detectable']:.3f} could have been seen"
    return {
        "equal": "equal",
        "not distinguishable": f"not distinguishable; they differ {by}{seen}",
        "too little to tell": f"too little to tell; they differ {by}, and how much that varies is not known",
    }.get(row["conclusion"], f"{row['conclusion']} {by}")


def tables(answer: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The tables that text and page show: "settings", "differences", "results" and "trials"."""
    settings = [(row["setting"], _setting(row["a"]), _setting(row["b"])) for row in answer["settings"]]
    differences = [
        (row["title"], "/".join(map(str, dict.fromkeys(row["n"]))), *_numbers(row)) for row in answer["differences"]
    ]
    results = [(row["name"], *_numbers(row)) for row in answer["results"]]
    trials = [
        (
            str(row["number"]),
            _trial(row, "A"),
            _trial(row, "B"),
            "pair" if row["paired"] else "",
            params_text(row["parameters"]),
        )
        for row in answer["trials"]
    ]
    numbers = ["A", "B", "B - A", "95% interval", "conclusion"]
    return {
        "settings": pd.DataFrame(settings, columns=["setting", "A", "B"]),
        "differences": pd.DataFrame(differences, columns=["mean over trials", "n", *numbers]),
        "results": pd.DataFrame(results, columns=["test accuracy", *numbers]),
        "trials": pd.DataFrame(trials, columns=["trial", "A", "B", "", "parameters"]),
    }


def params_text(parameters: str) -> str:
    """A trial's parameters in short."""
    params = with_derived(json.loads(parameters))
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in params.items()
    )


def _setting(value: Any) -> str:
    return "-" if value is None else one_line(value, 44)


def _numbers(row: dict[str, Any]) -> tuple[str, ...]:
    interval = "-" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
    means = (f"{row['mean_a']:.3f}", f"{row['mean_b']:.3f}")
    if "error_a" in row:
        means = tuple(f"{mean} ± {row[f'error_{side}']:.3f}" for mean, side in zip(means, "ab", strict=True))
    return (*means, f"{row['difference']:+.3f}", interval, row["conclusion"])


def _trial(row: dict[str, Any], side: str) -> str:
    value, state = row[f"value {side}"], row[f"state {side}"]
    return "" if state is None else state.lower() if value is None else f"{value:.3f}"


def text(answer: dict[str, Any]) -> str:
    """The studies, every table, the notes and the conclusion."""
    shown = tables(answer)
    lines = [_about("A", answer["a"]), _about("B", answer["b"])]
    titles = {
        "settings": "What differs in the settings, the data and the environment",
        "trials": f"Trials, {answer['pairing']['text']}",
        "differences": "Differences over trials",
        "results": "Test accuracy of what the studies ended with",
    }
    for name, title in titles.items():
        if len(shown[name]):
            lines += ["", title, shown[name].to_string(index=False, max_colwidth=100)]
    if not answer["settings"]:
        lines += ["", "The studies have the same settings, data and environment."]
    lines += ["", *(f"Note: {note}" for note in answer["notes"]), f"Conclusion. {answer['conclusion']}"]
    if "page" in answer:
        lines.append(f"Page: {answer['page']}")
    return "\n".join(lines)


def _about(name: str, side: dict[str, Any]) -> str:
    states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(side["trials"].items()))
    ended = "finished" if side["finished"] else "not finished"
    return f"{name}  {side['folder']}: {states or 'no trials'}, seed {side['seed']}, {ended}"
