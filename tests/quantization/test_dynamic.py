"""Dynamic INT8 beside what onnxruntime's tool writes: the same nodes, weights and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graphs import proto
from onnxruntime.quantization import QuantType, quantize_dynamic
from tiny import manifest

from edgekit.artifact import Artifact
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.quantization import dynamic
from edgekit.quantization.dynamic import Widths, quantize_dynamically, round_weight
from edgekit.quantization.schemes import name_nodes, quiet, weighted_nodes

# Two products of one input, a Gemm on each side, a table, a product in float, one weight that two nodes read.
TEXT = """agraph (int64[batch, tokens] ids) => (float[batch, tokens, 40] y, float[rows, 32] z) {
    words = Gather(table, ids)
    q = MatMul(words, weight_q)
    k = MatMul(words, weight_k)
    both = Add(q, k)
    again = MatMul(both, weight_q)
    last = MatMul(again, weight_out)
    y = Relu(last)
    flat = Reshape(again, flat_shape)
    one = Gemm <transB = 1> (flat, weight_turned, bias)
    z = Gemm <alpha = 2.0> (one, weight_last)
}"""
SHAPES = {
    "table": (200, 48), "weight_q": (48, 48), "weight_k": (48, 48), "weight_out": (48, 40), "weight_turned": (48, 48),
    "weight_last": (48, 48), "bias": (48,),
}  # fmt: skip
WIDTHS = [
    Widths("s8", per_channel=True, reduced=False),
    Widths("s8", per_channel=True, reduced=True),
    Widths("s8", per_channel=False, reduced=False),
    Widths("u8", per_channel=True, reduced=False),
    Widths("u8", per_channel=True, reduced=True),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model = proto(TEXT.replace("float[rows, 32] z", "float[rows, 48] z"))
    random = np.random.default_rng(1)
    for name, shape in SHAPES.items():
        values = random.normal(size=shape).astype(np.float32)
        values[..., 3] = 0  # a column of nothing
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 48]), "flat_shape"))
    path = tmp_path / "float.onnx"
    onnx.save(model, path)
    graph = load_graph(path)
    weighted_nodes(graph, embeddings=True)  # which names them
    for index, node in enumerate(graph.graph):
        node.name = node.name or f"node_{index}"
    save_graph(graph, path)
    return path


def chosen(file: Path) -> list[str]:
    found = [node.name for node in weighted_nodes(load_graph(file), embeddings=True)]
    assert len(found) == 7
    return [name for name in found if name != "MatMul_5"]  # the last product stays in float


def theirs(file: Path, widths: Widths, out: Path) -> Path:
    names = chosen(file)
    with quiet():
        quantize_dynamic(
            file, out, op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            nodes_to_quantize=[*names, *(f"{name}_MatMul" for name in names)], per_channel=widths.per_channel,
            reduce_range=widths.reduced, weight_type=QuantType.QInt8 if widths.kind == "s8" else QuantType.QUInt8,
            extra_options={"DefaultTensorType": 1, "MatMulConstBOnly": True},
        )  # fmt: skip
    return out


def mine(file: Path, widths: Widths, out: Path) -> Path:
    model = load_graph(file)
    quantize_dynamically(model, chosen(file), widths)
    save_graph(model, out)
    return out


def run(file: Path) -> list[Any]:
    ids = np.random.default_rng(2).integers(0, 200, (2, 7))
    return list(ort.InferenceSession(file).run(None, {"ids": ids}))


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_the_graph_is_that_of_onnxruntimes_tool(file: Path, widths: Widths, tmp_path: Path) -> None:
    ours, reference = mine(file, widths, tmp_path / "mine.onnx"), theirs(file, widths, tmp_path / "theirs.onnx")
    onnx.checker.check_model(ours)
    models = [onnx.load(path) for path in (ours, reference)]
    nodes = [sorted((node.op_type, node.name) for node in model.graph.node) for model in models]
    assert nodes[0] == nodes[1]
    weights = [{w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer} for model in models]
    assert weights[0].keys() == weights[1].keys()
    for name, values in weights[1].items():
        assert weights[0][name].shape == values.shape, name
        np.testing.assert_array_equal(weights[0][name], values, err_msg=name)
    for answer, expected in zip(run(ours), run(reference), strict=True):
        np.testing.assert_array_equal(answer, expected)


def test_an_input_is_quantized_once_for_all_products_that_read_it(file: Path, tmp_path: Path) -> None:
    model = onnx.load(mine(file, WIDTHS[0], tmp_path / "mine.onnx"))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("DynamicQuantizeLinear") == 2  # of the sum, and of the Gemm's input
    assert kinds.count("DequantizeLinear") == 0  # both readers of the table take its integers
    assert kinds.count("MatMulInteger") == 4
    assert (kinds.count("MatMul"), kinds.count("Gemm")) == (1, 1)  # not chosen, and scaled


def test_chosen_layers_keep_all_their_bits(file: Path, tmp_path: Path) -> None:
    model = load_graph(file)
    first = next(node.name for node in weighted_nodes(model, embeddings=False))
    quantize_dynamically(model, chosen(file), WIDTHS[1]._replace(whole=(first,)))
    largest = {
        name: int(np.abs(value.const_value.numpy().astype(int)).max())
        for name, value in model.graph.initializers.items()
        if str(name).endswith("_quantized") and value.const_value is not None
    }
    assert (largest["weight_q_quantized"], largest["weight_k_quantized"]) == (127, 64)


@pytest.mark.parametrize("widths", WIDTHS)
def test_weights_are_rounded_in_blocks_as_they_are_at_once(widths: Widths, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).normal(size=(101, 24)).astype(np.float32)
    options = {"per_channel": widths.per_channel, "reduced": widths.reduced}
    whole = round_weight(weight, widths.kind, **options)
    monkeypatch.setattr(dynamic, "BLOCK", 7 * 24 + 5)  # seven rows
    for mine, theirs in zip(round_weight(weight, widths.kind, **options), whole, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_weights_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="weights of float16 cannot be scaled dynamically, which takes float32"):
        round_weight(np.ones((4, 4), np.float16), "s8", per_channel=True)


TWICE = """agraph (float[batch, 64] x, int64[batch, tokens] ids) => (float[batch, 48] y, float[batch, tokens, 48] z) {
    y = MatMul(x, table)
    z = Gather(table, ids)
}"""
# One weight in two layers.
TIED = """agraph (float[batch, 48] x) => (float[batch, 48] z) {
    y = MatMul(x, table)
    z = MatMul(y, table)
}"""


@pytest.mark.parametrize(
    ("text", "rows", "widths", "largest"),
    [
        (TWICE, 64, WIDTHS[0], [127, 255]),
        (TWICE, 64, WIDTHS[3], [255, 255]),
        (TIED, 48, WIDTHS[1]._replace(whole=("MatMul_0",)), [64, 127]),
    ],
)
def test_a_weight_that_is_rounded_in_two_ways_is_there_twice(
    text: str, rows: int, widths: Widths, largest: list[int], tmp_path: Path
) -> None:
    proto_model, random = proto(text), np.random.default_rng(3)
    table = random.normal(size=(rows, 48)).astype(np.float32)
    proto_model.graph.initializer.append(onnx.numpy_helper.from_array(table, "table"))
    onnx.save(proto_model, tmp_path / "float.onnx")
    model = load_graph(tmp_path / "float.onnx")
    quantize_dynamically(model, [node.name for node in weighted_nodes(model, embeddings=True)], widths)
    save_graph(model, tmp_path / "mine.onnx")
    held = [w.const_value for name, w in model.graph.initializers.items() if str(name).endswith("_quantized")]
    assert sorted(int(np.abs(one.numpy().astype(int)).max()) for one in held if one is not None) == largest
    feeds = {"x": random.normal(size=(2, rows)).astype(np.float32), "ids": random.integers(0, rows, (2, 5))}
    answers = []
    for file in ("float.onnx", "mine.onnx"):
        session = ort.InferenceSession(tmp_path / file)
        answers.append(session.run(None, {given.name: feeds[given.name] for given in session.get_inputs()}))
    for mine, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=0.03 * float(np.abs(theirs).max()))


CLASH = """agraph (float[batch, 64] x) => (float[batch, 48] y, float[batch, 48] z) {
    a = Gemm(x, first)
    y = MatMul(a, second)
    z = Relu(y)
}"""


@pytest.mark.parametrize(
    "names", [("fc", "fc_MatMul", "other"), ("fc", "", "MatMul_1"), ("fc", "fc_MatMul", "MatMul_1")]
)
def test_no_name_is_that_of_another_or_of_what_a_gemm_becomes(names: tuple[str, str, str], tmp_path: Path) -> None:
    model = proto(CLASH)
    random = np.random.default_rng(3)
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    for name, shape in (("first", (64, 48)), ("second", (48, 48))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=shape).astype("f4"), name))
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "named").mkdir()
    named = name_nodes(Artifact(tmp_path, manifest()), tmp_path / "named")
    nodes = [node.name for node in weighted_nodes(load_graph(named.file()), embeddings=True)]
    assert len({*nodes, "fc_MatMul"}) == 3
    for chosen in (nodes, nodes[:1]):
        graph = load_graph(named.file())
        quantize_dynamically(graph, chosen, WIDTHS[0])
        save_graph(graph, tmp_path / "int8.onnx")
        assert [node.op_type for node in graph.graph].count("MatMulInteger") == len(chosen)
        session = ort.InferenceSession(tmp_path / "int8.onnx")  # which refuses two nodes of one name
        assert session.run(None, {"x": np.ones((2, 64), np.float32)})[0].shape == (2, 48)
