"""Which methods of quantization a target takes, so that advice names no other."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.artifact import Format
from edgekit.runtimes import tflite_runtime
from edgekit.target import Precision, Target

TFLITE_METHODS = ("dynamic", "static", "weight-only", "fp16")
HALF: Precision = "fp16"
EIGHT_BITS: Precision = "int8"


def methods_for(target: Target, format_: Format, runtime: str) -> tuple[str, ...]:
    """The methods that give a precision which the target takes and its runtime computes rightly.

    Args:
        target: the device.
        format_: of the graph.
        runtime: that runs it there.
    """
    known: tuple[str, ...]
    if format_ == "tflite":
        known = tflite_runtime.METHODS if runtime == tflite_runtime.NAME else TFLITE_METHODS
    else:  # onnxruntime scales activations dynamically as u8 only
        known = ("static", HALF) if target.int8.activations == "s8" else ("dynamic", "static", HALF)
    return tuple(one for one in known if (HALF if one == HALF else EIGHT_BITS) in target.precisions)


def advise(methods: Sequence[str], otherwise: str) -> str:
    """Advice to use one of several methods; where there is none, to do something else."""
    return f"Use --set quantize.method={' or '.join(methods)}." if methods else otherwise
