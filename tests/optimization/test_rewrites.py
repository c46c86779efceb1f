"""Each rewrite leaves the answers as they are, on graphs of real models and on small ones made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import HEADS, LAYERS, PRUNED, Exported, batches

from edgekit.artifact import Artifact
from edgekit.formats.graph import tidy
from edgekit.formats.onnx import count_operators, load_graph, save_graph
from edgekit.optimization import REWRITES
from edgekit.optimization.attention import read_unsplit
from edgekit.optimization.packing import join_products
from edgekit.optimization.residual import keep_sums_apart
from edgekit.optimization.tokens import keep_first_token
from edgekit.runtimes.ort import fuse, open_session
from edgekit.tasks.base import Task

FAMILIES = ("bert", "distilbert", "vit", "pruned", "one head")


def answers(session: ort.InferenceSession, task: Task, size: int) -> Any:
    """Logits of samples of many lengths, padded to the longest of each batch."""
    found = []
    for batch in batches(task, 24, size):
        found.append(session.run(None, {name: values for name, values in batch.items() if name != "labels"})[0])
    return np.concatenate(found)


def rewritten(artifact: Artifact, names: list[str], file: Path) -> tuple[dict[str, int], ir.Model]:
    model = load_graph(artifact.file())
    counts = {name: REWRITES[name].apply(model.graph) for name in names}
    tidy(model)
    save_graph(model, file)
    return counts, load_graph(file)


@pytest.mark.parametrize("optimized", [True, False])
@pytest.mark.parametrize("names", [["first_token"], ["attention"], ["packed"], ["residual"], list(REWRITES)])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_answers_stay(exported: Exported, tmp_path: Path, family: str, names: list[str], optimized: bool) -> None:
    task, artifact = exported[family]
    counts, _ = rewritten(artifact, names, tmp_path / "model.onnx")
    assert all(counts.values())
    before = open_session(artifact.file(), 1)
    after = open_session(tmp_path / "model.onnx", 1, optimized=optimized)
    for size in (1, 8):
        expected = answers(before, task, size)
        np.testing.assert_allclose(answers(after, task, size), expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_every_rewrite_is_tried_by_these_tests() -> None:
    assert list(REWRITES) == ["first_token", "attention", "packed", "residual"]
    assert {name: rewrite.name for name, rewrite in REWRITES.items()} == {name: name for name in REWRITES}


@pytest.mark.parametrize("family", FAMILIES)
def test_residual_sums_are_not_fused_with_their_normalization(exported: Exported, tmp_path: Path, family: str) -> None:
    _, artifact = exported[family]
    fused = {}
    for names in ([], ["residual"]):
        counts, _ = rewritten(artifact, names, tmp_path / "model.onnx")
        fuse(tmp_path / "model.onnx", tmp_path / "fused.onnx")
        fused[len(names)] = count_operators(load_graph(tmp_path / "fused.onnx"))
    skips = "com.microsoft.SkipLayerNormalization"
    assert 0 < fused[0][skips] <= counts["residual"] == fused[1]["Sum"]
    assert skips not in fused[1]
    assert fused[1]["LayerNormalization"] == fused[0].get("LayerNormalization", 0) + fused[0][skips]


def test_a_bias_in_front_of_a_normalization_is_no_residual() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "bias"], ["sum"]),
            helper.make_node("LayerNormalization", ["sum", "scale"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.ones(4, np.float32), name) for name in ("bias", "scale")],
    )
    assert keep_sums_apart(ir.from_proto(helper.make_model(graph)).graph) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_reads_what_the_products_give(exported: Exported, tmp_path: Path, family: str) -> None:
    _, artifact = exported[family]
    before = count_operators(load_graph(artifact.file()))
    counts, model = rewritten(artifact, ["attention"], tmp_path / "model.onnx")
    after = count_operators(model)
    assert counts == {"attention": LAYERS}
    assert after["Attention"] == LAYERS
    assert after["MatMul"] == before["MatMul"]
    assert after.get("Transpose", 0) <= before["Transpose"] - 4 * LAYERS
    assert sum(after.values()) < sum(before.values())
    blocks = [node for node in model.graph if node.op_type == "Attention"]
    heads = [len(kept) for kept in PRUNED.get(family, [range(HEADS)] * LAYERS)]
    assert [[node.attributes[f"{side}_num_heads"].as_int() for node in blocks] for side in ("q", "kv")] == [heads] * 2


def test_a_mask_is_turned_into_numbers_once(exported: Exported, tmp_path: Path) -> None:
    _, artifact = exported["bert"]
    _, model = rewritten(artifact, ["attention"], tmp_path / "model.onnx")
    (made,) = [node for node in model.graph if node.op_type == "Where"]
    masks = {node.inputs[3] for node in model.graph if node.op_type == "Attention"}
    (spread,) = masks
    assert spread is not None
    assert spread.producer().op_type == "Expand"  # type: ignore[union-attr]
    assert spread.producer().inputs[0] is made.outputs[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("family", FAMILIES)
def test_products_of_one_input_become_one(exported: Exported, tmp_path: Path, family: str) -> None:
    _, artifact = exported[family]
    before = count_operators(load_graph(artifact.file()))
    counts, model = rewritten(artifact, ["packed"], tmp_path / "model.onnx")
    after = count_operators(model)
    assert counts == {"packed": LAYERS}
    assert before["MatMul"] - after["MatMul"] == 2 * LAYERS
    assert after["Split"] == LAYERS


@pytest.mark.parametrize("family", ["bert", "vit", "pruned", "one head"])
def test_the_last_layer_is_computed_for_one_token(exported: Exported, tmp_path: Path, family: str) -> None:
    task, artifact = exported[family]
    counts, model = rewritten(artifact, ["first_token"], tmp_path / "model.onnx")
    assert counts["first_token"] >= 10
    inferred = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "model.onnx"), data_prop=True)
    assert count_operators(model).get("Slice", 0) > count_operators(load_graph(artifact.file())).get("Slice", 0)
    # The products of the last layer, from behind: down, up, o and q see one token; k, v and all before see every one.
    (batch,) = batches(task, 8)
    feeds = {name: values for name, values in batch.items() if name != "labels"}
    tokens = [values.shape[1] for values in products(inferred, feeds)]
    whole = feeds["input_ids"].shape[1] if "input_ids" in feeds else (8 // 4) ** 2 + 1
    assert tokens.count(1) == 4
    assert tokens.count(whole) == 6 * (LAYERS - 1) + 2


def products(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """The values of every product of three dimensions with a constant matrix."""
    weights = {item.name for item in model.graph.initializer}
    names = [node.output[0] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [values for values in session.run(None, feeds) if values.ndim == 3]


@pytest.mark.parametrize("name", list(REWRITES))
def test_a_second_time_changes_nothing(exported: Exported, tmp_path: Path, name: str) -> None:
    _, artifact = exported["bert"]
    rewritten(artifact, [name], tmp_path / "model.onnx")
    assert REWRITES[name].apply(load_graph(tmp_path / "model.onnx").graph) == 0


# Graphs by hand: one attention block of 2 heads of width 4 on [batch, tokens, 8].
WIDTH, TWO = 8, 2


class Block:
    """Builds a graph of one attention block, and of what a test changes in it."""

    def __init__(self, seed: int = 0, kind: type = np.float32) -> None:
        self.random, self.kind = np.random.default_rng(seed), kind
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"node_{output}", **attributes))
        return output

    def linear(self, x: str, name: str, width: int = WIDTH) -> str:
        weight = self.constant(f"{name}_w", self.random.normal(size=(WIDTH, width)).astype(self.kind))
        bias = self.constant(f"{name}_b", self.random.normal(size=width).astype(self.kind))
        return self.node("Add", [self.node("MatMul", [x, weight], f"{name}_mm"), bias], name)

    def heads(self, x: str, name: str, width: int = WIDTH, heads: int = TWO) -> str:
        shape = self.constant(f"{name}_shape", np.array([0, 0, heads, WIDTH // TWO], np.int64))
        split = self.node("Reshape", [self.linear(x, name, width), shape], f"{name}_4d")
        return self.node("Transpose", [split], f"{name}_heads", perm=[0, 2, 1, 3])

    def attention(self, x: str = "x", mask: str = "", v: str = "x", groups: int = TWO, **attributes: Any) -> str:
        shared = WIDTH // TWO * groups
        sides = [self.heads(x, "q"), self.heads(x, "k", shared, groups), self.heads(v, "v", shared, groups)]
        mixed = self.node("Attention", [*sides, *([mask] if mask else [])], "mixed", **attributes)
        joined = self.node("Transpose", [mixed], "joined", perm=[0, 2, 1, 3])
        shape = self.constant("joined_shape", np.array([0, 0, WIDTH], np.int64))
        return self.node("Reshape", [joined, shape], "attended")

    def first(self, x: str, index: int = 0) -> str:
        return self.node("Gather", [x, self.constant("index", np.array(index, np.int64))], "y", axis=1)

    def model(self, output: str, inputs: dict[str, tuple[int, list[int | str]]], rank: int) -> onnx.ModelProto:
        free: list[list[Any]] = [[None], ["batch", WIDTH], ["batch", "tokens", WIDTH]]  # by rank
        number = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        graph = helper.make_graph(
            self.nodes,
            "block",
            [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
            [helper.make_tensor_value_info(output, number, free[rank - 1])],
            self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
        onnx.checker.check_model(made)
        return onnx.shape_inference.infer_shapes(made, data_prop=True)


X: dict[str, tuple[int, list[int | str]]] = {"x": (TensorProto.FLOAT, ["batch", "tokens", WIDTH])}
FEEDS = {"x": np.random.default_rng(1).normal(size=(2, 5, WIDTH)).astype(np.float32)}


def check(
    made: onnx.ModelProto,
    rewrite: Callable[[ir.Graph], int],
    feeds: dict[str, Any],
    tmp_path: Path,
    *,
    atol: float = 1e-5,
) -> int:
    """How often a rewrite applies; fails when the answers change."""
    model = ir.serde.deserialize_model(made)
    count = rewrite(model.graph)
    tidy(model)
    save_graph(model, tmp_path / "changed.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    before = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    after = ort.InferenceSession(str(tmp_path / "changed.onnx"), options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(after.run(None, feeds)[0], before.run(None, feeds)[0], atol=atol)
    return count


def test_a_block_by_hand_is_read_unsplit(tmp_path: Path) -> None:
    block = Block()
    assert check(block.model(block.attention(), X, 3), read_unsplit, FEEDS, tmp_path) == 1


@pytest.mark.parametrize("attributes", [{"scale": 0.9}, {"is_causal": 1}, {"softcap": 0.5}])
def test_what_an_attention_is_told_is_kept(tmp_path: Path, attributes: dict[str, Any]) -> None:
    block = Block()
    assert check(block.model(block.attention(**attributes), X, 3), read_unsplit, FEEDS, tmp_path) == 1


def padding(block: Block, *, cast: bool = True) -> str:
    axes = block.constant("mask_axes", np.array([1, 2], np.int64))
    mask = block.node("Cast", ["mask"], "mask_bool", to=TensorProto.BOOL) if cast else "mask"
    spread = block.constant("mask_shape", np.array([2, 1, 5, 5], np.int64))
    return block.node("Expand", [block.node("Unsqueeze", [mask, axes], "mask_4d"), spread], "mask_spread")


def test_a_padding_mask_by_hand_is_turned_into_numbers(tmp_path: Path) -> None:
    block = Block()
    made = block.model(block.attention(mask=padding(block)), X | {"mask": (TensorProto.INT64, ["batch", "tokens"])}, 3)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    assert check(made, read_unsplit, FEEDS | {"mask": mask}, tmp_path) == 1
    assert count_operators(load_graph(tmp_path / "changed.onnx"))["Where"] == 1


def test_a_mask_of_queries_and_keys_is_turned_into_numbers(tmp_path: Path) -> None:
    block = Block()
    axes = block.constant("mask_axes", np.array([0, 1], np.int64))
    mask = block.node("Unsqueeze", ["mask", axes], "mask_4d")
    made = block.model(block.attention(mask=mask), X | {"mask": (TensorProto.BOOL, ["queries", "keys"])}, 3)
    assert check(made, read_unsplit, FEEDS | {"mask": np.tril(np.ones((5, 5), bool))}, tmp_path) == 1


def test_a_mask_that_is_added_stays_what_it_is(tmp_path: Path) -> None:
    block = Block()
    made = block.model(
        block.attention(mask=padding(block, cast=False)), X | {"mask": (TensorProto.FLOAT, ["batch", "tokens"])}, 3
    )
    mask = np.array([[0, 0, 0, 0, 0], [0, 0, -2, -2, -9]], np.float32)
    assert check(made, read_unsplit, FEEDS | {"mask": mask}, tmp_path) == 1
    assert "Where" not in count_operators(load_graph(tmp_path / "changed.onnx"))


def test_heads_that_share_keys_and_values_are_left_alone(tmp_path: Path) -> None:
    block = Block()
    assert check(block.model(block.attention(groups=1), X, 3), read_unsplit, FEEDS, tmp_path) == 0


def test_a_result_that_is_reshaped_to_something_else_is_left_alone(tmp_path: Path) -> None:
    block = Block()
    block.attention()
    shape = block.constant("other_shape", np.array([0, -1], np.int64))
    flat = block.node("Reshape", ["joined", shape], "flat")
    block.nodes = [node for node in block.nodes if node.output[0] != "attended"]
    assert check(block.model(flat, X, 2), read_unsplit, FEEDS, tmp_path) == 0


def test_values_of_another_source_are_not_packed_with_the_rest(tmp_path: Path) -> None:
    block = Block()  # as where positions are added to queries and keys alone
    position = block.constant("position", block.random.normal(size=WIDTH).astype(np.float32))
    placed = block.node("Add", ["x", position], "placed")
    assert check(block.model(block.attention(x=placed, v="x"), X, 3), join_products, FEEDS, tmp_path) == 1
    assert count_operators(load_graph(tmp_path / "changed.onnx"))["MatMul"] == 2


def test_products_are_packed_with_their_biases_or_without(tmp_path: Path) -> None:
    block = Block()
    weight = block.constant("plain_w", block.random.normal(size=(WIDTH, 3)).astype(np.float32))
    plain = block.node("MatMul", ["x", weight], "plain")
    both = block.node("Concat", [block.linear("x", "biased"), plain], "both", axis=2)
    wide = block.constant("wide_w", block.random.normal(size=(WIDTH + 3, WIDTH)).astype(np.float32))
    assert check(block.model(block.node("MatMul", [both, wide], "y"), X, 3), join_products, FEEDS, tmp_path) == 1
    assert count_operators(load_graph(tmp_path / "changed.onnx"))["MatMul"] == 2


def test_a_product_that_is_read_twice_is_packed_without_its_bias(tmp_path: Path) -> None:
    block = Block()
    block.linear("x", "first")
    summed = block.node("Add", [block.node("Add", ["first", "first_mm"], "twice"), block.linear("x", "second")], "y")
    assert check(block.model(summed, X, 3), join_products, FEEDS, tmp_path) == 1


def encoder(index: int | None, **attention: Any) -> onnx.ModelProto:
    """Attention, a residual sum and a product behind it, of which one token is read, or all."""
    block = Block()
    summed = block.node("Add", ["x", block.linear(block.attention(**attention), "o")], "summed")
    last = block.linear(summed, "up")
    return block.model(last, X, 3) if index is None else block.model(block.first(last, index), X, 2)


def test_a_graph_that_reads_the_first_token_computes_one(tmp_path: Path) -> None:
    assert check(encoder(0), keep_first_token, FEEDS, tmp_path) >= 8


def test_causal_attention_keeps_its_answer_for_one_token(tmp_path: Path) -> None:
    assert check(encoder(0, is_causal=1), keep_first_token, FEEDS, tmp_path) >= 8


@pytest.mark.parametrize("index", [None, 1, -1])
def test_a_graph_that_reads_other_tokens_is_left_alone(tmp_path: Path, index: int | None) -> None:
    assert check(encoder(index), keep_first_token, FEEDS, tmp_path) == 0


def test_a_graph_that_also_reads_other_tokens_is_left_alone(tmp_path: Path) -> None:
    block = Block()
    last = block.linear(block.node("Add", ["x", block.linear(block.attention(), "o")], "summed"), "up")
    first = block.first(last)
    axes = block.constant("mean_axes", np.array([1], np.int64))
    mean = block.node("ReduceMean", [last, axes], "mean", keepdims=0)
    made = block.model(block.node("Add", [first, mean], "both"), X, 2)
    assert check(made, keep_first_token, FEEDS, tmp_path) == 0


def test_several_first_tokens_are_read_as_one(tmp_path: Path) -> None:
    block = Block()
    last = block.linear(block.node("Add", ["x", block.linear(block.attention(), "o")], "summed"), "up")
    first = block.first(last)
    second = block.node("Gather", [last, "index"], "again", axis=1)
    made = block.model(block.node("Add", [first, second], "both"), X, 2)
    assert check(made, keep_first_token, FEEDS, tmp_path) >= 8


def test_a_mask_of_queries_and_keys_is_sliced_where_its_queries_are(tmp_path: Path) -> None:
    block = Block()
    triangle = block.constant("triangle", np.tril(np.ones((5, 5), bool)))  # [queries, keys]
    summed = block.node("Add", ["x", block.linear(block.attention(mask=triangle), "o")], "summed")
    made = block.model(block.first(block.linear(summed, "up")), X, 2)
    assert check(made, keep_first_token, FEEDS, tmp_path) >= 8


def test_a_table_with_a_row_for_each_token_is_not_taken_for_a_bias(tmp_path: Path) -> None:
    block = Block()
    table = block.constant("table", block.random.normal(size=(5, WIDTH)).astype(np.float32))
    summed = block.node("Add", [block.linear("x", "o"), table], "summed")
    made = block.model(block.first(block.linear(summed, "up")), X, 2)
    assert check(made, keep_first_token, FEEDS, tmp_path) == 2


SAMPLES = {"x": np.random.default_rng(2).normal(size=(3, WIDTH)).astype(np.float32)}


@pytest.mark.parametrize("normalised", [False, True])
def test_the_first_column_of_a_product_is_no_token(tmp_path: Path, normalised: bool) -> None:
    block = Block()
    weight = block.constant("w", block.random.normal(size=(WIDTH, 3)).astype(np.float32))
    last = block.node("MatMul", ["x", weight], "product")
    if normalised:
        last = block.node("LayerNormalization", [last, block.constant("scale", np.ones(3, np.float32))], "normal")
    made = block.model(block.first(last), {"x": (TensorProto.FLOAT, ["batch", WIDTH])}, 1)
    assert check(made, keep_first_token, SAMPLES, tmp_path) == 0


def test_heads_of_no_known_width_are_sliced_behind_their_reshape(tmp_path: Path) -> None:
    block = Block()
    shape = block.constant("shape", np.array([0, 0, TWO, -1], np.int64))
    splits = [block.node("Reshape", ["x", shape], f"{name}_split") for name in "qkv"]
    heads = [block.node("Transpose", [split], f"{split}_heads", perm=[0, 2, 1, 3]) for split in splits]
    mixed = block.node("Transpose", [block.node("Attention", heads, "mixed")], "joined", perm=[0, 2, 1, 3])
    whole = block.node("Reshape", [mixed, block.constant("whole", np.array([0, 0, -1], np.int64))], "attended")
    made = block.model(block.first(whole), {"x": (TensorProto.FLOAT, ["batch", "tokens", "width"])}, 2)
    assert check(made, keep_first_token, FEEDS, tmp_path) == 4


def test_a_transpose_without_an_order_is_not_taken_for_that_of_heads(tmp_path: Path) -> None:
    block = Block()
    turned = block.node("Transpose", [block.linear("x", "o")], "turned")
    made = block.model(block.first(turned), {"x": (TensorProto.FLOAT, ["batch", WIDTH])}, 1)
    assert check(made, keep_first_token, SAMPLES, tmp_path) == 0
    block = Block()
    block.attention()
    del next(node for node in block.nodes if node.output[0] == "joined").attribute[:]
    assert read_unsplit(ir.serde.deserialize_model(block.model("attended", X, 3)).graph) == 0


@pytest.mark.parametrize("rewrite", [read_unsplit, join_products])
@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_a_graph_of_other_numbers_keeps_them(tmp_path: Path, kind: type, rewrite: Callable[[ir.Graph], int]) -> None:
    block = Block(kind=kind)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    inputs: dict[str, tuple[int, list[int | str]]] = {
        "x": (number, ["batch", "tokens", WIDTH]),
        "mask": (TensorProto.INT64, ["batch", "tokens"]),
    }
    made = block.model(block.attention(mask=padding(block)), inputs, 3)
    feeds = {"x": FEEDS["x"].astype(kind), "mask": np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])}
    assert check(made, rewrite, feeds, tmp_path, atol=1e-2 if kind is np.float16 else 1e-6) == 1


def test_a_normalisation_with_the_default_axis_is_read(tmp_path: Path) -> None:
    block = Block()
    scale = block.constant("scale", np.ones(WIDTH, np.float32))
    normal = block.node("LayerNormalization", [block.linear("x", "o"), scale], "normal")
    made = block.model(block.first(block.linear(normal, "up")), X, 2)
    assert check(made, keep_first_token, FEEDS, tmp_path) >= 3
