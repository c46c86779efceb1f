"""The time box over several attempts, and the steps that are timed in passing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.progress import Silent
from edgekit.search.box import Box, OutOfTimeError, Ticking, Watched


class Hands:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_was_spent_is_kept_over_attempts(tmp_path: Path) -> None:
    clock = Hands()
    box = Box(tmp_path / "box.json", 60.0, clock)
    clock.now += 20
    box.tick()
    clock.now += 2  # not written any more: the process is killed
    other = Hands()
    other.now = 5.0
    again = Box(tmp_path / "box.json", 60.0, other)
    assert (again.attempts, again.spent, again.left) == (2, 20.0, 40.0)
    other.now += 50
    assert again.left == -10.0


def test_a_damaged_box_is_a_new_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, clock = tmp_path / "box.json", Hands()
    Box(file, 60.0, clock)
    file.write_text(file.read_text().replace('"spent": 0', '"spent": 9'))
    assert (Box(file, 60.0, clock).attempts, Box(file, 60.0, clock).spent) == (1, 0.0)
    assert "box.json is damaged (it changed)" in caplog.text


def advance(progress: Watched, clock: Hands, steps: int) -> None:
    for _ in range(steps):
        clock.now += 1.0
        progress.advance(1)


def watched(tmp_path: Path, seconds: float, every: int = 0) -> tuple[Watched, Hands, Box]:
    clock = Hands()
    box = Box(tmp_path / "box.json", seconds, clock)
    return Watched(Silent(), box, every), clock, box


def test_steps_are_timed_without_the_first_and_the_last(tmp_path: Path) -> None:
    progress, clock, _ = watched(tmp_path, 1000.0)
    progress.start("distill", 10)
    for seconds in (9.0, *[0.5] * 8, 30.0):
        clock.now += seconds
        progress.advance(1)
    progress.finish()
    assert progress.step_seconds == 0.5
    assert progress.check_seconds == 29.5


def test_looks_on_the_way_are_told_apart_from_steps(tmp_path: Path) -> None:
    progress, clock, _ = watched(tmp_path, 1000.0, every=4)
    progress.start("distill", 10)
    progress.advance(1, "of an earlier attempt")
    for step in range(2, 11):
        clock.now += 0.5 + (6.0 if step % 4 == 0 else 3.0 if step == 10 else 0.0)
        progress.advance(1)
    progress.finish()
    assert progress.step_seconds == pytest.approx(0.5)
    assert progress.check_seconds == pytest.approx(5.0)


def test_whatever_is_told_keeps_the_box(tmp_path: Path) -> None:
    clock = Hands()
    box = Box(tmp_path / "box.json", 100.0, clock)
    told = Ticking(Silent(), box)
    for spent, tell in ((10.0, told.start), (20.0, told.advance), (30.0, told.finish)):
        clock.now = 100.0 + spent
        tell("a look") if tell == told.start else tell()  # type: ignore[operator]  # the others need nothing
        assert json.loads((tmp_path / "box.json").read_text())["spent"] == spent


@pytest.mark.parametrize(("label", "steps"), [("evaluate: distill", 10), ("distill", 5)])
def test_nothing_is_timed_beside_training_or_of_too_few_steps(tmp_path: Path, label: str, steps: int) -> None:
    progress, clock, _ = watched(tmp_path, 1000.0)
    progress.start(label, steps)
    advance(progress, clock, steps)
    progress.finish()
    assert progress.step_seconds is None


def test_training_that_does_not_end_when_its_time_is_up_is_ended(tmp_path: Path) -> None:
    progress, clock, box = watched(tmp_path, 30.0)
    box.kept_back = 10.0
    assert box.for_training() == 20.0
    progress.start("distill", 100)
    with pytest.raises(OutOfTimeError, match="the time was up after 41 steps"):  # 20 s to come to an end by itself
        advance(progress, clock, 100)


def test_other_work_is_never_ended(tmp_path: Path) -> None:
    progress, clock, box = watched(tmp_path, 30.0)
    progress.start("evaluate: quantize", 100)
    advance(progress, clock, 100)
    progress.finish()
    assert box.left == -70.0
