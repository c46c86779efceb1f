"""neural-compressor as a second quantizer: its static INT8 (PT2E) of the torch model, made into a graph of real INT8.

neural-compressor decides what is quantized and calibrates the ranges of activations. What it gives is a torch program
of float32 weights that are quantized and dequantized whenever they are used, and torch exports it as such. Here the
weights go back to float32 in a *marked* graph, whose activations pass QuantizeLinear and DequantizeLinear where
neural-compressor says, and which can be rewritten as any other; then they are folded into INT8 constants by the formula
that neural-compressor uses. onnxruntime fuses the result into integer kernels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.environment import version_of
from edgekit.errors import HostError, ModelError
from edgekit.formats.graph import add_initializer, constant, insert_node, producer, replace, stored, tidy
from edgekit.formats.onnx import dynamic_shapes, export_component, load_graph, save_graph
from edgekit.progress import Progress
from edgekit.quantization.schemes import CONVOLUTION_KIND, LINEAR_KINDS, Scheme, quiet
from edgekit.runtimes.torch import TorchRunner
from edgekit.tasks.base import Array, ComponentSpec, Examples, Task

if TYPE_CHECKING:
    import onnx_ir as ir

NAME = "neural-compressor"
# What `import neural_compressor.torch` needs, by the names of the package index; all in the extra [inc].
PACKAGES = ("neural-compressor", "torchao")
KINDS = (*LINEAR_KINDS, CONVOLUTION_KIND)
# By bits: least and largest integer of a weight, and what its largest value is divided by. 8: torchao's observers take
# (127 - -128) / 2 for symmetric types. 7: onnxruntime's reduce_range.
WIDTHS = {8: (-128, 127, 127.5), 7: (-64, 64, 64.0)}
SMALLEST_SCALE = 1.1920928955078125e-07  # float32's epsilon, as torchao's observers have it


class Calibration(NamedTuple):
    """Samples that ranges are taken from.

    Attributes:
        task: drives the components.
        examples: samples.
        indices: which of them.
        progress: told of every one.
    """

    task: Task
    examples: Examples
    indices: Sequence[int]
    progress: Progress


def require() -> None:
    """Check that neural-compressor is here, without importing it.

    Raises:
        HostError: a package of the extra is missing.
    """
    missing = [package for package in PACKAGES if version_of(package) is None]
    if missing:
        raise HostError(
            f"quantize.engine needs {' and '.join(missing)}, which this environment lacks",
            id="environment.no-package",
            hint="Install it with: pip install 'edgekit[inc]'. quantize.engine=onnxruntime, the default, needs none.",
        )


def mark(
    specs: Mapping[str, ComponentSpec], calibration: Calibration, scheme: Scheme, opset: int, folder: Path
) -> dict[str, Path]:
    """Let neural-compressor calibrate the components, and write a marked graph for each, by name.

    Args:
        specs: the components of the torch model.
        calibration: samples, each at its own length.
        scheme: types of activations and weights.
        opset: of the graphs.
        folder: gets ``NAME.onnx``.

    Raises:
        ModelError: torch or neural-compressor cannot take the model; the reason is theirs.
    """
    with _quiet():
        converted = _calibrate(specs, calibration, scheme)
    files = {}
    for name, spec in converted.items():
        files[name] = folder / f"{name}.onnx"
        export_component(spec, files[name], opset)
        model = load_graph(files[name])
        _float_weights(model.graph)
        tidy(model)
        _share_marks(model.graph)
        tidy(model)
        save_graph(model, files[name])
    return files


def fold(marked: Path, destination: Path, scheme: Scheme, nodes: Sequence[str]) -> None:
    """Write a marked graph with INT8 weights in some of its nodes; the others lose their marks and stay float.

    Args:
        marked: from ``mark``, perhaps rewritten since.
        destination: the new file.
        scheme: types of activations and weights.
        nodes: names of the nodes that are quantized.
    """
    model = load_graph(marked)
    graph = model.graph
    for node in marked_nodes(model):
        if node.name in nodes:
            _fold_weight(graph, node, scheme)
        else:
            quantize = _quantized_by(producer(node.inputs[0], "DequantizeLinear"))
            if quantize is not None:
                node.replace_input_with(0, quantize.inputs[0])
    tidy(model)
    save_graph(model, destination)


def marked_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes with constant weights whose input is marked: what neural-compressor quantizes.

    A mark before a slice is moved behind it, to the node.
    """
    graph = model.graph
    found = []
    for node in graph:
        if node.domain or node.op_type not in KINDS or stored(node.inputs[1]) is None:
            continue
        cut = producer(node.inputs[0], "Slice")
        if cut is not None and producer(cut.inputs[0], "DequantizeLinear") is not None:
            _mark_behind(graph, cut)
        if producer(node.inputs[0], "DequantizeLinear") is not None:
            found.append(node)
    return found


def _calibrate(
    specs: Mapping[str, ComponentSpec], calibration: Calibration, scheme: Scheme
) -> dict[str, ComponentSpec]:
    """The components as neural-compressor's programs, with the ranges of the samples."""
    from neural_compressor.torch.quantization import StaticQuantConfig, convert, prepare

    config = StaticQuantConfig(
        act_dtype="uint8" if scheme.activations == "u8" else "int8",
        act_sym=scheme.activations == "s8",
        w_granularity="per_channel" if scheme.per_channel else "per_tensor",
    )
    try:
        prepared = {
            name: changed(spec, module=prepare(_program(spec), config, example_inputs=tuple(spec.example.values())))
            for name, spec in specs.items()
        }
        runner = TorchRunner(prepared)
        for index in calibration.indices:
            calibration.task.forward(runner, calibration.examples.batch([index]))
            calibration.progress.advance()
        return {name: changed(spec, module=_converted(convert(spec.module))) for name, spec in prepared.items()}
    except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, KeyError, IndexError) as error:
        raise ModelError(
            f"{NAME} {version_of(NAME)} cannot quantize this model",
            id="model.export-fails",
            why=(str(error).strip() or type(error).__name__).splitlines()[0],
            hint="Use --set quantize.engine=onnxruntime.",
        ) from error


def _program(spec: ComponentSpec) -> Any:
    """A component as neural-compressor wants it: torch's exported program as a module, with two marks of its own."""
    import torch

    shapes = dynamic_shapes(spec)
    with torch.no_grad():
        module = torch.export.export(spec.module.eval(), (), dict(spec.example), dynamic_shapes=shapes).module()
    module._exported = True  # type: ignore[assignment]  # what neural_compressor.torch.export sets
    module.dynamic_shapes = None  # type: ignore[assignment]  # the same
    return module


def _converted(program: Any) -> Any:
    """A program that may be asked for evaluation mode, as exporters do; torchao refuses, though it is in no other."""
    program.eval = lambda: program
    return program


def _float_weights(graph: ir.Graph) -> None:
    """Let every node read its float32 weight, laid out as it is read, in place of what quantization made of it."""
    for node in [node for node in graph if node.op_type == "DequantizeLinear"]:
        quantize = _quantized_by(node)
        source = None if quantize is None else quantize.inputs[0]
        if source is not None and stored(source) is not None:
            node.outputs[0].replace_all_uses_with(source)
    for node in [node for node in graph if node.op_type == "Transpose"]:
        value = node.inputs[0]
        weight = constant(value)
        if value is not None and weight is not None:
            laid_out = weight.transpose(node.attributes["perm"].as_ints())
            replace(node.outputs[0], add_initializer(graph, f"{value.name}_transposed", laid_out))


def _share_marks(graph: ir.Graph) -> None:
    """One DequantizeLinear for each QuantizeLinear, without a Clip to the whole range of the type between them."""
    first: dict[ir.Node, ir.Node] = {}
    for node in [node for node in graph if node.op_type == "DequantizeLinear"]:
        quantize = _quantized_by(node)
        if quantize is None:
            continue
        node.replace_input_with(0, quantize.outputs[0])
        if first.setdefault(quantize, node) is not node:
            node.outputs[0].replace_all_uses_with(first[quantize].outputs[0])


def _quantized_by(dequantize: ir.Node | None) -> ir.Node | None:
    """The QuantizeLinear that a DequantizeLinear undoes."""
    if dequantize is None:
        return None
    clip = producer(dequantize.inputs[0], "Clip")
    return producer(dequantize.inputs[0] if clip is None else clip.inputs[0], "QuantizeLinear")


def _mark_behind(graph: ir.Graph, cut: ir.Node) -> None:
    """Let a slice of a marked value be marked behind the slice, where the node that reads it looks."""
    import onnx_ir as ir

    quantize = _quantized_by(producer(cut.inputs[0], "DequantizeLinear"))
    if quantize is None:
        return
    users = [(use.node, use.idx) for use in cut.outputs[0].uses()]
    before, name, parameters = users[0][0], str(cut.outputs[0].name), list(quantize.inputs[1:])
    cut.replace_input_with(0, quantize.inputs[0])
    zero = constant(parameters[1])
    kind = None if zero is None else ir.DataType.from_numpy(zero.dtype)
    integer = insert_node(graph, before, "QuantizeLinear", [cut.outputs[0], *parameters], f"{name}_marked", dtype=kind)
    back = insert_node(graph, before, "DequantizeLinear", [integer.outputs[0], *parameters], f"{name}_back")
    for node, slot in users:
        node.replace_input_with(slot, back.outputs[0])


def _fold_weight(graph: ir.Graph, node: ir.Node, scheme: Scheme) -> None:
    """Make a node's weight INT8, and the bias that lies in the node INT32, as integer kernels want it."""
    import numpy as np

    value = node.inputs[1]
    weight = constant(value)
    assert value is not None
    assert weight is not None  # a marked node has a constant weight
    name = str(value.name)
    rows = node.op_type == CONVOLUTION_KIND or ("transB" in node.attributes and node.attributes["transB"].as_int() == 1)
    axis = (0 if rows else 1) if scheme.per_channel else None
    integers, scales = quantize_weight(weight, axis, bits=7 if scheme.reduce_range else 8)
    _dequantize(graph, node, 1, f"{node.name}_weight", {f"{name}_int8": integers, f"{name}_scale": scales}, axis)
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    mark = producer(node.inputs[0], "DequantizeLinear")
    step = None if mark is None else constant(mark.inputs[1])
    if bias is None or step is None or bias.ndim != 1:
        return
    steps = np.asarray(scales * step, np.float32)
    units = np.clip(np.rint(bias / steps), -(2**31), 2**31 - 1).astype(np.int32)
    place = f"{node.name}_bias"
    constants = {f"{place}_int32": units, f"{place}_scale": steps}
    _dequantize(graph, node, 2, place, constants, None if axis is None else 0)


def _dequantize(
    graph: ir.Graph, node: ir.Node, slot: int, name: str, constants: Mapping[str, Array], axis: int | None
) -> None:
    """Let a node read, in one of its inputs, integers by their scale: two constants by name, in this order."""
    along = {} if axis is None else {"axis": axis}
    parts = [add_initializer(graph, key, array) for key, array in constants.items()]
    made = insert_node(graph, node, "DequantizeLinear", parts, name, attributes=along)
    node.replace_input_with(slot, made.outputs[0])


def quantize_weight(weight: Array, axis: int | None, *, bits: int) -> tuple[Array, Array]:
    """A weight as INT8 around zero, and its scale: one for each place of ``axis``, or a single one for None."""
    import numpy as np

    low, high, parts = WIDTHS[bits]
    others = tuple(place for place in range(weight.ndim) if place != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.maximum(largest / np.float32(parts), np.float32(SMALLEST_SCALE)).astype(np.float32)
    integers = np.clip(np.rint(weight / scale), low, high).astype(np.int8)
    return integers, scale.reshape(()) if axis is None else scale.reshape(-1)


@contextmanager
def _quiet() -> Iterator[None]:
    """neural-compressor and torchao log each of their steps, and warn of each other's old names."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
