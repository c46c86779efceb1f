"""How far INT8 and INT4 move what each layer gives: one pass over samples, each layer beside itself in float.

Every layer is computed again on the float inputs that it has anyway, once with inputs and weights rounded as the scheme
has them and once with weights in INT4; what is counted is the error of its output as a share of the output, the root of
the inverse of the signal-to-quantization-noise ratio (Nagel et al. 2021, A white paper on neural network quantization).

That needs no labels and no gradients, so that it serves for a graph of anybody's, and one pass serves for all layers.
It is local: how much of an error the layers behind it carry on is not in it (Gluska and Grobman 2020, Exploring neural
networks quantization via layer-wise quantization analysis), where a graph for each layer alone sees it (Wu et al. 2020,
Integer quantization for deep learning inference, section 5.1). So it tells where to look; the order of the fall-back is
the latter's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.artifact import Artifact
from edgekit.formats.graph import CONTRIB, add_initializer, constant, stored
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.quantization.blocks import looks_up_tokens, narrow_beside
from edgekit.quantization.products import pack_beside, packs
from edgekit.quantization.schemes import CONVOLUTION_KIND, EMBEDDING_KIND, Scheme, WeightedNode
from edgekit.runtimes.ort import open_session
from edgekit.tasks.base import Batch

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

# Of a share that is told.
DIGITS = 6
# By the name of a tensor, the smallest and the largest value that it had.
Ranges = Mapping[str, tuple[float, float]]


def read_ranges(file: Path) -> Ranges:
    """The ranges of a file of calibration."""
    import numpy as np
    from onnxruntime.quantization.calibrate import load_tensors_data

    return {
        name: (float(np.min(found.range_value[0])), float(np.max(found.range_value[1])))
        for name, found in load_tensors_data(file).items()
    }


class Rounding(NamedTuple):
    """How layers are rounded to INT8.

    Attributes:
        scheme: dynamic or static.
        ranges: of each component's activations, where it is static.
    """

    scheme: Scheme
    ranges: Mapping[str, Ranges]

    def within(self, component: str) -> tuple[Scheme, Ranges]:
        """The same for one component."""
        return self.scheme.within(component), self.ranges.get(component, {})


class LayerError(NamedTuple):
    """What a layer's output loses.

    Attributes:
        name: component/node.
        int8, int4: root of the squared error over that of the output; None where the layer cannot be so.
    """

    name: str
    int8: float
    int4: float | None


def layer_errors(
    artifact: Artifact,
    nodes: Mapping[str, Sequence[WeightedNode]],
    rounding: Rounding,
    fed: Iterable[Mapping[str, Sequence[Batch]]],
    *,
    scratch: Callable[[], Path],
    threads: int,
) -> list[LayerError]:
    """The layers, those whose outputs INT8 moves most first.

    Args:
        artifact: in float32.
        nodes: of each component, the layers.
        rounding: to INT8.
        fed: what each component is fed, some inferences at a time.
        scratch: makes an empty folder.
        threads: of the inference.
    """
    parts = {
        name: Shadows(artifact.file(name), found, rounding.within(name), scratch(), threads)
        for name, found in nodes.items()
        if found
    }
    for some in fed:
        for name, part in parts.items():
            for batch in some.get(name, ()):
                part.run(batch)
    found = [one._replace(name=f"{name}/{one.name}") for name, part in parts.items() for one in part.errors()]
    return sorted(found, key=lambda one: (-one.int8, one.name))


class Shadows:
    """A graph whose layers are computed beside themselves, and how far those outputs are apart.

    Args:
        graph: its file, in float32; the nodes have names.
        nodes: which of them.
        rounding: to INT8, and the ranges of the activations where it is static.
        folder: for a copy with the shadows.
        threads: of the inference.
    """

    def __init__(
        self, graph: Path, nodes: Sequence[WeightedNode], rounding: tuple[Scheme, Ranges], folder: Path, threads: int
    ) -> None:
        model = load_graph(graph)
        outputs: list[ir.Value] = []
        self._names: list[tuple[str, tuple[str, ...]]] = []
        known = {one.name for one in nodes}
        for node in [node for node in model.graph if node.name in known and _holds_floats(node)]:
            made = {"": node.outputs[0], "int8": _rounded(model.graph, node, *rounding)}
            if packs(node):
                made["int4"] = pack_beside(model.graph, node, "shadow4")
            elif looks_up_tokens(node):
                made["int4"] = narrow_beside(model.graph, node, "shadow4").outputs[0]
            sums = _sums(model.graph, made)
            outputs += sums
            self._names.append((str(node.name), tuple(str(one.name) for one in sums)))
        model.opset_imports[CONTRIB] = 1
        model.graph.outputs.clear()
        model.graph.outputs.extend(outputs)
        save_graph(model, folder / graph.name)
        self._session = open_session(folder / graph.name, threads, optimized=False) if outputs else None
        self._sums: dict[str, float] = {str(one.name): 0.0 for one in outputs}

    def run(self, feeds: Batch) -> None:
        """One inference."""
        if self._session is None:
            return
        wanted = list(self._sums)
        for name, value in zip(wanted, self._session.run(wanted, feeds), strict=True):
            self._sums[name] += float(value)

    def errors(self) -> list[LayerError]:
        """Of what was run."""
        found = []
        for node, (whole, *parts) in self._names:
            size = self._sums[whole] or 1.0
            shares = [round((self._sums[part] / size) ** 0.5, DIGITS) for part in parts]
            found.append(LayerError(node, shares[0], shares[1] if len(shares) > 1 else None))
        return found


def _rounded(graph: ir.Graph, node: ir.Node, scheme: Scheme, ranges: Ranges) -> ir.Value:
    """The output of the same node with inputs and weights rounded to INT8."""
    looked_up = node.op_type == EMBEDDING_KIND
    place = 0 if looked_up else 1
    table = constant(node.inputs[place])
    assert table is not None
    name = f"{node.outputs[0].name}_shadow8"
    if looked_up:  # onnxruntime's tool has tables in the type of activations
        scheme = scheme.model_copy(update={"weights": scheme.activations, "reduce_range": False})
    steps, scale = round_weights(table, _channels(node, table), scheme, str(node.name))
    inputs = list(node.inputs)
    if looked_up:  # a table is large, and few of its rows are read
        inputs[0] = add_initializer(graph, f"{name}_table", steps)
        scales = add_initializer(graph, f"{name}_scale", scale)
        return _widened(graph, _again(graph, node, inputs, f"{name}_rows"), scales, name)
    inputs[1] = add_initializer(graph, f"{name}_weight", steps * scale)
    inputs[0] = _rounded_input(graph, inputs[0], scheme, ranges, f"{name}_x")
    return _again(graph, node, inputs, name)


def round_weights(table: Array, axis: int | None, scheme: Scheme, name: str) -> tuple[Array, Array]:
    """Weights as a number of steps, zero being none, and how wide a step is.

    Args:
        table: weights.
        axis: of the output channels; None where all weights share a step.
        scheme: how.
        name: of the node, which the scheme may list as one of 8 bits.
    """
    import numpy as np

    others = tuple(one for one in range(table.ndim) if one != axis) if scheme.per_channel and axis is not None else None
    most = table.max(axis=others, keepdims=True).clip(min=0)
    least = table.min(axis=others, keepdims=True).clip(max=0)
    if scheme.weights == "u8":
        scale = np.maximum((most - least) / 255, np.finfo(np.float32).tiny).astype(np.float32)
        zero = np.rint(-least / scale)
        return (np.clip(np.rint(table / scale) + zero, 0, 255) - zero).astype(np.int16), scale
    last = 64 if scheme.reduce_range and name not in scheme.full_range else 127
    scale = np.maximum(np.maximum(most, -least) / last, np.finfo(np.float32).tiny).astype(np.float32)
    return np.clip(np.rint(table / scale), -last, last).astype(np.int8), scale


def _holds_floats(node: ir.Node) -> bool:
    """Whether a node's weights are FP32, as what it computes then is: a graph of others may be FP16 in part."""
    table = stored(node.inputs[0 if node.op_type == EMBEDDING_KIND else 1])
    return table is not None and table.dtype.numpy().name == "float32"


def _channels(node: ir.Node, table: Array) -> int | None:
    """The axis of the output channels of a node's weights."""
    if node.op_type == EMBEDDING_KIND:
        return None
    rows = node.op_type == CONVOLUTION_KIND or ("transB" in node.attributes and node.attributes["transB"].as_int())
    return 0 if rows else table.ndim - 1


def _rounded_input(graph: ir.Graph, given: ir.Value | None, scheme: Scheme, ranges: Ranges, name: str) -> ir.Value:
    """What a node is fed, rounded to INT8: by the scale of the moment, or by that of calibration."""
    import numpy as np

    assert given is not None
    if scheme.method != "static":
        found = _append(graph, "DynamicQuantizeLinear", [given], f"{name}_rounded", outputs=3)
        return _append(graph, "DequantizeLinear", found, name)[0]
    low, high = ranges[str(given.name)]
    low, high = min(low, 0.0), max(high, 0.0)
    signed = scheme.activations == "s8"
    width = max(-low, high) / 127 if signed else (high - low) / 255
    scale = np.float32(max(width, float(np.finfo(np.float32).tiny)))
    zero = np.int8(0) if signed else np.uint8(np.rint(-low / scale))
    fixed = [
        add_initializer(graph, f"{name}_scale", np.array(scale)),
        add_initializer(graph, f"{name}_zero", np.array(zero)),
    ]
    steps = _append(graph, "QuantizeLinear", [given, *fixed], f"{name}_rounded")[0]
    return _append(graph, "DequantizeLinear", [steps, *fixed], name)[0]


def _widened(graph: ir.Graph, steps: ir.Value, scale: ir.Value, name: str) -> ir.Value:
    import onnx_ir as ir

    whole = _append(graph, "Cast", [steps], f"{name}_steps", attributes={"to": int(ir.DataType.FLOAT)})
    return _append(graph, "Mul", [whole[0], scale], name)[0]


def _again(graph: ir.Graph, node: ir.Node, inputs: Sequence[ir.Value | None], name: str) -> ir.Value:
    """The output of a node of the same kind on other inputs."""
    attributes = {key: one.value for key, one in node.attributes.items()}
    return _append(graph, node.op_type, inputs, name, attributes=attributes)[0]


def _sums(graph: ir.Graph, made: Mapping[str, ir.Value]) -> list[ir.Value]:
    """Sums of squares: of the output, and of how far each other one is from it."""
    import onnx_ir as ir

    found = []
    for ending, value in made.items():
        name = f"{made[''].name}_squares{ending}"
        counted = _append(graph, "Sub", [value, made[""]], f"{name}_apart")[0] if ending else value
        total = _append(graph, "ReduceSumSquare", [counted], name, attributes={"keepdims": 0})[0]
        total.shape, total.type = ir.Shape(()), ir.TensorType(ir.DataType.FLOAT)
        found.append(total)
    return found


def _append(
    graph: ir.Graph,
    kind: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    outputs: int = 1,
) -> Sequence[ir.Value]:
    """The outputs of a node behind all others, without types: the runtime finds those."""
    import onnx_ir as ir

    node = ir.node(kind, list(inputs), attributes=dict(attributes or {}), num_outputs=outputs, name=f"node_{name}")
    for index, output in enumerate(node.outputs):
        output.name = f"{name}_{index}" if index else name
    graph.append(node)
    return node.outputs
