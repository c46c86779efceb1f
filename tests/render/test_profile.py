from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from render.made import PROFILES, full_report, profile
from render.reading import Node, read, rows
from rich.console import Console, Group

from edgekit.profile import Profiles
from edgekit.render.html.report import report_page
from edgekit.render.profile import MOST_ROWS, profile_lines, profile_view, shortened
from edgekit.render.terminal import comparison_view

ARROW = "\N{RIGHTWARDS ARROW}"


def section(folder: Path, **changes: Any) -> Node:
    return read(report_page(full_report(folder, **changes))).one("profile")


def printed(*views: Any) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None, markup=False, highlight=False)
    console.print(Group(*views))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


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
        "FP32: 50.0 GMAC/s, by MatMul (fp32, [512, 512] x [512, 512])",
        "the fastest of 2 products, each alone in a graph, in the fastest of its runs in ONNX Runtime 1.32.0 on"
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
    line = "INT8 limit: 30% of 200 GMAC/s (original 15%); time: DynamicQuantizeMatMul 60%, Softmax 40%"
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


def test_bench_prints_a_table_with_limits_and_warnings() -> None:
    told = printed(*profile_view(PROFILES))
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "operator nodes ms share GMAC/s" in lines
    assert "DynamicQuantizeMatMul 24 3.000 60% 100" in lines
    assert "Softmax 6 2.000 40%" in lines
    joined = " ".join(told.split())
    assert "operators 5.000 ms of 6.000 ms with profiling, which takes time itself; without it 5.000 ms" in joined
    assert "30% of the INT8 limit, 120% of the FP32 limit" in joined
    assert "- the machine was busy" in joined
    assert "not profiled: no clock" in printed(*profile_view(Profiles(because="no clock")))


def test_many_operators_are_shown_as_the_longest_and_the_rest() -> None:
    many = profile({f"Kind{index:02}": (1, 20.0 - index, None) for index in range(20)}, macs=1, latency_ms=1.0)
    shown = shortened(many.operators)
    assert len(shown) == MOST_ROWS
    assert (shown[0].operator, shown[-1].operator, shown[-1].nodes) == ("Kind00", "others", 9)
    assert abs(sum(one.share for one in shown) - 1) < 1e-9
    assert shortened(many.operators[:3]) == list(many.operators[:3])
