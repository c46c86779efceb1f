from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from graphs import parse, random_array, with_weights

from edgekit.formats.graph import constant
from edgekit.formats.onnx import count_operators, load_graph, precision_of, save_graph, weight_bytes
from edgekit.quantization.blocks import BLOCK, MOST_SMALL, narrow_tables, quantize_blocks, round_to_blocks
from edgekit.quantization.schemes import Scheme, quantize_graph, weighted_nodes
from edgekit.runtimes.ort import open_session


def steps_of(packed: Any) -> Any:
    """Two elements in a byte, the first in its lower half, each with 8 added."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1).astype(int) - 8


def rows_of(packed: Any, scales: Any) -> Any:
    steps = steps_of(packed).astype(np.float32)
    return steps * np.repeat(scales, BLOCK, axis=1)[:, : steps.shape[1]]


@pytest.mark.parametrize("width", [BLOCK, 3 * BLOCK, BLOCK + 18, 20])
def test_each_block_of_a_row_is_as_near_as_its_scale(width: int) -> None:
    sizes = np.geomspace(1e-3, 1, 50, dtype=np.float32)[:, None]
    table = random_array(50, width) * sizes
    table[3] = 0
    packed, scales = quantize_blocks(table)
    assert (packed.dtype, packed.shape) == (np.uint8, (50, width // 2))
    assert (scales.dtype, scales.shape) == (np.float32, (50, -(-width // BLOCK)))
    rounded = round_to_blocks(table)
    assert (rounded.dtype, rounded.tolist()) == (np.float32, rows_of(packed, scales).tolist())
    again, scales_again = quantize_blocks(rounded)
    assert (again.tolist(), scales_again.tolist()) == (packed.tolist(), scales.tolist())
    error = np.linalg.norm(rounded - table, axis=1)
    assert error[3] == 0
    assert (
        error[table.any(axis=1)] / np.linalg.norm(table[table.any(axis=1)], axis=1)
    ).max() < 0.16  # whatever its size


def test_a_scale_that_cuts_one_element_off_is_taken_where_the_others_gain() -> None:
    level = np.full((1, BLOCK), 0.3, np.float32)
    level[0, ::2] = -0.3
    level[0, 5] = 1.0
    packed, scales = quantize_blocks(level)
    whole = np.clip(np.rint(level * -8), -8, 7) / -8
    assert ((rows_of(packed, scales) - level) ** 2).sum() < ((whole - level) ** 2).sum()
    assert abs(scales[0, 0]) < 1 / 8


@pytest.mark.parametrize("sign", [1, -1])
def test_all_sixteen_steps_are_used_whatever_the_sign(sign: int) -> None:
    row = sign * np.arange(-7, 9, dtype=np.float32)[None]
    packed, scales = quantize_blocks(row)
    np.testing.assert_array_equal(rows_of(packed, scales), row)
    assert len(set(steps_of(packed)[0])) == 16


def graph(text: str, **tables: Any) -> ir.Model:
    return ir.serde.deserialize_model(with_weights(text, **tables))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g (int64[n] i) => (float y) { y = Gather (t, i) }", True),
        ("g (int32[n] i) => (float y) { k = Cast <to = 7> (i) y = Gather (t, k) }", True),
        ("g (int64[n] i) => (float y, float z) { y = Gather (t, i) z = Gather (t, i) }", True),
        ("g (int64[n] i) => (float y) { y = Gather <axis = 1> (t, i) }", False),
        ("g (int64[n] i) => (float y) { k = Abs (i) y = Gather (t, k) }", False),
        ("g (int64[n] i) => (float y, float z) { y = Gather (t, i) z = MatMul (y, t) }", False),
    ],
)
def test_a_table_of_words_is_read_by_what_the_model_is_given_alone(text: str, expected: bool) -> None:
    nodes = weighted_nodes(graph(text, t=random_array(64, 64)), embeddings=True)
    assert {node.narrows for node in nodes if node.kind == "Gather"} == {expected}


@pytest.mark.parametrize(("rows", "width"), [(2, MOST_SMALL // 2), (99, 33)])
def test_a_small_table_and_one_of_odd_width_stay_as_they_are(rows: int, width: int) -> None:
    model = graph("g (int64[n] i) => (float y) { y = Gather (t, i) }", t=random_array(rows, width))
    assert [node.narrows for node in weighted_nodes(model, embeddings=True)] == [False]


def test_a_table_that_is_given_is_none() -> None:
    model = parse("g (float[9, 4] t, int64[n] i) => (float y) { y = Gather (t, i) }")
    assert weighted_nodes(model, embeddings=True) == []


def test_two_look_ups_share_what_onnxruntime_reads(tmp_path: Path) -> None:
    table = random_array(40, 200)
    text = """g (int64[n] i, int64[n, m] k) => (float[n, 200] y, float[n, m, 200] z) {
      y = Gather (t, i) z = Gather (t, k)
    }"""
    model = graph(text, t=table)
    names = [node.name for node in weighted_nodes(model, embeddings=True)]
    narrow_tables(model, [str(name) for name in names])
    assert [node.name for node in model.graph] == names
    assert weight_bytes(model) == {"uint8": 40 * 200 // 2, "float32": 40 * 2 * 4}
    save_graph(model, tmp_path / "model.onnx")
    expected = rows_of(*quantize_blocks(table))
    one, many = np.arange(40), np.arange(80).reshape(40, 2) % 40
    given = open_session(tmp_path / "model.onnx", 1).run(None, {"i": one, "k": many})
    np.testing.assert_array_equal(given[0], expected)
    np.testing.assert_array_equal(given[1], expected[many])


TWO_TABLES = """g (int64[n, m] i, int64[n, m] k) => (float[n, m, 64] y) {
  w = Gather (words, i) p = Gather (places, k) s = Add (w, p) y = MatMul (s, product)
}"""


@pytest.mark.parametrize("falls_back", [False, True])
def test_tables_of_a_quantized_graph_are_int4_where_the_scheme_says_so(tmp_path: Path, falls_back: bool) -> None:
    weights = {"words": random_array(90, 64), "places": random_array(40, 64), "product": random_array(64, 64)}
    model = graph(TWO_TABLES, **weights)
    words, places, product = weighted_nodes(model, embeddings=True)
    save_graph(model, tmp_path / "float.onnx")
    scheme = Scheme(
        method="dynamic",
        activations="u8",
        weights="s8",
        per_channel=True,
        reduce_range=False,
        embeddings=True,
        int4=(f"model/{words.name}", f"other/{places.name}"),
    ).within("model")
    chosen = [node.name for node in (places, product, *(() if falls_back else (words,)))]
    quantize_graph(tmp_path / "float.onnx", tmp_path / "model.onnx", scheme, chosen, None)
    made = load_graph(tmp_path / "model.onnx")
    kinds = {
        node.name: (node.op_type, str(table.dtype))
        for node in made.graph
        if "Gather" in node.op_type and (table := constant(node.inputs[0])) is not None
    }
    assert kinds[words.name] == (("Gather", "float32") if falls_back else ("GatherBlockQuantized", "uint8"))
    assert [kind for name, kind in kinds.items() if name != words.name] == [("Gather", "uint8")]
    assert count_operators(made)["MatMulInteger"] == 1
    assert falls_back or precision_of(made) == "int8"
    feeds = {"i": np.arange(80).reshape(8, 10), "k": np.arange(80).reshape(8, 10) % 40}
    before, after = (open_session(tmp_path / name, 1).run(None, feeds)[0] for name in ("float.onnx", "model.onnx"))
    assert np.linalg.norm(after - before) < (0.02 if falls_back else 0.1) * np.linalg.norm(before)
