"""Small graphs written down as text, and what onnxruntime makes of a graph's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from edgekit.artifact import Artifact
from edgekit.formats.known import Shapes
from edgekit.formats.shapes import infer_shapes

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'

# Gives no answer: a loop of 2^62 turns.
ENDLESS = """agraph (float[N, 2] x) => (float[N, 2] y) <int64 times = {4611686018427387904}, bool yes = {1}> {
    y = Loop (times, yes, x) <body = body (int64 i, bool go, float[N, 2] a) => (bool on, float[N, 2] b)
    { on = Identity (go) b = Identity (a) }>
}"""


def proto(text: str) -> onnx.ModelProto:
    """A graph in ONNX's own notation, with a header where it has none."""
    return onnx.parser.parse_model(text if text.lstrip().startswith("<") else f"{HEADER} {text}")


def parse(text: str) -> ir.Model:
    """The same, as onnx_ir has it."""
    return ir.serde.deserialize_model(proto(text))


def inferred(text: str, **sizes: int) -> tuple[ir.Model, Shapes]:
    """A graph and what is known of its values at these sizes."""
    model = parse(text)
    return model, infer_shapes(model, sizes)


def sizes_of(model: ir.Model, shapes: Shapes) -> dict[str, tuple[int | None, ...] | None]:
    """The shape of each value of the main graph by name."""
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    return {str(value.name): shapes.of(value).shape for value in values}


def observe(file: Path, feeds: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape that each value of the main graph has when onnxruntime runs it."""
    import onnxruntime as ort

    model = onnx.load(file)
    known = infer_shapes(ir.load(file), {})
    kinds = {str(value.name): one.kind for value, one in known.known.items()}
    outputs = {output.name for output in model.graph.output}
    for name in (name for node in model.graph.node for name in node.output if name and name not in outputs):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, int(kinds[name] or 1), None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, dict(feeds))
    return {name: np.shape(value) for name, value in zip(names, values, strict=True)}


def random_array(*shape: int, seed: int = 0) -> Any:
    """Normal noise in float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_weights(text: str, **weights: Any) -> onnx.ModelProto:
    """A graph with arrays as initializers by name."""
    model = proto(text)
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def values_of(artifact: Artifact, feeds: Sequence[Mapping[str, Any]], *names: str) -> list[Any]:
    """Values of a graph of float32 for all feeds, one behind the other, as the graph is written."""
    model = onnx.load(artifact.file())
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = [session.run(list(names), fed) for fed in feeds]
    return [np.concatenate([values[index] for values in found]) for index in range(len(names))]
