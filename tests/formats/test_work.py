from __future__ import annotations

import pytest
from graphs import inferred

from edgekit.formats.work import Work, count_work

CHOICE = """
g (float[2, 4] x, float[4, 5] w, float[4, 3] v, bool c) => (float[n, m] y) {
  y = If (c) <
    then_branch = t () => (float[a, b] p) { p = MatMul (x, w) },
    else_branch = e () => (float[d, e] q) { q = MatMul (x, v) }
  >
}
"""
LOOP = """
g (float[2, 4] x, float[4, 4] w, int64 times) => (float[n, m] y) {
  limit = TIMES
  true = Constant <value = bool {1}> ()
  y = Loop (limit, true, x) <
    body = b (int64 i, bool c, float[p, q] state) => (bool d, float[v, w0] next) {
      d = Identity (c)
      next = MatMul (state, w)
    }
  >
}
"""


def work_of(text: str, **sizes: int) -> Work:
    model, shapes = inferred(text, **sizes)
    return count_work(model.graph, shapes)


@pytest.mark.parametrize(
    ("inputs", "node", "macs"),
    [
        # each of 2 * 6 * 8 * 8 outputs sums 3 * 3 * 3 weights
        ("float[2, 3, 8, 8] x, float[6, 3, 3, 3] w", "Conv <pads = [1, 1, 1, 1]> (x, w)", 2 * 6 * 64 * 27),
        ("float[1, 6, 8, 8] x, float[6, 1, 3, 3] w", "Conv <group = 6, strides = [2, 2]> (x, w)", 6 * 9 * 9),
        # each of 2 * 3 * 4 * 4 inputs is spread by 5 * 2 * 2 weights
        ("float[2, 3, 4, 4] x, float[3, 5, 2, 2] w", "ConvTranspose <strides = [2, 2]> (x, w)", 2 * 3 * 16 * 20),
        ("float[7, 2, 4] x, float[4, 5] w", "MatMul (x, w)", 7 * 2 * 4 * 5),
        ("float[3, 4] x, float[4] w", "MatMul (x, w)", 12),
        ("float[4, 3] x, float[5, 4] w", "Gemm <transA = 1, transB = 1> (x, w)", 3 * 4 * 5),
        ("float[2, 3, 4] x, float[2, 5, 4] w", 'Einsum <equation = "bij,bkj->bik"> (x, w)', 2 * 3 * 4 * 5),
        # 9 steps of 2 samples: 4 gates of 6 units read 3 inputs and 6 units
        ("float[9, 2, 3] x, float[1, 24, 3] w, float[1, 24, 6] r", "LSTM <hidden_size = 6> (x, w, r)", 18 * 24 * 9),
        (
            "float[9, 2, 3] x, float[2, 18, 3] w, float[2, 18, 6] r",
            'GRU <hidden_size = 6, direction = "bidirectional"> (x, w, r)',
            18 * 2 * 18 * 9,
        ),
        ("float[2, 3, 8] x", "com.microsoft.MultiHeadAttention <num_heads = 2> (x, x, x)", 2 * 3 * 3 * 16),
        # the packed product, then scores and values
        (
            "float[2, 3, 8] x, float[8, 24] w, float[24] b",
            "com.microsoft.Attention <num_heads = 2> (x, w, b)",
            2 * 3 * 8 * 24 + 2 * 2 * 9 * 8,
        ),
        ("float[2, 3, 8] x, float[2, 3, 8] w", "Add (x, w)", 0),
    ],
)
def test_the_work_of_an_operator(inputs: str, node: str, macs: int) -> None:
    counted = work_of(f"g ({inputs}) => (float y) {{ y = {node} }}")
    assert counted.total == macs
    assert counted.unknown == []


@pytest.mark.parametrize(
    ("inputs", "node", "macs"),
    [
        # 4 heads, 3 queries, 5 keys; 8 wide, values 6 wide
        ("float[2, 4, 3, 8] q, float[2, 4, 5, 8] k, float[2, 4, 5, 6] v", "Attention (q, k, v)", 2 * 4 * 15 * 14),
        (
            "float[2, 3, 32] q, float[2, 5, 32] k, float[2, 5, 24] v",
            "Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v)",
            2 * 4 * 15 * 14,
        ),
        # two key heads serve four query heads
        (
            "float[2, 3, 32] q, float[2, 5, 16] k, float[2, 5, 12] v",
            "Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v)",
            2 * 4 * 15 * 14,
        ),
    ],
)
def test_the_work_of_attention(inputs: str, node: str, macs: int) -> None:
    header = '<ir_version: 10, opset_import: ["" : 23]>'
    assert work_of(f"{header} g ({inputs}) => (float y) {{ y = {node} }}").total == macs


def test_integer_products_count_like_float_ones() -> None:
    text = "g (uint8[2, 3, 4] x, int8[4, 5] w) => (int32 y) { y = MatMulInteger (x, w) }"
    assert work_of(text).total == 2 * 3 * 4 * 5


def test_work_that_cannot_be_told_is_named_and_not_counted() -> None:
    counted = work_of("g (float[n, 4] x, float[4, 5] w) => (float y) { [first] z = MatMul (x, w) y = Relu (z) }")
    assert (counted.total, [node.name for node in counted.unknown]) == (0, ["first"])


def test_of_two_branches_the_heavier_counts_and_is_named() -> None:
    counted = work_of(CHOICE.replace("y = If", "[fork] y = If"))
    assert (counted.total, [node.name for node in counted.choices]) == (2 * 4 * 5, ["fork"])


def test_a_loop_counts_as_often_as_it_turns() -> None:
    counted = work_of(LOOP.replace("TIMES", "Constant <value = int64 {7}> ()"))
    assert (counted.total, counted.repeats) == (7 * 2 * 4 * 4, [])


def test_a_loop_that_the_data_ends_counts_once_and_is_named() -> None:
    counted = work_of(LOOP.replace("TIMES", "Identity (times)").replace("y = Loop", "[turns] y = Loop"))
    assert (counted.total, [node.name for node in counted.repeats]) == (2 * 4 * 4, ["turns"])
