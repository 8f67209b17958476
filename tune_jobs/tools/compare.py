"""Two studies side by side: settings, trials, results, and which differences are more than noise."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from tyro.conf import Positional

from edgenes.checkpoint import write_text
from tune_jobs.config.sweep import EXECUTION
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import GENOTYPE
from tune_jobs.progress.text import aligned
from tune_jobs.report import statistics
from tune_jobs.study.saved import open_saved
from tune_jobs.study.space import with_derived
from tune_jobs.tools.command import Command
from tune_jobs.tools.compare_rows import (
    _PLACES,
    MEASURES,
    Side,
    difference_rows,
    result_rows,
    setting_rows,
    trials_rows,
)
from tune_jobs.tools.machine import DECIDING, recorded_device, recorded_environment

SHOWN = 20
"""Trials that the text shows."""


@dataclass(frozen=True, kw_only=True)
class Compare(Command):
    """Compare two studies: what they were asked, what their trials and ensembles are worth, and what is only noise.

    Trials of the same number with the same parameters are pairs, closer still if their seeds are the same; with two
    pairs or more the differences are of pairs, else of all trials of one study against all of the other.
    """

    a: Positional[Path]
    """Folder of the first study, A."""
    b: Positional[Path]
    """Folder of the second study, B; differences are B - A."""
    storage_a: str | None = None
    """The Optuna study of A, if it does not lie in its folder."""
    storage_b: str | None = None
    """The Optuna study of B, likewise."""
    out: Path | None = None
    """Write a page too: one .html file that works offline, with the curves of both."""

    def run(self) -> dict[str, Any]:
        if self.out is not None and (self.out.suffix != ".html" or self.out.is_dir()):
            raise StudyError(f"--out names the page to write, such as compare.html; got {self.out}.")
        a, b = (
            Side(open_saved(folder, storage))
            for folder, storage in ((self.a, self.storage_a), (self.b, self.storage_b))
        )
        if a.saved.folder.resolve() == b.saved.folder.resolve():
            raise StudyError(f"{a.saved.folder} is given twice: a comparison takes two studies.")
        answer = compare(a, b)
        if self.out is not None:
            from tune_jobs.tools.compare_page import comparison_page  # plotly, which the text does without

            write_text(self.out, comparison_page(a, b, answer))
            answer["page"] = str(self.out.absolute())
        return answer

    def text(self, answer: dict[str, Any]) -> str:
        lines = [_about("A", answer["a"]), _about("B", answer["b"]), ""]
        if answer["settings"]:
            lines += [
                "What differs in what was asked, and in where it ran",
                aligned(setting_rows(answer["settings"])),
                "",
            ]
        else:
            lines += ["The studies have the same settings, data and environment.", ""]
        lines += [f"Trials, {answer['pairing']['text']}", _trials_table(answer), ""]
        if answer["differences"]:
            lines += ["Differences over trials", _left_last(difference_rows(answer["differences"])), ""]
        if answer["results"]:
            lines += ["Test accuracy of what the studies ended with", _left_last(result_rows(answer["results"])), ""]
        lines += [f"Note: {note}" for note in answer["notes"]]
        lines.append(f"Conclusion. {answer['conclusion']}")
        if "page" in answer:
            lines.append(f"Page: {answer['page']}")
        return "\n".join(lines)


def compare(a: Side, b: Side) -> dict[str, Any]:
    """All that can be said of two studies, as plain values."""
    settings = differing_settings(a, b)
    pairs = find_pairs(a, b)
    pairing = describe_pairing(a, b, pairs)
    differences = trial_differences(a, b, pairs if pairing["paired"] else None)
    results = result_differences(a, b)
    return {
        "a": a.summary(),
        "b": b.summary(),
        "settings": settings,
        "pairing": pairing,
        "trials": trial_rows(a, b, pairs),
        "differences": differences,
        "results": results,
        "notes": notes_on(a, b, settings, differences, results),
        "conclusion": conclude(pairing, differences, results),
    }


def differing_settings(a: Side, b: Side) -> list[dict[str, Any]]:
    """[{"setting", "a", "b", "kind"}] of what differs; kind is "study", "execution" or "environment"."""
    configs = [side.saved.config.to_dict() for side in (a, b)]
    rows = []
    for name in configs[0]:
        if name not in _PLACES and configs[0][name] != configs[1][name]:
            kind = "execution" if name in EXECUTION else "study"
            rows.append({"setting": name, "a": configs[0][name], "b": configs[1][name], "kind": kind})
    values = {
        "data": ("study", lambda side: side.saved.data_digest),
        "optimal genotype": ("study", _genotype),
        "where it ran": ("environment", lambda side: recorded_device(side.saved)),
        "platform": ("environment", lambda side: recorded_environment(side.saved.folder).get("platform")),
        "cpu": ("environment", lambda side: recorded_environment(side.saved.folder).get("cpu")),
        "commit": ("environment", lambda side: recorded_environment(side.saved.folder).get("commit")),
        **{name: ("environment", _version(name)) for name in DECIDING},
    }
    for name, (kind, read) in values.items():
        pair = read(a), read(b)
        if pair[0] != pair[1]:
            rows.append({"setting": name, "a": pair[0], "b": pair[1], "kind": kind})
    return rows


def _version(name: str) -> Callable[[Side], str | None]:
    return lambda side: recorded_environment(side.saved.folder).get("versions", {}).get(name)


def _genotype(side: Side) -> str | None:
    return side.saved.optimal.digest if (side.saved.folder / GENOTYPE).exists() else None


def find_pairs(a: Side, b: Side) -> list[tuple[FrozenTrial, FrozenTrial]]:
    """Trials of the same number and the same parameters."""
    both = zip(a.trials, b.trials, strict=False)
    return [(x, y) for x, y in both if x.params and x.params == y.params]


def describe_pairing(a: Side, b: Side, pairs: list[tuple[FrozenTrial, FrozenTrial]]) -> dict[str, Any]:
    """{"paired", "pairs", "same_seed", "text"}: how trials are compared, and why."""
    complete = [sum(t.state == TrialState.COMPLETE for t in side.trials) for side in (a, b)]
    whole = sum(x.state == y.state == TrialState.COMPLETE for x, y in pairs)
    same_seed = a.seed == b.seed
    if whole >= 2:
        by = "the same seed each" if same_seed else "other seeds"
        text = f"compared in pairs: {whole} of the same number and parameters, {by}"
        left = [n - whole for n in complete]
        if any(left):
            text += f"; {left[0]} of A and {left[1]} of B have no partner and are left out"
    else:
        why = f"only {whole} pair has" if whole == 1 else "no pair has"
        text = (
            f"compared as two groups, {complete[0]} of A and {complete[1]} of B: {why} the same number and parameters"
        )
    return {"paired": whole >= 2, "pairs": whole, "same_seed": same_seed, "complete": complete, "text": text}


def trial_differences(a: Side, b: Side, pairs: list[tuple[FrozenTrial, FrozenTrial]] | None) -> list[dict[str, Any]]:
    """A row for each measure that both studies have: {"measure", "n", "mean_a", "mean_b", "difference", ...}."""
    rows = []
    for measure, title in MEASURES.items():
        if pairs is None:
            values = [[m for t in side.trials if (m := side.measured(t, measure)) is not None] for side in (a, b)]
            if not all(values):
                continue
            found = statistics.compare(*values, paired=False)
        else:
            both = [(a.measured(x, measure), b.measured(y, measure)) for x, y in pairs]
            both = [pair for pair in both if None not in pair]
            if not both:
                continue
            found = statistics.compare(*zip(*both, strict=True), paired=True)
        rows.append({"measure": measure, "title": title, **found.to_dict()})
    return rows


def trial_rows(a: Side, b: Side, pairs: list[tuple[FrozenTrial, FrozenTrial]]) -> list[dict[str, Any]]:
    """A row a trial number: {"number", "paired", "a", "b"}, each {"state", "params", "reason", measures} or None."""
    together = {x.number for x, _ in pairs}

    def one(side: Side, number: int) -> dict[str, Any] | None:
        if number >= len(side.trials):
            return None
        trial = side.trials[number]
        measures = {measure: side.measured(trial, measure) for measure in MEASURES}
        about = {
            "state": trial.state.name,
            "params": with_derived(trial.params),
            "reason": trial.user_attrs.get("reason"),
        }
        return {**about, **measures, "standard_error": trial.user_attrs.get("standard_error")}

    numbers = range(max(len(a.trials), len(b.trials)))
    return [{"number": k, "paired": k in together, "a": one(a, k), "b": one(b, k)} for k in numbers]


def result_differences(a: Side, b: Side) -> list[dict[str, Any]]:
    """Test accuracy of the ensembles and of the baselines that both have, [] unless both studies are finished."""
    if a.result is None or b.result is None:
        return []
    from tune_jobs.report.comparison import comparison  # plotly, which an unfinished study does without

    tables = [{row["name"]: row for row in comparison(side.result)} for side in (a, b)]
    rows = []
    for name, x in tables[0].items():
        y = tables[1].get(name)
        if y is not None:
            errors = x["test_standard_error"], y["test_standard_error"]
            found = statistics.known_errors(x["test"], errors[0], y["test"], errors[1])
            rows.append({"name": name, "error_a": errors[0], "error_b": errors[1], **found.to_dict()})
    return rows


def notes_on(a: Side, b: Side, settings: list[dict], differences: list[dict], results: list[dict]) -> list[str]:
    """What a reader has to know before believing a difference."""
    asked = [row["setting"] for row in settings if row["kind"] == "study"]
    notes = []
    if "data" in asked:
        notes.append("the data differ: accuracies are of other images, and no setting alone makes their difference.")
    if "value" in asked:
        notes.append("the setting value differs: what a trial is worth is not measured alike.")
    causes = [name for name in asked if name not in ("data", "optimal genotype")]
    if len(causes) > 1:
        notes.append(f"{len(causes)} settings differ ({', '.join(causes)}): a difference is of all of them together.")
    if any(row["kind"] == "environment" and row["setting"] != "commit" for row in settings):
        notes.append("the studies ran in other environments, which alone moves numbers a little.")
    samplers = {side.saved.config.sampler for side in (a, b)}
    if "tpe" in samplers and differences:
        notes.append("trials proposed by TPE depend on earlier ones; the intervals take them as independent.")
    if results:
        notes.append(
            "a result is one ensemble on one set of test images: its interval is over images, taken as independent, "
            "and another seed of the same settings may lie outside it."
        )
    if sum(row["conclusion"].startswith("B ") for row in [*differences, *results]) and len(differences) > 1:
        count = len(differences) + len(results)
        notes.append(f"each interval is a 95% interval by itself: among {count}, one may well miss by chance.")
    return notes


def conclude(pairing: dict[str, Any], differences: list[dict], results: list[dict]) -> str:
    """One sentence on the values of the trials, one on the ensembles."""
    sentences = []
    main = next((row for row in differences if row["measure"] == "value"), None)
    if main is None:
        sentences.append("No value to compare: both studies need a complete trial.")
    else:
        how = f"{main['n'][0]} pairs" if pairing["paired"] else f"{main['n'][0]} against {main['n'][1]} trials"
        sentences.append(f"Value of the trials: {_said(main)} ({how}).")
    if results:
        sentences.append(f"Test accuracy of these two ensembles: {_said(results[0])} (over images, not over seeds).")
    return " ".join(sentences)


def _said(row: dict[str, Any]) -> str:
    by, seen = f"by {abs(row['difference']):.3f}", ""
    if row["low"] is not None:
        by += f", 95% interval of B - A {row['low']:+.3f} to {row['high']:+.3f}"
        seen = f"; a difference of {row['detectable']:.3f} could have been seen"
    return {
        "equal": "equal",
        "not distinguishable": f"not distinguishable; they differ {by}{seen}",
        "too little to tell": f"too little to tell; they differ {by}, and by how much that varies is not known",
    }.get(row["conclusion"], f"{row['conclusion']} {by}")


def _about(name: str, side: dict[str, Any]) -> str:
    states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(side["trials"].items()))
    ended = "finished" if side["finished"] else "not finished"
    return f"{name}  {side['folder']}: {states or 'no trials'}, seed {side['seed']}, {ended}"


def _trials_table(answer: dict[str, Any]) -> str:
    hidden = len(answer["trials"]) - SHOWN
    text = _left_last(trials_rows(answer["trials"][:SHOWN]))
    return text + (f"\n  and {hidden} more; --json lists all" if hidden > 0 else "")


def _left_last(rows: list[list[str]]) -> str:
    """An aligned table whose last column stands to the left."""
    width = max(len(row[-1]) for row in rows)
    return aligned([[*row[:-1], row[-1].ljust(width)] for row in rows])
