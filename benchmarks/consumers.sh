#!/usr/bin/env bash
# Has the readers of each export of `edgekit bench` read it: benchmarks/consumers.sh [FOLDER]
# Installs them into a folder of their own (a new one by default), and runs the tests that need them; a test whose reader
# is missing says which. google/benchmark's compare.py is in Debian's package libbenchmark-tools, or where
# EDGEKIT_GOOGLE_COMPARE names it; a schema of JUnit files is where EDGEKIT_JUNIT_XSD names it.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-$(mktemp -d)}
python=${PYTHON:-.venv/bin/python}
"$python" -m pip install --quiet --no-deps --target "$folder" \
    pytest-benchmark==5.3.1 py-cpuinfo==9.0.0 junitparser==5.0.3 xmlschema==4.3.2 elementpath \
    jsonschema==4.26.0 jsonschema-specifications referencing rpds-py attrs typing_extensions
PYTHONPATH="$folder" "$python" -m pytest -p no:benchmark tests/gate/exports/test_consumers.py
