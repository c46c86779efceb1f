from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import proto, random_array, with_weights

from edgekit.measure.macs import PRODUCTS, Macs, count_macs
from edgekit.runtimes.measuring import Subject

DENSE = """
agraph (float[batch, 6] x) => (float[batch, 3] y) {
    h = MatMul(x, w)
    r = Relu(h)
    y = MatMul(r, v)
}
"""
LOOP = """
agraph (float[4, 4] x, int64 count) => (float[4, 4] y) {
    go = Constant <value = bool {1}> ()
    y = Loop (count, go, x) <body = body (int64 turn, bool on, float[4, 4] a) => (bool more, float[4, 4] b) {
        more = Identity(on)
        b = MatMul(a, a)
    }>
}
"""


def test_work_is_that_of_what_the_graph_is_fed(tmp_path: Path) -> None:
    model = with_weights(DENSE, w=random_array(6, 5), v=random_array(5, 3))
    onnx.save(model, tmp_path / "dense.onnx")
    for batch in (1, 7):
        found = count_macs(Subject(tmp_path / "dense.onnx", {"x": random_array(batch, 6)}))
        assert (found.total, found.because) == (batch * (6 * 5 + 5 * 3), "")
        assert sum(macs for _, macs in found.kinds.values()) == found.total
        assert sum(count for count, _ in found.kinds.values()) == 2


def test_what_the_data_decides_is_not_counted_and_the_reason_said(tmp_path: Path) -> None:
    onnx.save(proto(LOOP), tmp_path / "loop.onnx")
    feeds = {"x": random_array(4, 4), "count": np.array(3, np.int64)}
    found = count_macs(Subject(tmp_path / "loop.onnx", feeds))
    assert (found.total, found.kinds) == (None, {})
    assert found.because == "the data decides how often Loop runs"


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ({"MatMul": 2, "Add": 5}, {"MatMul": 20}),
        ({"MatMul": 3}, {}),  # not the same graph: no work is told of it
        ({"Conv": 5}, {"Conv": 500}),  # laid out anew: plain and fused have become one kind
        ({"Conv": 1, "FusedConv": 4}, {"Conv": 100, "FusedConv": 400}),
        ({"Conv": 2, "FusedConv": 3}, {}),
    ],
)
def test_a_kind_has_the_work_of_as_many_nodes_in_the_fused_graph(nodes: dict[str, int], found: dict[str, int]) -> None:
    macs = Macs(520, kinds={"MatMul": (2, 20), "Conv": (1, 100), "FusedConv": (4, 400)})
    assert macs.of(nodes) == found


def test_products_are_named_as_the_runtime_names_them() -> None:
    assert {"MatMul", "DynamicQuantizeMatMul", "QLinearConv", "Attention", "LSTM"} <= PRODUCTS
    assert not any("." in kind for kind in PRODUCTS)
