from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from graphs import inferred, observe, sizes_of
from tiny import Exported, batches

from edgekit.errors import ModelError
from edgekit.formats.known import MOST_ELEMENTS, Known
from edgekit.formats.onnx import load_graph
from edgekit.formats.shapes import infer_shapes
from edgekit.quantization.schemes import Scheme, quantize_graph, weighted_nodes

RESHAPED = """
g (float[batch, length, 8] x) => (float[batch, n, m] y) {
  shape = Shape (x)
  first = Constant <value = int64[1] {0}> ()
  batch = Gather (shape, first)
  rest = Constant <value = int64[2] {-1, 4}> ()
  wanted = Concat <axis = 0> (batch, rest)
  y = Reshape (x, wanted)
}
"""
CHOSEN = """
g (float[batch, length] x) => (float[n, m] y) {
  shape = Shape (x)
  one = Constant <value = int64 {1}> ()
  length = Gather (shape, one)
  many = Constant <value = int64 {9}> ()
  long = Greater (length, many)
  y = If (long) <
    then_branch = t () => (float[a, b] p) { p = Concat <axis = 0> (x, x) },
    else_branch = e () => (float[c, d] q) { q = Concat <axis = 1> (x, x) }
  >
}
"""
DECIDED_BY_DATA = """
g (float[batch, 4] x, bool c) => (float[n, m] y) {
  y = If (c) <
    then_branch = t () => (float[a, b] p) { p = Concat <axis = 0> (x, x) },
    else_branch = e () => (float[c, d] q) { q = Identity (x) }
  >
}
"""
LOOP = """
g (float[batch, 4] x) => (float[n, m] last, float[s, t, u] all) {
  limit = Constant <value = int64 {3}> ()
  true = Constant <value = bool {1}> ()
  last, all = Loop (limit, true, x) <
    body = b (int64 i, bool c, float[p, q] state) => (bool d, float[v, w] next, float[j, k] each) {
      d = Identity (c)
      next = Relu (state)
      each = Identity (next)
    }
  >
}
"""
SCAN = """
g (float[batch, 4] start, float[5, batch, 4] steps) => (float[n, m] last, float[s, t, u] all) {
  last, all = Scan <num_scan_inputs = 1, body = b (float[p, q] state, float[r, k] step)
      => (float[v, w] next, float[j, l] each) {
      next = Add (state, step)
      each = Identity (next)
    }
  > (start, steps)
}
"""


def feeds_of(exported: Exported, family: str) -> dict[str, np.ndarray]:
    task, _ = exported[family]
    batch = {name: values for name, values in batches(task, 2, 2)[0].items() if name != "labels"}
    return {name: values[:, :9] if values.ndim == 2 else values for name, values in batch.items()}


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_every_value_has_the_shape_that_onnxruntime_computes(exported: Exported, family: str) -> None:
    feeds = feeds_of(exported, family)
    model = load_graph(exported[family][1].file())
    known = sizes_of(model, infer_shapes(model, sizes_for(feeds)))
    seen = observe(exported[family][1].file(), feeds)
    assert len(seen) > 50
    assert {name: known[name] for name in seen} == seen


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_the_values_of_a_quantized_graph_have_them_too(exported: Exported, family: str, tmp_path: Path) -> None:
    scheme = Scheme(
        method="dynamic", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True
    )
    artifact, feeds, file = exported[family][1], feeds_of(exported, family), tmp_path / "model.onnx"
    names = [node.name for node in weighted_nodes(load_graph(artifact.file()), embeddings=True)]
    quantize_graph(artifact.file(), file, scheme, names, None)
    model = load_graph(file)
    known, seen = sizes_of(model, infer_shapes(model, sizes_for(feeds))), observe(file, feeds)
    assert {name: known[name] for name in seen} == seen


def sizes_for(feeds: dict[str, np.ndarray]) -> dict[str, int]:
    batch, second = next(iter(feeds.values())).shape[:2]
    return {"batch": batch, "sequence": second}


def test_a_reshape_to_a_computed_shape_is_known() -> None:
    model, shapes = inferred(RESHAPED, batch=3, length=5)
    assert sizes_of(model, shapes)["y"] == (3, 10, 4)
    assert shapes.output(list(model.graph)[-2]).data.tolist() == [3, -1, 4]


def test_a_dimension_without_a_size_stays_unknown() -> None:
    model, shapes = inferred(RESHAPED, batch=3)
    assert sizes_of(model, shapes)["x"] == (3, None, 8)
    assert sizes_of(model, shapes)["y"] == (3, None, None)  # the file itself says that its first is the batch
    assert shapes.of(model.graph.outputs[0]).nbytes is None


@pytest.mark.parametrize(("length", "branch", "shape"), [(10, "then_branch", (4, 10)), (9, "else_branch", (2, 18))])
def test_a_branch_on_a_size_is_taken(length: int, branch: str, shape: tuple[int, int]) -> None:
    model, shapes = inferred(CHOSEN, batch=2, length=length)
    assert sizes_of(model, shapes)["y"] == shape
    assert list(shapes.branches.values()) == [branch]


def test_what_two_branches_have_in_common_is_known() -> None:
    model, shapes = inferred(DECIDED_BY_DATA, batch=2)
    assert sizes_of(model, shapes)["y"] == (None, 4)
    assert shapes.branches == {}


def test_a_loop_with_a_fixed_limit_stacks_as_often() -> None:
    model, shapes = inferred(LOOP, batch=2)
    assert sizes_of(model, shapes)["last"] == (2, 4)
    assert sizes_of(model, shapes)["all"] == (3, 2, 4)
    assert list(shapes.trips.values()) == [3]


def test_a_loop_that_ends_by_its_data_runs_unknown_times() -> None:
    model, shapes = inferred(
        LOOP.replace("d = Identity (c)", "s = ReduceMax <keepdims = 0> (state) d = Cast <to = 9> (s)")
    )
    assert list(shapes.trips.values()) == [None]
    assert sizes_of(model, shapes)["all"] == (None, None, 4)


def test_a_loop_whose_state_grows_has_no_known_shape() -> None:
    model, shapes = inferred(LOOP.replace("next = Relu (state)", "next = Concat <axis = 0> (state, state)"), batch=2)
    assert sizes_of(model, shapes)["last"] == (None, 4)


def test_a_scan_runs_as_often_as_its_input_is_long() -> None:
    model, shapes = inferred(SCAN, batch=2)
    assert sizes_of(model, shapes)["last"] == (2, 4)
    assert sizes_of(model, shapes)["all"] == (5, 2, 4)
    assert list(shapes.trips.values()) == [5]


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        ("y = com.microsoft.FastGelu (x)", (2, 3, 8)),
        ('y = com.microsoft.FusedGemm <activation = "Relu", transB = 1> (v2, z)', (3, 5)),
        ("y = com.microsoft.FusedMatMul <transB = 1> (x, z)", (2, 3, 5)),
        ("y = com.microsoft.MultiHeadAttention <num_heads = 2> (x, x, x)", (2, 3, 8)),
        ("y = com.microsoft.SkipLayerNormalization (x, x, v)", (2, 3, 8)),
        ("y = com.microsoft.Attention <num_heads = 2> (x, w, b)", (2, 3, 4)),
    ],
)
def test_onnxruntimes_own_operators_have_shapes(node: str, shape: tuple[int, ...]) -> None:
    inputs = "float[2, 3, 8] x, float[5, 8] z, float[8] v, float[8, 12] w, float[12] b, float[3, 8] v2"
    text = f"g ({inputs}) => (float y) {{ {node} }}"
    model, shapes = inferred(text)
    assert sizes_of(model, shapes)["y"] == shape


def test_an_operator_that_nobody_knows_has_unknown_outputs() -> None:
    model, shapes = inferred("g (float[2, 3] x) => (float[a, b] y) { z = com.microsoft.Mystery (x) y = Relu (z) }")
    assert sizes_of(model, shapes) == {"x": (2, 3), "z": None, "y": (None, None)}
    assert (shapes.refused, shapes.strange) == ({}, {"com.microsoft.Mystery"})


def test_what_the_file_says_of_a_value_counts_where_nothing_is_inferred() -> None:
    model, shapes = inferred("g (float[2, 3] x) => (float[2, 7] y) { y = com.microsoft.Mystery (x) }")
    assert sizes_of(model, shapes)["y"] == (2, 7)


def test_a_window_wider_than_its_input_is_refused() -> None:
    text = "g (float[1, 1, n] x, float[4, 1, 9] w) => (float[a, b, c] y) { y = Conv <pads = [1, 1]> (x, w) }"
    model, shapes = inferred(text, n=6)
    assert list(shapes.refused.values()) == ["its window of 9 is wider than its input of 8"]
    assert sizes_of(model, shapes)["y"] is None
    model, shapes = inferred(text, n=7)
    assert shapes.refused == {}
    assert sizes_of(model, shapes)["y"] == (1, 4, 1)


def test_of_two_nodes_without_names_one_may_be_refused() -> None:
    text = """g (float[1, 1, n] x, float[4, 1, 9] w, float[4, 1, 3] v) => (float[a, b, c] y, float[d, e, f] z) {
      y = Conv (x, w)
      z = Conv (x, v)
    }"""
    model, shapes = inferred(text, n=6)
    assert [node.outputs[0].name for node in shapes.refused] == ["y"]
    assert sizes_of(model, shapes)["z"] == (1, 4, 4)


def test_sizes_that_do_not_fit_are_refused_with_onnxs_reason() -> None:
    model, shapes = inferred("g (float[2, n] x, float[4, 5] w) => (float[a, b] y) { y = MatMul (x, w) }", n=3)
    (reason,) = shapes.refused.values()
    assert "Incompatible dimensions" in reason
    assert sizes_of(model, shapes)["y"] is None


def test_nothing_large_is_ever_made() -> None:
    text = "g () => (float[n, m] y) { s = Constant <value = int64[2] {1000000, 1000000}> () y = ConstantOfShape (s) }"
    model, shapes = inferred(text)
    known = shapes.of(model.graph.outputs[0])
    assert (known.sizes, known.nbytes, known.data) == ((10**6, 10**6), 4 * 10**12, None)
    assert known.elements is not None
    assert known.elements > MOST_ELEMENTS


@pytest.mark.parametrize(
    ("kind", "shape", "nbytes"),
    [
        (ir.DataType.FLOAT, (2, 3), 24),
        (ir.DataType.FLOAT16, (), 2),
        (ir.DataType.INT4, (3, 3), 5),
        (ir.DataType.BOOL, (7,), 7),
        (ir.DataType.STRING, (7,), None),
        (None, (7,), None),
        (ir.DataType.FLOAT, (2, None), None),
        (ir.DataType.FLOAT, None, None),
    ],
)
def test_the_size_of_a_value(
    kind: ir.DataType | None, shape: tuple[int | None, ...] | None, nbytes: int | None
) -> None:
    assert Known(kind, shape).nbytes == nbytes


def nested(depth: int) -> str:
    """Loops in each other, each of which begins with what has another size than what it hands on."""
    body = "{ on = Identity (go) b = Concat <axis = 0> (a, a) }"
    for _ in range(depth):
        body = (
            "{ on = Identity (go) c = Loop (limit, true, x) <body = body (int64 i, bool go, float[p, q] a)"
            f" => (bool on, float[r, s] b) {body}> b = Concat <axis = 0> (c, a) }}"
        )
    return f"""g (float[3, 4] x) => (float[t, u] y) {{
      limit = Constant <value = int64 {{3}}> () true = Constant <value = bool {{1}}> ()
      y = Loop (limit, true, x) <body = body (int64 i, bool go, float[p, q] a) => (bool on, float[r, s] b) {body}>
    }}"""


def test_loops_in_loops_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shapes = inferred(nested(3))
    assert sizes_of(model, shapes)["y"] == (None, 4)
    with pytest.raises(ModelError, match="the shapes of the graph cannot be inferred") as caught:
        inferred(nested(24))
    assert caught.value.id == "model.invalid-onnx"
    assert caught.value.why == "its loops are too deep in each other: 2 passes of each multiply"


def test_a_loop_that_changes_nothing_is_inferred_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.formats.shapes.FEW_INFERENCES", 10)
    monkeypatch.setattr("edgekit.formats.shapes.MOST_PASSES", 1)
    model, shapes = inferred(LOOP, batch=2)
    assert sizes_of(model, shapes)["last"] == (2, 4)


@pytest.mark.parametrize(
    ("text", "old", "new", "why"),
    [
        (LOOP, ", float[v, w] next, float[j, k] each", "", "takes 3 values and gives 1; needed: 3, and at least 2"),
        (LOOP, ", float[p, q] state", ", float[p, q] state, float[1] more", "takes 4 values and gives 3; needed: 3"),
        (LOOP, "(limit, true, x)", "(limit, true, x, x)", "takes 3 values and gives 3; needed: 4, and at least 3"),
        (SCAN, "float[v, w] next, float[j, l] each", "", "takes 2 values and gives 0; needed: 2, and at least 1"),
        (SCAN, "num_scan_inputs = 1", "num_scan_inputs = 3", "takes 2 values and gives 2; needed: 2, and at least -1"),
        (SCAN, "num_scan_inputs = 1", "num_scan_inputs = -1", "needed: 2, and at least 3"),
        (SCAN, "scan_inputs = 1", "scan_inputs = 1, scan_input_axes = [0, 0]", "with 2 scan_input_axes for 1 values"),
        (SCAN, "scan_inputs = 1", "scan_inputs = 1, scan_output_axes = [0, 0]", "with 2 scan_output_axes for 1 values"),
        (CHOSEN, "(float[c, d] q)", "(float[c, d] q, float[c, d] q)", "branches give different numbers of values"),
    ],
)
def test_a_node_and_the_graphs_in_it_fit_each_other(text: str, old: str, new: str, why: str) -> None:
    assert old in text
    with pytest.raises(ModelError) as caught:
        inferred(text.replace(old, new), batch=2)
    assert caught.value.id == "model.invalid-onnx"
    assert why in str(caught.value.why)


def test_an_axis_beyond_the_last_is_no_length() -> None:
    model, shapes = inferred(SCAN.replace("scan_inputs = 1", "scan_inputs = 1, scan_input_axes = [7]"), batch=2)
    assert sizes_of(model, shapes)["last"] == (2, 4)
