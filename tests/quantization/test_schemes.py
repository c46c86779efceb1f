from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from graphs import parse
from tiny import LAYERS, Exported, batches

from edgekit.errors import UsageError
from edgekit.formats.graph import constant, match_linear
from edgekit.formats.onnx import count_operators, load_graph, precision_of
from edgekit.quantization.schemes import (
    FEWEST_ELEMENTS,
    Scheme,
    passing_nodes,
    quantize_graph,
    resolve_scheme,
    weighted_nodes,
)
from edgekit.runtimes.ort import open_session
from edgekit.target import IntegerScheme, Target, load_target

DYNAMIC = Scheme(
    method="dynamic", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True
)


def target(**int8: Any) -> Target:
    return load_target("x86-64").model_copy(update={"int8": IntegerScheme(**int8)})


@pytest.mark.parametrize(
    ("method", "scheme", "wish", "expected"),
    [
        ("auto", "auto", {}, ("dynamic", "u8", "s8", False)),
        ("auto", "auto", {"activations": "s8"}, ("static", "s8", "s8", False)),
        ("auto", "auto", {"reduce_range": True}, ("dynamic", "u8", "s8", True)),
        ("auto", "u8u8", {"reduce_range": True}, ("dynamic", "u8", "u8", False)),
        ("auto", "s8s8", {"reduce_range": True}, ("static", "s8", "s8", True)),
        ("auto", "u8s8", {"activations": "s8", "weights": "u8"}, ("dynamic", "u8", "s8", False)),
        ("static", "auto", {}, ("static", "u8", "s8", False)),
        ("static", "s8s8", {}, ("static", "s8", "s8", False)),
        ("fp16", "auto", {}, ("fp16", "u8", "s8", False)),
    ],
)
def test_the_scheme_is_the_targets_unless_the_user_says_otherwise(
    method: Any, scheme: Any, wish: dict[str, Any], expected: tuple[str, str, str, bool]
) -> None:
    found = resolve_scheme(method, scheme, "int8", target(**wish))
    assert (found.method, found.activations, found.weights, found.reduce_range) == expected
    assert (found.per_channel, found.embeddings) == (True, True)


def test_layers_are_found_by_types_and_shapes_of_their_weights_which_are_not_read() -> None:
    model = parse("""agraph (int64[n, 4] ids) => (float[n, 4, 64] y) {
        words = Gather (table, ids)
        product = MatMul (words, weight)
        y = Add (product, bias)
    }""")

    def read() -> ir.TensorProtocol:
        raise AssertionError("a weight was read")

    for name, shape in {"table": (100, 64), "weight": (64, 64), "bias": (64,)}.items():
        tensor = ir.LazyTensor(read, ir.DataType.FLOAT, ir.Shape(shape), name=name)
        value = next(one for node in model.graph for one in node.inputs if one is not None and one.name == name)
        value.const_value = tensor
        model.graph.register_initializer(value)
    found = weighted_nodes(model, embeddings=True)
    assert [(node.kind, node.elements, node.narrows, node.packs) for node in found] == [
        ("Gather", 6400, True, False),
        ("MatMul", 4096, False, True),
    ]
    linear = match_linear(model.graph.outputs[0])
    assert linear is not None
    assert (linear.width, linear.x.name) == (64, "words")


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("embeddings", "quantized"), [("int8", True), ("int4", True), ("float", False)])
def test_channels_are_the_targets_and_embeddings_the_users(per_channel: bool, embeddings: Any, quantized: bool) -> None:
    found = resolve_scheme("auto", "auto", embeddings, target(per_channel=per_channel))
    assert (found.per_channel, found.embeddings, found.int4) == (per_channel, quantized, ())


@pytest.mark.parametrize(("scheme", "wish"), [("s8s8", {}), ("auto", {"activations": "s8"})])
def test_signed_activations_cannot_be_scaled_as_they_come(scheme: Any, wish: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_scheme("dynamic", scheme, "int8", target(**wish))
    assert caught.value.what == f"quantize.method=dynamic cannot go with quantize.scheme={scheme}"
    assert caught.value.why == "onnxruntime's dynamic quantization scales activations as u8"
    assert "quantize.method=static" in caught.value.hint


def test_the_weighted_nodes_are_products_and_tables(exported: Exported) -> None:
    model = load_graph(exported["bert"][1].file())
    nodes = weighted_nodes(model, embeddings=True)
    kinds = [node.kind for node in nodes]
    assert kinds.count("MatMul") == 6 * LAYERS
    # The table of words (60 x 32) and of positions (40 x 32); that of segments (2 x 32) is small.
    assert sorted(node.elements for node in nodes if node.kind == "Gather") == [40 * 32, 60 * 32]
    # The pooler (32 x 32); the classifier (2 x 32) is small.
    assert [node.elements for node in nodes if node.kind == "Gemm"] == [32 * 32]
    assert min(node.elements for node in nodes) >= FEWEST_ELEMENTS
    assert [node.kind for node in weighted_nodes(model, embeddings=False)] == [
        kind for kind in kinds if kind != "Gather"
    ]


def test_every_node_gets_a_name_of_its_own(exported: Exported) -> None:
    model = load_graph(exported["bert"][1].file())
    for node in model.graph:
        node.name = None
    weighted_nodes(model, embeddings=True)
    names = [node.name for node in model.graph]
    assert None not in names
    assert len(set(names)) == len(names)


def test_products_of_activations_are_not_weighted(exported: Exported) -> None:
    model = load_graph(exported["bert"][1].file())
    found = {node.name for node in weighted_nodes(model, embeddings=True)}
    for node in model.graph:
        if node.op_type == "MatMul" and constant(node.inputs[1]) is None:
            assert node.name not in found


def quantized(exported: Exported, family: str, scheme: Scheme, file: Path, count: int | None = None) -> ir.Model:
    """The graph with its first ``count`` weighted nodes quantized, all of them where it is None."""
    artifact = exported[family][1]
    named = load_graph(artifact.file())
    nodes = [node.name for node in weighted_nodes(named, embeddings=scheme.embeddings)][:count]
    quantize_graph(artifact.file(), file, scheme, nodes, None)
    return load_graph(file)


def difference(exported: Exported, family: str, file: Path) -> float:
    """The largest difference of the logits, in units of the largest logit."""
    task, artifact = exported[family]
    worst, largest = 0.0, 0.0
    before, after = open_session(artifact.file(), 1), open_session(file, 1)
    for batch in batches(task, 16):
        feeds = {name: values for name, values in batch.items() if name != "labels"}
        mine, theirs = after.run(None, feeds)[0], before.run(None, feeds)[0]
        assert mine.dtype == np.float32
        worst, largest = max(worst, np.abs(mine - theirs).max()), max(largest, np.abs(theirs).max())
    return worst / largest


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_dynamic_int8(exported: Exported, tmp_path: Path, family: str) -> None:
    model = quantized(exported, family, DYNAMIC, tmp_path / "model.onnx")
    operators = count_operators(model)
    assert operators["MatMulInteger"] >= 6 * LAYERS
    assert operators["DynamicQuantizeLinear"] >= 1
    assert precision_of(model) == "int8"
    assert (tmp_path / "model.onnx").stat().st_size < 0.65 * exported[family][1].size_bytes
    assert difference(exported, family, tmp_path / "model.onnx") < 0.2


@pytest.mark.parametrize(("weights", "dtype"), [("s8", np.int8), ("u8", np.uint8)])
@pytest.mark.parametrize("reduce_range", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_are_of_the_schemes_type_and_range(
    exported: Exported, tmp_path: Path, weights: Any, dtype: Any, reduce_range: bool, per_channel: bool
) -> None:
    scheme = DYNAMIC.model_copy(
        update={"weights": weights, "reduce_range": reduce_range, "per_channel": per_channel, "embeddings": False}
    )
    model = quantized(exported, "bert", scheme, tmp_path / "model.onnx")
    for node in model.graph:
        if node.op_type == "MatMulInteger":
            weight = constant(node.inputs[1])
            assert weight is not None
            assert weight.dtype == dtype
            span = int(weight.max()) - int(weight.min())
            assert span <= (128 if reduce_range else 255)
            assert span > (80 if reduce_range else 160)
            if reduce_range and weights == "s8":  # two products of 8 bits by these fit into 16
                assert 2 * 255 * int(np.abs(weight.astype(int)).max()) < 2**15
    scales = [v for name, v in model.graph.initializers.items() if name.endswith("_scale") and "q_" not in name]
    assert any((constant(value) is not None and constant(value).size > 1) == per_channel for value in scales)  # type: ignore[union-attr]


def test_embeddings_are_quantized_when_asked_for(exported: Exported, tmp_path: Path) -> None:
    whole = quantized(exported, "bert", DYNAMIC, tmp_path / "a.onnx")
    without = quantized(exported, "bert", DYNAMIC.model_copy(update={"embeddings": False}), tmp_path / "b.onnx")

    def tables(model: ir.Model) -> list[Any]:
        arrays = [constant(node.inputs[0]) for node in model.graph if node.op_type == "Gather"]
        return [array.dtype for array in arrays if array is not None and array.ndim == 2 and array.size >= 1024]

    assert [str(dtype) for dtype in tables(without)] == ["float32", "float32"]
    assert all(str(dtype) in ("int8", "uint8") for dtype in tables(whole))
    assert len(tables(whole)) == 2


def test_nodes_that_are_not_chosen_stay_float(exported: Exported, tmp_path: Path) -> None:
    scheme = DYNAMIC.model_copy(update={"embeddings": False})
    model = quantized(exported, "bert", scheme, tmp_path / "model.onnx", count=2)
    before, after = count_operators(load_graph(exported["bert"][1].file())), count_operators(model)
    assert after["MatMulInteger"] == 2
    # onnxruntime's tool writes Gemm as MatMul and Add.
    assert after["MatMul"] + after.get("Gemm", 0) == before["MatMul"] + before["Gemm"] - 2


def test_without_nodes_the_graph_is_as_it_was(exported: Exported, tmp_path: Path) -> None:
    model = quantized(exported, "bert", DYNAMIC, tmp_path / "model.onnx", count=0)
    assert count_operators(model) == count_operators(load_graph(exported["bert"][1].file()))
    assert difference(exported, "bert", tmp_path / "model.onnx") == 0.0


def test_auto_is_fp16_where_the_target_takes_no_int8() -> None:
    gpu = target().model_copy(update={"precisions": ("fp32", "fp16")})
    assert resolve_scheme("auto", "auto", "int8", gpu).method == "fp16"
    assert resolve_scheme("auto", "s8s8", "int8", gpu).method == "static"  # asked for; refused with the whole chain
    neither = gpu.model_copy(update={"precisions": ("fp32",)})
    assert resolve_scheme("auto", "auto", "int8", neither).method == "dynamic"


def test_the_same_graph_gives_the_same_bytes(exported: Exported, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        quantized(exported, "bert", DYNAMIC, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (["c1", "c2", "c3"], ["r1", "add", "r2", "pool", "cat"]),
        (["c1"], ["r1", "add", "r2", "pool"]),
        (["c2"], ["r1", "add", "r2", "pool"]),
        (["c3"], ["cat"]),
        ([], []),
    ],
)
def test_what_lies_between_convolutions_is_quantized_next_to_one_that_is(
    chosen: list[str], expected: list[str]
) -> None:
    model = parse(
        """g (float[1,3,8,8] x, float[3,3,1,1] w) => (float y) {
            a = Conv(x, w)
            b = Relu(a)
            c = Conv(b, w)
            d = Add(b, c)
            e = Relu(d)
            f = MaxPool<kernel_shape=[2,2]>(e)
            g = Sigmoid(f)
            h = Conv(g, w)
            i = Concat<axis=1>(h, h)
            j = Sigmoid(i)
            y = Relu(j)
        }"""
    )
    names = ("c1", "r1", "c2", "add", "r2", "pool", "s1", "c3", "cat", "s2", "alone")
    for node, name in zip(model.graph, names, strict=True):
        node.name = name
    assert passing_nodes(model, chosen) == expected
