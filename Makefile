# `make study` runs the main job, `make test` the tests, `make test-unit` the quick ones without Ray and processes, `make
# docs` builds the site; each sets up .venv first.
PYTHON ?= python3
ARGS ?=
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

.PHONY: study test test-unit lint docs wheel soak setup
study: setup
	.venv/bin/python studies/anneal_sweep.py $(ARGS)

test: lint
	$(PYTEST)

test-unit: setup
	$(PYTEST) -m "not ray and not e2e and not slow"

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

docs: setup  # the site, into site/
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict

wheel: setup  # into dist/
	.venv/bin/python -m build --wheel

soak: setup  # every fault that a study survives, up to an hour; prints the table of docs/RELIABILITY.md
	.venv/bin/python -m tests.faults.soak

setup: .venv/.ready

.venv/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)) and "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12 ...")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -qq --upgrade pip
	@echo 'The next command is silent for some minutes. On Linux it takes about 7 GB, most of it what torch needs for GPUs.'
# -q would show setuptools' warning of every editable installation.
	.venv/bin/python -m pip install -qq -e '.[dev]'
	touch $@
