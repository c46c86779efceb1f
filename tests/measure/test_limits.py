from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.measure.limits import FP32, INT8, SHAPES, Probe, best_rate, probes_of, read_rates, write_probe
from edgekit.runtimes.ort import open_session
from edgekit.target import IntegerScheme

SMALL = (4, 6, 8)


def test_every_operator_is_tried_on_every_shape_with_the_targets_types() -> None:
    probes = probes_of(IntegerScheme(activations="s8", weights="s8"))
    assert {(probe.precision, probe.operator, probe.types) for probe in probes} == {
        (INT8, "MatMulInteger", "s8s8"),
        (INT8, "DynamicQuantizeMatMul", "u8s8"),
        (FP32, "MatMul", "fp32"),
    }
    assert len({probe.name for probe in probes}) == len(probes) == 3 * len(SHAPES)


@pytest.mark.parametrize(
    ("probe", "fed", "given", "range_"),
    [
        (Probe(INT8, "MatMulInteger", "u8s8", SMALL), np.uint8, np.int32, (0, 255)),
        (Probe(INT8, "MatMulInteger", "u8u8", SMALL), np.uint8, np.int32, (0, 255)),
        (Probe(INT8, "MatMulInteger", "s8s8", SMALL), np.int8, np.int32, (-127, 127)),
        (Probe(INT8, "DynamicQuantizeMatMul", "u8s8", SMALL), np.float32, np.float32, (-10, 10)),
        (Probe(FP32, "MatMul", "fp32", SMALL), np.float32, np.float32, (-10, 10)),
    ],
)
def test_a_product_runs_in_the_runtime(
    tmp_path: Path, probe: Probe, fed: type, given: type, range_: tuple[int, int]
) -> None:
    subject = write_probe(probe, tmp_path)
    (answer,) = open_session(subject.graph, 1).run(None, dict(subject.feeds))
    assert subject.feeds["x"].dtype == fed
    assert subject.feeds["x"].shape == (4, 6)
    assert range_[0] <= subject.feeds["x"].min() < subject.feeds["x"].max() <= range_[1]
    assert (answer.shape, answer.dtype) == ((4, 8), given)
    assert np.abs(answer).max() > 0


def test_a_rate_is_of_the_fastest_run_and_the_limit_of_the_fastest_product() -> None:
    probes = (
        Probe(INT8, "MatMulInteger", "u8s8", (100, 100, 100)),
        Probe(INT8, "MatMulInteger", "u8s8", (100, 100, 200)),
        Probe(FP32, "MatMul", "fp32", (100, 100, 100)),
    )
    times = [[[0.01, 9.0], [0.02, 0.05]], [[0.03], [0.01]], [[0.1], [0.1]]]
    rates = read_rates(probes, {probe.name: blocks for probe, blocks in zip(probes, times, strict=True)})
    assert [rate.gmacs_per_s for rate in rates] == pytest.approx([100, 200, 10])
    assert best_rate(rates, INT8).shape == (100, 100, 200)
    assert best_rate(rates, FP32).gmacs_per_s == pytest.approx(10)
