from __future__ import annotations

import math
from dataclasses import replace

import pytest
from distillation.test_trainer import SCHEDULE

from edgekit.distillation.timetable import Change, Timetable

ONE = replace(SCHEDULE, learning_rate=1.0, warmup=0.1)


class Clock:
    """Steps of a fixed length in a time box."""

    def __init__(self, seconds: float, step: float) -> None:
        self.seconds, self.step, self.now = seconds, step, 0.0
        self.told: list[Change] = []

    def table(self, planned: int, **values: object) -> Timetable:
        return Timetable(ONE, planned, left=self.left, record=self.record, clock=lambda: self.now, **values)  # type: ignore[arg-type]

    def left(self) -> float:
        return self.seconds - self.now

    def record(self, change: Change) -> Change:
        self.told.append(change)
        return change


def train(clock: Clock, table: Timetable, begin: int = 0) -> tuple[int, list[float]]:
    """Steps that were done in all, and the rate of each."""
    table.begin(begin)
    done, rates = begin, []
    while done < table.steps:
        rates.append(table.rate(done))
        clock.now += clock.step
        done += 1
        table.advance(done)
    return done, rates


def test_without_a_clock_or_with_time_enough_the_plan_holds() -> None:
    plain = Timetable(ONE, 200)
    roomy = Clock(1000, step=1.0)
    done, rates = train(roomy, roomy.table(200))
    assert done == plain.steps == 200
    assert rates == [plain.rate(step) for step in range(200)] == [ONE.rate(step, 200) for step in range(200)]
    assert roomy.told == []


def test_a_plan_that_will_not_hold_is_shortened_and_the_rate_falls_to_its_new_end() -> None:
    clock = Clock(100, step=1.0)
    done, rates = train(clock, clock.table(200))
    (change,) = clock.told
    assert change.at == 20  # enough steps tell the pace, and the rate has risen
    assert done == change.steps == 20 + int(0.95 * 80)
    assert rates[:21] == [ONE.rate(step, 200) for step in range(21)]
    assert rates[20:] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 76)) for step in range(76)])
    assert clock.left() > 0


def test_a_machine_that_becomes_slower_shortens_the_plan_again() -> None:
    clock = Clock(300, step=1.0)
    table = clock.table(250)
    table.begin(0)
    done = 0
    while done < table.steps:
        clock.step = 1.0 if done < 100 else 2.0
        clock.now += clock.step
        done += 1
        table.advance(done)
    assert len(clock.told) >= 2
    assert [change.steps for change in clock.told] == sorted((change.steps for change in clock.told), reverse=True)
    assert done == clock.told[-1].steps < 250
    assert clock.left() > -2 * clock.step


def test_no_time_left_ends_it_at_once_but_not_before_it_is_a_training() -> None:
    late = Clock(0, step=1.0)
    assert train(late, late.table(1000))[0] == 25  # 2.5 % of the plan
    assert late.told == [Change(25, 25)]
    short = Clock(5, step=1.0)
    assert train(short, short.table(16))[0] == 10


def test_what_was_decided_is_done_again_at_the_same_rates() -> None:
    clock = Clock(100, step=1.0)
    done, rates = train(clock, clock.table(200))
    known = Timetable(ONE, 200, known=clock.told)
    assert train(Clock(0, step=1.0), known) == (done, rates)
    later = Timetable(ONE, 200, known=clock.told)
    assert train(Clock(0, step=1.0), later, begin=50) == (done, rates[50:])


def test_no_new_change_is_made_before_a_known_one() -> None:
    clock = Clock(30, step=1.0)
    table = clock.table(200, known=[Change(60, 90)])
    table.begin(40)
    clock.now += 25
    table.advance(45)
    assert table.steps == 200
    table.advance(60)
    assert table.steps == 90


@pytest.mark.parametrize(("at", "first"), [(40, 80), (90, 90), (170, 160)])
def test_the_last_share_that_is_rounded_moves_with_the_end(at: int, first: int) -> None:
    table = Timetable(replace(ONE, rounded=0.2), 200, known=[Change(at, 100 if at < 100 else 180)])
    assert table.first_rounded == 160
    table.begin(at)
    assert table.first_rounded == first
