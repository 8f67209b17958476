"""Measure what a trial's value is worth: one-shot, short and full retraining against a full one from another seed.

python studies/proxy.py                            # digits, embedded: minutes on a laptop
python studies/proxy.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

Not in the paper, which retrains everything. Genotypes: some of each search, half of them random, half from its
hypernetwork. Trials, some of each search: hypernetworks at parameters spread over the study's own search space, the
first at the defaults; a trial's value is the cross-fitted accuracy of the best of its candidates, as in the study.
Trials of one search share networks, so that correlations are taken within a search, and the searches are what is
independent. Everything is on V.
"""

import tune_jobs.execution.interrupted  # noqa: F401  before what takes seconds

# isort: split
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.stats import qmc

from edgenes.config import HypernetworkConfig, TrainingConfig
from edgenes.data.batches import DeviceData
from edgenes.errors import ConfigError, DivergedError
from edgenes.methods.budget import Setting
from edgenes.methods.cost import retraining_work, search_work
from edgenes.metrics import accuracy
from edgenes.selection import cross_fitted
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import CONTROL_LIMIT, Hypernetwork, draw_candidates
from edgenes.training.edgenes import HypernetworkResult, train_hypernetwork
from edgenes.training.memory import with_less_memory
from edgenes.training.retraining import predict
from edgenes.validation import check_at_least, check_at_most
from tune_jobs.config.experiment import ExperimentConfig
from tune_jobs.config.sweep import MOST
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import dots_figure
from tune_jobs.report.statistics import Comparison, Estimate, compare, corrected, detected, mean_estimate, spearman
from tune_jobs.stages.trial import CALIBRATION_IMAGES
from tune_jobs.study.space import DEFAULT_PARAMS, search_space, with_derived

PROXIES = {"one_shot": "one-shot", "short": "short retraining", "full": "full retraining"}
TRUTH = "again"
"""The full retraining from another seed: what one would get."""
MEASURES = (*PROXIES, TRUTH)
NAMES = {**PROXIES, TRUTH: "full, another seed"}
SAMPLED = ("c_start", "c_end", "t_start", "t_end", "pivots", "epsilon", "estimator")
LEAST = 3
"""Rows of a search below which they have no rank correlation that says anything."""


def _point(unit: list[float], space: dict[str, BaseDistribution]) -> dict[str, Any]:
    """The parameters at a point of the unit cube, logarithmic where the space is."""
    params: dict[str, Any] = {}
    for u, (name, distribution) in zip(unit, space.items(), strict=True):
        if isinstance(distribution, CategoricalDistribution):
            params[name] = distribution.choices[min(int(u * len(distribution.choices)), len(distribution.choices) - 1)]
        elif distribution.log:
            params[name] = distribution.low * (distribution.high / distribution.low) ** u
        else:
            params[name] = distribution.low + (distribution.high - distribution.low) * u
    return params


def parameters(rows: int, space: dict[str, BaseDistribution], seed: int) -> list[dict[str, Any]]:
    """The defaults, then a scrambled Sobol sequence: a longer table begins with the shorter one."""
    points = qmc.Sobol(len(space), seed=seed).random_base2(max(1, (rows - 1).bit_length()))
    defaults = {name: DEFAULT_PARAMS[name] for name in space}
    return [defaults, *(_point(u, space) for u in points.tolist())][:rows]


@dataclass(frozen=True, kw_only=True)
class ProxyConfig(ExperimentConfig):
    """What cheap estimates of genotypes and of trials are worth."""

    NAME: ClassVar[str] = "proxy"

    genotypes: int = 8
    """Genotypes of each search, half of them random, half from its hypernetwork."""
    trials: int = 4
    """Trials of each search, around its optimal genotype."""
    pool: int = 5
    """Candidates of a trial, of which ensemble_size are its members."""

    def __post_init__(self):
        super().__post_init__()
        if self.smoke_test:
            for name, few in (("genotypes", 4), ("trials", 3), ("pool", 3)):
                if getattr(self, name) == getattr(ProxyConfig, name):
                    object.__setattr__(self, name, few)
        check_at_least(self, LEAST, "genotypes", "trials")
        check_at_most(self, MOST, "genotypes", "trials", "pool")
        if self.pool < self.ensemble_size:
            raise ConfigError(f"pool must be at least ensemble_size, {self.ensemble_size}, got {self.pool}.")


def measure(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Train a hypernetwork, draw its genotypes, score each by all measures; of a trial also its value by each."""
    setting: Setting = bench.of_seed(job["seed"])
    optimal = bench.trainer.search(setting.search_config()).genotype
    config = _hypernetwork_config(setting, job)
    start = time.monotonic()
    try:
        trained = _train(config, bench.data, optimal)
    except DivergedError as error:
        if job["trial"] is None:  # a trial may have no value, a search that says nothing of genotypes is no search
            raise
        return {"failed": str(error), "genotypes": [], "note": "diverged"}
    seconds = time.monotonic() - start
    hypernetwork = trained.hypernetwork.cpu()
    genotypes = _genotypes(setting, hypernetwork, job)
    scored = [_scored(one, setting, trained, bench) for one in genotypes]
    labels = bench.data.validation.labels
    found = {
        "control_error": trained.control_error,
        "hypernetwork": {"images": search_work(config, bench.data).images, "seconds": seconds},
        "genotypes": [
            {
                "genotype": one.digest,
                "shared": shared_edges(one, optimal),
                "accuracy": {name: accuracy(predicted, labels) for name, (predicted, _) in measures.items()},
                "images": {name: _images(name, setting, bench.data) for name in MEASURES},
                "seconds": {name: spent for name, (_, spent) in measures.items()},
            }
            for one, measures in zip(genotypes, scored, strict=True)
        ],
        "note": f"{len(genotypes)} genotypes, control error {trained.control_error:.2f}",
    }
    if job["trial"] is None:
        return found
    if len(genotypes) < setting.size:
        return found | {"failed": f"{len(genotypes)} distinct genotypes for an ensemble of {setting.size}"}
    values = {
        name: cross_fitted(np.stack([one[name][0] for one in scored]), labels, setting.size, setting.criterion)
        for name in MEASURES
    }
    return found | {"value": {name: value.accuracy for name, value in values.items()}}


def _hypernetwork_config(setting: Setting, job: dict[str, Any]) -> HypernetworkConfig:
    """That of the seed, or of a trial: a seed of its own, and what the study samples."""
    if job["trial"] is None:
        return setting.hypernetwork_config()
    params = with_derived(job["params"])
    return setting.hypernetwork_config(job["trial"], **{name: params[name] for name in SAMPLED if name in params})


def _train(config: HypernetworkConfig, data: Any, optimal: Genotype) -> HypernetworkResult:
    """Here and not by the trainer, which keeps no supernets."""

    def run(state: dict | None, parts: int) -> HypernetworkResult:
        return train_hypernetwork(config, data, optimal, resume=state, accumulate=parts)

    return with_less_memory(run, None)[0]


def _genotypes(setting: Setting, hypernetwork: Hypernetwork, job: dict[str, Any]) -> list[Genotype]:
    """A trial's candidates; else Random-NES's first and as many of EdgeNES's, spread over lambda, all distinct."""
    if job["trial"] is not None:
        drawn = draw_candidates(hypernetwork, job["count"], setting.generator("trial candidates", job["trial"]))
        return [candidate.genotype for candidate in drawn]
    half = job["count"] // 2
    drawn = draw_candidates(hypernetwork, max(setting.candidates, half), setting.generator("candidates"))
    spread = dict.fromkeys(np.linspace(0, len(drawn) - 1, half).round().astype(int).tolist())
    ours = [drawn[k].genotype for k in spread]
    return list(dict.fromkeys([*setting.random_genotypes(job["count"] - half), *ours]))


def _scored(
    genotype: Genotype, setting: Setting, trained: HypernetworkResult, bench: Any
) -> dict[str, tuple[np.ndarray, float]]:
    """(probabilities on V, seconds) of the genotype by each measure."""
    start = time.monotonic()
    data, device = bench.data, setting.search.device
    calibration, _ = DeviceData(data.weights, data, device).batch(torch.arange(_calibration(data)))
    network = trained.supernet.as_network(genotype, calibration)
    one_shot = np.exp(predict(network, data.validation, data, device).astype(np.float64))
    found = {"one_shot": (one_shot, time.monotonic() - start)}
    for name, config in _retrainings(setting, genotype).items():
        retrained = bench.trainer.retrain(config, genotype)
        found[name] = (retrained.probabilities, retrained.seconds)
    return found


def _calibration(data: Any) -> int:
    return min(CALIBRATION_IMAGES, len(data.weights))


def _retrainings(setting: Setting, genotype: Genotype) -> dict[str, TrainingConfig]:
    return {
        "short": setting.training_config(genotype, epochs=setting.short_epochs),
        "full": setting.training_config(genotype),
        TRUTH: setting.training_config(genotype, 1),
    }


def _images(name: str, setting: Setting, data: Any) -> int:
    """Images that pass forward for one genotype: training or calibration, and the prediction on V."""
    epochs = setting.short_epochs if name == "short" else setting.training.epochs
    training = retraining_work(replace(setting.training, epochs=epochs), data)
    before = _calibration(data) if name == "one_shot" else training.images
    return before + len(data.validation)


def study(experiment: Any) -> Findings:
    """Measure genotypes and trials of every seed; other searches have other parameters, but for the defaults."""
    config: ProxyConfig = experiment.config
    jobs = [
        {"name": f"genotypes seed {seed}", "seed": seed, "trial": None, "params": {}, "count": config.genotypes}
        for seed in range(config.seeds)
    ]
    jobs += [
        {"name": f"trial {k} seed {seed}", "seed": seed, "trial": k, "params": params, "count": config.pool}
        for seed in range(config.seeds)
        for k, params in enumerate(parameters(config.trials, search_space(config.estimator), seed))
    ]
    results = experiment.map("proxy", measure, jobs)
    return findings(genotype_frame(jobs, results), trial_frame(jobs, results), config)


def genotype_frame(jobs: list[dict], results: list[dict]) -> pd.DataFrame:
    """One row a genotype of a job: seed, trial (NaN outside trials), accuracy, images and seconds by each measure."""
    rows = []
    for job, result in zip(jobs, results, strict=True):
        for one in result["genotypes"]:
            row = {"seed": job["seed"], "trial": job["trial"], "genotype": one["genotype"], "shared": one["shared"]}
            row |= one["accuracy"]
            for unit in ("images", "seconds"):
                row |= {f"{unit}_{name}": one[unit][name] for name in MEASURES}
            rows.append(row)
    return pd.DataFrame(rows).astype({"trial": float})


def trial_frame(jobs: list[dict], results: list[dict]) -> pd.DataFrame:
    """One row a trial: parameters, control error, why it has no value, if so, else its value by each measure, costs."""
    rows = []
    for job, result in zip(jobs, results, strict=True):
        if job["trial"] is None:
            continue
        row = {"seed": job["seed"], "trial": job["trial"], **job["params"], "failed": result.get("failed", "")}
        row |= {"control_error": result.get("control_error"), "candidates": len(result["genotypes"])}
        row |= {name: result.get("value", {}).get(name) for name in MEASURES}
        for unit in ("images", "seconds"):
            row[f"{unit}_hypernetwork"] = result.get("hypernetwork", {}).get(unit)
            row |= {f"{unit}_{name}": sum(one[unit][name] for one in result["genotypes"]) for name in MEASURES}
        rows.append(row)
    return pd.DataFrame(rows).astype(dict.fromkeys((*MEASURES, "control_error"), float))


def correlations(frame: pd.DataFrame, a: str, b: str) -> pd.Series:
    """Spearman's of the columns a and b within each search, by seed; searches that have none are left out."""
    found = {}
    for seed, group in frame.groupby("seed"):
        pairs = group[[a, b]].dropna().to_numpy(float)
        if len(pairs) >= LEAST:
            found[seed] = spearman(pairs)
    return pd.Series(found, dtype=float).dropna()


def correlation(frame: pd.DataFrame, a: str, b: str) -> Estimate | None:
    """Their mean over searches, with its interval; None where no search has one, and one search has no interval."""
    each = correlations(frame, a, b)
    if each.empty:
        return None
    return mean_estimate(each, within=(-1.0, 1.0))


Tests = dict[tuple[str, str], Comparison]
"""By (what was ranked, proxy)."""


def against_chance(frames: dict[str, pd.DataFrame]) -> Tests:
    """Each proxy's correlations with the truth less none, all corrected together."""
    found = {}
    for what, frame in frames.items():
        for proxy in PROXIES:
            each = correlations(frame, proxy, TRUTH)
            if len(each):
                found[what, proxy] = compare(np.zeros(len(each)), each, paired=True)
    return corrected(found)


def against_full(frames: dict[str, pd.DataFrame]) -> Tests:
    """Each proxy's correlations with the truth less the full retraining's, paired by search, corrected together."""
    found = {}
    for what, frame in frames.items():
        full = correlations(frame, "full", TRUTH)
        for proxy in PROXIES:
            each = correlations(frame, proxy, TRUTH)
            both = full.index.intersection(each.index)
            if proxy != "full" and len(both):
                found[what, proxy] = compare(full[both], each[both], paired=True)
    return corrected(found)


def findings(genotypes: pd.DataFrame, trials: pd.DataFrame, config: ProxyConfig) -> Findings:
    """Conclusions, tables and pictures of a `genotype_frame` and a `trial_frame`."""
    alone = genotypes[genotypes["trial"].isna()]
    worth = pd.concat([worth_frame(alone, "genotypes"), worth_frame(trials, "trials")], ignore_index=True)
    valued = trials.dropna(subset=[TRUTH])
    within = int((valued["control_error"] <= CONTROL_LIMIT).sum())
    return Findings(
        "What a trial's value is worth",
        [*conclusions({"genotypes": alone, "trials": trials}), dropped(trials)],
        [
            Section(
                "Rank correlation with a full retraining from another seed",
                f"Spearman's, within a search, and the interval over searches; one search has none. Genotypes: "
                f"{_rows(alone)}. Trials: {_rows(valued)}, {within} of them with a control error of at most "
                f"{CONTROL_LIMIT}; a trial's value is the accuracy of the best {config.ensemble_size} of up to "
                f"{config.pool} candidates, chosen on one half of V and scored on the other. The full retraining's row "
                "is the ceiling that the training seed sets. The conclusions' p is of a t-test over searches, "
                "corrected by Holm for all of them against chance, and for all against the full retraining's.",
                worth_figure(worth),
                worth_table(worth),
            ),
            Section(
                "Against each other",
                "Spearman's of each pair of measures. Short and full retraining share their seed, so that both begin "
                "from the same weights: their cell is higher than it would be of two independent trainings. The other "
                "seed shares nothing with them.",
                table=pd.concat([matrix(alone, "genotypes"), matrix(trials, "trials")], ignore_index=True),
            ),
            Section(
                "Images and seconds",
                "Means of one genotype and of one trial, all its candidates counted, also those that another trial had "
                "retrained. A trial trains its hypernetwork first, whatever its value is measured by. Seconds are the "
                "wall clock's of whoever computed it.",
                table=costs(alone, trials),
            ),
        ],
        {"genotypes": genotypes, "trials": trials, "worth": worth},
    )


def _rows(frame: pd.DataFrame) -> str:
    searches = frame["seed"].nunique()
    return f"{len(frame)} of {searches} search{'' if searches == 1 else 'es'}"


def worth_frame(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """One row a proxy: Spearman's with the truth as mean, low, high, n; NaN where it is not known."""
    rows = []
    for key, name in PROXIES.items():
        found = correlation(frame, key, TRUTH)
        known = vars(found) if found is not None else {"value": None, "low": None, "high": None, "n": 0}
        rows.append({"of": what, "proxy": name, "mean": known["value"], "low": known["low"], "high": known["high"]})
        rows[-1] |= {"n": known["n"]}
        rows[-1] |= {unit: frame.dropna(subset=[TRUTH])[f"{unit}_{key}"].mean() for unit in ("images", "seconds")}
    return pd.DataFrame(rows).astype({"mean": float, "low": float, "high": float})


def worth_figure(worth: pd.DataFrame) -> go.Figure:
    """Correlations of genotypes and of trials."""
    named = worth.assign(name=worth["of"] + ", " + worth["proxy"])
    drawn = dots_figure(named, "name", "Spearman's rank correlation", "Worth of each proxy")
    drawn.add_vline(x=0, line={"width": 1, "dash": "dash"})
    return drawn


def worth_table(worth: pd.DataFrame) -> pd.DataFrame:
    """The correlations and what each proxy costs, in words."""
    rows = []
    for row in worth.to_dict("records"):
        ends = [None if np.isnan(row[end]) else row[end] for end in ("low", "high")]
        told = "not known" if np.isnan(row["mean"]) else Estimate(row["mean"], *ends, row["n"]).told()
        cost = {"images": _images_told(row["images"]), "seconds": _seconds_told(row["seconds"])}
        rows.append({"of": row["of"], "proxy": row["proxy"], "Spearman's": told, **cost})
    return pd.DataFrame(rows)


def _images_told(value: float) -> str:
    return "" if np.isnan(value) else f"{value:,.0f}"


def _seconds_told(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def conclusions(frames: dict[str, pd.DataFrame]) -> list[str]:
    """What each proxy's correlation with the truth says, and how it stands to the full retraining's."""
    chance, full, told = against_chance(frames), against_full(frames), []
    for what, frame in frames.items():
        for key, name in PROXIES.items():
            if (what, key) not in chance:
                told.append(f"Of {what}, {name}: no rank correlation can be told, for want of rows that differ.")
                continue
            one, found = chance[what, key], correlation(frame, key, TRUTH)
            n = f"{found.n} search{'es' * (found.n > 1)}"
            text = f"Of {what}, {name} ranks as a full retraining from another seed with Spearman's {found.told()}, "
            text += f"{n}: {_verdict(one, 'better than chance', 'worse than chance', 'chance', 1)}"
            if (what, key) in full:
                text += f"; {_beside_full(full[what, key])}"
            told.append(f"{text}.")
    return told


def _verdict(one: Comparison, above: str, below: str, reference: str, most: float) -> str:
    if one.p is None:
        return "too little to tell"
    p = f"p {'< 0.001' if one.p_holm < 0.001 else f'= {one.p_holm:.2g}'} after Holm"
    if one.distinguishable:
        return f"{above if one.difference > 0 else below} ({p})"
    return (
        f"not distinguishable from {reference} at this budget ({p}; {one.n[0]} searches could have detected "
        f"{detected(one.detectable, 2, most)})"
    )


def _beside_full(one: Comparison) -> str:
    size = f"{abs(one.difference):.2f}"
    verdict = _verdict(one, "it ranks better", "it ranks worse", "that", 2)
    return f"{size} {'above' if one.difference > 0 else 'below'} the full retraining's own, {verdict}"


def dropped(trials: pd.DataFrame) -> str:
    """How many trials have a value, and why the others have none."""
    lost = trials.loc[trials["failed"] != "", "failed"]
    why = "; ".join(f"{count} with {reason}" for reason, count in lost.value_counts().items())
    return f"{len(trials) - len(lost)} of {len(trials)} trials have a value" + (f"; {why}." if why else ".")


def matrix(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Correlations of all pairs, a row a measure."""
    rows = []
    for k, a in enumerate(MEASURES[:-1]):
        row = {"of": what, "": NAMES[a]}
        for j, b in enumerate(MEASURES):
            found = correlation(frame, a, b) if j > k else None
            row[NAMES[b]] = found.told() if found is not None else ""
        rows.append(row)
    return pd.DataFrame(rows)


def costs(genotypes: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Mean images and seconds of one genotype and of one trial, by each proxy, and of a trial's hypernetwork."""
    rows = []
    for key, name in {"hypernetwork": "the hypernetwork's training", **PROXIES}.items():
        row = {"": name}
        for what, frame in (("genotype", genotypes), ("trial", trials)):
            for unit, told in (("images", _images_told), ("seconds", _seconds_told)):
                column = f"{unit}_{key}"
                known = column in frame and len(frame)
                row[f"{unit}, {what}"] = told(frame[column].astype(float).mean()) if known else ""
        rows.append(row)
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the study of the command line; returns the exit status."""
    return experiment_main(ProxyConfig, __doc__, study, arguments)


if __name__ == "__main__":
    sys.exit(main())
