from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ModelError, UsageError
from edgekit.measure.quality import Outputs
from edgekit.quantization.methods import advise, methods_for
from edgekit.quantization.schemes import resolve_scheme
from edgekit.stages import verify
from edgekit.target import load_target


@pytest.mark.parametrize(
    ("target", "format_", "methods"),
    [
        ("x86-64", "onnx", ("dynamic", "static", "fp16")),
        ("x86-64", "tflite", ("dynamic", "static", "weight-only", "fp16")),
        ("armv7", "tflite", ("fp16", "weight-only", "static")),
        ("cuda", "onnx", ("fp16",)),
        ("tensorrt", "onnx", ("static", "fp16")),
    ],
)
def test_methods_are_those_that_the_target_takes(target: str, format_: Any, methods: tuple[str, ...]) -> None:
    device = load_target(target)
    runtime = "litert" if format_ == "tflite" and device.runtime.name == "onnxruntime" else device.runtime.name
    assert methods_for(device, format_, runtime) == methods


def test_advice_names_methods_or_something_else() -> None:
    assert advise(["static", "fp16"], "Give up.") == "Use --set quantize.method=static or fp16."
    assert advise([], "Give up.") == "Give up."


def test_tflite_and_fp16_are_only_named_where_the_target_takes_them() -> None:
    arm, cuda = load_target("arm64"), load_target("cuda")
    hints = []
    for target, method in ((arm, "weight-only"), (cuda, "weight-only"), (cuda, "bf16")):
        with pytest.raises(UsageError) as caught:
            resolve_scheme(method, "auto", "int8", target)  # type: ignore[arg-type]
        hints.append(caught.value.hint)
    assert hints[0].endswith("Or make TFLite: --format tflite.")
    assert hints[1] == "Use --set quantize.method=fp16."
    assert hints[2].endswith("fp16 for weights of half the size.")


@pytest.mark.parametrize(
    ("target", "format_", "hint"),
    [
        ("armv7", "tflite", "Use --set quantize.method=weight-only or static."),
        ("x86-64", "onnx", "Use --set quantize.method=dynamic or static."),
        ("cuda", "onnx", "Leave quantize out: --recipe export."),
    ],
)
def test_answers_that_are_no_numbers_end_in_advice_that_the_target_takes(target: str, format_: str, hint: str) -> None:
    device = load_target(target)
    outputs = Outputs(np.full((1, 2), np.nan, np.float32), None)
    job = SimpleNamespace(target=device, runtime=device.runtime.name, outputs=lambda artifact: outputs)
    with pytest.raises(ModelError, match="values that are no numbers") as caught:
        verify._quality(SimpleNamespace(format=format_), job)  # type: ignore[arg-type]
    assert caught.value.hint == hint
