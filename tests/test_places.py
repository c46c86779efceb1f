from __future__ import annotations

import pytest

from edgekit.artifact import Component
from edgekit.environment import Host, host
from edgekit.places import Exported
from edgekit.target import load_target

INT8 = Component(files=("model.onnx",), inputs=(), outputs=(), precision="int8")
FP32 = INT8.model_copy(update={"precision": "fp32"})
BASE = ("avx2", "fma", "sse4_2")
OLD, NEW = BASE, (*BASE, "avx512_vnni", "avx512f", "avx512bw", "avx512vl", "avx_vnni")


def on(patch: pytest.MonkeyPatch, features: tuple[str, ...], architecture: str = "x86_64") -> None:
    """Have this machine be another one."""
    made: Host = host().model_copy(
        update={"architecture": architecture, "features": features, "board": "", "system": "Linux", "cuda": ()}
    )
    patch.setattr("edgekit.places.host", lambda: made)


def model(target: str, part: Component = INT8) -> Exported:
    return Exported("onnx", (part,), target, load_target(target))


@pytest.mark.parametrize(
    ("target", "part", "features", "times", "answers"),
    [
        ("x86-64", INT8, NEW, ["faster than x86-64 has to"], ["saturate on x86-64, not on this machine"]),
        ("x86-64", FP32, NEW, [], []),
        ("x86-64", INT8, OLD, [], []),
        ("x86-64-vnni", INT8, NEW, [], []),
        (
            "x86-64-vnni",
            INT8,
            OLD,
            ["which is not the target x86-64-vnni"],
            ["which is not the target x86-64-vnni", "saturate on this machine, not on x86-64-vnni"],
        ),
        ("raspberry-pi-5", INT8, NEW, ["not the target raspberry-pi-5: the target is aarch64"], ["is aarch64"]),
        ("cuda", FP32, NEW, ["not the target cuda: no CUDA device"], ["no CUDA device"]),
    ],
)
def test_what_tells_this_machine_from_the_target_is_said(
    target: str,
    part: Component,
    features: tuple[str, ...],
    times: list[str],
    answers: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(monkeypatch, features)
    for found, expected in (
        (model(target, part).doubts_of_times("cpu"), times),
        (model(target, part).doubts_of_answers(), answers),
    ):
        assert len(found) == len(expected)
        assert all(words in sentence for words, sentence in zip(expected, found, strict=True))


def test_another_provider_than_the_targets_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.target.missing_gpu", lambda runtime, machine: None)
    on(monkeypatch, NEW)
    said = "measured with CPUExecutionProvider, and the target cuda computes with CUDAExecutionProvider"
    assert model("cuda", FP32).doubts_of_times("cpu") == (said,)
    assert model("cuda", FP32).doubts_of_times("cuda") == ()


def test_a_file_of_others_raises_no_doubts_unless_a_target_is_named() -> None:
    alone = Exported("onnx", (INT8,), None, None)
    assert (alone.doubts_of_times("cpu"), alone.doubts_of_answers(), alone.record) == ((), (), {})
