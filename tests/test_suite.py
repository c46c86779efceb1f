"""The suite's script: what a line holds, what counts as missed, and the table of operators."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripts import FOLDER
from test_retention import report

from edgekit.profiles import OperatorTime, Profile, Profiles, Rate
from edgekit.report import LimitVerdict
from edgekit.trials import SearchRecord, TrialRecord

CORTEX = "cortex-a76, emulated"
BEGIN, END = "<!-- operators: begin -->", "<!-- operators: end -->"


def operators(*kinds: tuple[str, int, float]) -> tuple[OperatorTime, ...]:
    whole = sum(ms for _, _, ms in kinds)
    return tuple(
        OperatorTime(operator=kind, provider="cpu", nodes=nodes, ms=ms, share=ms / whole) for kind, nodes, ms in kinds
    )


def side(ms: float, share: float, *kinds: tuple[str, int, float]) -> tuple[Profile, ...]:
    found = Profile(
        component="model", operators=operators(*kinds), operators_ms=ms, profiled_ms=ms, latency_ms=ms, n=9,
        gmacs_per_s=share * 1000, int8_share=share,
    )  # fmt: skip
    return (found,)


def rate(operator: str, gmacs_per_s: float) -> Rate:
    return Rate(precision="int8", operator=operator, types="u8s8", shape=(512, 512, 512), gmacs_per_s=gmacs_per_s)


FASTEST, OTHER = rate("MatMulInteger", 1000.0), rate("DynamicQuantizeMatMul", 600.0)
PROFILES = Profiles(
    before=side(30.0, 0.02, ("MatMul", 12, 28.0), ("Gelu", 6, 2.0)),
    after=side(2.0, 0.12, ("DynamicQuantizeMatMul", 12, 1.5), ("Gelu", 4, 0.5)),
    rates=(OTHER, FASTEST, rate("MatMulInteger", 900.0)),
    int8=FASTEST,
)


def found(*, met: bool) -> Any:
    """A report of a search."""
    made = report(0.2)
    made.limits = (LimitVerdict(limit="max_drop", bound=0.01, value=0.02, met=met, proven=None),)
    made.passed = met
    made.counts_before, made.counts_after, made.devices = (), (), ()
    made.workload = {"batch": 1, "tokens": 128}
    made.profile = PROFILES
    made.artifact = SimpleNamespace(path="artifact")
    trial = TrialRecord(number=0, kind="quantized", stages=({"stage": "export"},), latency_ms=2.0)
    made.search = SearchRecord(
        objective="latency", fill=False, metric="accuracy", seconds=300.0, spent=290.0, attempts=1, looks=1,
        trials=(trial,), chosen=0,
    )  # fmt: skip
    return made


@pytest.fixture
def suite(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script with a compression and a page that are made up, and no goals."""
    run = load("run")
    monkeypatch.setitem(run.CASES, "sst2-60m", replace(run.CASES["sst2-60m"], goals=load("cases").Goals()))
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(run, "RESULTS", tmp_path / "suite.jsonl")
    monkeypatch.setattr(run, "README", page)
    monkeypatch.setattr(run, "ARTIFACTS", tmp_path)  # a search of a real run keeps its cache there
    monkeypatch.setattr(run, "find_asset", lambda key: key)
    monkeypatch.setattr(run, "agreement", lambda source, artifact: "20 of 20")
    return run


@pytest.mark.parametrize("met", [True, False])
def test_a_case_that_misses_a_limit_ends_with_1(
    suite: Any, met: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "compress", lambda case, output: found(met=met))
    monkeypatch.setattr("sys.argv", ["run.py", "--case", "sst2-60m"])
    assert suite.main() == (0 if met else 1)
    assert ("missed: sst2-60m (max_drop)" in capsys.readouterr().err) is not met


@pytest.mark.parametrize(
    ("name", "figures", "missed"),
    [
        ("sst2-60m", {"speedup": 12.0, "after_bytes": 1e6}, []),
        ("sst2-60m", {"speedup": 11.987, "after_bytes": 1e6}, ["latency: 11.99 times less, and 12 is the goal"]),
        ("sst2-60m", {"speedup": None, "after_bytes": 1e6}, ["latency: not measured, and 12 is the goal"]),
        ("sst2-60m", {"speedup": 13.0, "after_bytes": 2e6}, ["size: 6.00 times less, and 12 is the goal"]),
        ("sst2-5m", {"speedup": 4.0, "after_bytes": 2e6}, []),
        ("sst2-arm64", {"speedup": None, "after_bytes": 2e6, "instructions": {CORTEX: [8, 1]}}, []),
        (
            "sst2-arm64",
            {"speedup": None, "after_bytes": 2e6, "instructions": {CORTEX: [15, 2]}},
            [f"instructions on {CORTEX}: 7.50 times less, and 8 is the goal"],
        ),
    ],
)
def test_goals_are_missed_with_how_far_it_came(
    load: Any, name: str, figures: dict[str, Any], missed: list[str]
) -> None:
    row = {"case": name, "before_bytes": 12e6, "instructions": {}, "limits": []} | figures
    assert load("run").missed_goals(row) == missed


def test_a_table_of_peers_misses_the_goals_of_the_cases_in_it(load: Any) -> None:
    peers = load("peers")
    measured = {"error": None, "p50_ms": 9.0, "precision": "int8"}
    peer = measured | {"peer": "olive", "recipe": "dynamic"}
    rows = [
        peer,
        measured | {"peer": "edgekit", "recipe": "sst2-60m", "faster_than_best_peer": [3.9, 3.8, 4.1]},
        measured | {"peer": "edgekit", "recipe": "quantize", "faster_than_best_peer": [1.2, 1.1, 1.3]},
    ]
    assert peers.missed_by(rows) == ["missed: sst2-60m, beside the fastest peer: 3.90 times less, and 4 is the goal"]
    assert peers.missed_by([peer, rows[1] | {"faster_than_best_peer": [4.0, 3.9, 4.1]}, rows[2]]) == []
    assert peers.missed_by(rows[1:]) == ["no INT8 artifact of a peer was measured"]


def test_a_search_that_took_longer_than_its_box_keeps_its_limits(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(met=True)
    made.limits += (LimitVerdict(limit="time", bound=300.0, value=301.0, met=False, proven=None),)
    monkeypatch.setattr(suite, "compress", lambda case, output: made)
    monkeypatch.setattr("sys.argv", ["run.py", "--case", "sst2-60m"])
    assert suite.main() == 0


def test_a_case_whose_artifact_is_not_here_is_run_again(
    suite: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Path] = []

    def compress(case: Any, output: Path) -> Any:
        made.append(output)
        return found(met=True)

    monkeypatch.setattr(suite, "compress", compress)
    monkeypatch.setattr("sys.argv", ["run.py", "--case", "sst2-60m"])
    for _ in range(2):
        assert suite.main() == 0
    assert made == [tmp_path / "sst2-60m"] * 2
    made[0].mkdir()
    (made[0] / "manifest.json").write_text("{}", encoding="utf-8")
    assert suite.main() == 0
    assert len(made) == 2


def test_a_search_has_a_cache_of_its_own_until_its_line_is_written(
    suite: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used: list[str | None] = []

    def compress(source: str, **options: Any) -> Any:
        used.append(os.environ.get("EDGEKIT_CACHE"))
        if len(used) == 1:
            (tmp_path / "sst2-60m-cache").mkdir()
            raise KeyboardInterrupt
        return found(met=True)

    monkeypatch.setattr(suite.edgekit, "compress", compress)
    monkeypatch.setenv("EDGEKIT_CACHE", "common")
    monkeypatch.setattr("sys.argv", ["run.py", "--case", "sst2-60m", "--case", "sst2-vnni"])
    with pytest.raises(KeyboardInterrupt):
        suite.main()
    assert (tmp_path / "sst2-60m-cache").is_dir()
    assert suite.main() == 0
    own = str(tmp_path / "sst2-60m-cache")
    assert used == [own, own, "common"]
    assert os.environ["EDGEKIT_CACHE"] == "common"
    assert not (tmp_path / "sst2-60m-cache").exists()


@pytest.mark.parametrize("arguments", [["--case", "sst2-60m", "--case", "cifar-tflite"], []])
def test_what_is_not_here_is_told_before_anything_is_run(
    suite: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(suite, "find_asset", lambda key: None if key in ("resnet20", "minilm-sst2") else key)
    monkeypatch.setattr(suite, "CASES", {name: suite.CASES[name] for name in ("sst2-60m", "cifar-tflite")})
    monkeypatch.setattr(suite, "compress", lambda case, output: pytest.fail("it was run"))
    monkeypatch.setattr("sys.argv", ["run.py", *arguments])
    absent = r"sst2-60m \(minilm-sst2\), cifar-tflite \(resnet20\)" if arguments else "any case"
    with pytest.raises(SystemExit, match=f"not here are the assets of {absent}; benchmarks/assets.toml says how to"):
        suite.main()


def test_other_tools_are_looked_at_before_anything_is_run(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def call(program: list[str]) -> int:
        called.append(program[2:])
        return 2

    monkeypatch.setattr(suite.subprocess, "call", call)
    monkeypatch.setattr(suite, "compress", lambda case, output: pytest.fail("it was run"))
    monkeypatch.setattr("sys.argv", ["run.py", "--suite", "sst2", "--peers", "olive,optimun"])
    assert suite.main() == 2
    assert called == [["--suite", "sst2", "--peers", "olive,optimun", "--check"]]


def test_a_line_has_limits_trials_memory_and_operators(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "compress", lambda case, output: found(met=False))
    line = suite.run_case("sst2-60m")
    assert line["limits"] == [{"limit": "max_drop", "bound": 0.01, "value": 0.02, "met": False, "proven": None}]
    assert line["passed"] is False
    assert line["search"]["spent"] == 290.0
    (trial,) = line["search"]["trials"]
    assert (trial["number"], trial["latency_ms"]) == (0, 2.0)
    assert "stages" not in trial
    assert line["profile"]["int8"]["gmacs_per_s"] == 1000.0
    assert line["after_memory_bytes"] == 2e6
    assert line["flips"] == 3
    assert (line["source"]["digest"], line["data"]["digest"]) == ("5" * 64, "d" * 64)


def test_the_page_tells_where_the_time_goes_and_how_the_limit_was_measured(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "compress", lambda case, output: found(met=True))
    monkeypatch.setattr("sys.argv", ["run.py", "--suite", "sst2"])
    assert suite.main() == 0
    text = suite.README.read_text(encoding="utf-8")
    assert "### sst2-60m\n" in text
    assert "sst2-vnni" not in text
    assert "| DynamicQuantizeMatMul |  | |  | 12 | 1.500 | 75.0 % |" in text
    assert "| Gelu | 6 | 2.000 | 6.7 % | 4 | 0.500 | 25.0 % |" in text
    assert "The artifact: 2.00 ms, 120 GMAC/s, 12.0 % of the INT8 limit." in text
    assert "The INT8 limit is 1000 GMAC/s: MatMulInteger u8s8 [512, 512] x [512, 512]" in text
    assert "Others reach at most: 600 GMAC/s, DynamicQuantizeMatMul u8s8 [512, 512] x [512, 512]." in text


def test_suites_are_of_one_model_and_the_long_search_comes_first(load: Any) -> None:
    run = load("run")
    assert run.SUITES["sst2"] == ("sst2-60m", "sst2-vnni")
    for names in run.SUITES.values():
        assert len({(run.CASES[name].model, run.CASES[name].data, run.CASES[name].target) for name in names}) == 1


def test_the_page_shows_what_the_results_hold(load: Any, tmp_path: Path) -> None:
    run = load("run")
    page = tmp_path / "README.md"
    page.write_text((FOLDER / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    last = load("lines").latest(run.RESULTS)
    load("operator_table").write_operators([last[names[0]] for names in run.SUITES.values() if names[0] in last], page)
    assert page.read_text(encoding="utf-8") == (FOLDER / "README.md").read_text(encoding="utf-8")
