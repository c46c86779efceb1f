"""Graphs as others write them: files with free and fixed sizes, old operator sets, several inputs, and a state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from graphs import random_array
from onnx import TensorProto, helper, numpy_helper

PIXELS, CLASSES, WIDTH, SYMBOLS = 12, 4, 48, 16


def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def write(
    file: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, Any],
    *,
    opset: int = 17,
    listed: bool = False,
) -> Path:
    """Write a graph; ``listed`` lists its weights among the inputs, as exporters once did."""
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    if listed:
        inputs = inputs + [value(t.name, list(t.dims), t.data_type) for t in tensors]
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="others")
    model.ir_version = 8
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, file)
    return file


def conv_net(
    file: Path,
    *,
    batch: int | str = "batch",
    last: bool = False,
    softmax: bool = False,
    classes: int = CLASSES,
    **options: Any,
) -> Path:
    """Images of 3 channels in, scores of classes out; two convolutions, without names of nodes.

    Args:
        file: where it goes.
        batch: fixed, or the name of a free one.
        last: whether the channels come last.
        softmax: whether the scores are probabilities.
        classes: how many there are.
        options: of ``write``.
    """
    norm = {name: np.abs(random_array(32, seed=9)) + 0.5 for name in ("scale", "variance")}
    norm |= {name: random_array(32, seed=8) for name in ("shift", "mean")}
    weights = {
        "w1": random_array(16, 3, 3, 3, seed=1) / 3,
        "w2": random_array(32, 16, 3, 3, seed=2) / 6,
        "w3": random_array(32, classes, seed=3),
        **norm,
    }
    first = [helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 1, 2])] if last else []
    nodes = [
        *first,
        helper.make_node("Conv", ["turned" if last else "pixels", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["raw" if softmax else "scores"]),
    ]
    nodes += [helper.make_node("Softmax", ["raw"], ["scores"], axis=1)] if softmax else []
    shape = [batch, PIXELS, PIXELS, 3] if last else [batch, 3, PIXELS, PIXELS]
    return write(file, nodes, [value("pixels", shape)], [value("scores", [batch, classes])], weights, **options)


def two_and_two(file: Path) -> Path:
    """Two inputs, two outputs: neither is scores of classes."""
    weights = {"w": random_array(WIDTH, WIDTH, seed=4) / 7}
    nodes = [
        helper.make_node("MatMul", ["left", "w"], ["turned"]),
        helper.make_node("Add", ["turned", "right"], ["sum"]),
        helper.make_node("Unsqueeze", ["sum", "axis"], ["wide"]),
        helper.make_node("Mul", ["turned", "right"], ["product"]),
    ]
    inputs = [value(name, ["n", WIDTH]) for name in ("left", "right")]
    outputs = [value("wide", ["n", 1, WIDTH]), value("product", ["n", WIDTH])]
    return write(file, nodes, inputs, outputs, weights | {"axis": np.array([1], dtype=np.int64)})


def recurrent(file: Path, *, names: tuple[str, str] = ("state", "stateN")) -> Path:
    """A state of 48 numbers that goes round, a rate that is read and changes nothing, and one score of speech."""
    before, after = names
    weights = {"inward": random_array(SYMBOLS, WIDTH, seed=5), "round": random_array(WIDTH, WIDTH, seed=6) / 9}
    weights |= {"out": random_array(WIDTH, 1, seed=7), "zero": np.array(0.0, dtype=np.float32)}
    nodes = [
        helper.make_node("MatMul", ["sound", "inward"], ["i"]),
        helper.make_node("MatMul", [before, "round"], ["r"]),
        helper.make_node("Add", ["i", "r"], ["s"]),
        helper.make_node("Tanh", ["s"], [after]),
        helper.make_node("MatMul", [after, "out"], ["o"]),
        helper.make_node("Cast", ["sr"], ["rate"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["rate", "zero"], ["nothing"]),
        helper.make_node("Add", ["o", "nothing"], ["speech"]),
    ]
    inputs = [value("sound", ["batch", SYMBOLS]), value(before, ["batch", WIDTH]), value("sr", [], TensorProto.INT64)]
    outputs = [value("speech", ["batch", 1]), value(after, ["batch", WIDTH])]
    return write(file, nodes, inputs, outputs, weights)
