from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from render.made import PROFILES, full_report, profile
from render.reading import Node, read, rows
from rich.console import Console, Group

from edgekit.measure.profile import find_changes
from edgekit.profiles import KernelTime, Profile, ProfileRecord, Profiles
from edgekit.render.html.operators import profile_page
from edgekit.render.html.report import report_page
from edgekit.render.profile import MOST_ROWS, profile_lines, profile_view, shortened, sides_of
from edgekit.render.terminal import comparison_view

ARROW = "\N{RIGHTWARDS ARROW}"


def section(folder: Path, **changes: Any) -> Node:
    return read(report_page(full_report(folder, **changes))).one("profile")


def printed(*views: Any, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, highlight=False)
    console.print(Group(*views))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def looked_at(one: Profile) -> Profile:
    """A profile with precisions and nodes."""
    kinds = {"DynamicQuantizeMatMul": ("int8", 24)}
    operators = [
        kind.model_copy(
            update={
                "precisions": (kinds.get(kind.operator, ("fp32", 0))[0],),
                "fused": kinds.get(kind.operator, ("", 0))[1],
            }
        )
        for kind in one.operators
    ]
    kernels = [
        KernelTime(
            name=name,
            operator=kind.operator,
            provider="cpu",
            precision=kind.precisions[0],
            shape=(1, 128),
            made="fused" if kind.fused else "file",
            replaces=("MatMulInteger", "MatMulInteger", "Mul") if kind.fused else (),
            ms=kind.ms,
            share=kind.share,
        )
        for name, kind in zip(("first", "second"), operators, strict=True)
    ]
    return one.model_copy(update={"operators": tuple(operators), "kernels": tuple(kernels)})


def record(*, two: bool = False, first: str = "model.onnx") -> ProfileRecord:
    sides = {
        "after": tuple(map(looked_at, PROFILES.after)),
        "before": tuple(map(looked_at, PROFILES.before)) if two else (),
    }
    found = PROFILES.model_copy(update=sides)
    return ProfileRecord(
        host={"processor": "a processor"},
        subject={"name": "small.onnx"},
        compared_with={"name": first} if two else None,
        protocol={"workload": {"batch": 1, "tokens": 128, "image": None}},
        profiles=found,
        changes=find_changes(found.before, found.after),
        warnings=found.warnings,
    )


def test_the_page_has_each_operator_before_and_after(tmp_path: Path) -> None:
    found = section(tmp_path, profile=PROFILES)
    (table,) = found.all("table")
    assert [row[:5] for row in rows(table)] == [
        ["MatMul 40.0 GMAC/s", "30.000", "75%", "-", "-"],
        ["Softmax", "10.000", "25%", "2.000", "40%"],
        ["DynamicQuantizeMatMul 100 GMAC/s", "-", "-", "3.000", "60%"],
    ]
    bars = {bar.all("title")[0].text: bar for bar in table.all("svg")}
    softmax = bars["Softmax: time before and after"]
    # The longest of all is 30 ms.
    assert [(bar.attributes["class"], bar.attributes["width"]) for bar in softmax.all("rect")] == [
        ("before", "33.333%"),
        ("after", "6.667%"),
    ]
    assert softmax.all("desc")[0].text == "original 10.000 ms, result 2.000 ms"
    facts = dict(zip((one.text for one in found.all("dt")), (one.text for one in found.all("dd")), strict=True))
    assert facts == {
        "latency": f"40.00 {ARROW} 5.00 ms",
        "the same with profiling": f"42.00 {ARROW} 6.00 ms",
        "operators": f"40.00 {ARROW} 5.00 ms",
        "multiply-accumulates": f"1200.0 {ARROW} 300.0 million",
        "done in the inference": f"30.0 {ARROW} 60.0 GMAC/s",
        "done in what multiplies": f"40.0 {ARROW} 100 GMAC/s",
        "of the INT8 limit": f"15% {ARROW} 30%",
        "of the FP32 limit": f"60% {ARROW} 120%",
    }
    assert [one.text for one in found.all("li")] == [
        "INT8: 200 GMAC/s, by MatMulInteger (u8s8, [512, 512] x [512, 512])",
        "DynamicQuantizeMatMul, which the graph uses: 120 GMAC/s at most, by DynamicQuantizeMatMul (u8s8, [128, 768] x"
        " [768, 3072])",
        "FP32: 50.0 GMAC/s, by MatMul (fp32, [512, 512] x [512, 512])",
        "the fastest of 3 products, each alone in a graph, in the fastest of its runs in ONNX Runtime 1.32.0 on"
        " 1 thread, in turns with what is profiled",
        "the machine was busy",
    ]


def test_the_page_says_why_there_is_no_profile(tmp_path: Path) -> None:
    assert section(tmp_path, profile=None).all("p")[0].text == "This report has no profile."
    why = Profiles(because="operators are profiled on this machine only")
    assert section(tmp_path, profile=why).all("p")[0].text == (
        "Not profiled: operators are profiled on this machine only."
    )


def test_what_cannot_be_counted_is_said(tmp_path: Path) -> None:
    unknown = {"macs": None, "macs_unknown_because": "shapes are not known at Attention_0", "gmacs_per_s": None}
    after = PROFILES.after[0].model_copy(update={**unknown, "int8_share": None, "fp32_share": None})
    found = section(tmp_path, profile=PROFILES.model_copy(update={"after": (after,)}))
    assert "multiply-accumulates unknown: shapes are not known at Attention_0" in found.text
    changed = PROFILES.model_copy(update={"after": (after,)})
    assert list(profile_lines(changed)) == ["time: DynamicQuantizeMatMul 60%, Softmax 40%"]


def test_a_run_ends_with_the_fraction_of_the_limit_and_what_takes_longest(tmp_path: Path) -> None:
    line = (
        "INT8 limit: 30% of 200 GMAC/s of the fastest MatMulInteger alone (original 15%); time: DynamicQuantizeMatMul"
        " 60%, Softmax 40%"
    )
    assert list(profile_lines(PROFILES)) == [line]
    report = full_report(tmp_path, profile=PROFILES)
    assert line in " ".join(printed(comparison_view(report)).split())
    assert list(profile_lines(None)) == list(profile_lines(Profiles(because="no clock"))) == []


def test_components_are_told_apart(tmp_path: Path) -> None:
    parts = {
        side: tuple(one.model_copy(update={"component": name}) for name in ("encoder", "decoder"))
        for side, (one,) in (("before", PROFILES.before), ("after", PROFILES.after))
    }
    several = PROFILES.model_copy(update=parts)
    assert [line.partition("; ")[2] for line in profile_lines(several)] == [
        "time, encoder: DynamicQuantizeMatMul 60%, Softmax 40%",
        "time, decoder: DynamicQuantizeMatMul 60%, Softmax 40%",
    ]
    assert [one.text for one in section(tmp_path, profile=several).all("h3")][:2] == ["encoder", "decoder"]


def test_one_artifact_is_told_by_kind_and_by_node() -> None:
    told = printed(profile_view(record()), width=120)
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "operator computes in nodes fused ms share GMAC/s" in lines
    assert "DynamicQuantizeMatMul int8 24 24 3.000 60% 100" in lines
    assert "Softmax fp32 6 0 2.000 40%" in lines
    joined = " ".join(told.split())
    assert "operators 5.000 ms of 6.000 ms with profiling, which takes time itself; without it 5.000 ms" in joined
    assert "30% of the INT8 limit, 120% of the FP32 limit" in joined
    assert "Warnings - the machine was busy" in joined
    assert "first DynamicQuantizeMatMul, fused of 2 MatMulInteger, Mul int8 3.000 60%" in joined


def test_two_are_told_by_what_changed() -> None:
    told = printed(profile_view(record(two=True)), width=120)
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "MatMul 36 -> 0 fp32 30.000 - -30.000" in lines
    assert "DynamicQuantizeMatMul 0 -> 24 int8 - 3.000 +3.000" in lines
    assert (
        "model.onnx 40.000 ms, small.onnx 5.000 ms: 8.0x faster (without an interval, which `edgekit bench` gives)"
        in " ".join(told.split())
    )
    assert sides_of(record(two=True, first="small.onnx")) == ("small.onnx (1)", "small.onnx (2)")


def test_parts_that_only_one_of_two_has_are_named() -> None:
    whole = record(two=True)
    parts = {"before": ("encoder", "decoder"), "after": ("encoder", "joint")}
    profiles = {
        side: tuple(getattr(whole.profiles, side)[0].model_copy(update={"component": name}) for name in names)
        for side, names in parts.items()
    }
    parted = whole.model_copy(update={"profiles": whole.profiles.model_copy(update=profiles)})
    lone = ["decoder is in model.onnx only: 40.000 ms", "joint is in small.onnx only: 5.000 ms"]
    lines = printed(profile_view(parted)).splitlines()
    assert [line for line in lines if " only" in line] == lone
    told = [one.text for one in read(profile_page(parted)).one("changes").all("p")]
    assert [line for line in told if " only" in line] == lone


def test_the_page_of_a_profile_draws_nodes_in_order_to_one_scale() -> None:
    page = read(profile_page(record(two=True)))
    (heading,) = page.all("h1")
    assert heading.text == "model.onnx beside small.onnx"
    assert [row[:4] for row in rows(page.one("changes").all("table")[0])] == [
        ["MatMul", f"36 {ARROW} 0", "fp32", "\N{MINUS SIGN}30.000"],
        ["Softmax", "6", "fp32", "\N{MINUS SIGN}8.000"],
        ["DynamicQuantizeMatMul", f"0 {ARROW} 24", "int8", "+3.000"],
    ]
    strips = [one for one in page.one("order").all("svg") if one.attributes.get("class") == "strip"]
    drawn = [
        [(bar.attributes["class"], bar.attributes["x"], bar.attributes["width"]) for bar in one.all("rect")]
        for one in strips
    ]
    assert drawn == [
        [("before", "0%", "75%"), ("before", "75%", "25%")],
        [("kept", "0%", "7.5%"), ("before", "7.5%", "5%")],
    ]
    assert strips[1].all("title")[1].text == (
        "first: DynamicQuantizeMatMul, fused of 2 MatMulInteger, Mul, int8, 3.000 ms"
    )
    names = [row[0] for row in rows(page.one("nodes").all("table")[1])]
    assert names == ["first", "second"]


def test_the_page_of_one_artifact_has_a_row_for_each_kind() -> None:
    page = read(profile_page(record()))
    assert [row[:6] for row in rows(page.one("profile").all("table")[0])] == [
        ["DynamicQuantizeMatMul 100 GMAC/s", "int8", "24", "24", "3.000", "60%"],
        ["Softmax", "fp32", "6", "0", "2.000", "40%"],
    ]
    assert [one.attributes["id"] for one in page.all("section")] == ["order", "profile", "nodes"]


def test_many_operators_are_shown_as_the_longest_and_the_rest() -> None:
    many = profile({f"Kind{index:02}": (1, 20.0 - index, None) for index in range(20)}, macs=1, latency_ms=1.0)
    shown = shortened(many.operators)
    assert len(shown) == MOST_ROWS
    assert (shown[0].operator, shown[-1].operator, shown[-1].nodes) == ("Kind00", "others", 9)
    assert abs(sum(one.share for one in shown) - 1) < 1e-9
    assert shortened(many.operators[:3]) == list(many.operators[:3])
