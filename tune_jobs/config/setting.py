"""From options to the configurations that the method takes."""

from typing import Any

from edgenes.config import HypernetworkConfig, SearchConfig, TrainingConfig
from edgenes.methods.budget import Setting
from tune_jobs.config.budget import BudgetOptions
from tune_jobs.config.networks import NetworkOptions
from tune_jobs.config.search import SearchOptions


def setting_of(
    networks: NetworkOptions, budget: BudgetOptions, search: SearchOptions, device: str, seed: int, **annealing: Any
) -> Setting:
    """The budgets and configurations of one seed on `device`; `annealing` are the ends of c and t, where fixed."""
    supernet: dict[str, Any] = {
        "space": networks.space,
        "channels": networks.search_channels,
        "cells": networks.search_cells,
        "partial_channels": networks.partial_channels,
        "batch_size": networks.batch_size,
        "mixed_precision": networks.mixed_precision,
        "darts_layout": networks.darts_layout,
        "forward": search.forward,
        "gradient": search.gradient,
        "second_order": search.second_order,
        "device": device,
    }
    estimator = HypernetworkConfig.estimator if search.estimator == "both" else search.estimator
    return Setting(
        search=SearchConfig(
            epochs=budget.search_epochs,
            warmup=search.search_warmup,
            weight_decay=search.search_weight_decay,
            architecture_weight_decay=search.architecture_weight_decay,
            max_parameter_free=search.max_parameter_free,
            stop_parameter_free=search.stop_parameter_free,
            **supernet,
        ),
        hypernetwork=HypernetworkConfig(
            epochs=budget.hypernetwork_epochs,
            penalty_lambdas=search.penalty_lambdas,
            estimator=estimator,
            either_input=search.either_input,
            **annealing,
            **supernet,
        ),
        training=TrainingConfig(
            channels=networks.channels,
            cells=networks.cells,
            epochs=budget.final_epochs,
            batch_size=networks.retraining_batch_size or networks.batch_size,
            drop_path=networks.drop_path,
            auxiliary=networks.auxiliary,
            darts_layout=networks.darts_layout,
            cutout=networks.cutout,
            mixed_precision=networks.mixed_precision,
            networks_per_gpu=networks.networks_per_gpu,
            device=device,
        ),
        survey=budget.survey,
        survey_epochs=budget.survey_epochs,
        short_epochs=budget.short_epochs,
        candidates=budget.candidates,
        size=budget.ensemble_size,
        criterion=budget.criterion,
        selection=budget.selection,
        seed=seed,
    )
