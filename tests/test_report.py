from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import manifest

from edgekit.artifact import write_artifact
from edgekit.environment import host
from edgekit.errors import ArtifactError
from edgekit.ledger import LedgerRow, build_ledger
from edgekit.report import (
    DEVICE_AGREEMENT,
    MAX_REPORT_BYTES,
    ClassChange,
    Classes,
    Graph,
    LimitVerdict,
    Measurement,
    Quality,
    Report,
    load_report,
)

ROWS = [
    LedgerRow(stage="original", metric=0.90, size_bytes=1000, latency_ms=10.0),
    LedgerRow(stage="prune", metric=0.50, size_bytes=400, latency_ms=4.0),
    LedgerRow(stage="distill", metric=0.89, size_bytes=400, latency_ms=4.1),
    LedgerRow(stage="optimize", kept=False, metric=0.89, size_bytes=410, latency_ms=4.5),
    LedgerRow(stage="quantize", metric=0.885, size_bytes=100, latency_ms=2.0),
    LedgerRow(stage="more", kept=False, metric=0.10, size_bytes=50, latency_ms=1.0),
]


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "edgekit": "0.1.0",
        "created": "2026-01-01T00:00:00+00:00",
        "source": {"name": "tiny", "commit": None},
        "source_size_bytes": 1000,
        "task": "text-classification",
        "target": "host",
        "runtime": "onnxruntime 1.23",
        "measured": True,
        "workload": {"batch": 1, "tokens": 128, "image": None},
        "threads": 1,
        "jobs": 1,
        "seed": 0,
        "host": host(),
        "versions": {},
        "recipe": {},
        "ledger": build_ledger(ROWS),
        "before": (Measurement(name="latency.p50", unit="ms", value=10.0, n=75, samples=(9.0, 10.0, 11.0)),),
        "after": (
            Measurement(name="latency.p50", unit="ms", value=2.0, n=75),
            Measurement(name="latency.p90", unit="ms", value=None, n=30, reason="30 samples are too few for p90"),
            Measurement(name="size", unit="bytes", value=100.0, n=1),
        ),
    }
    return Report(**(values | changes))


def test_the_deltas_add_up_to_the_total() -> None:
    rows = build_ledger(ROWS)
    kept = [row for row in rows if row.kept]
    assert sum(row.size_delta_bytes for row in rows) == kept[-1].size_bytes - rows[0].size_bytes == -900
    assert sum(row.latency_delta_ms or 0 for row in rows) == pytest.approx(2.0 - 10.0)
    assert sum(row.metric_delta or 0 for row in rows) == pytest.approx(0.885 - 0.90)


def test_an_undone_row_changes_nothing_and_says_what_it_would_have() -> None:
    undone, after = build_ledger(ROWS)[3:5]
    assert (undone.metric_delta, undone.size_delta_bytes, undone.latency_delta_ms) == (0.0, 0, 0.0)
    assert (undone.would_size_bytes, undone.would_metric) == (10, 0.0)
    assert undone.would_latency_ms == pytest.approx(0.4)
    assert after.size_delta_bytes == 100 - 400  # against the row before that was kept
    assert after.would_size_bytes is None


def test_the_first_row_has_no_changes() -> None:
    assert build_ledger(ROWS)[0] == ROWS[0]
    assert build_ledger([]) == ()


def test_what_was_not_measured_has_no_delta() -> None:
    rows = build_ledger([row.model_copy(update={"latency_ms": None, "metric": None}) for row in ROWS])
    assert {row.latency_delta_ms for row in rows} == {None}
    assert {row.would_metric for row in rows} == {None}
    assert sum(row.size_delta_bytes for row in rows) == -900


def test_the_speedup_is_before_over_after() -> None:
    found = report()
    assert found.speedup == 5.0
    assert (found.latency_ms.p50, found.latency_ms.p90, found.latency_ms.n) == (2.0, None, 75)
    assert found.original_latency_ms.p50 == 10.0
    assert found.value("size") == 100.0
    assert found.value("latency.p50", before=True) == 10.0
    assert found.value("memory.peak") is None


def test_there_is_no_speedup_where_nothing_was_measured() -> None:
    untimed = (Measurement(name="latency.p50", unit="ms", value=None, reason="another machine"),)
    assert report(before=untimed, after=untimed).speedup is None
    assert report(before=(), after=()).speedup is None


@pytest.mark.parametrize(
    ("met", "proven", "strict", "passed"),
    [
        (True, True, True, True),
        (True, False, False, True),
        (True, False, True, False),
        (False, False, False, False),
        (False, None, False, False),
        (False, None, True, False),  # too few samples for a proof, and too many that differ
        (True, None, True, False),  # no bound can be told
        (True, None, False, True),
        (None, None, False, True),
    ],
)
def test_a_limit_is_met_or_under_strict_proven(
    met: bool | None, proven: bool | None, strict: bool, passed: bool
) -> None:
    limit = LimitVerdict(limit="max_drop", bound=0.01, value=0.005, met=met, proven=proven)
    assert report(limits=(limit,), strict=strict).passed is passed


def test_strict_asks_for_no_proof_of_what_a_device_agrees_on() -> None:
    limit = LimitVerdict(limit=DEVICE_AGREEMENT, bound=0.99, value=1.0, met=True, proven=None)
    assert report(limits=(limit,), strict=True).passed


def test_a_saved_report_is_loaded_with_its_samples_and_artifact(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    write_artifact(tmp_path, manifest())
    report().save(tmp_path)
    loaded = load_report(tmp_path)
    assert loaded.model_dump() == report().model_dump()
    assert loaded.before[0].samples == (9.0, 10.0, 11.0)
    assert loaded.artifact.path == tmp_path
    assert loaded.cached is False
    assert load_report(tmp_path, cached=True).cached is True


def test_a_report_from_nowhere_has_no_artifact() -> None:
    with pytest.raises(ArtifactError, match="this report was not read from an artifact's directory"):
        _ = report().artifact


def test_a_missing_or_foreign_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds no report\.json"):
        load_report(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is no valid report\nedgekit: Field required"):
        load_report(tmp_path)
    (tmp_path / "report.json").write_text("[")
    with pytest.raises(ArtifactError, match="is no valid report\nInvalid JSON"):
        load_report(tmp_path)


def test_a_report_of_another_version_names_both(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"schema": "edgekit.report/2", "source": 3}')
    with pytest.raises(ArtifactError) as caught:
        load_report(tmp_path)
    assert caught.value.what.endswith("report.json' has the schema 'edgekit.report/2'")
    assert caught.value.why == "this edgekit reads 'edgekit.report/1'"


def test_a_report_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "report.json").open("wb") as stream:
        stream.truncate(MAX_REPORT_BYTES + 1)
    with pytest.raises(ArtifactError, match=f"has {MAX_REPORT_BYTES + 1} bytes\nallowed: {MAX_REPORT_BYTES}"):
        load_report(tmp_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1.7e308", "1e999"])
@pytest.mark.parametrize("place", ["10.0", "9.0"])
def test_a_report_with_a_number_that_is_none_is_refused(tmp_path: Path, number: str, place: str) -> None:
    (tmp_path / "model.onnx").touch()
    write_artifact(tmp_path, manifest())
    report().save(tmp_path)
    file = tmp_path / "report.json"
    file.write_text(file.read_text().replace(place, number, 1))
    with pytest.raises(ArtifactError, match=r"is no valid report\nit has the number ") as caught:
        load_report(tmp_path)
    assert caught.value.id == "artifact.invalid-file"


def test_classes_graphs_and_options_come_back(tmp_path: Path) -> None:
    classes = Classes(
        count=2,
        changes=(ClassChange(index=1, n=3, right_before=3, right_after=2, flips=1),),
        confusion_before=((1, 0), (0, 3)),
        confusion_after=((1, 0), (1, 2)),
    )
    quality = Quality(
        metric="accuracy",
        before=1.0,
        after=0.75,
        drop=0.25,
        drop_low=0.0,
        drop_high=0.5,
        n=4,
        flips=1,
        cosine=0.9,
        split="test",
        looks=1,
        classes=classes,
    )
    graph = Graph(component="model", operators={"Add": 2}, weight_bytes={"int8": 5})
    (tmp_path / "model.onnx").touch()
    write_artifact(tmp_path, manifest())
    report(quality=quality, graphs_after=(graph,), options={"metric": "accuracy"}).save(tmp_path)
    loaded = load_report(tmp_path)
    assert loaded.quality == quality
    assert loaded.graphs_after == (graph,)
    assert loaded.options == {"metric": "accuracy"}


def test_a_report_without_the_later_fields_is_read(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    write_artifact(tmp_path, manifest())
    values = report().model_dump(mode="json", by_alias=True)
    for name in ("options", "graphs_before", "graphs_after"):
        del values[name]
    (tmp_path / "report.json").write_text(json.dumps(values))
    assert load_report(tmp_path).graphs_before == ()
