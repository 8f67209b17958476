"""What a searched ensemble is measured against: the paper's methods and those of the field behind one signature.

A method takes a `Setting` and a `Trainer` and returns an `Outcome`: members, their predictions on V, and what they
cost, search and retraining apart. All retrain by the same configuration and choose on V; none sees T.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from edgenes.data.dataset import Dataset, Part
from edgenes.errors import ConfigError
from edgenes.methods.baselines import METHODS, Baseline, Found
from edgenes.methods.budget import Setting
from edgenes.methods.cost import Work, retraining_work, search_work
from edgenes.methods.halving import affordable_rungs, halve
from edgenes.methods.result import Counted, Outcome
from edgenes.methods.survey import guided_search
from edgenes.methods.trainer import Member, Trainer
from edgenes.selection import select_ensemble
from edgenes.space.genotype import Genotype, deviate, random_genotype
from edgenes.space.hypernetwork import Hypernetwork, draw_candidates

MUTATIONS = 100
"""Children of one parent that NES-RE draws before it takes another one."""


def run_method(name: str, setting: Setting, trainer: Trainer) -> Outcome:
    """Run the method of `METHODS` called `name`."""
    counted = Counted(trainer)
    pool, chosen = METHODS.find(name).run(setting, counted)
    members = tuple(pool[k] for k in chosen)
    predictions = _predictions(members, counted)
    return Outcome(members, predictions, tuple(pool), *counted.work(pool))


def _predictions(pool: Sequence[Member], trainer: Trainer) -> np.ndarray:
    return np.stack([each.probabilities for each in trainer.retrain(pool)])


def best_ensemble(pool: list[Member], setting: Setting, trainer: Trainer) -> Found:
    """The pool, and its ensemble that is best on V: with proof, where that is cheap."""
    labels = trainer.data.validation.labels
    predictions = _predictions(pool, trainer)
    found = select_ensemble(predictions, labels, setting.size, setting.criterion, setting.selection)
    if found.weights is not None:
        raise ConfigError(
            f"selection {setting.selection!r} weights its members, and baselines are compared as plain means: choose "
            "one without weights, such as auto, beam or diverse."
        )
    return pool, list(found.members)


def _forward(pool: list[Member], setting: Setting, trainer: Trainer) -> list[int]:
    """Forward selection on V, as NES-RS and NES-RE choose."""
    labels = trainer.data.validation.labels
    size = min(setting.size, len(pool))
    return list(select_ensemble(_predictions(pool, trainer), labels, size, setting.criterion, "greedy").members)


def _all(pool: list[Member], setting: Setting, trainer: Trainer) -> Found:
    _predictions(pool, trainer)
    return pool, list(range(len(pool)))


def equal_count(setting: Setting, guided: bool, networks: int) -> int:
    """Random genotypes that, each trained once, see as many images as EdgeNES with a pool of `networks`.

    EdgeNES's are those of its survey, if it is `guided` by a predictor, or of its searches; W is half of them. Unlike
    `with_cost` this needs no data, and does not see that genotypes differ in operations.
    """
    if guided:
        epochs = min(setting.survey, setting.space.genotypes) * setting.survey_epochs / 2
    else:
        search = setting.search
        scored = search.forward == "sampled" and search.gradient == "score"  # forward passes alone, a third of the cost
        looks = search.paths * search.path_batch / search.batch_size / 3 if scored else 1
        epochs = (search.epochs + setting.hypernetwork.epochs) * (1 + looks) / 2
    return min(setting.space.genotypes, networks + round(epochs / setting.training.epochs))


def equal_pool(setting: Setting, guided: bool, networks: int) -> list[Member]:
    """The random genotypes of `equal_count`."""
    return _retrained(setting.random_genotypes(equal_count(setting, guided, networks)), setting)


def seeds_pool(genotype: Genotype, setting: Setting, count: int) -> list[Member]:
    """One genotype from so many training seeds."""
    return [Member(genotype, setting.training_config(genotype, repeat)) for repeat in range(count)]


def _retrained(genotypes: Sequence[Genotype], setting: Setting) -> list[Member]:
    """Each genotype, trained once."""
    return [Member(genotype, setting.training_config(genotype)) for genotype in genotypes]


def deviations(optimal: Genotype, setting: Setting, count: int) -> list[Genotype]:
    """Distinct random deviations of the optimal genotype, their shared edges spread over 0 .. Lambda.

    As many of each number as a hypernetwork's candidates at lambda on an even grid; where a number of edges has no
    other deviation left, the next one is taken.
    """
    generator = setting.generator("deviations")
    most = setting.space.max_edges
    found: dict[Genotype, None] = {}
    draw = 0
    while len(found) < count:
        replaced = round(most * (draw % count) / max(1, count - 1))
        found.setdefault(deviate(optimal, replaced, generator))
        draw += 1
    return list(found)


def darts(setting: Setting, trainer: Trainer) -> Found:
    """DARTS: the optimal genotype, one network (eq. 1.1)."""
    return _all(_retrained([trainer.search(setting.search_config()).genotype], setting), setting, trainer)


def random_single(setting: Setting, trainer: Trainer) -> Found:
    """Random: a random genotype, one network."""
    return _all(_retrained(setting.random_genotypes(1), setting), setting, trainer)


def darts_ens(setting: Setting, trainer: Trainer) -> Found:
    """DartsEns: n independent searches, each genotype retrained from a seed of its own; all are members."""
    searches = [trainer.search(setting.search_config(run)) for run in range(setting.size)]
    pool = [Member(found.genotype, setting.training_config(found.genotype, run)) for run, found in enumerate(searches)]
    return _all(pool, setting, trainer)


def random_nes(setting: Setting, trainer: Trainer) -> Found:
    """Random-NES: random genotypes, the best ensemble of them."""
    return best_ensemble(_retrained(setting.random_genotypes(setting.candidates), setting), setting, trainer)


def random_d_nes(setting: Setting, trainer: Trainer) -> Found:
    """RandomD-NES: random deviations of the optimal genotype, the best ensemble of them."""
    optimal = trainer.search(setting.search_config()).genotype
    return best_ensemble(_retrained(deviations(optimal, setting, setting.candidates), setting), setting, trainer)


def edge_nes(setting: Setting, trainer: Trainer) -> Found:
    """EdgeNES (Algorithm 1) guided by a predictor: genotypes of the hypernetwork, the best ensemble of them."""
    _, hypernetwork = _guided(setting, trainer)
    return best_ensemble(hypernetwork_pool(hypernetwork, setting, functions=True), setting, trainer)


def _guided(setting: Setting, trainer: Trainer) -> tuple[Genotype, Hypernetwork]:
    """The optimal genotype by the predictor, and the hypernetwork that it guides."""
    optimal, predictor = guided_search(setting, trainer)
    return optimal, trainer.hypernetwork(setting.hypernetwork_config(), optimal, predictor).hypernetwork


def edge_nes_supernet(setting: Setting, trainer: Trainer) -> Found:
    """EdgeNES (Algorithm 1) guided by the supernet, as in the paper."""
    optimal = trainer.search(setting.search_config()).genotype
    hypernetwork = trainer.hypernetwork(setting.hypernetwork_config(), optimal).hypernetwork
    return best_ensemble(hypernetwork_pool(hypernetwork, setting), setting, trainer)


def hypernetwork_pool(hypernetwork: Hypernetwork, setting: Setting, functions: bool = False) -> list[Member]:
    """The networks that EdgeNES retrains of a hypernetwork, at lambda over [0, Lambda]; `functions` as in drawing."""
    generator = setting.generator("candidates")
    candidates = draw_candidates(
        hypernetwork, setting.candidates, generator, functions=functions, same_inputs=setting.same_inputs
    )
    # A hypernetwork that collapsed gives fewer genotypes than networks are wanted: they are trained again.
    return _filled([candidate.genotype for candidate in candidates], setting)


def edge_nes_seeds(setting: Setting, trainer: Trainer) -> Found:
    """EdgeNES whose pool is half genotypes of the hypernetwork and half further seeds of the optimal one."""
    optimal, hypernetwork = _guided(setting, trainer)
    few = replace(setting, candidates=max(setting.size, setting.candidates // 2))
    pool = hypernetwork_pool(hypernetwork, few, functions=True)
    seeds = seeds_pool(optimal, setting, setting.candidates)
    return best_ensemble(list(dict.fromkeys([*pool, *seeds]))[: setting.candidates], setting, trainer)


def predicted(setting: Setting, trainer: Trainer) -> Found:
    """Predicted: the predictor's best genotypes, whatever edges they share, the best ensemble of them."""
    _, predictor = guided_search(setting, trainer)
    best = predictor.best(setting.candidates, setting.generator("predicted"))
    return best_ensemble(_filled(best, setting), setting, trainer)


def predicted_single(setting: Setting, trainer: Trainer) -> Found:
    """PredictedSingle: the optimal genotype by the predictor, one network."""
    return _all(_retrained([guided_search(setting, trainer)[0]], setting), setting, trainer)


def predicted_deep_ens(setting: Setting, trainer: Trainer) -> Found:
    """PredictedDeepEns: the optimal genotype by the predictor from as many seeds as candidates, the best ensemble."""
    optimal, _ = guided_search(setting, trainer)
    return best_ensemble(seeds_pool(optimal, setting, setting.candidates), setting, trainer)


def edges(setting: Setting, trainer: Trainer) -> Found:
    """Edges: n searches with a fixed lambda each (eq. 2.1), spread over the whole numbers from 0 below Lambda.

    The optimal genotype is not searched again for lambda = Lambda; it is in the pool, and the best n are taken.
    """
    optimal = trainer.search(setting.search_config()).genotype
    lams = [float(round(setting.space.max_edges * k / setting.size)) for k in range(setting.size)]
    found = [
        trainer.hypernetwork(setting.hypernetwork_config(run, lam=lam), optimal).hypernetwork.genotype(lam)
        for run, lam in enumerate(lams)
    ]
    return best_ensemble(_filled(list(dict.fromkeys([optimal, *found])), setting, setting.size + 1), setting, trainer)


def deep_ens(setting: Setting, trainer: Trainer) -> Found:
    """DeepEns: the optimal genotype trained from n seeds; all are members."""
    optimal = trainer.search(setting.search_config()).genotype
    return _all(seeds_pool(optimal, setting, setting.size), setting, trainer)


def nes_rs(setting: Setting, trainer: Trainer) -> Found:
    """NES-RS (Zaidi et al., 2021): random genotypes, forward selection."""
    pool = _retrained(setting.random_genotypes(setting.candidates), setting)
    return pool, _forward(pool, setting, trainer)


def nes_re(setting: Setting, trainer: Trainer) -> Found:
    """NES-RE (Zaidi et al., 2021): regularised evolution whose parents are members of the population's ensemble.

    Half of the candidates are the first population. Then the oldest gives way to a child: a random member of the
    population's forward-selected ensemble with one edge replaced. The ensemble is selected from all that ever lived.
    """
    population = _retrained(setting.random_genotypes(max(setting.size, setting.candidates // 2)), setting)
    lived, generator = list(population), setting.generator("evolution")
    born = {member.genotype for member in population}
    while len(lived) < setting.candidates:
        parents = _forward(population, setting, trainer)
        parent = population[parents[int(torch.randint(len(parents), (), generator=generator))]]
        child = deviate(parent.genotype, 1, generator)
        draws = 0
        while child in born:
            draws += 1
            # Of a parent whose children have all lived, one of a random genotype.
            source = parent.genotype if draws < MUTATIONS else random_genotype(setting.space, generator)
            child = deviate(source, 1, generator)
        born.add(child)
        population = [*population[1:], Member(child, setting.training_config(child))]
        lived.append(population[-1])
    return lived, _forward(lived, setting, trainer)


def halving(setting: Setting, trainer: Trainer) -> Found:
    """Halving: random genotypes and successive halving by short retraining, at the supernet's EdgeNES's total cost.

    As many survive as make an ensemble and half of one more; they are retrained fully, and the best n are taken.
    """
    total = [
        *_searches("halving", setting, trainer.data),
        *[retraining_work(setting.training, trainer.data, genotype=setting.space)] * setting.candidates,
    ]
    keep = min(setting.candidates, setting.size + (setting.size + 1) // 2)
    plan = affordable_rungs(setting, trainer.data, sum(total, Work()), keep, finish=True)
    survivors = halve(setting, trainer, plan)[-1]
    return best_ensemble([Member(*survivor) for survivor in survivors], setting, trainer)


POOLED = ("random-nes", "random-d-nes", "nes-rs", "nes-re", "halving")
"""Methods that a larger pool makes as costly as another method."""


def with_cost(setting: Setting, name: str, data: Dataset, operations: int) -> Setting:
    """The setting in which a method of POOLED takes about so many floating-point operations, search included.

    Genotypes are priced as random ones on average. The pool is never smaller than the setting's ensemble.
    """
    left = operations - sum(_searches(name, setting, data), Work()).operations
    price = retraining_work(setting.training, data, genotype=setting.space).operations
    most = setting.space.genotypes
    return replace(setting, candidates=min(most, max(setting.size, round(left / price))))


def _searches(name: str, setting: Setting, data: Dataset) -> list[Work]:
    """What a method of POOLED spends before its first retraining; Halving spends it on more of them."""
    search = search_work(setting.search_config(), data)
    if name == "halving":
        return [search, search_work(setting.hypernetwork_config(), data)]
    return [search] if name == "random-d-nes" else []


def _filled(genotypes: list[Genotype], setting: Setting, count: int | None = None) -> list[Member]:
    """`count` networks (by default as many as candidates): each genotype once, and again from the next seeds."""
    count = setting.candidates if count is None else count
    rounds = range(-(-count // len(genotypes)))
    return [Member(genotype, setting.training_config(genotype, r)) for r in rounds for genotype in genotypes][:count]


for _name, _method in {
    "darts": Baseline(darts, "DARTS"),
    "random": Baseline(random_single, "Random"),
    "darts-ens": Baseline(darts_ens, "DartsEns"),
    "random-nes": Baseline(random_nes, "Random-NES"),
    "random-d-nes": Baseline(random_d_nes, "RandomD-NES"),
    "edge-nes": Baseline(edge_nes, "EdgeNES"),
    "edge-nes-seeds": Baseline(edge_nes_seeds, "EdgeNES, half seeds"),
    "edge-nes-supernet": Baseline(edge_nes_supernet, "EdgeNES, supernet"),
    "predicted": Baseline(predicted, "Predicted"),
    "predicted-single": Baseline(predicted_single, "Predicted, single"),
    "predicted-deep-ens": Baseline(predicted_deep_ens, "Predicted, DeepEns"),
    "edges": Baseline(edges, "Edges, eq. (2.1)"),
    "deep-ens": Baseline(deep_ens, "DeepEns"),
    "nes-rs": Baseline(nes_rs, "NES-RS"),
    "nes-re": Baseline(nes_re, "NES-RE"),
    "halving": Baseline(halving, "Halving"),
}.items():
    METHODS.add(_name, _method, built_in=True)


def logistic_regression(data: Dataset, parts: list[Part]) -> list[np.ndarray]:
    """Probabilities, float32 (samples, classes), on each part, of a multinomial logistic regression on pixels.

    Fitted on W and H together, like the retrained networks; pixels are normalised by channel. 200 iterations of
    L-BFGS at most, since the last digits of its convergence change nothing here.
    """
    from sklearn.exceptions import ConvergenceWarning  # almost a second, which other uses need not pay
    from sklearn.linear_model import LogisticRegression

    def pixels(part: Part) -> np.ndarray:
        mean, std = (np.asarray(value, np.float32).reshape(1, -1, 1, 1) for value in (data.mean, data.std))
        return ((part.images / np.float32(255) - mean) / std).reshape(len(part), -1)

    model = LogisticRegression(max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(pixels(data.training), data.training.labels)
    return [model.predict_proba(pixels(part)).astype(np.float32) for part in parts]
