from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import UsageError
from edgekit.pruning.encoders.table import (
    CostTable,
    Geometry,
    MeasuredEncoder,
    Scope,
    at_width,
    check_scope,
    load_costs,
)

GEOMETRY = Geometry(
    architecture="BertForSequenceClassification",
    hidden=384,
    head_width=32,
    heads=12,
    neurons=1536,
    first_token_only=True,
)
SCOPE = Scope(
    target="x86-64-vnni",
    runtime="onnxruntime",
    provider="cpu",
    threads=1,
    device="this machine",
    fingerprint="f" * 64,
    workload={"batch": 1, "tokens": 128, "image": None},
    graph=({"stage": "export"}, {"stage": "quantize", "method": "auto"}),
    geometry=GEOMETRY,
)


def table(**changes: Any) -> CostTable:
    values: dict[str, Any] = {
        "scope": SCOPE,
        "unit": "ms",
        "base": 0.5,
        "attention": ((3, 0.7), (6, 1.0), (12, 1.8)),
        "feed_forward": ((192, 0.2), (1536, 1.6)),
        "last_attention": ((3, 0.3), (12, 1.2)),
        "last_feed_forward": ((512, 0.05), (1536, 0.1)),
    }
    return CostTable(**(values | changes))


@pytest.mark.parametrize(("width", "cost"), [(3, 0.7), (4, 0.8), (6, 1.0), (9, 1.4), (12, 1.8), (1, 0.5), (15, 2.2)])
def test_costs_lie_on_lines_between_the_measured_widths_and_beyond_them(width: int, cost: float) -> None:
    assert at_width(table().attention, width) == pytest.approx(cost)


def test_one_measured_width_stands_for_all() -> None:
    assert at_width(((4, 0.3),), 1) == at_width(((4, 0.3),), 9) == 0.3


def test_the_cost_of_an_encoder_is_the_sum_of_its_parts() -> None:
    found = table().predict([(6, 192), (12, 864), (3, 1024)])
    assert found == pytest.approx(0.5 + (1.0 + 0.2) + (1.8 + 0.9) + (0.3 + 0.075))


def test_the_error_is_that_of_the_encoders_that_were_not_fitted() -> None:
    measured = [
        MeasuredEncoder(widths=((3, 192),), cost=1.0, predicted=2.0, fitted=True),
        MeasuredEncoder(widths=((4, 192),), cost=1.0, predicted=0.96, fitted=False),
        MeasuredEncoder(widths=((5, 192),), cost=2.0, predicted=2.04, fitted=False),
    ]
    assert table(encoders=measured).largest_error == pytest.approx(0.04)
    assert table().largest_error is None


def test_a_table_is_read_as_it_was_written_and_its_digest_hangs_on_every_figure(tmp_path: Path) -> None:
    table().save(tmp_path / "costs.json")
    assert json.loads((tmp_path / "costs.json").read_text())["schema"] == "edgekit.costs/1"
    assert load_costs(tmp_path / "costs.json") == table()
    assert load_costs(tmp_path / "costs.json").digest == table().digest != table(base=0.6).digest


def test_a_file_that_is_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file of costs") as missing:
        load_costs(tmp_path / "costs.json")
    assert missing.value.id == "usage.no-file"
    (tmp_path / "costs.json").write_text("no JSON")
    with pytest.raises(UsageError, match="are not valid JSON"):
        load_costs(tmp_path / "costs.json")
    (tmp_path / "costs.json").write_text(
        table().model_dump_json(by_alias=True).replace("edgekit.costs/1", "edgekit.costs/9")
    )
    with pytest.raises(UsageError, match="is not valid") as version:
        load_costs(tmp_path / "costs.json")
    assert "schema" in version.value.why


def test_widths_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    text = table().model_dump_json(by_alias=True).replace("[[3,0.7],[6,1.0]", "[[6,1.0],[3,0.7]")
    (tmp_path / "costs.json").write_text(text)
    with pytest.raises(UsageError, match="the widths do not ascend"):
        load_costs(tmp_path / "costs.json")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"runtime": "litert"}, "runtime: onnxruntime in the table, litert here"),
        ({"target": "x86-64"}, "target: x86-64-vnni in the table, x86-64 here"),
        ({"threads": 2}, "threads: 1 in the table, 2 here"),
        ({"workload": {"batch": 1, "tokens": 64, "image": None}}, "workload: "),
        ({"graph": ({"stage": "export"},)}, "graph: "),
        ({"geometry": GEOMETRY.model_copy(update={"hidden": 768})}, "hidden: 384 in the table, 768 here"),
        ({"geometry": GEOMETRY.model_copy(update={"architecture": "ViT"})}, "architecture: "),
        ({"geometry": GEOMETRY.model_copy(update={"neurons": 2048})}, "neurons: up to 1536 in the table, 2048 here"),
    ],
)
def test_a_table_for_something_else_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match="for something else") as refused:
        check_scope(table(), SCOPE.model_copy(update=changes))
    assert refused.value.id == "usage.costs-mismatch"
    assert refused.value.why.startswith(told)


def test_a_table_of_another_machine_and_of_a_wider_model_may_be_shared() -> None:
    narrower = GEOMETRY.model_copy(update={"heads": 6, "neurons": 512})
    wanted = SCOPE.model_copy(update={"fingerprint": "0" * 64, "device": "another", "geometry": narrower})
    check_scope(table(), wanted)
    assert table().scope.differs_from(wanted) == ""
