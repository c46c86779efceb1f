"""A run that is killed goes on where it stopped, and ends in the bytes of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from end_to_end.killing import kill_at
from end_to_end.made import SHORT, WORKLOAD, events, model_folder, text_data

import edgekit
from edgekit.cache import Cache
from edgekit.request import resolve_request
from edgekit.source import sha256_file

pytestmark = pytest.mark.slow


def finish_and_repeat(options: dict[str, Any], cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the killed run finish here; then the same in another cache by its lock has the same bytes."""
    common = {"workload": WORKLOAD, "jobs": 1, "max_drop": 1.0, "target": "x86-64-vnni"}
    patch.setenv("EDGEKIT_CACHE", str(cache))
    report = edgekit.compress(**options, **common)
    assert not report.cached
    assert report.status == "complete"
    out = Path(options["output"])
    edgekit.verify(out)
    patch.setenv("EDGEKIT_CACHE", str(cache.with_name("other-cache")))
    again = out.with_name("again")
    repeated = edgekit.compress(
        options["source"],
        data=options["data"],
        target="x86-64-vnni",
        recipe=out / "recipe.lock.toml",
        jobs=1,
        output=again,
    )
    assert not repeated.cached
    assert [(row.stage, row.kept) for row in repeated.ledger] == [(row.stage, row.kept) for row in report.ledger]
    assert sha256_file(again / "model.onnx") == sha256_file(out / "model.onnx")
    assert (again / "manifest.json").read_bytes() == (out / "manifest.json").read_bytes()


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("pruned", [{}, {"prune.hidden": "0.5"}], ids=["layers and widths", "hidden size"])
def test_distillation_goes_on_from_its_last_checkpoint_when_killed(
    pruned: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = 5
    options = {
        "source": str(model_folder("bert", tmp_path / "model")),
        "data": str(text_data(tmp_path)),
        "output": str(tmp_path / "out"),
        "settings": SHORT
        | pruned
        | {
            "distill.epochs": "20",
            "distill.batch_size": "8",
            "distill.evaluate_every": "50",
            "distill.patience": "100",
            "distill.checkpoint_every": str(every),
        },
    }
    cache = tmp_path / "cache"
    before = kill_at(options, cache, "distill.checkpoint", "step", 60)
    kept = [event["step"] for event in before if event["event"] == "distill.checkpoint"]
    assert kept == list(range(every, kept[-1] + 1, every))
    steps = before[0]["steps"]
    assert kept[-1] < steps == 320

    finish_and_repeat(options, cache, monkeypatch)
    log = events(cache)
    started = [event["step"] for event in log if event["event"] == "distill.start"]
    # killed between a checkpoint and its line, the run goes on from a checkpoint that the log does not have
    assert started in ([0, kept[-1]], [0, kept[-1] + every])
    all_kept = [event["step"] for event in log if event["event"] == "distill.checkpoint"]
    assert all_kept == kept + list(range(started[1] + every, steps, every))
    assert [event["step"] for event in log if event["event"] == "distill.done"] == [steps]
    assert list((cache / "work").iterdir()) == []


@pytest.mark.usefixtures("device")
def test_calibration_goes_on_from_its_last_chunk_when_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.quantization.calibration import CHUNK

    samples = 40 * CHUNK
    options = {
        "source": str(model_folder("bert", tmp_path / "model")),
        "data": str(text_data(tmp_path, 2000)),
        "output": str(tmp_path / "out"),
        "recipe": "static",
        "settings": {
            "optimize.seconds": "0.2",
            "quantize.tolerance": "1.0",
            "quantize.method": "static",
            "quantize.samples": str(samples),
        },
    }
    cache = tmp_path / "cache"
    before = kill_at(options, cache, "calibration.checkpoint", "sample", 5 * CHUNK)
    kept = [event["sample"] for event in before if event["event"] == "calibration.checkpoint"]
    assert kept == list(range(CHUNK, kept[-1] + 1, CHUNK))
    assert kept[-1] < samples

    finish_and_repeat(options, cache, monkeypatch)
    log = events(cache)
    started = [event["sample"] for event in log if event["event"] == "calibration.start"]
    assert started in ([0, kept[-1]], [0, kept[-1] + CHUNK])
    all_kept = [event["sample"] for event in log if event["event"] == "calibration.checkpoint"]
    assert all_kept == kept + list(range(started[1] + CHUNK, samples + 1, CHUNK))


@pytest.mark.usefixtures("device")
def test_nothing_of_the_trainings_is_left_by_a_run_that_ends_once_its_result_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    options: dict[str, Any] = {
        "data": text_data(tmp_path),
        "target": "x86-64-vnni",
        "output": tmp_path / "out",
        "settings": SHORT,
        "workload": WORKLOAD,
        "jobs": 1,
        "max_drop": 1.0,
    }
    model = model_folder("bert", tmp_path / "model")
    run_key = resolve_request(model, **options).run_key()
    put = Cache.put

    def stopped(cache: Cache, key: str, folder: Path, *given: Any, **named: Any) -> Path:
        place = put(cache, key, folder, *given, **named)
        if key == run_key:
            raise KeyboardInterrupt
        return place

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "put", stopped)
        with pytest.raises(KeyboardInterrupt):
            edgekit.compress(model, **options)
    assert edgekit.compress(model, **options).cached
    assert list((tmp_path / "cache" / "work").iterdir()) == []
