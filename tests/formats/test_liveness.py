from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graphs import inferred, random_array, with_weights

from edgekit.formats.layers import fixed_values
from edgekit.formats.liveness import Peak, find_peak
from edgekit.formats.shapes import infer_shapes


def peak_of(text: str, **sizes: int) -> Peak:
    model, shapes = inferred(text, **sizes)
    return find_peak(model.graph, shapes, fixed_values(model.graph))


def test_a_chain_holds_two_values_beside_its_ends() -> None:
    # x and y live throughout: 4 + 4 bytes; a and b meet in the middle: 40 + 80
    text = """g (float[1] x, float[10, 1] ten, float[1, 2] two) => (float[1] y) {
      a = Mul (x, ten)
      [widest] b = Mul (a, two)
      c = ReduceSum <keepdims = 0> (b)
      y = Unsqueeze (c, zero)
    }"""
    text = text.replace("c = ", "zero = Constant <value = int64[1] {0}> () c = ")
    peak = peak_of(text)
    inputs = 4 + 40 + 8
    assert (peak.nbytes, peak.node, peak.kind) == (inputs + 40 + 80, "widest", "Mul")
    assert peak.unknown == 0


def test_a_view_takes_no_memory() -> None:
    text = """g (float[10, 10] x) => (float[100] y) {
      wanted = Constant <value = int64[1] {-1}> ()
      a = Relu (x)
      b = Reshape (a, wanted)
      y = Relu (b)
    }"""
    assert peak_of(text).nbytes == 3 * 400  # x, the tensor that a and b are, y


def test_what_is_read_again_later_stays() -> None:
    text = """g (float[10] x) => (float[10] y) {
      a = Relu (x)
      b = Relu (a)
      c = Relu (b)
      y = Add (a, c)
    }"""
    assert peak_of(text).nbytes == 4 * 40  # x, a, and two of b, c, y


def test_a_branch_lives_beside_what_is_around_it() -> None:
    text = """g (float[10] x, bool c) => (float[10] y) {
      a = Relu (x)
      y = If (c) <
        then_branch = t () => (float[10] p) { q = Concat <axis = 0> (a, a) r = ReduceSum (q) p = Add (a, r) },
        else_branch = e () => (float[10] s) { s = Identity (a) }
      >
    }"""
    peak = peak_of(text)
    assert (peak.nbytes, peak.node) == (40 + 1 + 40 + 40 + 80 + 4, "")  # x, c, a, y; then q and r at once
    assert peak.kind == "ReduceSum"


def test_a_value_without_a_size_is_left_out_and_counted() -> None:
    peak = peak_of("g (float[n, 4] x, float[4, 5] w) => (float[a, b] y) { y = MatMul (x, w) }")
    assert peak.unknown == 2
    assert peak.nbytes == 4 * 5 * 4


@pytest.mark.parametrize(("node", "activation"), [("MatMul (x, w)", 0), ("Gather (w, i)", 64 * 32 * 4)])
def test_a_scaled_weight_is_packed_and_a_scaled_table_is_an_activation(node: str, activation: int) -> None:
    text = f"g (float[3, 64] x, int64[5] i) => (float y) {{ w = DequantizeLinear (q, s) y = {node} }}"
    weights = {"q": np.ones((64, 32), dtype=np.int8), "s": random_array()}
    model = ir.serde.deserialize_model(with_weights(text, **weights))
    shapes = infer_shapes(model, {})
    peak = find_peak(model.graph, shapes, fixed_values(model.graph))
    output = (3 if "MatMul" in node else 5) * 32 * 4
    assert peak.nbytes == 3 * 64 * 4 + 5 * 8 + output + activation
