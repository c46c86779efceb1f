"""How long training takes, by what was timed."""

from __future__ import annotations

import pytest

from edgekit.search.pace import Pace, beside_training, checks_of, evaluate_every, usual_step
from edgekit.trials import TrialRecord


def trial(number: int, **figures: object) -> TrialRecord:
    return TrialRecord.model_validate({"number": number, "kind": "full", "stages": (), **figures})


def test_a_step_is_that_of_the_nearest_student_that_was_timed() -> None:
    pace = Pace.of([trial(0), trial(1, step_seconds=0.2), trial(2, kept=0.4, step_seconds=0.16, check_seconds=4.0)])
    assert pace is not None
    assert pace.check == 4.0
    assert pace.step(1.0) == 0.2
    assert pace.step(0.4) == 0.16
    assert pace.step(0.26) == pytest.approx(0.16 * 1.26 / 1.4)
    assert pace.step(0.8) == pytest.approx(0.2 * 1.8 / 2)
    later = Pace((*pace.timed, (0.4, 0.3)))
    assert later.step(0.4) == 0.3  # the machine has become busy


def test_nothing_is_known_before_a_step_was_timed() -> None:
    assert Pace.of([trial(0)]) is None


@pytest.mark.parametrize(("steps", "every", "checks"), [(207, 207, 1), (499, 499, 1), (500, 300, 2), (4200, 700, 6)])
def test_long_trainings_are_looked_at_on_the_way(steps: int, every: int, checks: int) -> None:
    assert evaluate_every(steps) == every
    assert checks_of(steps) == checks


def test_a_usual_step_is_that_of_a_whole_pass_and_not_of_the_few_that_were_timed() -> None:
    lengths = [4, 6, 60, 10, 20, 20, 3, 4, 4, 4]
    batches = [[2 * index, 2 * index + 1] for index in range(5)]
    whole = (6 + 60 + 20 + 4 + 4) / 5
    assert usual_step(batches, lengths.__getitem__, 4) == pytest.approx(whole / ((60 + 20) / 2))
    assert usual_step(batches, lengths.__getitem__, 2) == 1.0  # none was timed between the first and the last
    assert usual_step(batches, lambda _: 1, 4) == 1.0


@pytest.mark.parametrize("seconds", [0.0, 5.0, 60.0, 107.0, 900.0])
def test_as_many_steps_are_planned_as_fit_with_their_looks(seconds: float) -> None:
    pace = Pace(((1.0, 0.2),), check=5.0)
    steps = pace.steps(seconds, 1.0)
    assert pace.seconds(steps, 1.0) <= seconds + 5.0 * (steps == 500)
    assert pace.seconds(steps, 1.0) > seconds - 11.0


def test_what_is_beside_a_training_is_what_is_no_step_and_no_look_of_it() -> None:
    one = trial(0, steps=1000, step_seconds=0.1, check_seconds=5.0, seconds=150.0, look_seconds=20.0)
    assert beside_training(one) == pytest.approx(150 - 100 - 4 * 5 + 20)
