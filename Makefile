# Two commands matter: `make quickstart` and `make test`. Both do their own set-up.
.DEFAULT_GOAL := help
.PHONY: help setup quickstart test ci fmt lint types arch cov bench bench-updates bench-large-round bench-lightning bench-quality clean

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# A module's tests stay in one worker: they share what is slow to set up.
ON_ALL_CORES := --numprocesses auto --dist loadscope
export OMP_NUM_THREADS ?= 1

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Create the environment: pinned torch, the package, the tools.

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --upgrade 'pip>=25.1'
	@$(PIP_INSTALL) --constraint constraints.txt torch
	@$(PIP_INSTALL) --constraint constraints.txt --group dev --editable '.[all]'
	@touch $@

quickstart: $(STAMP)  ## Train a federation of ten devices on digits, with FedAvg and with Ditto.
	@$(BIN)/python examples/quickstart.py

test: lint types arch $(STAMP)  ## Check style, types and layering, then run every test.
	$(BIN)/python -m pytest $(ON_ALL_CORES) --cov --cov-report=term

ci: test  ## What runs before a change lands: the same as test.

fmt: $(STAMP)  ## Format the code and apply safe fixes.
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: $(STAMP)  ## Check the style.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Check the types with mypy and with pyright, both strict.
	$(BIN)/mypy
	$(BIN)/basedpyright

arch: $(STAMP)  ## Check which package may import which.
	$(BIN)/lint-imports

cov: $(STAMP)  ## Run the tests and write an HTML coverage report.
	$(BIN)/python -m pytest $(ON_ALL_CORES) --cov --cov-report=html

bench: bench-updates bench-lightning bench-quality  ## Measure everything, beside the peers (installs them into .peers).

bench-updates: $(STAMP)  ## Measure updates: making them, summing them, whole rounds.
	@$(BIN)/python -m benchmarks.updates

bench-large-round: $(STAMP)  ## Measure the memory of a whole round of a model of a gigabyte.
	@$(BIN)/python -m benchmarks.large_round

bench-lightning: $(STAMP)  ## Measure training steps with a proximal term, and Ditto.
	@$(BIN)/python -m benchmarks.lightning

bench-quality: $(STAMP)  ## Measure what compressing updates costs in accuracy.
	@PYTHONPATH=examples $(BIN)/python -m benchmarks.quality

clean:  ## Remove the environment and everything generated.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache htmlcov .coverage*
