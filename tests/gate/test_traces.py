from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.gate.traces import slower_after, warm_after


def steady(n: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Figures that scatter by a hundredth; drawn by a generator of their own, whatever ran before."""
    return np.exp(np.random.default_rng(seed).normal(0, 0.01, n))


@pytest.mark.parametrize("runs", [10, 60, 200])
def test_warming_up_is_cut(runs: int) -> None:
    trace = steady(1000)
    trace[:runs] *= 1.5
    cut = warm_after(trace.tolist())
    assert runs - 5 <= cut <= runs + 150
    assert np.median(trace[cut:]) == pytest.approx(1.0, abs=0.005)


def test_a_steady_trace_and_a_short_one_are_kept() -> None:
    assert warm_after([1.0] * 1000) == 0
    assert warm_after([9.0, *[1.0] * 20]) == 0
    fast_first = [0.5] * 100 + [1.0] * 900
    assert warm_after(fast_first) == 0


def test_throttling_is_found_where_it_begins() -> None:
    trace = steady(200)
    trace[120:] *= 1.2
    found = slower_after(trace.tolist())
    assert found is not None
    assert found.at == pytest.approx(120, abs=2)
    assert found.by == pytest.approx(0.2, abs=0.02)


def test_what_ends_again_or_is_faster_or_small_is_no_throttling() -> None:
    burst, faster, small = (steady(200, seed) for seed in range(3))
    burst[80:120] *= 1.5
    faster[100:] /= 1.3
    small[100:] *= 1.02
    assert [slower_after(trace.tolist()) for trace in (burst, faster, small)] == [None] * 3
    assert slower_after([1.0] * 10 + [2.0] * 10) is None  # too short to tell
