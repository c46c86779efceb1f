"""ONNX files: export of one component, saving without traces of this machine, and what a graph says of itself."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgekit.artifact import Component, Shape, State, TensorSpec
from edgekit.errors import ModelError
from edgekit.formats.known import kind_of
from edgekit.formats.lazy import read_lazily, read_structure, write_streamed
from edgekit.tasks.base import ComponentSpec

if TYPE_CHECKING:
    import onnx_ir as ir

PRODUCER = "edgekit"
# protobuf's limit is 2 GiB for a message; above this the weights go to a file beside the graph.
INLINE_LIMIT_BYTES = 1_900_000_000
LARGEST_BATCH = 4096


def export_component(spec: ComponentSpec, file: Path, opset: int) -> None:
    """Export a component through ``torch.export`` with named free dimensions.

    Raises:
        ModelError: torch cannot export it; the reason is torch's.
    """
    import torch

    with _quiet():
        try:
            program = torch.onnx.export(
                spec.module.eval(),
                (),
                kwargs=spec.example,
                input_names=list(spec.example),
                output_names=list(spec.outputs),
                dynamic_shapes=dynamic_shapes(spec),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise ModelError(
                "torch cannot export this model to ONNX",
                id="model.export-fails",
                why=str(error).strip().splitlines()[0],
                hint="The exporter's own report follows with EDGEKIT_DEBUG=1.",
            ) from error
    if program is None:
        raise ModelError("torch exported no ONNX program", id="model.export-fails")
    save_graph(program.model, file)


def dynamic_shapes(spec: ComponentSpec) -> dict[str, dict[int, Any] | None]:
    """A component's free dimensions, named and bounded, as ``torch.export`` takes them: by input, then axis."""
    import torch

    upper = {"batch": LARGEST_BATCH, **spec.limits}
    names = {name for axes in spec.axes.values() for name in axes.values()}
    dims = {name: torch.export.Dim(name, min=1, max=upper.get(name)) for name in names}
    return {name: {axis: dims[dim] for axis, dim in spec.axes.get(name, {}).items()} or None for name in spec.example}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs about torchvision and renamed axes; neither says anything about the model."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def save_graph(model: ir.Model, file: Path) -> None:
    """Write a graph without stack traces, source paths or doc strings; large weights go to a file beside it."""
    import onnx_ir as ir
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)
    model.producer_name, model.producer_version = PRODUCER, None
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    external = f"{file.name}.data" if size > INLINE_LIMIT_BYTES else None
    if external:
        ir.save(model, file, external_data=external)
    else:
        write_streamed(model, file)
    for name in (file.name, *([external] if external else [])):
        (file.parent / name).chmod(0o644)


def load_graph(file: Path) -> ir.Model:
    """Read a graph; its large weights stay in the file until they are looked at.

    Raises:
        ModelError: not a readable ONNX file.
    """
    return _load(file, read_lazily)


def load_structure(file: Path) -> ir.Model:
    """Read a graph for its nodes and the types and shapes of its weights, whose elements are not there; read only.

    Raises:
        ModelError: not a readable ONNX file.
    """
    return _load(file, read_structure)


def _load(file: Path, read: Callable[[Path], ir.Model]) -> ir.Model:
    from google.protobuf.message import DecodeError

    try:
        return read(file)
    except (DecodeError, ValueError, OSError) as error:
        raise ModelError(
            f"{file.name!r} is not a readable ONNX file", id="model.invalid-onnx", why=str(error).splitlines()[0]
        ) from error


def describe_component(file: Path, states: tuple[State, ...] = ()) -> Component:
    """What a manifest says of a graph: files, inputs, outputs, precision."""
    model = load_structure(file)
    external = {
        str(value.const_value.location)
        for value in model.graph.initializers.values()
        if value.const_value is not None and hasattr(value.const_value, "location")
    }
    return Component(
        files=(file.name, *sorted(external)),
        inputs=tuple(_tensor(value) for value in model.graph.inputs if value.name not in model.graph.initializers),
        outputs=tuple(_tensor(value) for value in model.graph.outputs),
        precision=precision_of(model),
        states=states,
    )


def precision_of(model: ir.Model) -> str:
    """``int8``, ``fp16`` or ``fp32``: what most of the weights' elements are as stored: two of 4 bits are a byte."""
    import onnx_ir as ir

    names = {
        ir.DataType.INT8: "int8",
        ir.DataType.UINT8: "int8",
        ir.DataType.FLOAT16: "fp16",
        ir.DataType.FLOAT: "fp32",
    }
    counts: Counter[str] = Counter()
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in names:
            counts[names[value.const_value.dtype]] += value.const_value.size
    return counts.most_common(1)[0][0] if counts else "fp32"


def count_operators(model: ir.Model) -> dict[str, int]:
    """Operators by kind, with the domain before those that are not ONNX's own; most frequent first."""
    kinds = Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in model.graph)
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def weight_bytes(model: ir.Model) -> dict[str, int]:
    """Bytes of weights by type, as numpy names it; the most first."""
    counts: Counter[str] = Counter()
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            counts[value.const_value.dtype.numpy().name] += value.const_value.nbytes
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def steps_of(model: ir.Model) -> list[tuple[str, tuple[str, ...]]]:
    """Every node in order: its kind, and type and shape of each weight that it reads."""
    weights = {key: f"{value.dtype}{value.shape}" for key, value in model.graph.initializers.items()}
    return [
        (f"{node.domain}.{node.op_type}", tuple(weights.get(str(value.name), "") for value in node.inputs if value))
        for node in model.graph
    ]


def _tensor(value: ir.Value) -> TensorSpec:
    shape: Shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ())
    kind = kind_of(value)
    dtype = kind.numpy().name if kind is not None else "unknown"
    return TensorSpec(name=cast("str", value.name), dtype=dtype, shape=shape)
