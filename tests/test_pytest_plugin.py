from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edgekit.pytest_plugin import result_name

pytest_plugins = "pytester"

HEAVY = {"torch", "onnx", "onnxruntime", "numpy", "pydantic", "transformers", "rich", "typer"}
# Blocks the plugin under its installed name, where it is installed, and loads it by its module.
PLUGIN = ("-p", "no:edgekit", "-p", "edgekit.pytest_plugin", "-p", "no:cacheprovider", "-p", "no:anyio")
# Stands for measuring: a record of the verdict that the model is named after, and a note of how it was asked for.
CONFTEST = """
import json
import edgekit
import pytest
from gate.records import METRICS, gate, alone, gated

def bench(path, **settings):
    with open("asked.json", "a") as stream:
        stream.write(json.dumps([path, {k: str(v) for k, v in settings.items()}]) + "\\n")
    name = path.removesuffix(".onnx")
    subject = gate().subject.model_copy(update={"name": path})
    if "baseline" not in settings:
        return alone(subject=subject)
    return gate(subject=subject, verdict=name, metrics=(gated("latency.p50", "ms", name),), warnings=("busy",))

edgekit.bench = bench
"""
TEST = """
def test_one(edgekit_benchmark):
    assert edgekit_benchmark("{name}.onnx").subject.name == "{name}.onnx"
"""


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder of somebody's tests; the real `edgekit.bench` is back afterwards."""
    import edgekit

    monkeypatch.setattr(edgekit, "bench", edgekit.bench)
    pytester.makeconftest(CONFTEST)
    return pytester


def run(session: pytest.Pytester, name: str, *options: str) -> pytest.RunResult:
    session.makepyfile(TEST.format(name=name))
    return session.runpytest_inprocess(*PLUGIN, *options)


@pytest.mark.parametrize(
    ("verdict", "options", "failed"),
    [
        ("pass", (), 0),
        ("improvement", (), 0),
        ("regression", (), 1),
        ("invalid", (), 1),
        ("inconclusive", (), 0),
        ("inconclusive", ("--edgekit-strict",), 1),
    ],
)
def test_a_test_fails_where_the_model_is_worse(
    session: pytest.Pytester, verdict: str, options: tuple[str, ...], failed: int
) -> None:
    result = run(session, verdict, "--edgekit-baseline", "old.onnx", *options)
    result.assert_outcomes(passed=1 - failed, failed=failed)
    headline = f"{verdict}.onnx beside old.onnx: {verdict} ({verdict}: latency.p50)."
    result.stdout.fnmatch_lines(["*= edgekit bench =*", headline])
    if failed:
        told = "latency.p50: 1 ms to 1 ms, 0.00% (99%: -0.10% to +0.10%), +1% allowed"
        result.stdout.fnmatch_lines([headline, told, "busy"])


def test_without_a_baseline_a_model_is_measured_alone(session: pytest.Pytester) -> None:
    result = run(session, "pass", "--edgekit-gate", "size=1%")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["pass.onnx was measured."])
    assert (session.path / "asked.json").read_text() == '["pass.onnx", {}]\n'


def test_the_options_are_the_settings_of_all_tests(session: pytest.Pytester) -> None:
    options = ("--edgekit-baseline", "old.onnx", "--edgekit-gate", "size=1%", "--edgekit-budget", "5")
    run(session, "pass", *options, "--edgekit-save", "kept").assert_outcomes(passed=1)
    asked = ["pass.onnx", {"baseline": str(session.path / "old.onnx"), "budget_s": "5.0", "gate": "size=1%"}]
    assert json.loads((session.path / "asked.json").read_text()) == asked
    (kept,) = (session.path / "kept").iterdir()
    assert re.fullmatch(r"test_the_options.*\.py-test_one-pass\.onnx-[0-9a-f]{8}\.json", kept.name)
    assert '"verdict": "pass"' in kept.read_text()


def test_every_test_keeps_its_own_result(session: pytest.Pytester) -> None:
    session.makepyfile("""
        import pytest

        @pytest.mark.parametrize("size", ["a/b", "a-b"])
        def test_one(edgekit_benchmark, size):
            edgekit_benchmark("pass.onnx")
            edgekit_benchmark("pass.onnx")

        def test_two(edgekit_benchmark):
            edgekit_benchmark("pass.onnx")
    """)
    session.runpytest_inprocess(*PLUGIN, "--edgekit-save", "kept").assert_outcomes(passed=3)
    assert len(list((session.path / "kept").iterdir())) == 5
    again = session.runpytest_inprocess(*PLUGIN, "--edgekit-save", "kept", "--edgekit-baseline", "kept")
    again.assert_outcomes(passed=3)
    assert len(list((session.path / "kept").iterdir())) == 5
    baselines = [json.loads(line)[1].get("baseline") for line in (session.path / "asked.json").read_text().splitlines()]
    assert baselines[:5] == [None] * 5
    assert len(set(baselines[5:])) == 5


def test_a_result_that_fails_does_not_become_the_baseline(session: pytest.Pytester) -> None:
    session.makepyfile("""
        def test_one(edgekit_benchmark):
            edgekit_benchmark("regression.onnx")
    """)
    kept = ("--edgekit-save", "kept")
    session.runpytest_inprocess(*PLUGIN, *kept).assert_outcomes(passed=1)
    (file,) = (session.path / "kept").iterdir()
    before = file.read_text()
    (session.path / "link").symlink_to("kept")
    for same in ("kept", "link"):
        session.runpytest_inprocess(*PLUGIN, *kept, "--edgekit-baseline", same).assert_outcomes(failed=1)
        assert file.read_text() == before
    session.runpytest_inprocess(*PLUGIN, *kept, "--edgekit-baseline", "old.onnx").assert_outcomes(failed=1)
    assert json.loads(file.read_text())["verdict"] == "regression"


def test_a_result_that_may_be_worse_does_not_become_the_baseline(session: pytest.Pytester) -> None:
    session.makepyfile("""
        def test_one(edgekit_benchmark):
            edgekit_benchmark("inconclusive.onnx")
    """)
    kept = ("--edgekit-save", "kept")
    session.runpytest_inprocess(*PLUGIN, *kept).assert_outcomes(passed=1)
    (file,) = (session.path / "kept").iterdir()
    before = file.read_text()
    session.runpytest_inprocess(*PLUGIN, *kept, "--edgekit-baseline", "kept").assert_outcomes(passed=1)
    assert file.read_text() == before
    session.runpytest_inprocess(*PLUGIN, *kept, "--edgekit-baseline", "old.onnx").assert_outcomes(passed=1)
    assert json.loads(file.read_text())["verdict"] == "inconclusive"


def test_whether_a_result_can_be_kept_is_seen_before_anything_is_measured(session: pytest.Pytester) -> None:
    (session.path / "kept").write_text("")
    result = run(session, "pass", "--edgekit-save", "kept")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UsageError: *kept* cannot be made*"])
    assert not (session.path / "asked.json").exists()


def test_a_name_of_a_file_is_none_of_a_path() -> None:
    name = result_name("tests/x.py::test_one[../../" + "long" * 100 + "]", "a/model.onnx")
    assert re.fullmatch(r"[A-Za-z0-9_.-]{50,250}", name)
    assert "-model.onnx-" in name


def test_strict_fails_where_a_gated_metric_cannot_be_measured(session: pytest.Pytester) -> None:
    measured, unmeasured = 'gated("latency.p50", "ms", name),', 'gated("energy", "uJ", None, value=None),'
    session.makeconftest((session.path / "conftest.py").read_text().replace(measured, measured + unmeasured))
    options = ("--edgekit-baseline", "old.onnx")
    run(session, "pass", *options).assert_outcomes(passed=1)
    result = run(session, "pass", *options, "--edgekit-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["pass.onnx beside old.onnx: pass (pass: latency.p50; not measured: energy)."])


def test_a_test_knows_better_than_the_command_line(session: pytest.Pytester) -> None:
    session.makepyfile('def test_one(edgekit_benchmark): edgekit_benchmark("pass.onnx", baseline="b", gate="load=5%")')
    session.runpytest_inprocess(*PLUGIN, "--edgekit-baseline", "old", "--edgekit-gate", "size=1%")
    assert (session.path / "asked.json").read_text() == '["pass.onnx", {"baseline": "b", "gate": "load=5%"}]\n'


def test_a_test_with_a_gate_measures_alone_where_there_is_no_baseline(session: pytest.Pytester) -> None:
    session.makepyfile('def test_one(edgekit_benchmark): edgekit_benchmark("pass.onnx", gate="load=5%")')
    session.runpytest_inprocess(*PLUGIN)
    assert (session.path / "asked.json").read_text() == '["pass.onnx", {}]\n'


def test_a_tests_own_baseline_is_not_looked_for_in_the_folder(session: pytest.Pytester) -> None:
    (session.path / "old").mkdir()
    session.makepyfile('def test_one(edgekit_benchmark): edgekit_benchmark("pass.onnx", baseline="b")')
    session.runpytest_inprocess(*PLUGIN, "--edgekit-baseline", "old")
    assert (session.path / "asked.json").read_text() == '["pass.onnx", {"baseline": "b"}]\n'


def test_a_folder_of_baselines_has_them_by_their_names(session: pytest.Pytester) -> None:
    (session.path / "old").mkdir()
    (session.path / "old" / "pass.onnx").write_text("{}")
    run(session, "pass", "--edgekit-baseline", "old").assert_outcomes(passed=1)
    asked = json.loads((session.path / "asked.json").read_text())[1]
    assert asked["baseline"] == str(session.path / "old" / "pass.onnx")
    (session.path / "old" / "pass.onnx").unlink()
    result = run(session, "pass", "--edgekit-baseline", "old")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the folder of baselines '*old' has none for 'pass.onnx'*"])


def test_paths_of_options_are_those_of_where_pytest_was_started(session: pytest.Pytester) -> None:
    session.makepyfile("""
        def test_one(edgekit_benchmark, tmp_path, monkeypatch):
            monkeypatch.chdir(tmp_path)
            edgekit_benchmark("pass.onnx")
    """)
    options = ("--edgekit-baseline", "old.onnx", "--edgekit-save", "kept")
    result = session.runpytest_inprocess(*PLUGIN, *options, f"--basetemp={session.path / 'elsewhere'}")
    result.assert_outcomes(passed=1)
    asked = session.path / "elsewhere" / "test_one0" / "asked.json"
    assert json.loads(asked.read_text())[1]["baseline"] == str(session.path / "old.onnx")
    assert len(list((session.path / "kept").iterdir())) == 1


def test_results_of_other_processes_are_told_at_the_end(session: pytest.Pytester) -> None:
    result = run(session, "regression", "--edgekit-baseline", "old.onnx", "-p", "xdist", "-n", "1")
    result.assert_outcomes(failed=1)
    told = "regression.onnx beside old.onnx: regression (regression: latency.p50)."
    result.stdout.fnmatch_lines(["*= edgekit bench =*", told])


def test_a_result_of_a_fixture_that_fails_is_told(session: pytest.Pytester) -> None:
    session.makepyfile("""
        import pytest

        @pytest.fixture
        def measured(edgekit_benchmark):
            return edgekit_benchmark("regression.onnx")

        def test_one(measured): pass
    """)
    result = session.runpytest_inprocess(*PLUGIN, "--edgekit-baseline", "old.onnx")
    result.assert_outcomes(errors=1)
    told = "regression.onnx beside old.onnx: regression (regression: latency.p50)."
    result.stdout.fnmatch_lines(["*= edgekit bench =*", told])


def test_sessions_without_the_fixture_hear_nothing_of_it(session: pytest.Pytester) -> None:
    session.makepyfile("def test_one(): pass")
    result = session.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(passed=1)
    assert "edgekit bench" not in result.stdout.str()


def test_pytest_finds_the_plugin_by_the_package() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    (module,) = tomllib.loads(text)["project"]["entry-points"]["pytest11"].values()
    assert hasattr(importlib.import_module(module), "edgekit_benchmark")


def test_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, edgekit.pytest_plugin; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert HEAVY & set(done.stdout.split()) == set()
