# Two commands: `make study` runs the main job, `make test` the tests; both set up .venv first.
PYTHON ?= python3
ARGS ?=

.PHONY: study test soak setup
study: setup
	.venv/bin/python studies/anneal_sweep.py $(ARGS)

test: setup
	.venv/bin/ruff check .
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile

soak: setup  # every fault that a study survives, up to an hour; rewrites the table
	.venv/bin/python -m tests.faults.soak --table docs/RELIABILITY.md

setup: .venv/.ready

.venv/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)) and "Python 3.11 or 3.12 is needed: make PYTHON=python3.12 ...")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet -e '.[dev]'
	touch $@
