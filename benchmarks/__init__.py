"""Measurements, each a module with `Options` and `main`, which prints tables: `python -m benchmarks NAME`."""

import os

from tune_jobs.execution.quiet import quiet_ray

# Before any of them imports Ray, which reads only then that it is to listen on the loopback.
quiet_ray()
# What another study has trained is not trained here: that would be no measurement.
os.environ.setdefault("EDGENES_CACHE", "off")
