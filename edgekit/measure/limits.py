"""How fast this machine can multiply at most, in the runtime that is measured: single products of its own operators.

A processor's peak on paper says little of what a runtime reaches on it, and depends on instructions (AVX2, VNNI, AMX,
dot products) of which nobody knows which ones the runtime takes. So graphs of one node are timed: ``MatMulInteger`` and
``DynamicQuantizeMatMul`` with the factors' types as the target has them, ``MatMul`` for FP32, the weight constant as a
layer's is. They are timed in the same process, with the same threads and in turns with the graphs that they are
compared with, so they stand for the machine as it was then; nothing of them is kept for another run, since figures of
different times are never put together.

The limit is the fastest of all shapes, each by the fastest of its runs: a limit is what the machine can do, and what
else runs on it only ever adds time (for the same reason Python's ``timeit`` tells to look at the minimum). The fraction
of it is then never flattering: latency is a median, and the limit is of the shape that suits the kernels best, not of
the shapes that the graph happens to have, by which a graph of slow shapes would look good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.formats.graph import CONTRIB
from edgekit.profiles import Rate
from edgekit.runtimes.measuring import Subject
from edgekit.target import IntegerScheme
from edgekit.tasks.base import Array

if TYPE_CHECKING:
    import onnx
    from numpy.random import Generator

# m, k, n of [m, k] x [k, n]: the two products of BERT-base's feed-forward layer at 128 tokens (Devlin et al. 2019: 768
# wide, 3072 between), and squares, which a runtime's kernels like best.
SHAPES = ((128, 768, 3072), (128, 3072, 768), (512, 512, 512), (1024, 1024, 1024))
INT8, FP32 = "int8", "fp32"
OPSET, IR_VERSION = 17, 8
CONTRIB_VERSION = 1


@dataclass(frozen=True)
class Probe:
    """One product.

    Attributes:
        precision: ``int8`` or ``fp32``.
        operator: the node's kind.
        types: of the factors.
        shape: m, k, n.
    """

    precision: str
    operator: str
    types: str
    shape: tuple[int, int, int]

    @property
    def name(self) -> str:
        """What it is called among the subjects of a run."""
        return f"limit/{self.operator}/{'x'.join(map(str, self.shape))}"

    def rate(self, blocks_ms: list[list[float]]) -> Rate:
        """What its times amount to."""
        m, k, n = self.shape
        ms = min(sample for block in blocks_ms for sample in block)
        return Rate(
            precision=self.precision,
            operator=self.operator,
            types=self.types,
            shape=self.shape,
            gmacs_per_s=m * k * n / (ms * 1e6),
        )


def probes_of(scheme: IntegerScheme) -> tuple[Probe, ...]:
    """Every product that is tried.

    Args:
        scheme: types of the factors as the target's kernels want them.
    """
    own, dynamic = scheme.activations + scheme.weights, f"u8{scheme.weights}"
    kinds = ((INT8, "MatMulInteger", own), (INT8, "DynamicQuantizeMatMul", dynamic), (FP32, "MatMul", FP32))
    return tuple(Probe(*kind, shape) for kind in kinds for shape in SHAPES)


def write_probe(probe: Probe, folder: Path) -> Subject:
    """A product as a graph in a folder, with its input: values at random, over the whole range of integers."""
    import numpy as np
    import onnx

    draw = np.random.default_rng(0)
    m, k, n = probe.shape
    integers = probe.operator == "MatMulInteger"
    fed = _factor(draw, probe.types[:2] if integers else FP32, (m, k))
    weight = _factor(draw, FP32 if probe.precision == FP32 else probe.types[2:], (k, n))
    scale = [np.full(n, 0.01, np.float32)] if probe.operator == "DynamicQuantizeMatMul" else []
    file = folder / f"{probe.operator}-{'x'.join(map(str, probe.shape))}.onnx"
    onnx.save(_model(probe, fed, [weight, *scale]), file)
    return Subject(file, {"x": fed})


def _factor(draw: Generator, type_: str, shape: tuple[int, int]) -> Array:
    import numpy as np

    if type_ == FP32:
        return draw.standard_normal(shape, np.float32)
    low, high, dtype = (0, 255, np.uint8) if type_ == "u8" else (-127, 127, np.int8)
    values: Array = draw.integers(low, high, shape, dtype, endpoint=True)
    return values


def _model(probe: Probe, fed: Array, constants: list[Array]) -> onnx.ModelProto:
    """y [m, n] = x [m, k] times a constant [k, n]."""
    from onnx import TensorProto, helper, numpy_helper

    m, _, n = probe.shape
    domain = CONTRIB if probe.operator == "DynamicQuantizeMatMul" else ""
    names = [f"constant{index}" for index in range(len(constants))]
    output = TensorProto.INT32 if probe.operator == "MatMulInteger" else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(probe.operator, ["x", *names], ["y"], domain=domain)],
        "product",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(fed.dtype), fed.shape)],
        [helper.make_tensor_value_info("y", output, (m, n))],
        [numpy_helper.from_array(value, name) for value, name in zip(constants, names, strict=True)],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, CONTRIB_VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def best_rate(rates: tuple[Rate, ...], precision: str) -> Rate:
    """The limit: the fastest product of a precision."""
    return max((rate for rate in rates if rate.precision == precision), key=lambda rate: rate.gmacs_per_s)


def read_rates(probes: tuple[Probe, ...], blocks_ms: Mapping[str, list[list[float]]]) -> tuple[Rate, ...]:
    """The rate of each product, from the times of a run."""
    return tuple(probe.rate(blocks_ms[probe.name]) for probe in probes)
