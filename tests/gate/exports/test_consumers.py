"""What reads each format reads it; each test skips where its consumer is not installed, and says what it needs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gate.records import gate

from edgekit.gate.exports import EXPORTS

# From Debian's package libbenchmark-tools, or a checkout of google/benchmark.
COMPARE = Path(os.environ.get("EDGEKIT_GOOGLE_COMPARE", "/usr/share/benchmark/compare.py"))
# A schema for JUnit files, such as junit-10.xsd of Jenkins' xUnit plugin.
JUNIT_XSD = os.environ.get("EDGEKIT_JUNIT_XSD")
# The schema of bencher.dev/docs/reference/bencher-metric-format: benchmarks, their measures, three numbers each.
NUMBER = {"type": "number"}
METRIC = {
    "type": "object",
    "properties": dict.fromkeys(("value", "lower_value", "upper_value"), NUMBER),
    "required": ["value"],
}
BENCHER = {
    "type": "object",
    "patternProperties": {".+": {"type": "object", "patternProperties": {".+": METRIC}}},
}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs the package {package}")


def save(folder: Path, name: str) -> Path:
    file = folder / f"{name}.out"
    file.write_text(EXPORTS[name].write(gate()), encoding="utf-8")
    return file


def run(folder: Path, *command: str | Path, **environment: str) -> str:
    """A program in a folder, where pytest finds no settings of edgekit's."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs("pytest_benchmark")
def test_pytest_benchmark_compares_both_sides(tmp_path: Path) -> None:
    file = save(tmp_path, "pytest-benchmark").rename(tmp_path / "0001_result.json")
    told = run(
        tmp_path,
        "-m",
        "pytest_benchmark",
        "--storage",
        f"file://{tmp_path}",
        "compare",
        file,
        "--columns",
        "median,rounds",
    )
    lines = [line.split() for line in told.splitlines() if line.startswith("latency.p50[")]
    # Medians in milliseconds, the faster first, each with its ratio to it.
    assert [(words[0], words[1]) for words in lines] == [
        ("latency.p50[baseline]", "1.2300"),
        ("latency.p50[candidate]", "1.4000"),
    ]


@pytest.mark.skipif(not COMPARE.is_file(), reason="needs google/benchmark's compare.py (EDGEKIT_GOOGLE_COMPARE)")
@needs("scipy")
def test_google_benchmark_compares_both_sides(tmp_path: Path) -> None:
    file = save(tmp_path, "google-benchmark")
    told = run(
        tmp_path, COMPARE, "--no-color", "filters", file, "baseline", "candidate", PYTHONPATH=str(COMPARE.parent)
    )
    (median,) = [line.split("_median")[1].split() for line in told.splitlines() if "_median" in line]
    # Relative change of the real time and of the processor's, then what they were.
    assert median == ["+0.1382", "+0.0000", "1230000", "1400000", "0", "0"]


@needs("jsonschema")
def test_bencher_takes_it() -> None:
    import jsonschema

    found = json.loads(EXPORTS["bencher"].write(gate()))
    jsonschema.validate(found, BENCHER)
    assert found["latency.p50"]["latency"]["value"] == 1.4e6


@needs("junitparser")
def test_junitparser_reads_the_verdicts(tmp_path: Path) -> None:
    import junitparser

    (suite,) = junitparser.JUnitXml.fromfile(str(save(tmp_path, "junit")))
    verdicts = {case.name: [type(one).__name__ for one in case.result] for case in suite}
    assert verdicts == {"latency.p50": ["Failure"], "size": [], "memory.peak": [], "accuracy": ["Skipped"]}


@pytest.mark.skipif(JUNIT_XSD is None, reason="needs a schema of JUnit files (EDGEKIT_JUNIT_XSD)")
@needs("xmlschema")
def test_a_junit_schema_takes_it(tmp_path: Path) -> None:
    import xmlschema

    schema = xmlschema.XMLSchema(JUNIT_XSD)
    assert list(schema.iter_errors(str(save(tmp_path, "junit")))) == []
