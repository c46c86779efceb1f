"""The harness for GPUs where there is none: its binding runs on the processor, its clock on a stand-in for torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import proto, with_weights

from edgekit.devices.base import SPEC, Device
from edgekit.devices.local import LocalDevice
from edgekit.errors import HostError
from edgekit.runtimes import gpu_graph
from edgekit.runtimes.gpu_graph import CPU, CUDA, TENSORRT, EventClock, Gpu, GpuGraph, WallClock
from edgekit.runtimes.measuring import WALL_CLOCK, Place, Subject, Timing, here, run_calls, time_subjects
from edgekit.target import EXECUTION_PROVIDERS, Provider

DOUBLE = "agraph (float[N, 4] x, int64[N] i) => (float[N, 4] y, int64[N] j) { y = Add(x, x) j = Identity(i) }"
FEEDS = {"x": np.arange(8, dtype=np.float32).reshape(2, 4), "i": np.array([3, 4])}
SHORT = Timing(seconds=0.0, rounds=4, block=2, warmup=1)


@dataclass
class Event:
    """A CUDA event: its place in the order of all that was recorded."""

    torch: Torch
    at: int = 0

    def record(self, stream: Stream) -> None:
        self.torch.told.append("record")
        self.at = len(self.torch.told)
        assert stream.cuda_stream == 4711

    def synchronize(self) -> None:
        self.torch.told.append("wait for event")

    def elapsed_time(self, end: Event) -> float:
        return float(end.at - self.at)


@dataclass
class Stream:
    torch: Torch
    cuda_stream: int = 4711

    def synchronize(self) -> None:
        self.torch.told.append("wait for stream")


@dataclass
class Torch:
    """As much of torch as the clock needs."""

    told: list[str] = field(default_factory=list)

    @property
    def cuda(self) -> Torch:
        return self

    def Stream(self) -> Stream:
        return Stream(self)

    def Event(self, enable_timing: bool) -> Event:
        assert enable_timing
        return Event(self)


@pytest.fixture
def graph(tmp_path: Path) -> dict[str, Any]:
    onnx.save(proto(DOUBLE), tmp_path / "double.onnx")
    return {"graph": str(tmp_path / "double.onnx"), "types": ["float32"]}


@pytest.fixture(autouse=True)
def variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")


@pytest.mark.parametrize("torch", [None, Torch()])
def test_bound_inputs_and_outputs_give_what_the_graph_gives(graph: dict[str, Any], torch: Torch | None) -> None:
    model = GpuGraph(graph, 1, Gpu([CPU], torch, memory="cpu"))
    outputs = model(FEEDS)
    assert list(outputs) == ["y", "j"]
    np.testing.assert_array_equal(outputs["y"], 2 * FEEDS["x"])
    np.testing.assert_array_equal(outputs["j"], FEEDS["i"])
    assert model.prepare(FEEDS)() is None


def test_events_enclose_a_call_that_begins_on_a_gpu_at_rest() -> None:
    torch = Torch()
    clock = EventClock(torch)
    assert clock(lambda: torch.told.append("call")) == 2.0
    assert torch.told == ["wait for stream", "record", "call", "record", "wait for event"]
    assert (clock.name, clock.waits) == ("CUDA events", False)


def test_the_wall_clock_is_used_without_torch(graph: dict[str, Any]) -> None:
    gpu = Gpu([CPU], memory="cpu")
    assert isinstance(gpu.clock, WallClock)
    assert gpu.clock(GpuGraph(graph, 1, gpu).prepare(FEEDS)) > 0


def test_torch_without_cuda_gives_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_graph.cuda_torch() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu_graph.cuda_torch() is torch


@pytest.mark.parametrize(
    ("types", "fp16", "int8"),
    [(["float32"], "0", "0"), (["float16", "int64"], "1", "0"), (["float32", "int8"], "0", "1")],
)
def test_tensorrt_gets_the_precisions_that_the_graph_has(types: list[str], fp16: str, int8: str) -> None:
    options = Gpu([TENSORRT, CUDA, CPU], Torch()).options(types)
    assert [name for name, _ in options] == [TENSORRT, CUDA, CPU]
    assert (options[0][1]["trt_fp16_enable"], options[0][1]["trt_int8_enable"]) == (fp16, int8)
    assert options[0][1]["trt_layer_norm_fp32_fallback"] == "1"
    for _, given in options[:2]:
        assert (given["has_user_compute_stream"], given["user_compute_stream"]) == ("1", "4711")
    assert options[2][1] == {}


def test_without_torch_onnxruntime_has_its_own_stream() -> None:
    assert Gpu([CUDA, CPU]).options([])[0][1] == {"device_id": "0"}


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_provider_that_does_not_start_is_no_measurement(provider: Provider, graph: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match=r"onnxruntime \S+ could not start \w+ExecutionProvider, only CPU"):
        GpuGraph(graph, 1, Gpu([EXECUTION_PROVIDERS[provider][0], CPU]))


@dataclass
class Recorder(Device):
    """Notes the specification, and has the processor compute in place of the GPU."""

    label: str = "this machine"
    fingerprint: str = "recorder"
    spec: dict[str, Any] = field(default_factory=dict)

    def execute(self, folder: Path, seconds: float) -> str:
        self.spec = json.loads((folder / SPEC).read_text())
        (folder / SPEC).write_text(json.dumps(self.spec | {"providers": [CPU]}))
        return LocalDevice().execute(folder, seconds)


@pytest.mark.parametrize(
    ("provider", "told"), [("cpu", None), ("cuda", ["float16", "float32"]), ("tensorrt", ["float16", "float32"])]
)
def test_the_device_is_told_what_computes_and_of_which_types(
    provider: Provider, told: list[str] | None, tmp_path: Path
) -> None:
    text = "agraph (float[N, 4] x) => (float[N, 4] y, float16[4] z) { y = Mul(x, a) z = Identity(b) }"
    onnx.save(with_weights(text, a=np.ones(4, np.float32), b=np.ones(4, np.float16)), tmp_path / "m.onnx")
    place = Place(Recorder(), provider=provider)
    answer = time_subjects({"one": Subject(tmp_path / "m.onnx", {"x": FEEDS["x"]})}, place, SHORT)
    assert isinstance(place.device, Recorder)
    assert place.device.spec["providers"] == list(EXECUTION_PROVIDERS[provider])
    assert place.device.spec["subjects"]["one"].get("types") == told
    assert answer.clock == WALL_CLOCK
    assert place.label == ("this machine" if provider == "cpu" else f"this machine, {provider}")
    assert place.elsewhere == (provider != "cpu")


def test_the_runner_of_this_machine_says_that_it_has_no_gpu(graph: dict[str, Any]) -> None:
    subject = Subject(Path(graph["graph"]), FEEDS)
    with pytest.raises(HostError, match=r"measuring process on this machine failed\nedgekit: .* could not start CUDA"):
        run_calls(subject, [FEEDS], here(1, provider="cuda"))


def test_tf32_is_off_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for said, expected in ((None, "0"), ("1", "1")):
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
        if said is not None:
            monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", said)
        Gpu([CPU])
        assert os.environ["NVIDIA_TF32_OVERRIDE"] == expected
