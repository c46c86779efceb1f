from __future__ import annotations

import pytest

from edgekit.measure.elsewhere import SAMPLES, affordable


@pytest.mark.parametrize(
    ("batch", "batch_ms", "samples"),
    [
        (1, 0.0, 128),
        (1, 22_000.0, 128),  # 128 of them take 2816 s of the 2880 s
        (1, 23_000.0, 125),
        (1, 28_000.0, 102),
        (1, 100_000.0, 28),
        (8, 100_000.0, 128),
        (8, 500_000.0, 40),
        (1, 1e9, 1),  # whoever runs it says that there was no answer in time
    ],
)
def test_samples_are_as_many_as_there_is_time_for(batch: int, batch_ms: float, samples: int) -> None:
    assert affordable(SAMPLES, batch, batch_ms, 3600.0) == samples
