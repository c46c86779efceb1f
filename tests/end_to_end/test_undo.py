"""What does not help, or loses too much, is undone: the row stays in the ledger, and the best without it is kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tiny
from end_to_end.made import SHORT, WORKLOAD, model_folder, pretend_device, row, text_data, write_csv

import edgekit
from edgekit.progress import Silent
from edgekit.source import sha256_file

USELESS = """
schema = "edgekit.recipe/1"
name = "useless"

[[stages]]
stage = "prune"
ratio = 0.0

[[stages]]
stage = "export"

[[stages]]
stage = "verify"
"""


def sure_model(folder: Path, rows: int) -> tuple[Path, Path]:
    """A model, and sentences that it is sure of, labelled as it labels them: it is right about every one."""
    import torch

    model = tiny.build("bert", layers=2)
    task = tiny.task_for(tiny.save(model, folder / "model"))
    texts = tiny.sentences(rows * 4)
    logits = tiny.logits(task, model, task.encode({"text": texts}).batch(range(len(texts))))
    margin = logits[:, 1] - logits[:, 0]
    middle = float(np.median(margin))
    with torch.no_grad():  # so that it answers with each label about as often
        model.classifier.bias[1] -= middle
    tiny.save(model, folder / "model")
    margin = margin - middle
    sure = np.argsort(-np.abs(margin), kind="stable")[:rows]
    columns = {"text": [texts[index] for index in sure], "label": [int(margin[index] > 0) for index in sure]}
    return folder / "model", write_csv(folder / "data.csv", columns)


@pytest.mark.usefixtures("device")
def test_pruning_by_nothing_is_undone_and_named(tmp_path: Path) -> None:
    (tmp_path / "useless.toml").write_text(USELESS)
    report = edgekit.compress(
        model_folder("bert", tmp_path / "model", layers=2),
        data=text_data(tmp_path, 80),
        target="x86-64-vnni",
        recipe=tmp_path / "useless.toml",
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    pruned = row(report, "prune")
    assert not pruned.kept
    assert pruned.reason == "neither faster nor smaller: the same graph with other weights"
    assert (pruned.metric_delta, pruned.size_delta_bytes, pruned.latency_delta_ms) == (0.0, 0, 0.0)
    assert pruned.would_metric == 0.0
    assert pruned.would_latency_ms == 0.0
    assert pruned.would_size_bytes == pruned.size_bytes - report.ledger[0].size_bytes
    assert [stage.stage for stage in report.artifact.manifest.stages] == ["export", "verify"]
    assert report.passed


@pytest.mark.usefixtures("device")
def test_candidate_over_the_limit_is_undone_and_the_best_without_it_is_kept(tmp_path: Path) -> None:
    model, data = sure_model(tmp_path, 400)
    report = edgekit.compress(
        model,
        data=data,
        target="x86-64-vnni",
        settings=SHORT | {"prune.ratio": "0.9", "prune.layers": "0.5", "distill.max_steps": "1"},
        max_drop=0.05,
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    assert report.quality is not None
    assert report.quality.before == 1.0
    pruned, distilled = row(report, "prune"), row(report, "distill")
    assert (pruned.kept, distilled.kept) == (False, False)
    assert pruned.reason == "judged together with distill"
    assert distilled.reason == f"loses {-distilled.would_metric * 100:.2f} points in all, allowed 5.00"
    assert distilled.would_metric < -0.05
    assert distilled.would_size_bytes < 0
    assert distilled.would_latency_ms < 0
    for undone in (pruned, distilled):
        assert (undone.metric_delta, undone.size_delta_bytes, undone.latency_delta_ms) == (0.0, 0, 0.0)
    assert row(report, "optimize").kept
    assert row(report, "quantize").kept
    assert row(report, "quantize").reason.endswith("x as fast")
    assert [stage.stage for stage in report.artifact.manifest.stages] == ["export", "optimize", "quantize", "verify"]
    (limit,) = report.limits
    assert (limit.limit, limit.bound, limit.met) == ("max_drop", 0.05, True)
    assert report.passed
    assert report.quality.drop <= 0.05
    assert report.quality.looks == 3
    total = sum(entry.size_delta_bytes for entry in report.ledger)
    assert total == report.artifact.size_bytes - report.ledger[0].size_bytes


@pytest.mark.usefixtures("device")
def test_strict_run_undoes_what_is_within_the_limit_but_not_proven_so(tmp_path: Path) -> None:
    model, data = sure_model(tmp_path, 400)
    (tmp_path / "train.toml").write_text(
        USELESS.replace("ratio = 0.0", "ratio = 0.5\nlayers = 1.0\nreconstruct = false")
    )

    def run(limit: float, *, strict: bool) -> edgekit.Report:
        return edgekit.compress(
            model,
            data=data,
            target="x86-64-vnni",
            recipe=tmp_path / "train.toml",
            max_drop=limit,
            strict=strict,
            workload=WORKLOAD,
            jobs=1,
            output=tmp_path / "out",
        )

    free = run(1.0, strict=False).quality
    assert free is not None
    assert 0 < free.drop < free.drop_high
    limit = free.drop + 1e-6
    point = run(limit, strict=False)
    assert (row(point, "prune").kept, point.passed) == (True, True)
    assert (point.limits[0].met, point.limits[0].proven) == (True, False)
    strict = run(limit, strict=True)
    assert not row(strict, "prune").kept
    loss, allowed = f"{free.drop_high * 100:.2f}", f"{limit * 100:.2f}"
    expected = f"may lose up to {loss} points in all, allowed {allowed}, by its 95 % bound"
    assert row(strict, "prune").reason == expected
    assert strict.quality is not None
    assert (strict.quality.drop, strict.passed) == (0.0, True)
    # what is kept as proven is reported as proven: the limit is the bound but for the noise of its last bits
    proven = run(math.nextafter(free.drop_high, 0), strict=True)
    assert (row(proven, "prune").kept, proven.limits[0].proven, proven.passed) == (True, True, True)


def test_quantization_that_is_slower_is_undone_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_device(monkeypatch, slow={"MatMulInteger": 3.0})
    report = edgekit.compress(
        model_folder("bert", tmp_path / "model", layers=2),
        data=text_data(tmp_path, 80),
        target="x86-64-vnni",
        recipe="quantize",
        settings={"quantize.tolerance": "1.0"},
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    quantized, optimized = row(report, "quantize"), row(report, "optimize")
    assert optimized.kept
    assert not quantized.kept
    assert quantized.reason.startswith("slower: 0.")
    assert "x as fast, although smaller, " in quantized.reason
    assert (quantized.metric_delta, quantized.size_delta_bytes, quantized.latency_delta_ms) == (0.0, 0, 0.0)
    assert quantized.would_latency_ms == pytest.approx(quantized.latency_ms - optimized.latency_ms)
    assert quantized.would_latency_ms > 0
    assert quantized.would_size_bytes == quantized.size_bytes - optimized.size_bytes < 0
    assert quantized.would_metric is not None
    assert report.artifact.manifest.components["model"].precision == "fp32"
    assert report.latency_ms.p50 == optimized.latency_ms
    assert report.passed
    edgekit.verify(tmp_path / "out")


@pytest.mark.usefixtures("device")
def test_output_holds_a_sealed_result_whenever_it_is_looked_at(tmp_path: Path) -> None:
    """OUT is the best so far: already while the run goes on, and never half a directory."""
    out, seen = tmp_path / "out", []

    class Watch:
        """Looks at the output at every step of the run."""

        def start(self, what: str, total: int | None) -> None:
            if out.exists() and what.startswith(("quantize: dynamic", "distill")):
                record, report = edgekit.verify(out), edgekit.load_report(out)
                seen.append((what, report.status, len(report.ledger), record.golden["task"]))

        def advance(self, count: int = 1, note: str = "") -> None: ...

        def finish(self, note: str = "") -> None: ...

    edgekit.compress(
        model_folder("bert", tmp_path / "model", layers=2),
        data=text_data(tmp_path, 80),
        target="x86-64-vnni",
        settings=SHORT,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=out,
        progress=Watch(),
    )
    assert seen[0] == ("distill", "in progress", 1, 0.0)
    assert seen[-1] == ("quantize: dynamic, onnxruntime", "in progress", 3, 0.0)
    assert edgekit.load_report(out).status == "complete"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("device")
def test_a_finished_artifact_stays_until_another_one_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))  # other tests may have made the same
    out, seen = tmp_path / "out", set()

    class Watch(Silent):
        """Looks at what lies in the output at every step of the run."""

        def start(self, what: str, total: int | None) -> None:
            del what, total
            if out.exists():
                edgekit.verify(out)
                seen.add((edgekit.load_report(out).status, sha256_file(out / "manifest.json")))

    given = {"data": text_data(tmp_path, 80), "target": "x86-64-vnni", "max_drop": 1.0, "workload": WORKLOAD, "jobs": 1}
    model, settings = model_folder("bert", tmp_path / "model", layers=2), {"quantize.tolerance": "1.0"}
    edgekit.compress(model, recipe="export", output=out, **given)  # type: ignore[arg-type]
    before = sha256_file(out / "manifest.json")
    edgekit.compress(model, recipe="quantize", settings=settings, output=out, progress=Watch(), **given)  # type: ignore[arg-type]
    assert seen == {("complete", before)}
    assert edgekit.load_report(out).status == "complete"
    assert sha256_file(out / "manifest.json") != before
