from __future__ import annotations

import os
from pathlib import Path

import pytest
from records import make_record, p50
from rich.console import Console

from edgekit.errors import ArtifactError, UnknownNameError
from edgekit.gate.history import Point, read_history
from edgekit.gate.record import HostRecord, Metric, Protocol, Runtime
from edgekit.render.history import history_view, mark


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Three results of two machines, one without the latency, and a file of others."""
    other = HostRecord(fingerprint="cd")
    last = p50(2.0, ci_low=1.0, ci_high=3.0, verdict="pass")
    make_record(last, created="2026-01-03T00:00:00Z", verdict="regression").save(tmp_path / "b.json")
    make_record(p50(4.0), created="2026-01-02T00:00:00Z").save(tmp_path / "c.json")
    make_record(p50(5.0), host=other).save(tmp_path / "d.json")
    make_record(Metric(name="size", unit="bytes", value=1.0)).save(tmp_path / "e.json")
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "cut.json").write_text("{")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    (tmp_path / "old.json").write_text('{"schema": "edgekit.bench/1"}')
    return tmp_path


def test_a_folder_is_read_in_the_order_of_time(kept: Path) -> None:
    found = read_history(kept)
    assert [(point.value, point.machine, point.verdict) for point in found.points] == [
        (4.0, "ab", None),
        (5.0, "cd", None),
        (2.0, "ab", "pass"),
    ]
    assert (found.without, found.others) == (("e.json",), ("cut.json", "deep.json", "package.json"))
    assert found.unreadable == {"old.json": "this edgekit reads 'edgekit.bench/2'"}
    assert [point.value for point in read_history(kept / "c.json").points] == [4.0]


def test_machines_stand_apart_and_intervals_share_a_scale(kept: Path) -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(history_view(read_history(kept), 100))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert [line for line in lines if "on the machine" in line] == [
        "latency.p50 on the machine ab; onnxruntime 1.30.0, 1 thread",
        "latency.p50 on the machine cd; onnxruntime 1.30.0, 1 thread",
    ]
    (drawn,) = [line for line in lines if "2026-01-03" in line]
    assert "2 ms" in drawn
    assert "─●─" in drawn
    assert "-  e.json has no latency.p50" in lines
    assert "-  package.json is no result of bench" in lines
    assert "-  old.json cannot be read: this edgekit reads 'edgekit.bench/2'" in lines


def test_what_was_measured_otherwise_stands_apart(tmp_path: Path) -> None:
    make_record(p50(4.0)).save(tmp_path / "a.json")
    cuda = Runtime(name="onnxruntime", version="1.30.0", provider="CUDAExecutionProvider", threads=2)
    make_record(p50(2.0), runtime=cuda).save(tmp_path / "b.json")
    make_record(p50(1.0), protocol=Protocol(workload={"batch": 1, "tokens": 16})).save(tmp_path / "c.json")
    console = Console(width=100)
    with console.capture() as captured:
        console.print(history_view(read_history(tmp_path), 100))
    assert [line.rstrip() for line in captured.get().splitlines() if "on the machine" in line] == [
        "latency.p50 on the machine ab; onnxruntime 1.30.0, 1 thread",
        "latency.p50 on the machine ab; onnxruntime 1.30.0, CUDAExecutionProvider, 2 threads",
        "latency.p50 on the machine ab; onnxruntime 1.30.0, 1 thread; batch 1, tokens 16",
    ]


@pytest.mark.parametrize(
    ("value", "low", "high", "line"), [(2.0, None, None, "  ●"), (2.0, 1.0, 3.0, "──●──"), (3.0, 2.0, 3.0, "  ──●")]
)
def test_a_mark_lies_on_the_scale(value: float, low: float | None, high: float | None, line: str) -> None:
    names = dict.fromkeys(("created", "file", "subject", "sha256", "component", "machine", "unit"), "")
    assert mark(Point(**names, value=value, ci_low=low, ci_high=high), 1.0, 3.0, 5) == line


def test_names_of_files_and_reasons_do_not_steer_the_terminal(tmp_path: Path) -> None:
    make_record(p50(2.0)).save(tmp_path / "a\x1b[2J.json")
    make_record().save(tmp_path / "without\x1b[2J.json")
    (tmp_path / "other\x1b[2J.json").write_text("{}")
    (tmp_path / "wrong\x1b[2J.json").write_text(
        '{"schema": "edgekit.bench/2", "timed_on": {"facts": {"\\u001b[2J": 1}}}'
    )
    (tmp_path / os.fsdecode(b"latin\xff.json")).write_text("{}")
    found = read_history(tmp_path)
    assert found.others == ("latin\\udcff.json", "other\\x1b[2J.json")
    console = Console(width=200)
    with console.capture() as captured:
        console.print(history_view(found, 200))
    assert "\x1b[2J" not in captured.get() + "".join(found.unreadable.values())
    assert found.points[0].file == "a\\x1b[2J.json"


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there are no results of bench"):
        read_history(tmp_path)
    old = tmp_path / "old.json"
    old.write_text('{"schema": "edgekit.bench/1"}')
    with pytest.raises(ArtifactError, match=r"there are no results of bench .*\nold\.json: this edgekit reads"):
        read_history(tmp_path)
    with pytest.raises(ArtifactError, match=r"has the schema 'edgekit\.bench/1'"):
        read_history(old)
    with pytest.raises(UnknownNameError, match="there is no metric 'speed'"):
        read_history(tmp_path, "speed")
