from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.samples import DROP, ELSEWHERE, QUALITY, STAGES
from render.made import CHANNELS, classes, full_report, latencies
from render.reading import Node, read, rows

from edgekit.artifact import Artifact
from edgekit.ledger import LedgerRow, build_ledger
from edgekit.measure.quality import MOST_CLASSES, MOST_FLIPPED
from edgekit.render.html.report import report_page
from edgekit.report import Measurement, Report, StageReport

HOSTILE = "</script><b>bold</b>&\"'` |\n"
MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def page(report: Report) -> Node:
    return read(report_page(report))


def table_of(node: Node, caption: str) -> Node:
    """The table whose caption begins so."""
    (found,) = [
        table
        for table in node.all("table")
        if table.all("caption") and table.all("caption")[0].text.startswith(caption)
    ]
    return found


def test_the_top_says_what_everyone_asks_first(folder: Path) -> None:
    (head,) = page(full_report(folder)).all("header")
    assert head.all("h1")[0].text == "minilm-sst2 for x86-64-vnni"
    texts = [node.text for node in head.all("p")]
    assert texts == [
        "edgekit report, 2026-01-01 00:00:00 UTC",
        "\N{CHECK MARK} Passed: the limit is met, and proven at 95%.",
        "Latency, p50",
        "41.20 \N{RIGHTWARDS ARROW} 6.80 ms",
        "6.1x faster",
        "batch 1, tokens 128, on 1 thread",
        "Size",
        "90.9 \N{RIGHTWARDS ARROW} 17.1 MB",
        "5.3x smaller",
        "weights before, model files after",
        "Accuracy",
        "91.3 \N{RIGHTWARDS ARROW} 91.1%",
        f"{MINUS}0.2 pp",
        f"90% interval: {MINUS}0.8 to +0.5 pp, 872 samples",
    ]


@pytest.mark.parametrize(
    ("changes", "strict", "sentence", "word"),
    [
        ({"proven": False}, False, "the limit is met; it is not proven at 95%.", "\N{CHECK MARK} met"),
        ({"proven": False}, True, "the result does not keep max drop.", "\N{BALLOT X} not proven"),
        (
            {"value": 0.02, "met": False, "proven": False},
            False,
            "the result does not keep max drop.",
            "\N{BALLOT X} missed",
        ),
        (
            {"value": None, "met": None, "proven": None},
            False,
            "no limit is missed, but max drop could not be told.",
            "? unknown",
        ),
    ],
)
def test_a_verdict_has_a_sign_and_a_word(
    folder: Path, changes: dict[str, Any], strict: bool, sentence: str, word: str
) -> None:
    found = page(full_report(folder, limits=(DROP.model_copy(update=changes),), strict=strict))
    (verdict,) = [node for node in found.all("p") if node.attributes.get("class") == "verdict"]
    assert verdict.text.endswith(sentence)
    assert [cells[1] for cells in rows(table_of(found, "verdict"))] == [word]


def test_without_limits_and_data_nothing_is_claimed(folder: Path) -> None:
    found = page(full_report(folder, limits=(), quality=None, measured=False))
    assert "no limit was set" in found.all("header")[0].text
    assert found.one("limits").text == "Limits No limit was set for this run, so none can be missed."
    assert "What was lost is not known" in found.one("cost").text
    assert "Latency was not measured, and is not guessed." in found.one("latency").text
    assert ELSEWHERE in found.one("latency").text
    assert "faster" not in found.all("header")[0].text


def test_a_run_that_goes_on_says_so(folder: Path) -> None:
    assert "this is the best so far" in page(full_report(folder, status="in progress")).all("header")[0].text


def test_waterfalls_add_up_and_show_what_an_undone_stage_would_have_done(folder: Path) -> None:
    stages = page(full_report(folder)).one("stages")
    latency = table_of(stages, "Latency p50, ms")
    cells = [[row[0], *row[2:]] for row in rows(latency)]
    assert cells[:-1] == [
        ["original", "41.20", ""],
        ["prune", "13.10", f"{MINUS}28.10"],
        ["distill", "13.00", f"{MINUS}0.10"],
        ["export", "13.00", "0.00"],
        ["optimize", "(13.40)", "(+0.40)"],
        ["quantize", "6.80", f"{MINUS}6.20"],
        ["result", "6.80", f"{MINUS}34.40"],
    ]
    bars = {bar.all("title")[0].text: bar for bar in latency.all("svg")}
    prune = [node for node in bars["prune: -28.10"].all("rect") if node.attributes["class"] == "gain"]
    # The scale ends at 50 ms: from 13.1 to 41.2 of it.
    assert [(node.attributes["x"], node.attributes["width"]) for node in prune] == [("26.2%", "56.2%")]
    assert bars["optimize, undone"].all("desc")[0].text == "would have changed Latency p50, ms by +0.40"
    assert [node.text for node in stages.all("s")] == ["optimize"] * 3


def test_a_gain_in_quality_is_a_gain_and_its_scale_says_where_it_begins(folder: Path) -> None:
    stages = page(full_report(folder)).one("stages")
    accuracy = table_of(stages, "Accuracy, % and points")
    kinds = {
        bar.all("title")[0].text: [node.attributes["class"] for node in bar.walk() if node.name in ("rect", "line")][-1]
        for bar in accuracy.all("svg")
    }
    assert kinds["prune: -4.1"] == "loss"
    assert kinds["distill: +4.0"] == "gain"
    assert kinds["export: 0.0"] == "same thin"
    assert accuracy.all("caption")[0].text.endswith("The scale begins at 87.0, not at zero.")


def test_what_was_not_measured_has_no_waterfall(folder: Path) -> None:
    stages = page(full_report(folder, measured=False)).one("stages")
    assert [node.text for node in stages.all("h3")] == ["Size, MB", "Accuracy, % and points"]
    assert f"Not measured, so not shown: latency: {ELSEWHERE}." in stages.text


def test_each_stage_says_what_became_of_it(folder: Path) -> None:
    outcomes = rows(table_of(page(full_report(folder)).one("stages"), "what became"))
    assert [row[0] for row in outcomes] == ["prune", "distill", "export", "optimize", "quantize"]
    assert outcomes[3][1:] == [
        "\N{BALLOT X} undone",
        "neither faster nor smaller: fused attention is slower at 128 tokens here",
    ]
    assert "4 of 6 layers; heads 6 4 4 3 of 12" in outcomes[0][2]


def test_a_run_of_one_row_has_no_total(folder: Path) -> None:
    ledger = build_ledger([LedgerRow(stage="original", size_bytes=900_000)])
    stages = page(full_report(folder, ledger=ledger, quality=None, limits=())).one("stages")
    assert [row[0] for row in rows(table_of(stages, "Size, MB"))] == ["original", ""]


def test_the_cost_has_an_interval_and_the_limit(folder: Path) -> None:
    cost = page(full_report(folder)).one("cost")
    (chart,) = [svg for svg in cost.all("svg") if svg.attributes.get("class") == "interval"]
    texts = {node.text: float(node.attributes["x"].rstrip("%")) for node in chart.all("text")}
    assert list(texts) == ["no change", f"limit {MINUS}1.0 pp"]
    assert texts[f"limit {MINUS}1.0 pp"] < texts["no change"]
    assert "The bar is the 90% interval of the paired bootstrap" in cost.text
    facts = dict(zip([n.text for n in cost.all("dt")], [n.text for n in cost.all("dd")], strict=True))
    assert facts["predictions that changed"] == "12 (1.4%)"
    assert facts["decisions by these samples"] == "2"


def test_classes_are_compared_one_by_one(folder: Path) -> None:
    found = classes(2)
    cost = page(full_report(folder)).one("cost")
    cells = rows(table_of(cost, "samples of each label"))
    assert [row[0] for row in cells] == ["negative", "positive"]
    assert [int(row[5]) for row in cells] == [change.flips for change in found.changes]
    before, after = (table for table in cost.all("table") if "confusion" in table.attributes.get("class", ""))
    assert [[int(cell) for cell in row[1:]] for row in rows(before)] == [list(row) for row in found.confusion_before]
    change = found.confusion_after[0][1] - found.confusion_before[0][1]
    assert rows(after)[0][2] == f"{found.confusion_after[0][1]} {change:+d}"
    assert [cell.text for cell in after.all("thead")[0].all("th")] == ["label", "negative", "positive"]


def test_a_larger_confusion_is_numbered_folded_and_has_its_largest_changes_listed(folder: Path) -> None:
    cost = page(full_report(folder, labels=[f"class of {index}" for index in range(30)])).one("cost")
    (folded,) = cost.all("details")
    assert len(folded.all("table")) == 2
    assert rows(folded.all("table")[0])[29][0] == "29 class of 29"
    moves = rows(table_of(cost, "mistakes that changed"))
    assert len(moves) == 10
    assert all(int(row[3]) - int(row[2]) == int(row[4].replace(MINUS, "-")) for row in moves)


def test_of_very_many_classes_those_with_the_most_flips_are_shown(folder: Path) -> None:
    cost = page(full_report(folder, labels=[f"c{index}" for index in range(MOST_CLASSES + 1)])).one("cost")
    assert len(rows(table_of(cost, "samples of each label"))) == MOST_FLIPPED
    assert (
        "The model has 51 classes: the 20 with the most changed predictions are shown, and no confusion." in cost.text
    )


def test_without_classes_the_reason_is_given(folder: Path) -> None:
    quality = QUALITY.model_copy(update={"no_classes_because": "a sample may have several labels at once"})
    cost = page(full_report(folder, quality=quality)).one("cost")
    assert "No table by class and no confusion: a sample may have several labels at once." in cost.text


def test_a_correlation_is_no_percentage(folder: Path) -> None:
    quality = QUALITY.model_copy(update={"metric": "pearson", "flips": None})
    found = page(full_report(folder, quality=quality))
    assert "0.913 \N{RIGHTWARDS ARROW} 0.911" in found.all("header")[0].text
    assert "predictions that changed" not in found.one("cost").text
    assert found.one("stages").all("h3")[2].text == "Pearson"


def test_both_distributions_stand_on_one_scale_and_on_their_own(folder: Path) -> None:
    latency = page(full_report(folder)).one("latency")
    kinds = [svg.attributes.get("class") for svg in latency.all("svg")]
    assert kinds == ["strip", "strip", "axis", "histogram", "axis", "histogram", "axis"]
    assert "200 samples; p50 41.2, p90 43" in latency.all("svg")[0].all("desc")[0].text
    assert rows(table_of(latency, "speed"))[0] == ["latency p50", "41.20 ms", "6.80 ms", "6.1x faster"]


def test_a_few_very_slow_samples_do_not_flatten_a_histogram(folder: Path) -> None:
    samples = (*latencies(5.0), 200.0)
    after = (Measurement(name="latency.p50", unit="ms", value=5.0, n=201, samples=samples),)
    latency = page(full_report(folder, after=after)).one("latency")
    assert "Result: 201 inferences on a scale of its own. 1 slower than the scale are in its last bar." in latency.text


def test_components_are_shown_one_by_one(folder: Path) -> None:
    def side(first: float) -> tuple[Measurement, ...]:
        return tuple(
            Measurement(name="latency.p50", unit="ms", value=value, n=200, component=name, samples=latencies(value))
            for name, value in (("encoder", first), ("decoder", 2.0))
        )

    latency = page(full_report(folder, before=side(8.0), after=side(4.0))).one("latency")
    assert [node.text for node in latency.all("h3")] == ["encoder", "decoder"]
    assert len([svg for svg in latency.all("svg") if svg.attributes.get("class") == "strip"]) == 4


def test_samples_that_are_not_there_are_said_to_be_missing(folder: Path) -> None:
    after = (Measurement(name="latency.p50", unit="ms", value=5.0, n=201),)
    latency = page(full_report(folder, before=after, after=after)).one("latency")
    assert "The samples are not in this report" in latency.text


def test_pruning_is_shown_layer_by_layer_with_the_layers_that_went(folder: Path) -> None:
    inside = page(full_report(folder)).one("inside")
    cells = [[row.children[0].text, *(cell.all("div")[0].text for cell in row.children[1:])] for row in body(inside)]
    assert cells == [
        ["0", "6 of 12", "512 of 1536"],
        ["1", "removed", "removed"],
        ["2", "4 of 12", "384 of 1536"],
        ["3", "4 of 12", "384 of 1536"],
        ["4", "removed", "removed"],
        ["5", "3 of 12", "416 of 1536"],
    ]
    bar = body(inside)[0].all("svg")[0]
    assert [child.text for child in bar.children[:2]] == ["layer 0, heads: 6 of 12 left", "50%"]
    assert "26% of the multiply-accumulates are left: 260 of 1.0 thousand." in inside.text


def test_a_hidden_size_that_was_pruned_is_shown(folder: Path) -> None:
    (pruned, *rest) = full_report(folder).stages
    narrower = pruned.model_copy(update={"details": {**pruned.details, "hidden": 256, "hidden_of": 384}})
    said = "The hidden size is 256 of 384, the same columns in every layer."
    assert said in page(full_report(folder, stages=(narrower, *rest))).one("inside").text
    assert "hidden size" not in page(full_report(folder)).one("inside").text


def test_tokens_that_are_left_out_are_shown(folder: Path) -> None:
    (pruned, *rest) = full_report(folder).stages
    thinned = pruned.model_copy(update={"details": {**pruned.details, "tokens": [0.5, 0.25]}})
    said = "Of a sample's tokens, each layer but the last hands on 50 % 25 %, in this order."
    assert said in page(full_report(folder, stages=(thinned, *rest))).one("inside").text
    assert "hands on" not in page(full_report(folder)).one("inside").text


def body(inside: Node) -> list[Node]:
    return table_of(inside, "heads and neurons").all("tbody")[0].children


def test_pruned_channels_are_shown_with_why_others_stayed(folder: Path) -> None:
    inside = page(full_report(folder, stages=(CHANNELS,))).one("inside")
    cells = rows(table_of(inside, "channels left"))
    assert cells[0][0] == "stem.conv"
    assert "12 of 16" in cells[0][1]
    assert "kept whole: its output is added to the input" in cells[1][1]
    assert cells[2] == ["mixer", "kept whole: layers of the kind Mixer stay whole"]


def test_distillation_is_a_curve_with_its_best_step(folder: Path) -> None:
    inside = page(full_report(folder)).one("inside")
    assert (
        "From 0.600 after 100 steps to 0.300 after 300, whose weights were kept, of 400, where it stopped early."
        in inside.text
    )


def test_an_undone_stage_is_not_shown_inside(folder: Path) -> None:
    assert "Rewrites of the graph" not in page(full_report(folder)).one("inside").text
    ledger = full_report(folder).ledger
    kept = tuple(row.model_copy(update={"kept": True}) for row in ledger)
    found = table_of(page(full_report(folder, ledger=kept)).one("inside"), "rewrites")
    assert found.all("caption")[0].text.endswith("each measured against all but it in dynamic INT8")
    cells = rows(found)
    assert [row[0] for row in cells] == ["gelu kept", "attention does not pay here", "constants nothing to rewrite"]


def test_operators_and_precision_are_those_of_both_graphs(folder: Path) -> None:
    inside = page(full_report(folder)).one("inside")
    assert rows(table_of(inside, "nodes of each kind")) == [
        ["Add", "40", "30", f"{MINUS}10"],
        ["MatMul", "36", "-", f"{MINUS}36"],
        ["MatMulInteger", "-", "24", "+24"],
        ["all", "76", "54", f"{MINUS}22"],
    ]
    precision = rows(table_of(inside, "bytes of the weights"))
    assert [row[:4] for row in precision] == [["float32", "0.000", "1.00", "5.9%"], ["int8", "-", "16.0", "94.1%"]]


def test_no_student_of_before_weights_were_rounded_is_the_best(folder: Path) -> None:
    details = {"selection_losses": [[100, 0.2], [200, 0.4], [300, 0.3]], "rounded_from": 100}
    told = page(full_report(folder, stages=(StageReport(stage="distill", settings={}, details=details),))).one("inside")
    assert (
        "From 0.200 after 100 steps to 0.300 after 300, whose weights were kept, of 300. "
        "Behind step 100, weights and inputs were rounded."
    ) in told.text


def test_quantization_names_what_stayed_in_float_and_what_was_most_sensitive(folder: Path) -> None:
    details = {
        "scheme": {"method": "static", "per_channel": True},
        "layers": 3,
        "fallback_layers": ["model/a"],
        "float_layers": {"model/b": "there is no kernel"},
        "selection_check": {"samples": 100, "drop": 0.02, "tolerance": 0.005, "sensitivity": [["model/a", 0.5]]},
        "layer_errors": [["model/a", 0.08123, 0.2], *[[f"model/{one}", 0.01, None] for one in range(10)]],
    }
    inside = page(full_report(folder, stages=(StageReport(stage="quantize", settings={}, details=details),))).one(
        "inside"
    )
    facts = dict(zip([n.text for n in inside.all("dt")], [n.text for n in inside.all("dd")], strict=True))
    assert facts == {
        "method": "static",
        "per channel": "yes",
        "layers quantized": "1 of 3",
        "alone, on 100 selection samples": "0.0200 lost, 0.005 allowed",
    }
    assert [node.text for node in inside.all("li")] == ["model/a", "model/b"]
    assert "1 in float, since there is no kernel:" in [node.text for node in inside.all("p")]
    assert rows(table_of(inside, "the most sensitive")) == [["model/a", "0.5"]]
    moved = rows(table_of(inside, "how far each layer's output moves"))
    assert (moved[:2], len(moved)) == ([["model/a", "8.12%", "20.00%"], ["model/0", "1.00%", "-"]], 10)
    assert "1 further layers, which move less, are in report.json." in [node.text for node in inside.all("p")]


def test_details_of_another_kind_are_left_out(folder: Path) -> None:
    stages = tuple(StageReport(stage=stage.stage, settings={}, details={"kept": 3, "x": [1]}) for stage in STAGES)
    report = full_report(folder, stages=stages, graphs_before=(), graphs_after=())
    assert page(report).one("inside").text == "Inside the artifact This report has no details of the graph."


def test_sizes_are_those_of_the_files(folder: Path) -> None:
    size = page(full_report(folder)).one("size")
    assert [row[:2] for row in rows(table_of(size, "files"))] == [
        ["model.onnx model", "17.100"],
        ["tokenizer.json", "0.900"],
    ]
    (folder / "tokenizer.json").unlink()
    report = full_report(folder)
    report.artifact.path.joinpath("tokenizer.json").unlink()
    assert rows(table_of(page(report).one("size"), "files"))[1][:2] == ["tokenizer.json", "missing"]


def test_the_command_repeats_the_run(folder: Path) -> None:
    report = full_report(
        folder,
        strict=True,
        options={"metric": "f1", "max_length": 64, "columns": {"text": "a sentence", "label": "y"}},
        source={"kind": "transformers", "name": "org/model", "commit": "c0ffee", "digest": "d"},
    )
    repeat = page(report).one("repeat")
    lines = repeat.all("code")[0].raw.splitlines()
    assert [line.strip().rstrip("\\ ") for line in lines] == [
        "edgekit compress org/model",
        "--revision c0ffee",
        "--data sst2",
        "--target x86-64-vnni",
        "--recipe recipe.lock.toml",
        "--metric f1",
        "--max-length 64",
        "--columns 'text=a sentence,label=y'",
        "--strict",
        "-o OUT",
        "edgekit verify OUT",
    ]
    assert "The data was local: give the path." in repeat.text
    assert "Python 3.11.9" in repeat.text


def test_the_command_says_again_what_was_said_of_code(folder: Path) -> None:
    said = {"weights": "net.pt", "input": "1x3x32x32", "mean": ["0.5", "0.4", "0.3"], "state": ["h1:h", "c1:c"]}
    code = {"kind": "module", "name": "net.py:make", "digest": "d"}
    repeat = page(full_report(folder, options=said, source=code)).one("repeat")
    lines = [line.strip().rstrip("\\ ") for line in repeat.all("code")[0].raw.splitlines()]
    assert lines[:9] == [
        "edgekit compress net.py:make",
        "--data sst2",
        "--task text-classification",
        "--target x86-64-vnni",
        "--recipe recipe.lock.toml",
        "--weights net.pt",
        "--input 1x3x32x32",
        "--mean 0.5,0.4,0.3",
        "--state h1:h",
    ]
    assert lines[9] == "--state c1:c"
    assert "The model and the weights and the data were local: give the path." in repeat.text
    many = page(full_report(folder, options={"labels": [str(n) for n in range(100)]}, source=code)).one("repeat")
    assert "--labels LABELS" in many.all("code")[0].raw


def test_a_student_is_told_beside_its_teacher(folder: Path) -> None:
    report = full_report(folder, options={"student": "small"})
    artifact = report.artifact
    manifest = artifact.manifest.model_copy(update={"source": {"name": "small"}, "teacher": {"name": "minilm-sst2"}})
    repeat = page(report.located(Artifact(artifact.path, manifest))).one("repeat")
    assert "--student small" in repeat.all("code")[0].raw
    assert "The model and the student and the data were local: give the path." in repeat.text
    facts = dict(zip([n.text for n in repeat.all("dt")], [n.text for n in repeat.all("dd")], strict=True))
    assert (facts["model, name"], facts["student, name"]) == ("minilm-sst2", "small")


def test_warnings_and_notes_are_told(folder: Path) -> None:
    trust = page(full_report(folder)).one("trust")
    assert [node.text for node in trust.all("h3")] == ["Warnings", "Notes"]
    assert "Nothing disturbed the measurement" not in trust.text
    quiet = page(full_report(folder, warnings=(), notes=())).one("trust")
    assert "Nothing disturbed the measurement that edgekit looks for." in quiet.text


def test_everything_from_a_report_is_text(folder: Path) -> None:
    found = page(hostile(folder))
    assert found.all("script") == found.all("b") == []
    shown = " ".join(HOSTILE.split())
    assert found.all("h1")[0].text.startswith(shown)
    assert shown in found.one("trust").text
    assert shown in rows(table_of(found.one("cost"), "samples of each label"))[0][0]
    assert shown in found.one("repeat").text


def test_very_long_names_do_not_make_a_page_long(folder: Path) -> None:
    long = "x" * 1_000_000
    report = hostile(folder, long)
    assert len(report_page(report)) < 150_000


def test_the_largest_page_is_below_two_megabytes(folder: Path) -> None:
    labels = [f"{index}" + "n" * 1000 for index in range(MOST_CLASSES)]
    layers = [{"layer": f"layer {index}" + "n" * 1000, "channels": 3, "of": 4} for index in range(2000)]
    stages = (
        StageReport(stage="prune", settings={}, details={"kept": layers, "macs_before": 2, "macs_after": 1}),
        StageReport(
            stage="quantize",
            settings={},
            details={
                "scheme": {},
                "layers": 5000,
                "fallback_layers": [f"n{'x' * 500}{index}" for index in range(5000)],
            },
        ),
    )
    many = tuple(latencies(5.0, 20_000))
    after = (Measurement(name="latency.p50", unit="ms", value=5.0, n=20_000, samples=many),)
    report = full_report(folder, labels=labels, stages=stages, after=after)
    found = report_page(report)
    assert len(found.encode()) < 2_000_000
    assert "1800 further layers are in report.json." in found


def test_no_path_of_this_machine_is_on_a_page(folder: Path) -> None:
    assert str(folder.parent) not in report_page(full_report(folder))


def hostile(folder: Path, name: str = HOSTILE) -> Report:
    """A report whose every name is hostile."""
    quality = QUALITY.model_copy(update={"classes": classes(2), "split": name, "metric": name})
    report = full_report(
        folder,
        labels=(name, f"{name}2"),
        quality=quality,
        target=name,
        runtime=name,
        task=name,
        edgekit=name,
        created=name,
        source={"kind": name, "name": name, "digest": name},
        data={"name": name, "digest": name},
        recipe={"name": name, "description": name, "stages": [{"stage": name, name: name}]},
        options={"metric": name, "columns": {name: name}},
        versions={name: name},
        notes=(name,),
        warnings=(name,),
        not_measured_because=name,
        stages=(StageReport(stage="prune", settings={}, details={"kept": [{"layer": name, "channels": 1, "of": 2}]}),),
    )
    report = report.model_copy(
        update={"ledger": tuple(row.model_copy(update={"reason": name}) for row in report.ledger)}
    )
    manifest = full_report(folder).artifact.manifest.model_copy(update={"labels": (name, f"{name}2")})
    return report.located(Artifact(folder, manifest))
