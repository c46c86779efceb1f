from __future__ import annotations

from pathlib import Path

import foreign
import numpy as np
import onnx
import pytest
from graphs import random_array, with_weights

from edgekit.measure.kernels import Origin, describe_kernels, find_origins, match, precision_of
from edgekit.runtimes.measuring import Subject, TracedNode

FUSIBLE = """
agraph (float[n, 16] x) => (float[n, 8] y) {
    h = MatMul(x, w)
    b = Add(h, c)
    r = Relu(b)
    y = MatMul(r, v)
}
"""
INTEGER = """
agraph (float[n, 16] x) => (float[n, 8] y) {
    q, s, z = DynamicQuantizeLinear(x)
    i = MatMulInteger(q, w, z)
    f = Cast <to = 1> (i)
    t = Mul(s, u)
    y = Mul(f, t)
}
"""
PACKED = """
agraph (float[n, 32] x) => (float[n, 8] y) {
    y = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 4, block_size = 32> (x, w, s)
}
"""
CONVOLUTION = """
agraph (float[1, 3, 12, 12] x) => (float[1, 16, 12, 12] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    b = Relu(a)
    c = Conv <pads = [1, 1, 1, 1]> (b, v)
    d = Add(c, b)
    y = Relu(d)
}
"""


def save(folder: Path, text: str, **weights: object) -> Subject:
    onnx.save(with_weights(text, **weights), folder / "model.onnx")
    return Subject(folder / "model.onnx", {})


def traced(name: str, operator: str, ms: float, *types: str) -> TracedNode:
    reads = [(kind, [2, 3]) for kind in types]
    writes = [("float", [2, 8])]
    return TracedNode(name=name, operator=operator, provider="cpu", reads=reads, writes=writes, ms=ms)


def test_a_fused_node_names_what_it_stands_for(tmp_path: Path) -> None:
    subject = save(tmp_path, FUSIBLE, w=random_array(16, 32), c=random_array(32), v=random_array(32, 8))
    found = {origin.operator: (origin.made, origin.replaces) for origin in find_origins(subject)}
    assert found["MatMul"] == ("file", ())
    made = [value for value in found.values() if value[0] == "fused"]
    assert made == [("fused", ("MatMul", "Add", "Relu"))] or ("fused", ("MatMul", "Add")) in made


def test_a_quantized_product_is_one_node_whose_packed_weight_counts(tmp_path: Path) -> None:
    weight = (random_array(16, 8) * 40).astype("int8")
    subject = save(tmp_path, INTEGER, w=weight, u=random_array(1))
    (origin,) = find_origins(subject)
    assert (origin.operator, origin.made) == ("DynamicQuantizeMatMul", "fused")
    assert origin.replaces == ("DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul")
    assert "int8" in origin.types
    # The runtime notes only what it did not pack.
    (kernel,) = describe_kernels(subject, [traced("", "DynamicQuantizeMatMul", 0.5, "float")])
    assert (kernel.precision, kernel.share, kernel.shape) == ("int8", 1.0, (2, 8))


def test_weights_of_four_bits_are_told_by_the_node_that_unpacks_them(tmp_path: Path) -> None:
    weight = np.zeros((8, 1, 16), np.uint8)
    subject = save(tmp_path, PACKED, w=weight, s=random_array(8))
    (kernel,) = describe_kernels(subject, [traced("", "MatMulNBits", 0.5, "float")])
    assert (kernel.precision, kernel.made) == ("int4", "file")


def test_a_layout_for_this_processor_is_seen_through(tmp_path: Path) -> None:
    subject = save(tmp_path, CONVOLUTION, w=random_array(16, 3, 3, 3), v=random_array(16, 16, 3, 3))
    found = find_origins(subject)
    products = [origin for origin in found if origin.operator.endswith("Conv")]
    # On processors without such a layout, the second one is followed by nodes of its own.
    assert products[0].made == "fused"
    assert products[0].replaces == ("Conv", "Relu")
    assert products[1].replaces in {("Conv", "Add", "Relu"), ()}
    assert {origin.made for origin in found if origin.operator.startswith("Reorder")} <= {"added"}


def test_a_graph_as_it_stands_is_the_files_own(tmp_path: Path) -> None:
    found = find_origins(Subject(foreign.conv_net(tmp_path / "others.onnx"), {}))
    assert "Conv" in {origin.operator.removeprefix("Fused") for origin in found}
    assert {origin.made for origin in found} <= {"file", "fused", "added"}


@pytest.mark.parametrize(
    ("types", "precision"),
    [
        ({"float", "int8"}, "int8"),
        ({"float", "uint4", "uint8"}, "int4"),
        ({"int64", "float"}, "fp32"),
        ({"bool", "float16"}, "fp16"),
        ({"bool"}, "bool"),
        ({"string"}, ""),
    ],
)
def test_the_narrowest_type_is_what_a_kernel_computes_in(types: set[str], precision: str) -> None:
    assert precision_of(types) == precision


def test_kernels_are_found_by_order_else_by_name() -> None:
    product, total = Origin("", "MatMul", made="file"), Origin("sum", "Add", made="fused")
    noted = [traced("MatMul_0", "MatMul", 1.0), traced("sum", "Add", 1.0)]
    assert match(noted, [product, total]) == [product, total]
    # A branch was noted, too: only names help.
    inside = traced("inside", "Relu", 1.0)
    assert match([inside, *noted], [product, total]) == [None, None, total]
