"""A plugin for pytest: the gate of ``edgekit bench`` in tests of one's own.

    def test_the_model_is_as_fast_as_ever(edgekit_benchmark):
        edgekit_benchmark("model.onnx")

    pytest --edgekit-baseline released/model.onnx

The fixture measures a model beside the baseline and fails the test on a regression, or where the two cannot be
compared. What is inconclusive or cannot be measured fails under ``--edgekit-strict`` only. Without a baseline the model
is measured alone. Every result has a line at the end of the session. Loaded in every session of pytest, it imports
nothing but pytest.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgekit.gate.record import BenchRecord

Benchmark = Callable[..., "BenchRecord"]
LINES = pytest.StashKey[list[str]]()
# What a test found, on its report: pytest-xdist sends reports, with all that is on them, to the process that prints.
TOLD = "edgekit_lines"
FAILURES, PASSES = ("regression", "invalid"), ("pass", "improvement")
# A name of a file has at most 255 bytes.
MOST_CHARACTERS = 200


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plugin."""
    group = parser.getgroup("edgekit", "edgekit: models as benchmarks")
    group.addoption(
        "--edgekit-baseline",
        metavar="PATH",
        help="what models must not be worse than: a model, a saved result, or a folder of models or of saved results",
    )
    group.addoption(
        "--edgekit-gate", metavar="GATE", help="how much worse each metric may be: latency.p50=1%%,size=1%%"
    )
    group.addoption("--edgekit-budget", metavar="SECONDS", type=float, help="most seconds of a model's times")
    group.addoption("--edgekit-strict", action="store_true", help="fail where nothing is known, too")
    group.addoption("--edgekit-save", metavar="DIR", help="keep each result in a folder, named after the test")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Put on the last report of a test what is told of it at the end of the session."""
    report = (yield).get_result()
    if report.when == "teardown":
        setattr(report, TOLD, item.stash.get(LINES, []))


@pytest.fixture
def edgekit_benchmark(request: pytest.FixtureRequest) -> Benchmark:
    """Measures a model beside its baseline, and fails the test where it is worse.

    It is called as ``edgekit.bench`` is: the model, and whatever else of ``baseline``, ``gate``, ``data``, ``target``,
    ``device``, ``budget_s`` ... the test knows better than the command line. It gives the record.
    """
    counted: Counter[str] = Counter()

    def benchmark(model: str | Path, **settings: Any) -> BenchRecord:
        __tracebackhide__ = True
        name = result_name(request.node.nodeid, model)
        counted[name] += 1
        again = f"-{counted[name]}" if counted[name] > 1 else ""
        return _benchmark(request.node, model, f"{name}{again}.json", settings)

    return benchmark


def result_name(node: str, model: str | Path) -> str:
    """The name of the file, without its ending, that keeps what a test found of a model.

    Args:
        node: of the test: ``tests/test_model.py::test_one[small]``.
        model: the model that is measured.
    """
    written = re.sub(r"[^A-Za-z0-9_.]+", "-", f"{node}-{Path(model).name}").strip("-.")
    digest = hashlib.sha256(f"{node} {Path(model).name}".encode()).hexdigest()[:8]  # what was left out tells them apart
    return f"{written[-MOST_CHARACTERS:]}-{digest}"


def _benchmark(test: pytest.Item, model: str | Path, kept: str, settings: dict[str, Any]) -> BenchRecord:
    __tracebackhide__ = True
    import edgekit
    from edgekit.gate.verdict import is_unknown
    from edgekit.gate.wording import headline, sentence
    from edgekit.reporting import check_place

    config, known = test.config, {name: value for name, value in settings.items() if value is not None}
    options = {
        "baseline": known.get("baseline") or find_baseline(_place(config, "--edgekit-baseline"), model, kept),
        "budget_s": config.getoption("--edgekit-budget"),
        "gate": config.getoption("--edgekit-gate"),
    }
    given = {name: value for name, value in {**options, **known}.items() if value is not None}
    if "baseline" not in given:
        given.pop("gate", None)  # measured alone
    strict, folder = config.getoption("--edgekit-strict"), _place(config, "--edgekit-save")
    file = None if folder is None else check_place(folder / kept, kept)
    record = edgekit.bench(model, **given)
    test.stash.setdefault(LINES, []).append(headline(record))
    failed = record.verdict in FAILURES or (strict and is_unknown(record))
    # Else the same test would pass when it is run again, beside what has just failed, or may be worse.
    doubted = failed or record.verdict == "inconclusive"
    if file is not None and not (doubted and _is_same(file, given.get("baseline"))):
        record.save(file)
    if failed:
        alike = [metric for metric in record.gated if metric.verdict == record.verdict]
        told = map(sentence, record.unmeasured if record.verdict in PASSES else alike)
        pytest.fail("\n".join((headline(record), *told, *record.warnings)), pytrace=False)
    return record


def _is_same(file: Path, baseline: str | Path | None) -> bool:
    """Whether a result would take the place of the baseline."""
    return baseline is not None and file.resolve() == Path(baseline).expanduser().resolve()


def _place(config: pytest.Config, option: str) -> Path | None:
    """The path that an option names, from where pytest was started: a test may have gone elsewhere."""
    given = config.getoption(option)
    return None if given is None else config.invocation_params.dir / Path(given).expanduser()


def find_baseline(path: Path | None, model: str | Path, kept: str) -> Path | None:
    """The baseline of a model: what was given; in a folder that is no artifact a model of its name, or what was kept.

    Args:
        path: the option.
        model: the model that is measured.
        kept: the file in which ``--edgekit-save`` keeps what this test finds of it.

    Raises:
        UsageError: the folder has nothing of the name.
    """
    from edgekit.artifact import is_artifact
    from edgekit.errors import UsageError

    if path is None or not path.is_dir() or is_artifact(path):
        return path
    name = Path(model).name
    found = [file for file in (path / name, path / kept) if file.exists()]
    if not found:
        raise UsageError(
            f"the folder of baselines {str(path)!r} has none for {name!r}",
            id="usage.no-file",
            why=f"looked for: {name}, {kept}",
            hint="Put the model as it was, or a result of --edgekit-save, into it.",
        )
    return found[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a result."""
    reports = (report for reports in terminalreporter.stats.values() for report in reports)
    lines = [line for report in reports for line in getattr(report, TOLD, ())]
    if lines:
        terminalreporter.section("edgekit bench")
        for line in lines:
            terminalreporter.write_line(line)
