"""Does a trial's value predict the final one: one-shot, short and full retraining against a full one from another seed.

python studies/proxy.py                            # digits, embedded: minutes on a laptop
python studies/proxy.py --preset paper --root DATA # CIFAR-100 in the paper's form, on GPUs

Not in the paper, which retrains everything. Genotypes: some of each search, half of them random, half from its
hypernetwork. Trials, some of each search: hypernetworks at parameters spread over the study's own search space, the
first at the defaults; a trial's value is the cross-fitted accuracy of the best of its candidates, as in the study.
Trials of one search share networks, so that correlations are taken within a search, and the searches are what is
independent. Everything is on V.
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

from edgenes.errors import ConfigError
from edgenes.validation import check_at_least
from tune_jobs.cli import check_command_line
from tune_jobs.config.experiment import ExperimentConfig

LEAST = 3
"""Rows of a search below which they have no rank correlation that says anything."""


@dataclass(frozen=True, kw_only=True)
class ProxyConfig(ExperimentConfig):
    """How well cheap estimates of genotypes and of trials rank them."""

    NAME: ClassVar[str] = "proxy"
    SMOKE: ClassVar[dict[str, Any]] = {**ExperimentConfig.SMOKE, "genotypes": 4, "trials": 3, "pool": 3}

    genotypes: int = 8
    """Genotypes of each search, half of them random, half from its hypernetwork."""
    trials: int = 4
    """Trials of each search, around its optimal genotype."""
    pool: int = 5
    """Candidates of a trial, of which ensemble_size are its members."""

    def __post_init__(self):
        super().__post_init__()
        check_at_least(self, LEAST, "genotypes", "trials")
        if self.pool < self.budget.ensemble_size:
            raise ConfigError(f"pool must be at least ensemble_size, {self.budget.ensemble_size}, got {self.pool}.")


if __name__ == "__main__":  # --help and mistakes need not wait for the imports below
    check_command_line(ProxyConfig, __doc__)

from itertools import product

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.stats import qmc

from edgenes.data.batches import DeviceData
from edgenes.errors import DivergedError
from edgenes.methods.budget import Setting
from edgenes.methods.cost import retraining_work
from edgenes.methods.trainer import Member
from edgenes.metrics import accuracy
from edgenes.selection import cross_fitted
from edgenes.space.genotype import Genotype, shared_edges
from edgenes.space.hypernetwork import CONTROL_LIMIT, Hypernetwork, draw_candidates
from edgenes.training.edgenes import HypernetworkResult, train_hypernetwork
from edgenes.training.memory import with_less_memory
from edgenes.training.retraining import predict
from tune_jobs.experiments.cli import experiment_main
from tune_jobs.experiments.jobs import jobs_by_seed, result_frame
from tune_jobs.experiments.tables import against_zero, verdicts
from tune_jobs.report.findings import Findings, Section
from tune_jobs.report.interval_figures import dots_figure, interval_frame
from tune_jobs.report.statistics import Comparison, compare, corrected, mean_text
from tune_jobs.stages.trial import CALIBRATION_IMAGES
from tune_jobs.study.space import default_params, hypernetwork_config, search_space

PROXIES = {"one_shot": "one-shot", "short": "short retraining", "full": "full retraining"}
TRUTH = "again"
"""The full retraining from another seed: what one would get."""
MEASURES = (*PROXIES, TRUTH)
RANGE = (-1.0, 1.0)
"""Of a correlation."""


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
    defaults = default_params(space)
    return [defaults, *(_point(u, space) for u in points.tolist())][:rows]


def measure(job: dict[str, Any], bench: Any) -> dict[str, Any]:
    """Train a hypernetwork, draw its genotypes, score each by all measures; of a trial also its value by each."""
    setting: Setting = bench.of_seed(job["seed"])
    optimal = bench.trainer.search(setting.search_config()).genotype
    try:
        trained = _trained(setting, job, bench.data, optimal)
    except DivergedError as error:
        if job["trial"] is None:  # a trial may have no value, a search without genotypes is no search
            raise
        return {"failed": str(error), "genotypes": [], "note": "diverged"}
    genotypes = _genotypes(setting, trained.hypernetwork.cpu(), job)
    predictions = {name: [] for name in MEASURES}
    rows, labels = [], bench.data.validation.labels
    for genotype in genotypes:
        row = {"genotype": genotype.digest, "shared": shared_edges(genotype, optimal)}
        for name, (predicted, images) in _scored(genotype, setting, trained, bench).items():
            predictions[name].append(predicted)
            row |= {name: accuracy(predicted, labels), f"images_{name}": images}
        rows.append(row)
    note = f"{len(genotypes)} genotypes, control error {trained.control_error:.2f}"
    found = {"control_error": trained.control_error, "genotypes": rows, "note": note}
    if job["trial"] is None:
        return found
    if len(genotypes) < setting.size:
        return found | {"failed": f"{len(genotypes)} distinct genotypes for an ensemble of {setting.size}"}
    values = {
        name: cross_fitted(np.stack(predicted), labels, setting.size, setting.criterion).accuracy
        for name, predicted in predictions.items()
    }
    return found | {"value": values}


def _trained(setting: Setting, job: dict[str, Any], data: Any, optimal: Genotype) -> HypernetworkResult:
    """The seed's hypernetwork, or a trial's: a seed of its own, and what the study samples.

    Trained here and not by the trainer, which keeps no supernets.
    """
    base = setting.hypernetwork_config(job["trial"] or 0)
    config = hypernetwork_config(base, job["params"], base.seed)

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
) -> dict[str, tuple[np.ndarray, int]]:
    """(probabilities on V, images that passed forward) of the genotype by each measure."""
    data, device = bench.data, setting.search.device
    calibrating = min(CALIBRATION_IMAGES, len(data.weights))
    calibration, _ = DeviceData(data.weights, data, device).batch(torch.arange(calibrating))
    network = trained.supernet.as_network(genotype, calibration)
    one_shot = np.exp(predict(network, data.validation, data, device).astype(np.float64))
    found = {"one_shot": (one_shot, calibrating + len(data.validation))}
    retrainings = {
        "short": setting.training_config(genotype, epochs=setting.short_epochs),
        "full": setting.training_config(genotype),
        TRUTH: setting.training_config(genotype, 1),
    }
    for name, config in retrainings.items():
        (retrained,) = bench.trainer.retrain([Member(genotype, config)])
        found[name] = (retrained.probabilities, retraining_work(config, data).images + len(data.validation))
    return found


def study(experiment: Any) -> Findings:
    """Measure genotypes and trials of every seed; other searches have other parameters, but for the defaults."""
    config: ProxyConfig = experiment.config
    jobs = jobs_by_seed({"genotypes": {"trial": None, "params": {}, "count": config.genotypes}}, config.seeds)
    jobs += [
        {"name": f"trial {k} seed {seed}", "seed": seed, "trial": k, "params": params, "count": config.pool}
        for seed in range(config.seeds)
        for k, params in enumerate(parameters(config.trials, search_space(config.search.estimator), seed))
    ]
    results = experiment.map("proxy", measure, jobs)
    genotypes = result_frame(jobs, results, "genotypes", ["seed", "trial"]).astype({"trial": float})
    return findings(genotypes, trial_frame(jobs, results), config)


def trial_frame(jobs: list[dict], results: list[dict]) -> pd.DataFrame:
    """One row a trial: parameters, control error, why it has no value, if so, else its value by each measure, costs."""
    costs, rows = [f"images_{name}" for name in MEASURES], []
    for job, result in zip(jobs, results, strict=True):
        if job["trial"] is None:
            continue
        row = {"seed": job["seed"], "trial": job["trial"], **job["params"], "failed": result.get("failed", "")}
        row |= {"control_error": result.get("control_error"), "candidates": len(result["genotypes"])}
        row |= {name: result.get("value", {}).get(name) for name in MEASURES}
        rows.append(row | {cost: sum(one[cost] for one in result["genotypes"]) for cost in costs})
    return pd.DataFrame(rows).astype(dict.fromkeys((*MEASURES, "control_error"), float))


Correlations = dict[tuple[str, str], pd.Series]
"""By (what was ranked, proxy): Spearman's with the truth within each search, by seed."""


def correlations(frames: dict[str, pd.DataFrame]) -> Correlations:
    """The proxies' correlations in genotypes and in trials; searches that have none are left out."""
    found = {}
    for (what, frame), proxy in product(frames.items(), PROXIES):
        each = {
            seed: group[[proxy, TRUTH]].astype(float).corr("spearman", min_periods=LEAST).loc[proxy, TRUTH]
            for seed, group in frame.groupby("seed")
        }
        found[what, proxy] = pd.Series(each, dtype=float).dropna()
    return found


def against_full(found: Correlations) -> dict[tuple[str, str], Comparison]:
    """Each proxy's correlations less the full retraining's, paired by search, corrected together."""
    compared = {}
    for (what, proxy), each in found.items():
        both = pd.DataFrame({"full": found[what, "full"], "proxy": each}).dropna()
        if proxy != "full" and len(both):
            compared[what, proxy] = compare(both["full"], both["proxy"], paired=True)
    return corrected(compared)


def findings(genotypes: pd.DataFrame, trials: pd.DataFrame, config: ProxyConfig) -> Findings:
    """Conclusions, table and picture of the genotypes, a row each, and of a `trial_frame`."""
    alone = genotypes[genotypes["trial"].isna()]
    frames = {"genotypes": alone, "trials": trials}
    found = correlations(frames)
    valued = trials.dropna(subset=[TRUTH])
    within = int((valued["control_error"] <= CONTROL_LIMIT).sum())
    return Findings(
        "How well a trial's value ranks",
        [*conclusions(found), dropped(trials)],
        [
            Section(
                "Rank correlation with a full retraining from another seed",
                f"Spearman's, within a search, and the interval over searches; one search has none. Genotypes: "
                f"{_rows(alone)}. Trials: {_rows(valued)}, {within} of them with a control error of at most "
                f"{CONTROL_LIMIT}; a trial's value is the accuracy of the best {config.budget.ensemble_size} of up to "
                f"{config.pool} candidates, chosen on one half of V and scored on the other. The full retraining's row "
                "is the ceiling that the training seed sets; the short one begins with its weights. p is of a t-test "
                "over searches, corrected by Holm for all against chance, and for all against the full retraining. "
                "Images are means of one genotype and of one trial, all its candidates included.",
                figure(found),
                table(found, frames),
            ),
        ],
        {"genotypes": genotypes, "trials": trials},
    )


def _rows(frame: pd.DataFrame) -> str:
    searches = frame["seed"].nunique()
    return f"{len(frame)} of {searches} search{'' if searches == 1 else 'es'}"


def figure(found: Correlations) -> go.Figure:
    """Correlations of genotypes and of trials."""
    named = {f"{what}, {PROXIES[proxy]}": each for (what, proxy), each in found.items()}
    long = pd.concat([pd.DataFrame({"name": name, "correlation": each}) for name, each in named.items()])
    shown = interval_frame(long, ["name"], "correlation", RANGE)
    drawn = dots_figure(shown, "name", "Spearman's rank correlation", "Proxies of a full retraining")
    return drawn.add_vline(x=0, line={"width": 1, "dash": "dash"})


def table(found: Correlations, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The correlations and what each proxy costs, in words."""
    rows = []
    for (what, proxy), each in found.items():
        valued = frames[what].dropna(subset=[TRUTH])
        images = valued[f"images_{proxy}"].mean()
        rows.append((what, PROXIES[proxy], mean_text(each, RANGE, none="not known"), f"{images:,.0f}"))
    return pd.DataFrame(rows, columns=["of", "proxy", "Spearman's", "images"]).replace("nan", "")


def conclusions(found: Correlations) -> list[str]:
    """Which proxies rank better than chance, and which worse than the full retraining."""
    chance, full, said = against_zero(found), against_full(found), []
    for (what, proxy), each in found.items():
        if each.empty:
            said.append(f"Spearman's of {what}, {PROXIES[proxy]}: too few rows that differ to rank.")
    for compared, reference in ((chance, "chance"), (full, PROXIES["full"])):
        named = {f"{PROXIES[proxy]} of {what}": one for (what, proxy), one in compared.items()}
        opening = "Rank correlation with a full retraining from another seed: "
        said += verdicts(named, reference, opening, points=False)
    return said


def dropped(trials: pd.DataFrame) -> str:
    """How many trials have a value, and why the others have none."""
    lost = trials.loc[trials["failed"] != "", "failed"]
    why = "; ".join(f"{count} with {reason}" for reason, count in lost.value_counts().items())
    return f"{len(trials) - len(lost)} of {len(trials)} trials have a value" + (f"; {why}." if why else ".")


if __name__ == "__main__":
    sys.exit(experiment_main(ProxyConfig, __doc__, study))
