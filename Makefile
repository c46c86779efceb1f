# Every target that needs an environment makes it first, in .venv (test-compat: in .venv-compat), and again when
# pyproject.toml or the pinned versions change. A machine needs python3 (3.11 or later, with venv), make and git;
# nothing is installed outside these two folders.

# The interpreter that the environments are made with.
PYTHON ?= python3
# From the package index, torch for Linux on x86-64 brings CUDA libraries of several gigabytes. An index that has a CPU
# build is searched beside it when it is named here: make test TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Test processes, and further arguments to pytest: make test ARGS="-k cache"
WORKERS ?= 2
ARGS ?=

BIN := .venv/bin
COMPAT_BIN := .venv-compat/bin
STAMP := .venv/edgekit.stamp
DOCS_STAMP := .venv/edgekit-docs.stamp
TFLITE_STAMP := .venv/edgekit-tflite.stamp
COMPAT_STAMP := .venv-compat/edgekit.stamp
PINS := constraints/modern.txt
FAST := -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-compat test-slow check format docs bench build clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Variables: PYTHON=python3.12, TORCH_INDEX=URL of an index with CPU builds of torch, WORKERS=2, ARGS='-k NAME'"

setup: $(STAMP) $(TFLITE_STAMP) ## make .venv with everything in it

demo: $(STAMP) ## train a small image classifier, compress it for this machine, show the table
	$(BIN)/edgekit demo

test: $(TFLITE_STAMP) ## the test suite without its slow part
	$(BIN)/pytest $(FAST)

test-compat: $(COMPAT_STAMP) ## the same suite with transformers 4 and numpy 1, beside the other tools; in .venv-compat
	$(COMPAT_BIN)/pytest $(FAST)

test-slow: $(TFLITE_STAMP) ## the slow part of the test suite
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

bench: $(STAMP) ## the suite beside other tools, two hours; ARGS="--case NAME" for another part of run.py
	$(BIN)/python benchmarks/run.py $(or $(ARGS),--suite sst2 --peers olive,optimum,onnxruntime,neural-compressor)

build: $(STAMP) ## wheel and sdist, into dist/
	$(BIN)/python -m build

clean: ## remove what the tools made; the environments, the cache and artifacts/ stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find edgekit targets tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): constraints/modern.txt
$(STAMP): WANTED := Python 3.11 or later
$(STAMP): FITS := sys.version_info >= (3, 11)

# All that is pinned is installed here, for the tools that edgekit itself does not need.
$(COMPAT_STAMP): constraints/compat.txt
$(COMPAT_STAMP): PINS := constraints/compat.txt
$(COMPAT_STAMP): PACKAGES := -r constraints/compat.txt
$(COMPAT_STAMP): WANTED := Python 3.11, the last that tflite-runtime has a wheel for
$(COMPAT_STAMP): FITS := sys.version_info[:2] == (3, 11)

$(STAMP) $(COMPAT_STAMP): %/edgekit.stamp: pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo "make: there is no '$(PYTHON)' here. This environment needs $(WANTED), with venv." >&2; \
	    echo "      On Debian or Ubuntu: apt-get install python3 python3-venv" >&2; \
	    echo "      Where it has another name: make PYTHON=/path/to/python3" >&2; \
	    exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not ($(FITS)))' || { \
	    echo "make: '$(PYTHON)' is $$("$(PYTHON)" --version). This environment needs $(WANTED)." >&2; \
	    echo "      Name another one: make PYTHON=/path/to/python3" >&2; \
	    exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make: '$(PYTHON)' has no venv, so no environment can be made." >&2; \
	    echo "      On Debian or Ubuntu: apt-get install python3-venv" >&2; \
	    exit 1; }
	"$(PYTHON)" -m venv $*
	$*/bin/python -m pip install --disable-pip-version-check -c $(PINS) \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $$(grep '^torch==' $(PINS))
	$*/bin/python -m pip install --disable-pip-version-check -c $(PINS) $(PACKAGES) -e '.[dev]'
	@touch $@

# An extra, which only some of the targets need.
$(DOCS_STAMP): EXTRA := docs
$(TFLITE_STAMP): EXTRA := tflite
$(DOCS_STAMP) $(TFLITE_STAMP): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c $(PINS) -e '.[$(EXTRA)]'
	@touch $@
