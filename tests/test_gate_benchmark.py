"""What the evidence of the gate counts for, and when a part of it is settled."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from records import make_record, p50
from scripts import FOLDER, scripts

from edgekit.gate.record import Protocol

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def evidence() -> Iterator[ModuleType]:
    with scripts() as load:
        yield load("gate_evidence")


def imported(file: Path) -> Iterator[str]:
    """Files of the package that a module imports, by their names below it."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgekit"):
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                path = Path(*str(name).split(".")).with_suffix(".py")
                if (ROOT / path).is_file():
                    yield path.relative_to("edgekit").as_posix()


def test_what_decides_a_gate_is_closed_under_imports(evidence: ModuleType) -> None:
    decided = set(evidence.DECIDING)
    assert {"gate/session.py", "gate/statistics.py", "devices/runner.py", "runtimes/measuring.py"} <= decided
    needed = {name for one in decided if one.endswith(".py") for name in imported(ROOT / "edgekit" / one)}
    assert {name for name in needed if name.startswith(("gate/", "measure/"))} <= decided
    for name in decided:
        assert (ROOT / "edgekit" / name).is_file()


def test_words_do_not_change_what_code_means_and_code_does(evidence: ModuleType, tmp_path: Path) -> None:
    def meaning(text: str) -> bytes:
        (tmp_path / "code.py").write_text(text)
        found: bytes = evidence.meaning(tmp_path / "code.py")
        return found

    plain = meaning("LEVEL = 0.99\n\ndef f():\n    'What it does.'\n    return LEVEL\n")
    assert meaning("# why\nLEVEL = 0.99\n\ndef f():\n    'What it really does.'\n    return LEVEL  # so\n") == plain
    assert meaning("LEVEL = 0.95\n\ndef f():\n    'What it does.'\n    return LEVEL\n") != plain


def test_lines_of_other_code_or_other_machines_do_not_count(
    evidence: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "gate.jsonl")
    assert evidence.done({"what": "idle"}) == []
    evidence.keep({"what": "idle", "verdict": "pass"})
    evidence.keep({"what": "overhead", "layers": 1})
    (line,) = evidence.done({"what": "idle"})
    with (tmp_path / "gate.jsonl").open("a") as stream:
        for name in ("code", "host", "runtimes"):
            stream.write(json.dumps({**line, name: "another"}) + "\n")
    assert len(evidence.read_lines()) == 5
    assert len(evidence.done({"what": "idle"})) == 1


def test_a_line_that_was_cut_off_is_none_and_costs_no_other(
    evidence: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "gate.jsonl")
    for seed in (0, 1):
        evidence.keep({"what": "idle", "seed": seed})
    whole = (tmp_path / "gate.jsonl").read_bytes()
    for cut in range(len(whole) // 2 + 1, len(whole)):
        (tmp_path / "gate.jsonl").write_bytes(whole[:cut])
        assert [line["seed"] for line in evidence.read_lines()] == [0]
    evidence.keep({"what": "idle", "seed": 1})
    assert (tmp_path / "gate.jsonl").read_bytes() == whole


def test_what_runs_beside_a_gate_is_of_what_its_line_counts_for(
    evidence: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = evidence.code()
    for name in ("gate_evidence.py", "gate_load.py"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    with (tmp_path / "gate_load.py").open("a") as stream:
        stream.write("PAUSE_S = (0.1, 1.0)\n")
    monkeypatch.setattr(evidence, "__file__", str(tmp_path / "gate_evidence.py"))
    evidence.code.cache_clear()
    assert evidence.code() != before


def test_a_part_is_settled_when_the_rest_cannot_change_it(evidence: ModuleType) -> None:
    rule = evidence.Rule(("regression",), 0.9)
    assert rule.state(["regression"] * 89 + ["pass"] * 5, 100) == "open"
    assert rule.state(["regression"] * 90, 100) == "holds"
    assert rule.state(["pass"] * 11, 100) == "fails"
    none = evidence.Rule(("pass", "inconclusive"), 1.0)
    assert none.state(["pass"] * 299, 300) == "open"
    assert none.state(["pass", "regression"], 300) == "fails"
    assert evidence.state_of((rule, none), ["regression"] * 90, 100) == "fails"
    assert evidence.state_of((rule,), ["regression"] * 90, 100) == "holds"


def test_a_line_says_whether_the_machine_was_idle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "gate", raising=False)  # the folder of tests of that name
    with scripts() as load:
        gate = load("gate")
        record = make_record(p50(1.0, verdict="pass"), protocol=Protocol(disturbed=("load",), spent_s=9.5))
        line = gate.line_of(record, "latency.p50")
        assert line["disturbed"] == ("load",)
        gate.done = lambda key: [line, {**line, "disturbed": []}]
        gate.report({"what": "idle"}, gate.PARTS["idle"])
    assert "2 gates, 1 of them disturbed: pass 2; seconds a gate: median 9.5" in capsys.readouterr().out


@pytest.mark.parametrize("options", [(), ("--bursts",)])
def test_other_load_ends_with_what_started_it_however_that_ends(options: tuple[str, ...]) -> None:
    command = [sys.executable, str(FOLDER / "gate_load.py"), "--hogs", "1", "--seconds", "60", *options]
    maker = subprocess.Popen(command)
    children = Path(f"/proc/{maker.pid}/task/{maker.pid}/children")
    until(lambda: children.read_text() != "")
    (hog,) = children.read_text().split()
    maker.kill()
    maker.wait()
    until(lambda: not Path(f"/proc/{hog}").exists())


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something; an error where it does not come."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_gates_are_drawn_with_few_processes_and_heavy_tails() -> None:
    with scripts() as load:
        computed = load("gate_computed")
        draw = np.random.default_rng(0)
        few = [computed.draw_gate(draw, computed.Drawn(budget=None), change=0.1, seed=seed) for seed in range(8)]
        assert {gate["processes"] for gate in few} <= {5, 6, 7}
        assert {gate["verdict"] for gate in few} == {"regression"}
        heavy = computed.Drawn(heavy=True).deviates(draw, 1.0, 20_000)
        assert np.quantile(heavy, 0.75) == pytest.approx(0.6745, abs=0.03)
        assert np.quantile(heavy, 0.999) > 6
        assert computed.most_likely(0, 300) == pytest.approx(0.00994, abs=1e-4)  # 1 - 0.05 ** (1 / 300)
