"""Which rewrites stay, by what was measured with and without each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgekit.measure.statistics import Interval
from edgekit.optimization import REWRITES
from edgekit.stages import optimize
from edgekit.stages.base import Remembered
from edgekit.stages.optimize import OptimizeSettings, pays


@pytest.mark.parametrize(
    ("ratio", "low", "high", "proven", "in_doubt"),
    [
        (1.09, 1.03, 1.15, True, True),
        (1.02, 0.98, 1.06, False, True),
        (1.005, 1.001, 1.01, False, True),
        (0.995, 0.99, 0.999, False, True),
        (0.94, 0.9, 0.97, False, False),
    ],
)
def test_a_rewrite_has_to_be_proven_unless_it_stays_in_doubt(
    ratio: float, low: float, high: float, *, proven: bool, in_doubt: bool
) -> None:
    interval = Interval(low, high, 0.99)
    assert pays(REWRITES["packed"], ratio, interval) == proven
    assert pays(REWRITES["residual"], ratio, interval) == in_doubt


def test_what_leaves_out_work_stays_in_doubt_and_what_moves_it_does_not() -> None:
    assert [name for name, rewrite in REWRITES.items() if rewrite.stays_in_doubt] == [
        "first_token",
        "attention",
        "residual",
    ]


def test_a_decision_holds_for_what_was_tried_then(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[list[str]] = []

    def measure(artifact: Any, name: str, candidates: list[str], *others: Any) -> dict[str, Any]:
        measured.append(candidates)
        return {one: {"pays": one != "packed"} for one in candidates}

    monkeypatch.setattr(optimize, "_measure", measure)
    decisions = Remembered()

    def chosen(candidates: list[str], *stages: str) -> list[str]:
        artifact = SimpleNamespace(manifest=SimpleNamespace(stages=[SimpleNamespace(stage=one) for one in stages]))
        job = SimpleNamespace(clock=object(), decisions=decisions)
        return optimize._choose(cast("Any", artifact), "model", candidates, OptimizeSettings(), cast("Any", job))[0]

    assert chosen(["first_token", "packed"], "export") == ["first_token"]
    assert chosen(["packed"], "export") == []  # of another artifact of the run
    assert chosen(["packed", "residual"], "export") == ["residual"]  # in which more can be applied
    assert chosen(["packed"], "export", "optimize") == []  # by a second such stage
    assert measured == [["first_token", "packed"], ["packed", "residual"], ["packed"]]
    assert [*decisions.known] == ["optimize.model", "optimize.model.packed+residual", "optimize.model.2"]
