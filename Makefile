# Every target that needs the environment makes it first, in .venv, and again when pyproject.toml or the pinned
# versions change. A machine needs python3 (3.11 or later, with venv), make and git; nothing is installed outside .venv.

# The interpreter that .venv is made with.
PYTHON ?= python3
# From the package index, torch for Linux on x86-64 brings CUDA libraries of several gigabytes. An index that has a CPU
# build is searched beside it when it is named here: make test TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Test processes, and further arguments to pytest: make test ARGS="-k cache"
WORKERS ?= 2
ARGS ?=

BIN := .venv/bin
STAMP := .venv/edgekit.stamp
DOCS_STAMP := .venv/edgekit-docs.stamp
PINS := constraints/modern.txt
# The pinned line itself, so that the version stands in one place.
TORCH := $(shell grep '^torch==' $(PINS))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check format docs bench build clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Variables: PYTHON=python3.12, TORCH_INDEX=URL of an index with CPU builds of torch, WORKERS=2, ARGS='-k NAME'"

setup: $(STAMP) ## make .venv with everything in it

demo: $(STAMP) ## train a small image classifier, compress it for this machine, show the table
	$(BIN)/edgekit demo

test: $(STAMP) ## the test suite without its slow part
	$(BIN)/pytest -n $(WORKERS) -m "not slow" $(ARGS)

test-slow: $(STAMP) ## the slow part of the test suite
	$(BIN)/pytest -m slow $(ARGS)

check: $(STAMP) ## format, lint, types, import order
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS_STAMP) ## the documentation site, into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP) ## the benchmark suites, as benchmarks/run.py has them
	$(BIN)/python benchmarks/run.py

build: $(STAMP) ## wheel and sdist, into dist/
	$(BIN)/python -m build

clean: ## remove what the tools made; .venv, the cache and artifacts/ stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find edgekit targets tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml $(PINS)
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo "make: there is no '$(PYTHON)' here. edgekit needs Python 3.11 or later, with venv." >&2; \
	    echo "      On Debian or Ubuntu: apt-get install python3 python3-venv" >&2; \
	    echo "      Where it has another name: make PYTHON=/path/to/python3" >&2; \
	    exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: '$(PYTHON)' is $$("$(PYTHON)" --version). edgekit needs Python 3.11 or later." >&2; \
	    echo "      Name another one: make PYTHON=/path/to/python3" >&2; \
	    exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make: '$(PYTHON)' has no venv, so no environment can be made." >&2; \
	    echo "      On Debian or Ubuntu: apt-get install python3-venv" >&2; \
	    exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c $(PINS) \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/python -m pip install --disable-pip-version-check -c $(PINS) -e '.[dev]'
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c $(PINS) -e '.[docs]'
	@touch $@
