"""What is asked of a graph whatever its format, by the ending of its file."""

from __future__ import annotations

from pathlib import Path

from edgekit.artifact import Component
from edgekit.formats import onnx, tflite

TFLITE = ".tflite"


def describe_like(file: Path, component: Component) -> Component:
    """What a manifest says of a graph that has the inputs, the outputs and the states of another one."""
    if file.suffix == TFLITE:
        return tflite.describe_component(file, tflite.axes_of(component), component.states)
    return onnx.describe_component(file, component.states)


def count_operators(file: Path) -> dict[str, int]:
    """Operators by kind, most frequent first."""
    return tflite.count_operators(file) if file.suffix == TFLITE else onnx.count_operators(onnx.load_structure(file))


def weight_bytes(file: Path) -> dict[str, int]:
    """Bytes of weights by type; the most first."""
    return tflite.weight_bytes(file) if file.suffix == TFLITE else onnx.weight_bytes(onnx.load_structure(file))


def steps_of(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Every node in order: its kind, and type and shape of each weight that it reads; what latency hangs on."""
    return tflite.steps_of(file) if file.suffix == TFLITE else onnx.steps_of(onnx.load_structure(file))
