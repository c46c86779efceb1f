#!/usr/bin/env bash
# Has the readers of each export of `edgekit bench` read it: benchmarks/consumers.sh [FOLDER]
# Installs them into a folder of their own (a new one by default), and runs the tests that need them; a test whose reader
# is missing says which. google/benchmark's compare.py is that of Debian's package libbenchmark-tools, where there is
# apt-get; the schema of JUnit files is that of Jenkins' xUnit plugin, which pytest's sources have for their own tests.
# EDGEKIT_GOOGLE_COMPARE and EDGEKIT_JUNIT_XSD name other ones.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath "${1:-$(mktemp -d)}")
python=${PYTHON:-.venv/bin/python}
"$python" -m pip install --quiet --no-deps --target "$folder" \
    pytest-benchmark==5.3.1 py-cpuinfo==9.0.0 junitparser==5.0.3 xmlschema==4.3.2 elementpath \
    jsonschema==4.26.0 jsonschema-specifications referencing rpds-py attrs typing_extensions
if [ -z "${EDGEKIT_JUNIT_XSD:-}" ]; then
    "$python" -m pip download --quiet --no-deps --no-binary pytest --dest "$folder" pytest==8.4.2
    tar -xzf "$folder/pytest-8.4.2.tar.gz" -C "$folder"
    export EDGEKIT_JUNIT_XSD="$folder/pytest-8.4.2/testing/example_scripts/junit-10.xsd"
fi
if [ -z "${EDGEKIT_GOOGLE_COMPARE:-}" ] && [ ! -f /usr/share/benchmark/compare.py ] && command -v apt-get > /dev/null; then
    (cd "$folder" && apt-get download --quiet libbenchmark-tools && dpkg-deb -x libbenchmark-tools_*.deb .)
    export EDGEKIT_GOOGLE_COMPARE="$folder/usr/share/benchmark/compare.py"
fi
PYTHONPATH="$folder" "$python" -m pytest -p no:benchmark -rs tests/gate/exports/test_consumers.py
