"""Our samplers under Optuna's own suite of what every sampler has to do."""

import functools
import itertools

import pytest
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase

from edgenes.seeds import stable_seed
from tune_jobs.config.sweep import SAMPLERS
from tune_jobs.study.samplers import AvoidFailures, make_sampler


class TestSampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=SAMPLERS)
    def sampler(self, request):
        """The sampler of a sweep whose space is empty: Optuna's suite has parameters of its own."""
        numbers = itertools.count()
        make = functools.partial(make_sampler, request.param, startup=2)
        return lambda: AvoidFailures(make, functools.partial(stable_seed, next(numbers)), {})
