"""The benchmark on GPUs, as far as it goes without one: its exit, its rows, and the yardstick on the processor."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from records import make_record, p50

from edgekit.environment import CudaDevice, host
from edgekit.gate.record import BenchRecord, Protocol
from edgekit.judgement import Judgement
from edgekit.runtimes.measuring import Timing, here, run_calls

FOLDER = Path(__file__).parents[1] / "benchmarks"
CARD = CudaDevice(name="a card", capability="9.0")
SHORT = Timing(seconds=0.0, rounds=25, block=3, warmup=1)


@pytest.fixture
def load() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script of benchmarks/ as it imports its neighbours."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))  # and nothing else: onnxruntime.transformers puts itself there
    for name in ("run", "gpu", "gpu_yardstick"):
        sys.modules.pop(name, None)


def test_without_a_device_it_says_so_and_exits_with_3() -> None:
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "gpu.py")], env=hidden, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "not measured: no CUDA device\n")


def test_without_its_asset_it_exits_with_4(
    load: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = load("gpu")
    monkeypatch.setattr(gpu, "host", lambda: host().model_copy(update={"cuda": (CARD,)}))
    monkeypatch.setattr(gpu, "find_asset", lambda key: None)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 4
    assert capsys.readouterr().err.startswith("minilm-sst2 is not here; ")


@pytest.mark.parametrize(("value", "code"), [(1.25, 0), (None, 1)])
def test_every_row_is_kept_also_that_of_what_was_not_measured(
    value: float | None,
    code: int,
    load: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gpu = load("gpu")
    monkeypatch.setattr(gpu, "host", lambda: host().model_copy(update={"cuda": (CARD,)}))
    monkeypatch.setattr(gpu, "find_asset", lambda key: key)
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "gpu.jsonl")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--model", "m", "--data", "d", "--image", "28"])
    one = p50(value, n=75).model_dump()

    def rows(model: str, source: str, data: str, workload: Any) -> list[dict[str, Any]]:
        assert (model, source, data, workload.image) == ("m", "m", "d", 28)
        base = gpu.base_row(model, "torch, eager", "fp32", workload)
        return [base | {"reason": "it broke", "metrics": [one]}, base | {"reason": "none such"}]

    monkeypatch.setattr(gpu, "rows", rows)
    assert gpu.main() == code
    told = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert [row["gpu"] for row in told] == [{"name": "a card", "capability": "9.0"}] * 2
    assert told[0]["schema"] == "edgekit.gpu/1"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-2:] == (["1.250", "ms"] if value else ["it", "broke"])
    assert lines[1].endswith("not measured: none such")


def test_what_a_target_does_not_take_has_its_reason(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = load("gpu")
    monkeypatch.setattr(gpu, "host", lambda: host().model_copy(update={"cuda": (CARD,)}))
    row = gpu.provider_row("m", "source", "data", "cuda", "int8", gpu.Workload())
    assert row["reason"] == "the target cuda does not take int8"
    assert gpu.p50_of(row) is None
    (row,) = gpu.torch_rows("m", "source", "int8", gpu.Workload())
    assert row["reason"].startswith("torch has no INT8")


def test_an_undone_precision_is_measured_all_the_same(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where FP16 is judged slower, the stage's own artifact is what is benched."""
    from end_to_end.made import WORKLOAD, data_for, model_folder, pretend_device

    import edgekit

    gpu = load("gpu")
    card = host().model_copy(update={"cuda": (CARD,)})
    monkeypatch.setattr(gpu, "host", lambda: card)
    monkeypatch.setattr(gpu, "ARTIFACTS", tmp_path)
    monkeypatch.setattr("edgekit.devices.host", lambda: card)
    monkeypatch.setattr("edgekit.target.execution_providers", lambda: ("CUDAExecutionProvider",))
    monkeypatch.setattr("edgekit.places.try_provider", lambda place: None)
    monkeypatch.setattr(
        "edgekit.measure.elsewhere.run_calls", lambda subject, calls, place: run_calls(subject, calls, here(1))
    )
    pretend_device(monkeypatch)
    monkeypatch.setattr("edgekit.pipeline.judge", lambda evidence: Judgement(False, "slower"))
    benched: list[Path] = []

    def bench(path: Path, **options: Any) -> BenchRecord:
        assert options == {"workload": WORKLOAD, "provider": "cuda"}
        benched.append(path)
        return make_record(p50(2.5, n=75), protocol=Protocol(clock="CUDA events"))

    monkeypatch.setattr(edgekit, "bench", bench)
    model, data = str(model_folder("bert", tmp_path / "model")), str(data_for("bert", tmp_path / "data"))
    row = gpu.provider_row("tiny", model, data, "cuda", "fp16", WORKLOAD)
    assert (row["kept"], row["reason"], gpu.p50_of(row)) == (False, "", 2.5)
    assert benched == [tmp_path / "tiny-cuda-fp16" / "stages" / "3-quantize"]
    assert edgekit.inspect(benched[0]).graphs[0].weights[0].precision == "fp16"
    assert row["metric"]["after"] is not None
    assert row["protocol"]["clock"] == "CUDA events"


def test_the_yardstick_gives_the_same_record(load: Any, torch_alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("not while a stream is captured\nand more")

    monkeypatch.setattr(torch_alone.cuda, "synchronize", refuse)
    yardstick = load("gpu_yardstick")
    module = torch_alone.nn.Linear(4, 2).eval()
    feeds = {"input": np.ones((1, 4), np.float32)}
    for precision in ("fp32", "fp16"):
        timings, failed = yardstick.time_torch(module, feeds, precision, SHORT, device="cpu", backend="eager")
        assert failed == {"cuda-graph": "not while a stream is captured"}
        assert {name: np.shape(blocks) for name, blocks in timings.blocks_ms.items()} == {
            "eager": (25, 3),
            "compiled": (25, 3),
        }
        p50, p90 = timings.measurements("compiled", "model")
        assert (p50.name, p50.unit, p50.n) == ("latency.p50", "ms", 75)
        assert p90.value is not None
        assert p90.value >= (p50.value or 0) > 0
        assert timings.clock == "wall clock after synchronisation"
    assert module.weight.dtype == torch_alone.float32  # the original is as it was
