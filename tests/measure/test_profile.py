from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from fake_devices import Emulator
from graphs import random_array, with_weights

from edgekit.measure.macs import Macs
from edgekit.measure.profile import find_changes, profile_sides, time_operators, unprofiled_because
from edgekit.runtimes.measuring import Place, Subject, Timing, Trace, TracedOperator, here
from edgekit.target import IntegerScheme

SHORT = Timing(seconds=0.0, rounds=3, block=2, warmup=1)
GRAPH = """
agraph (float[n, 16] x) => (float[n, 8] y) {
    h = MatMul(x, w)
    s = Softmax(h)
    y = MatMul(s, v)
}
"""
GELU = GRAPH.replace("Softmax", "Tanh")
CPU = "CPUExecutionProvider"


@pytest.fixture
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of products that take no time."""
    monkeypatch.setattr("edgekit.measure.limits.SHAPES", ((8, 8, 8), (16, 16, 16)))


def test_both_sides_are_profiled_in_one_run_with_the_limits(tmp_path: Path, small_products: None) -> None:
    onnx.save(with_weights(GRAPH, w=random_array(16, 32), v=random_array(32, 8)), tmp_path / "model.onnx")
    subjects = {"model": Subject(tmp_path / "model.onnx", {"x": random_array(4, 16)})}
    found = profile_sides({"before": subjects, "after": subjects}, here(1), IntegerScheme(), SHORT)
    assert found.because == ""
    assert found.runtime.startswith("onnxruntime 1.")
    assert len(found.rates) == 6
    assert found.int8 is not None
    assert found.int8.gmacs_per_s == max(rate.gmacs_per_s for rate in found.rates if rate.precision == "int8")
    for (one,) in (found.before, found.after):
        kinds = {operator.operator: operator for operator in one.operators}
        assert {name: kinds[name].nodes for name in kinds} == {"MatMul": 2, "Softmax": 1}
        assert (kinds["MatMul"].product, kinds["Softmax"].product) == (True, False)
        assert one.macs == kinds["MatMul"].macs == 4 * (16 * 32 + 32 * 8)
        assert one.n == 6
        assert sum(operator.ms for operator in one.operators) == pytest.approx(one.operators_ms)
        assert min(one.operators_ms, one.profiled_ms, one.latency_ms) > 0
        assert one.gmacs_per_s == pytest.approx(one.macs / one.latency_ms / 1e6)
        assert one.int8_share == pytest.approx(one.gmacs_per_s / found.int8.gmacs_per_s)
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]


def test_kernels_of_two_are_told_with_what_changed(tmp_path: Path, small_products: None) -> None:
    onnx.save(with_weights(GRAPH, w=random_array(16, 32), v=random_array(32, 8)), tmp_path / "model.onnx")
    onnx.save(with_weights(GELU, w=random_array(16, 32), v=random_array(32, 8)), tmp_path / "other.onnx")
    sides = {
        side: {"model": Subject(tmp_path / name, {"x": random_array(4, 16)})}
        for side, name in (("before", "model.onnx"), ("after", "other.onnx"))
    }
    found = profile_sides(sides, here(1), IntegerScheme(), SHORT, kernels=True)
    (before,), (after,) = found.before, found.after
    assert [one.operator for one in before.kernels] == ["MatMul", "Softmax", "MatMul"]
    assert {(one.precision, one.made) for one in before.kernels} == {("fp32", "file")}
    assert [one.shape for one in before.kernels] == [(4, 32), (4, 32), (4, 8)]
    assert sum(one.share for one in before.kernels) == pytest.approx(1.0)
    kinds = {one.operator: one for one in before.operators}
    assert (kinds["MatMul"].precisions, kinds["MatMul"].fused) == (("fp32",), 0)
    changes = {one.operator: one for one in find_changes(found.before, found.after)}
    assert changes["Softmax"].after is None
    assert changes["Softmax"].delta_ms == pytest.approx(-kinds["Softmax"].ms)
    assert changes["Tanh"].before is None
    deltas = [abs(one.delta_ms) for one in find_changes(found.before, found.after)]
    assert deltas == sorted(deltas, reverse=True)
    assert find_changes((before.model_copy(update={"component": "encoder"}),), (after,)) == ()


def test_operators_have_medians_shares_and_rates_the_longest_first() -> None:
    trace = Trace(
        operators=[
            TracedOperator(operator="Softmax", provider=CPU, nodes=1, ms=[0.2, 0.2, 9.0]),
            TracedOperator(operator="MatMul", provider=CPU, nodes=2, ms=[0.5, 0.6, 0.7]),
        ]
    )
    product, softmax = time_operators(trace, Macs(600_000, kinds={"MatMul": (2, 600_000)}))
    assert (product.operator, product.ms, product.share) == ("MatMul", 0.6, pytest.approx(0.75))
    assert product.gmacs_per_s == pytest.approx(1.0)
    assert (softmax.ms, softmax.share, softmax.gmacs_per_s) == (0.2, pytest.approx(0.25), None)


@pytest.mark.parametrize(
    ("place", "because"),
    [
        (here(1), ""),
        (here(1, "litert"), "the Python interface of litert tells no time per operator"),
        (here(1, provider="cuda"), "kernels of cuda run on after the call that onnxruntime takes the time of"),
        (Place(Emulator()), "toy-a76, emulated counts instructions and has no clock"),
        (Place(Emulator("a board", timed=True)), "operators are profiled on this machine only"),
    ],
)
def test_what_cannot_be_profiled_is_said_with_its_reason(place: Place, because: str) -> None:
    assert unprofiled_because(place) == because
    if because:
        found = profile_sides({"after": {}}, place, IntegerScheme(), SHORT)
        assert (found.because, found.after, found.int8) == (because, (), None)
