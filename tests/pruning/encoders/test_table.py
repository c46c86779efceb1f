from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import UsageError
from edgekit.pruning.encoders.table import (
    CURVES,
    CostTable,
    Geometry,
    HiddenCosts,
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


def narrower(*sizes: int) -> tuple[HiddenCosts, ...]:
    """The table's costs at smaller hidden sizes, as many times less as these are of 384."""
    whole = table()
    return tuple(
        HiddenCosts(
            hidden=size,
            base=whole.base * size / 384,
            **{name: tuple((width, cost * size / 384) for width, cost in getattr(whole, name)) for name in CURVES},
        )
        for size in sizes
    )


def of_sizes(*sizes: int) -> CostTable:
    """The table with costs at smaller hidden sizes, ascending."""
    scope = SCOPE.model_copy(update={"geometry": GEOMETRY.model_copy(update={"narrowest": sizes[0]})})
    return table(schema="edgekit.costs/2", scope=scope, narrower=narrower(*sizes))


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
    ("name", "value", "told"),
    [
        ("base", float("nan"), "base: input should be a finite number"),
        ("attention", [[3, float("inf")]], "attention.0.1: input should be a finite number"),
        ("attention", [[0, 1.0]], "attention.0.0: input should be greater than or equal to 1"),
        (
            "encoders",
            [{"widths": [[3, 192]], "cost": 0, "predicted": 1.0, "fitted": False}],
            "encoders.0.cost: input should be greater than 0",
        ),
    ],
)
def test_figures_that_nothing_can_cost_are_refused(name: str, value: Any, told: str, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(json.dumps(table().model_dump(mode="json", by_alias=True) | {name: value}))
    with pytest.raises(UsageError, match=r"is not valid|are not valid") as refused:
        load_costs(tmp_path / "costs.json")
    assert told in refused.value.why


def test_a_table_of_one_hidden_size_is_written_as_before_there_were_others(tmp_path: Path) -> None:
    """Its digest stands in locks, and decides whether what was pruned by it is found in the cache."""
    written = table(encoders=(MeasuredEncoder(widths=((3, 192),), cost=1.0, predicted=1.0, fitted=True),))
    written.save(tmp_path / "costs.json")
    text = (tmp_path / "costs.json").read_text()
    document = json.loads(text)
    assert list(document) == [
        *("schema", "scope", "unit", "base", "attention", "feed_forward", "last_attention", "last_feed_forward"),
        *("rewrites", "encoders", "warnings"),
    ]
    assert list(document["scope"]["geometry"]) == [
        *("architecture", "hidden", "head_width", "heads", "neurons", "first_token_only"),
    ]
    assert document["encoders"] == [{"widths": [[3, 192]], "cost": 1.0, "predicted": 1.0, "fitted": True}]
    assert table().digest == "c6032fc19113641aebf9a98b9ad1a88c12180dbf501f7ed91280c70965ee6e56"


def test_a_table_of_several_hidden_sizes_is_read_as_it_was_written(tmp_path: Path) -> None:
    several = of_sizes(192, 288)
    several.save(tmp_path / "costs.json")
    document = json.loads((tmp_path / "costs.json").read_text())
    assert document["schema"] == "edgekit.costs/2"
    assert document["scope"]["geometry"]["narrowest"] == 192
    assert [one["hidden"] for one in document["narrower"]] == [192, 288]
    assert load_costs(tmp_path / "costs.json") == several
    assert several.digest != of_sizes(192, 320).digest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema": "edgekit.costs/1"}, "edgekit.costs/2 is of several hidden sizes, edgekit.costs/1 of one"),
        ({"narrower": [], "scope": SCOPE}, "edgekit.costs/2 is of several hidden sizes, edgekit.costs/1 of one"),
        ({"narrower": narrower(288, 192)}, "the hidden sizes do not ascend to that of the model"),
        ({"narrower": narrower(192, 384)}, "the hidden sizes do not ascend to that of the model"),
        ({"narrower": narrower(288)}, "costs begin at a hidden size of 288, which is not the narrowest"),
        ({"narrower": []}, "costs begin at a hidden size of 384, which is not the narrowest"),
    ],
)
def test_hidden_sizes_that_do_not_agree_are_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    document = of_sizes(192, 288).model_dump(mode="json", by_alias=True)
    text = json.dumps(document | changes, default=lambda part: part.model_dump(mode="json"))
    (tmp_path / "costs.json").write_text(text)
    with pytest.raises(UsageError, match=r"is not valid") as refused:
        load_costs(tmp_path / "costs.json")
    assert told in refused.value.why


@pytest.mark.parametrize(("hidden", "share"), [(384, 1.0), (288, 0.75), (192, 0.5), (240, 0.625), (336, 0.875)])
def test_between_hidden_sizes_every_cost_lies_on_a_line(hidden: int, share: float) -> None:
    here, widths = of_sizes(192, 288).at(hidden), [(6, 192), (12, 864), (3, 1024)]
    assert here.predict(widths) == pytest.approx(share * table().predict(widths))
    assert here.heads_cost(6, last=False) == pytest.approx(share * 1.0)
    assert here.neurons_cost(864, last=False) == pytest.approx(share * 0.9)
    assert here.heads_cost(3, last=True) == pytest.approx(share * 0.3)
    assert here.scope.geometry.hidden == hidden


def test_costs_are_not_linear_across_a_hidden_size_that_was_measured() -> None:
    several = of_sizes(192, 288)
    odd = several.narrower[1].model_copy(update={"base": 0.1})
    bent = several.model_copy(update={"narrower": (several.narrower[0], odd)})
    assert [bent.at(hidden).base for hidden in (192, 240, 288, 336, 384)] == pytest.approx([0.25, 0.175, 0.1, 0.3, 0.5])


def test_the_models_own_hidden_size_is_the_table_itself() -> None:
    assert table().at(384) == table()
    several = of_sizes(192)
    assert several.at(384) is several


@pytest.mark.parametrize("hidden", [176, 400])
def test_costs_beyond_the_hidden_sizes_that_were_measured_are_no_guess(hidden: int) -> None:
    with pytest.raises(UsageError, match="costs were measured at a hidden size of 192, 288, 384") as refused:
        of_sizes(192, 288).at(hidden)
    assert refused.value.id == "usage.costs-mismatch"
    assert refused.value.why == f"{hidden} columns of it stay"


def test_a_table_has_to_reach_down_to_the_hidden_size_that_stays() -> None:
    def wanted(narrowest: int | None) -> Scope:
        return SCOPE.model_copy(update={"geometry": GEOMETRY.model_copy(update={"narrowest": narrowest})})

    for enough in (None, 192, 256):
        check_scope(of_sizes(192, 288), wanted(enough))
    for costs, told in (
        (table(), "hidden: from 384 columns on in the table, 192 here"),
        (of_sizes(288), "hidden: from 288 columns on in the table, 192 here"),
    ):
        with pytest.raises(UsageError, match="for something else") as refused:
            check_scope(costs, wanted(192))
        assert (refused.value.id, refused.value.why) == ("usage.costs-mismatch", told)


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
