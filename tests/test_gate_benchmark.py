"""What the evidence of the gate counts for, and when a part of it is settled."""

from __future__ import annotations

import ast
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from records import make_record, p50
from scripts import FOLDER, scripts

from edgekit.gate.record import BenchRecord, Protocol

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
    evidence.code.cache_clear()


def test_a_rule_holds_of_all_gates_and_fails_as_soon_as_too_few_can_be_right(evidence: ModuleType) -> None:
    rule = evidence.Rule(("regression",), 0.9)
    assert rule.state(["regression"] * 90 + ["pass"] * 9, 100) == "open"
    assert rule.state(["regression"] * 90 + ["pass"] * 10, 100) == "holds"
    assert rule.state(["pass"] * 11, 100) == "fails"
    none = evidence.Rule(("pass", "inconclusive"), 1.0)
    assert none.state(["pass"] * 299, 300) == "open"
    assert none.state(["pass", "regression"], 300) == "fails"
    assert evidence.worst(["holds", "open", "fails"]) == "fails"
    assert evidence.worst(["holds", "open"]) == "open"


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script with a file of results of its own, and with the verdicts that `told` has in place of measuring."""
    monkeypatch.delitem(sys.modules, "gate", raising=False)  # the folder of tests of that name
    with scripts() as load:
        script: Any = load("gate")
        monkeypatch.setattr(load("gate_evidence"), "RESULTS", tmp_path / "gate.jsonl")
        script.told, script.asked = [], []

        def bench(candidate: Path, **settings: Any) -> BenchRecord:
            script.asked.append(settings)
            verdict, disturbed = script.told.pop(0)
            return make_record(
                p50(1.0, delta=0.0, verdict=verdict), protocol=Protocol(disturbed=disturbed, spent_s=9.5)
            )

        monkeypatch.setattr(script.edgekit, "bench", bench)
        monkeypatch.setattr(script, "make_pair", lambda *given: (tmp_path / "old.onnx", tmp_path / "new.onnx", 0.0))
        yield script


QUIET, BUSY = ("pass", ()), ("pass", ("load",))


def test_a_part_goes_on_where_it_was_cut_off(gate: Any) -> None:
    part = replace(gate.PARTS["bursty"], count=3, hogs=0)
    for made in (2, 1):
        gate.told = [QUIET] * made
        with contextlib.suppress(IndexError):  # cut off: nothing is told of the next gate
            gate.run_gates("bursty", part, "tenth", "onnx")
    assert [one["seed"] for one in gate.asked] == [0, 1, 2, 2]
    assert gate.run_gates("bursty", part, "tenth", "onnx") == "holds"
    for where in (("tenth", "tflite"), ("five", "onnx")):
        with pytest.raises(IndexError):
            gate.run_gates("bursty", part, *where)
        assert gate.asked[-1]["seed"] == 0


def test_an_idle_machine_is_seen_to_be_one_and_an_alarm_counts_always(
    gate: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    part = replace(gate.PARTS["idle"], count=2)
    gate.told = [BUSY, QUIET, BUSY, QUIET]
    assert gate.run_gates("idle", part, "tenth", "onnx") == "holds"
    told = capsys.readouterr().out.splitlines()[-1]
    assert "2 of 2 gates: pass 2; 2 more do not count, as the machine was not idle; disturbed: load 2" in told
    gate.told = [("regression", ("load",))]
    assert gate.run_gates("idle", replace(part, budget=5.0), "tenth", "onnx") == "fails"
    gate.told = [BUSY] * 11
    assert gate.run_gates("idle", replace(part, budget=6.0), "tenth", "onnx") == "open"
    assert len(gate.told) == 1


def test_a_gate_that_takes_longer_than_it_may_fails_the_part(gate: Any) -> None:
    part = gate.PARTS["slower-3"]
    row = {"verdict": "regression", "disturbed": [], "took_s": 59.0}
    assert part.state([row] * 99) == "open"
    assert part.state([row] * 100) == "holds"
    assert part.state([{**row, "took_s": 60.5}]) == "fails"


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("regression", 1)])
def test_the_exit_code_says_whether_it_was_shown(
    gate: Any, monkeypatch: pytest.MonkeyPatch, verdict: str, code: int
) -> None:
    gate.told = [(verdict, ())]
    monkeypatch.setattr(sys, "argv", ["gate.py", "idle", "--count", "1"])
    with pytest.raises(SystemExit) as ended:
        gate.main()
    assert int(ended.value.code or 0) == code


def test_one_of_them_measures_at_a_time(gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gate.py", "answers"])
    with gate.alone(), pytest.raises(SystemExit, match=r"another gate\.py is measuring"):
        gate.main()
    with pytest.raises(SystemExit) as ended:
        gate.main()
    assert not ended.value.code


def test_the_report_has_everything_that_is_to_be_shown(
    gate: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gate.py", "report"])
    with pytest.raises(SystemExit) as ended:
        gate.main()
    assert ended.value.code
    keys = [json.loads(line.partition("}: ")[0] + "}") for line in capsys.readouterr().out.splitlines()]
    parts = {(key["what"], key.get("model")) for key in keys}
    assert {(name, "tenth") for name in gate.PARTS} <= parts
    assert {("slower-5", "five"), ("idle-tflite", "tenth"), ("emulated", None), ("overhead", None)} <= parts


def test_a_claim_is_judged_by_its_last_line(gate: Any) -> None:
    claims = {" ".join(map(str, list(claim.key.values())[:2])): claim for claim in gate.CLAIMS}
    throttling, cost = claims["traces throttling of 10 to 50 %"], claims["overhead 200"]
    assert throttling.state() == "open"
    for flagged, state in ((94, "fails"), (95, "holds")):
        gate.keep({**throttling.key, "flagged": flagged, "of": 100})
        assert throttling.state() == state
    for added, state in ((2.5, "fails"), (1.9, "holds")):
        gate.keep({**cost.key, "bare_us": 100.0, "added_us": added})
        assert cost.state() == state
    assert gate.run_claims("answers", None) == "holds"


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
