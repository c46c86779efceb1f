"""A real run: its page and card are sealed with it, are the same when they are made again, and their code runs."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from end_to_end.made import QUICK, WORKLOAD, data_for, model_folder, no_profile
from huggingface_hub import ModelCard

import edgekit
from edgekit.artifact import CARD, PAGE, SUMS
from edgekit.errors import UsageError
from edgekit.sealing import find_tampering

FAMILIES = ("bert", pytest.param("vit", marks=pytest.mark.slow))
SETTINGS = {"optimize.seconds": "0.2", "quantize.tolerance": "1.0"}


@pytest.fixture(scope="module", params=FAMILIES)
def sealed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[edgekit.Report]:
    """A quantized model of a family."""
    root, family = tmp_path_factory.mktemp(request.param), request.param
    patch = pytest.MonkeyPatch()
    patch.setenv("EDGEKIT_CACHE", str(root / "cache"))
    for name in ("edgekit.pipeline.JUDGING", "edgekit.assembly.FINAL", "edgekit.assembly.INTERIM"):
        patch.setattr(name, QUICK)
    patch.setattr("edgekit.assembly.profile_sides", no_profile)
    yield edgekit.compress(
        model_folder(family, root / "model", layers=1, id2label={0: "no </script><b>", 1: "yes"}),
        data=data_for(family, root / "data"),
        recipe="quantize",
        settings=SETTINGS,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=root / "out",
    )
    patch.undo()


def test_page_and_card_are_sealed_and_are_no_part_of_the_model(sealed: edgekit.Report) -> None:
    out = sealed.artifact.path
    named = {line.split("  ", 1)[1] for line in (out / SUMS).read_text().splitlines()}
    assert {PAGE, CARD, "report.json"} <= named
    assert {PAGE, CARD} & sealed.artifact.manifest.files.keys() == set()
    assert find_tampering(out) == []
    (out / CARD).write_text((out / CARD).read_text() + "x")
    assert find_tampering(out) == [f"{CARD}: changed"]
    (out / CARD).write_text((out / CARD).read_text()[:-1])
    assert find_tampering(out) == []


def test_the_page_made_again_is_the_page_that_was_sealed(sealed: edgekit.Report, tmp_path: Path) -> None:
    out = sealed.artifact.path
    written = edgekit.render_report(out, tmp_path / "again.html")
    assert written.read_text() == (out / PAGE).read_text()
    with pytest.raises(UsageError, match="lies inside the artifact 'out'"):
        edgekit.render_report(out, out / "again.html")
    assert find_tampering(out) == []


def test_no_path_of_this_machine_is_written_down(sealed: edgekit.Report) -> None:
    out = sealed.artifact.path
    for name in (PAGE, CARD, "report.json"):
        assert str(out.parents[1]) not in (out / name).read_text()


def test_the_report_has_classes_graphs_and_no_second_quality(sealed: edgekit.Report) -> None:
    quality = sealed.quality
    assert quality is not None
    assert quality.classes is not None
    assert sum(change.n for change in quality.classes.changes) == quality.n
    assert sum(change.flips for change in quality.classes.changes) == quality.flips
    assert sum(map(sum, quality.classes.confusion_after)) == quality.n
    (before,), (after,) = sealed.graphs_before, sealed.graphs_after
    assert before.component == after.component == "model"
    assert set(before.weight_bytes) >= {"float32", "int64"}
    assert before.weight_bytes["float32"] > 10_000
    kept = any(row.kept and row.stage == "quantize" for row in sealed.ledger)
    assert ("int8" in after.weight_bytes) is kept
    assert "quality" not in sealed.stages[-1].details
    assert sealed.options == {}
    document = json.loads((sealed.artifact.path / "report.json").read_text())
    assert document["quality"]["classes"]["count"] == 2


def test_the_card_is_read_by_the_hubs_own_package(sealed: edgekit.Report) -> None:
    loaded = ModelCard.load(sealed.artifact.path / CARD)
    assert loaded.data.to_dict()["library_name"] == "onnx"
    assert loaded.data.pipeline_tag == sealed.task
    assert sealed.quality is not None
    assert loaded.data.eval_results[0].metric_value == pytest.approx(sealed.quality.after, abs=1e-6)


def test_the_code_of_the_card_runs_in_its_folder(sealed: edgekit.Report, monkeypatch: pytest.MonkeyPatch) -> None:
    out = sealed.artifact.path
    card = (out / CARD).read_text()
    codes = [part.partition("\n```")[0] for part in card.split("```python\n")[1:]]
    ours, optimum, plain = codes
    assert "from optimum.onnxruntime import ORTModelFor" in optimum  # optimum-onnx is no dependency of edgekit
    monkeypatch.chdir(out)
    if sealed.task == "image-classification":
        tiny.images(1)["image"][0].convert("RGB").save("photo.jpg")
    try:
        answers = [_printed(code) for code in (ours, plain)]
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove("photo.jpg")
    best = answers[0].partition("'")[2].partition("'")[0]
    assert best in ("no </script><b>", "yes")
    assert answers[1].strip() == best
    assert find_tampering(out) == []


def _printed(code: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "card", "exec"), {})
    return printed.getvalue()
