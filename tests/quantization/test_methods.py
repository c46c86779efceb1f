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
    error = answering(target, format_, original=0.5, artifact=np.nan)
    assert (error.what, error.hint) == ("the artifact answers with values that are no numbers", hint)


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_where_the_original_answers_with_no_numbers_no_method_is_to_blame(value: float) -> None:
    error = answering("x86-64", "onnx", original=value, artifact=value)
    assert error.what == "the model answers with values that are no numbers"
    assert error.why == "the original does so already, before anything is changed"
    assert "quantize" not in error.hint


def answering(target: str, format_: str, *, original: float, artifact: float) -> ModelError:
    """What is said of an artifact and an original that answer so."""
    device, made = load_target(target), SimpleNamespace(format=format_)

    def outputs(asked: Any) -> Outputs:
        return Outputs(np.full((1, 2), artifact if asked is made else original, np.float32), None)

    job = SimpleNamespace(target=device, runtime=device.runtime.name, outputs=outputs, original=None)
    with pytest.raises(ModelError) as caught:
        verify._quality(made, job)  # type: ignore[arg-type]
    return caught.value
