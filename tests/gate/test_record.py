from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from records import make_record, p50

from edgekit.errors import ArtifactError
from edgekit.gate.record import (
    SCHEMA,
    HostRecord,
    Metric,
    Series,
    json_schema,
    load_record,
    published_schema,
)
from edgekit.report import Count, TimedOn

RECORD = make_record(
    p50(1.25, ci_low=1.2, ci_high=1.3, level=0.99, n=900, margin=0.01, verdict="pass"),
    Metric(name="size", unit="bytes", value=10.0),
    samples=(Series(metric="latency.p50", unit="ms", processes=((1.2, 1.3), (1.25,))),),
)


def test_the_published_schema_is_the_codes() -> None:
    assert published_schema() == json_schema(), "write json_schema() to edgekit/gate/bench.schema.json, indent 1"
    assert published_schema()["$id"] == SCHEMA


def test_the_schema_describes_what_the_issue_of_a_record_asks_for() -> None:
    known = published_schema()["properties"].keys()
    assert {"schema", "tool", "host", "subject", "baseline", "runtime", "protocol", "metrics"} <= known
    assert {"accuracy", "samples", "warnings", "verdict"} <= known
    metric = published_schema()["$defs"]["Metric"]["properties"].keys()
    assert {"name", "unit", "direction", "value", "ci_low", "ci_high", "level", "n"} <= metric
    assert {"baseline", "delta", "delta_ci", "margin", "verdict"} <= metric


def test_a_record_is_read_as_it_was_saved(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    RECORD.save(file)
    assert load_record(file) == RECORD
    assert json.loads(file.read_text())["schema"] == SCHEMA
    assert json.loads(file.read_text())["host"]["cores"] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"created": "\x1b[31m2026"},
        {"host": HostRecord(fingerprint="\x1b[5mab")},
        {"host": HostRecord.model_validate({"fingerprint": "ab", "processor": "\u202ea"})},
        {"subject": RECORD.subject.model_copy(update={"name": "\x1b]0;owned\x07x"})},
    ],
)
def test_a_record_whose_texts_steer_the_terminal_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = tmp_path / "result.json"
    RECORD.model_copy(update=changes).save(file)
    with pytest.raises(ArtifactError, match="has control characters") as caught:
        load_record(file)
    assert caught.value.id == "artifact.invalid-file"


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": RECORD.subject.model_copy(update={"bytes": 0})},
        {"samples": (Series(metric="load", unit="ms", processes=()),)},
        {"samples": (Series(metric="load", unit="ms", processes=((1.0,), ())),)},
        {"samples": (Series(metric="load", unit="ms", processes=((1.0, -1.0),)),)},
        {"counts": (Count(device="a board", instructions=0, samples=((1,),)),)},
        {"counts": (Count(device="a board", instructions=1, samples=((),)),)},
    ],
)
def test_a_record_of_what_cannot_have_been_measured_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = tmp_path / "result.json"
    RECORD.model_copy(update=changes).save(file)
    with pytest.raises(ArtifactError, match=r"missing, or not above nothing") as caught:
        load_record(file)
    assert caught.value.id == "artifact.invalid-file"


def test_a_record_finds_its_parts() -> None:
    assert [one.name for one in RECORD.gated] == ["latency.p50"]
    assert RECORD.metric("size") == RECORD.metrics[1]
    assert RECORD.metric("size", "encoder") is None
    assert RECORD.series("latency.p50", "model", "candidate") == RECORD.samples[0]
    assert RECORD.series("latency.p50", "model", "baseline") is None


def test_the_machine_is_the_one_that_was_measured_on() -> None:
    there = TimedOn(device="a board")
    assert RECORD.machine == "ab"
    assert RECORD.model_copy(update={"timed_on": there}).machine == there.fingerprint


@pytest.mark.parametrize(
    ("content", "id_", "why"),
    [
        (None, "artifact.missing", ""),
        ('{"schema": "edgekit.bench/1"}', "artifact.other-version", "this edgekit reads 'edgekit.bench/2'"),
        ('{"schema": "edgekit.bench/2"}', "artifact.invalid-file", "tool: Field required"),
        ("no json", "artifact.invalid-file", "Invalid JSON"),
    ],
)
def test_a_file_that_is_no_record_is_an_error(tmp_path: Path, content: str | None, id_: str, why: str) -> None:
    file = tmp_path / "result.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ArtifactError) as raised:
        load_record(file)
    assert raised.value.id == id_
    assert why in raised.value.why
