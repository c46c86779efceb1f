"""What does not help, or loses too much, is undone: the row stays in the ledger, and the best without it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from end_to_end.made import SHORT, WORKLOAD, model_folder, pretend_device, row, text_data, write_csv

import edgekit

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


def sure_data(model: Path, file: Path, rows: int) -> Path:
    """Sentences that the model is sure of, labelled as it labels them: it is right about every one."""
    task = tiny.task_for(model)
    texts = tiny.sentences(rows * 4)
    batch = task.encode({"text": texts}).batch(range(len(texts)))
    logits = tiny.logits(task, task.load_model(), batch)
    margin = logits[:, 1] - logits[:, 0]
    margin = margin - margin.mean() if len(set(margin > 0)) == 1 else margin
    sure = sorted(range(len(texts)), key=lambda index: -abs(margin[index]))[:rows]
    return write_csv(file, {"text": [texts[i] for i in sure], "label": [int(margin[i] > 0) for i in sure]})


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
    assert pruned.reason.startswith("neither faster nor smaller: 1.00x as fast, ")
    assert (pruned.metric_delta, pruned.size_delta_bytes, pruned.latency_delta_ms) == (0.0, 0, 0.0)
    assert pruned.would_metric == 0.0
    assert pruned.would_latency_ms == 0.0
    assert pruned.would_size_bytes == pruned.size_bytes - report.ledger[0].size_bytes
    assert [stage.stage for stage in report.artifact.manifest.stages] == ["export", "verify"]
    assert report.passed


@pytest.mark.usefixtures("device")
def test_candidate_over_the_limit_is_undone_and_the_best_without_it_is_kept(tmp_path: Path) -> None:
    model = model_folder("bert", tmp_path / "model", layers=2)
    report = edgekit.compress(
        model,
        data=sure_data(model, tmp_path / "data.csv", 400),
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


def test_strict_limit_is_not_passed_when_it_is_not_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_device(monkeypatch)
    model = model_folder("bert", tmp_path / "model", layers=2)
    report = edgekit.compress(
        model,
        data=text_data(tmp_path, 80),
        target="x86-64-vnni",
        settings=SHORT | {"prune.ratio": "0.9", "prune.layers": "0.5"},
        max_drop=0.0,
        strict=True,
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    # 8 samples prove nothing unless not one of them changes sides
    for entry in report.ledger:
        assert entry.kept == ("points in all, allowed 0.00" not in entry.reason or entry.stage == "original")
    (limit,) = report.limits
    assert report.passed is (limit.proven is True)
    assert limit.proven == (report.quality is not None and report.quality.drop_high <= 0.0)


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
    assert seen[-1] == ("quantize: dynamic", "in progress", 3, 0.0)
    assert edgekit.load_report(out).status == "complete"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
