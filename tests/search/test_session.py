"""The whole of a search in a world of formulas, on a clock of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from search.noisy import EVALUATION, WORLDS, results
from search.world import (
    FILL,
    LATENCY,
    MEASURES,
    REACH,
    SPACE,
    UNTRAINED,
    Killed,
    World,
    kinds,
    session,
    shape_of,
    with_levers,
)

from edgekit.errors import ModelError
from edgekit.recipe import Limits
from edgekit.render.search import search_lines
from edgekit.search.session import Book, Session
from edgekit.search.space import training_of
from edgekit.search.spending import share_of
from edgekit.summed import find_damage
from edgekit.trials import Search, SearchRecord, TrialRecord

HOUR = Limits(max_drop=0.01, time=3600.0)


def test_first_trial_is_published_before_anything_is_trained(tmp_path: Path) -> None:
    world = World(kill_at=1)
    with pytest.raises(Killed):
        session(tmp_path, world).run()
    assert world.published == [0]
    assert world.now < 150


def test_without_limits_on_cost_it_goes_faster_while_the_loss_allows(tmp_path: Path) -> None:
    world = World(need=0.004)
    search = session(tmp_path, world, limits=HOUR)
    best = search.run()
    record = search.record()
    fulls = [trial for trial in record.trials if trial.kind == "full"]
    kept = [trial.kept or 1.0 for trial in fulls]
    assert len(fulls) == 9
    assert kept == sorted(kept, reverse=True)
    assert best.latency_ms == min(trial.latency_ms for trial in fulls if trial.latency_ms)
    assert [trial.parent for trial in fulls[:8]] == [None, *(trial.number for trial in fulls[:7])]  # each from the last
    assert len(training_of(fulls[7].stages)) == 16
    assert record.looks == 5
    # the last look is kept for the result; those between go by what they lose on the selection split
    assert world.published == world.looked == [0, *(trial.number for trial in (*fulls[:3], best))]
    assert record.ended == "no smaller shape is left"
    assert not record.nearest


def test_a_loss_that_is_too_large_makes_it_longer_and_then_slower(tmp_path: Path) -> None:
    search = session(tmp_path, World(need=0.06), limits=HOUR)
    best = search.run()
    first, second, third, *_ = [trial for trial in search.record().trials if trial.kind == "full"]
    assert first.state == "failed"
    assert first.reason.startswith("loses 1.")
    assert (second.parent, second.kept, second.layers) == (first.number, first.kept, first.layers)
    assert (third.kept or 0) != first.kept
    assert best.kind == "full"
    assert (best.drop or 1) <= 0.01


def test_a_loss_that_is_far_too_large_makes_it_slower_at_once(tmp_path: Path) -> None:
    search = session(tmp_path, World(need=0.15), limits=HOUR)
    first, second, *_ = [trial for trial in _ran(search).trials if trial.kind == "full"]
    assert (first.drop or 0) > 0.015
    assert second.parent is None
    assert (second.kept or 0) > (first.kept or 1)


def _ran(search: Session) -> SearchRecord:
    search.run()
    return search.record()


class Steep(World):
    """As MiniLM did on SST-2: little is lost above a third of the cost, and much below a quarter, however long."""

    def loss(self, kept: float, steps: int) -> float:
        return self.base_drop if kept == 1 else 0.0034 + self.need * math.exp(-(kept - 0.25) / 0.03)


@pytest.mark.parametrize(("need", "kept"), [(0.0115, 0.265), (0.04, 0.302), (0.004, 0.234)])
def test_between_a_good_student_and_a_bad_one_the_fastest_that_is_good_enough_is_found(
    tmp_path: Path, need: float, kept: float
) -> None:
    space = replace(with_levers(), measures=True)
    record = _ran(session(tmp_path, Steep(need=need), limits=HOUR, space=space))
    best = record.trials[record.chosen]
    assert best.kind == "full"
    assert (best.drop or 1) <= 0.01
    assert kept * 0.999 <= (best.kept or 0) <= kept * 1.07  # what loses 1.0 points is the least that can be
    assert record.looks <= 5
    assert all(trial.drop is None for trial in record.trials if trial.kind == "extra")  # no look is spent on these


def test_students_after_the_first_are_ranked_on_the_selection_split_and_the_last_look_is_at_the_result(
    tmp_path: Path,
) -> None:
    world = Steep(need=0.008)
    record = _ran(session(tmp_path, world, limits=HOUR, space=MEASURES))
    fulls = [trial for trial in record.trials if trial.kind == "full"]
    unseen = [trial for trial in fulls if trial.drop is None]
    assert unseen
    assert world.looked[-1] == record.chosen
    assert all(trial.state in ("failed", "dominated", "kept") and trial.reason for trial in unseen)


def test_a_budget_is_used_up(tmp_path: Path) -> None:
    limits = Limits(max_drop=0.01, max_ms=7.0, time=3600.0)
    search = session(tmp_path, World(need=0.01), limits=limits, search=FILL)
    best = search.run()
    record = search.record()
    assert record.ended == "every limit is kept"
    assert 0.9 * 7.0 <= (best.latency_ms or 0) <= 7.0
    assert (best.drop or 1) <= 0.01
    assert "timing" in kinds(record.trials)
    timings = [trial for trial in record.trials if trial.kind == "timing"]
    assert all(trial.steps == 0 and trial.state == "timed" for trial in timings)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_bisection_finds_a_shape_within_the_window_in_few_timings(tmp_path: Path, share: float) -> None:
    limits = Limits(max_drop=0.01, max_ms=14.0 * share, time=3600.0)
    search = session(tmp_path, World(need=0.0), limits=limits, search=FILL)
    best = search.run()
    assert 0.9 <= (best.latency_ms or 0) / (14.0 * share) <= 1.0
    assert kinds(search.record().trials).count("timing") <= 4


def test_a_budget_that_needs_no_pruning_is_met_without_training(tmp_path: Path) -> None:
    world = World()
    search = session(tmp_path, world, limits=Limits(max_drop=0.01, max_ms=20.0, time=3600.0), search=FILL)
    assert search.run().number == 0
    assert search.record().ended == "every limit is kept"
    assert len(world.done) == 1


@pytest.mark.parametrize("used", [0.95, 0.8, 0.52, 0.3])
def test_what_is_left_of_a_budget_is_spent_on_layers_in_float(tmp_path: Path, used: float) -> None:
    world = World()
    limits = Limits(max_drop=0.01, max_ms=14.0 / used, time=3600.0)
    record = _ran(session(tmp_path, world, limits=limits, search=FILL, space=replace(SPACE, spends=True)))
    best = record.trials[record.chosen]
    assert record.ended == "every limit is kept"
    assert 0.9 <= (best.latency_ms or 0) * used / 14.0 <= 1.0
    assert set(kinds(record.trials)) <= {"quantized", "timing"}
    assert (share_of(best) > 0) == (used < 0.9)
    assert len(record.trials) <= 5
    assert world.looked == ([0] if used > 0.9 else [0, best.number])


def test_a_budget_above_what_float_takes_is_left_over(tmp_path: Path) -> None:
    limits = Limits(max_drop=0.01, max_ms=140.0, time=3600.0)
    record = _ran(session(tmp_path, World(), limits=limits, search=FILL, space=replace(SPACE, spends=True)))
    assert [share_of(trial) for trial in record.trials] == [0.0, 0.5, 1.0, 1.0]
    assert record.chosen == 3


def test_layers_in_float_that_bring_the_answers_no_nearer_are_not_the_result(tmp_path: Path) -> None:
    class InVain(World):
        def _figures(self, trial: TrialRecord) -> TrialRecord:
            found = super()._figures(trial)
            return found.model_copy(update={"divergence": 0.02 + 0.001 * share_of(trial)})

    limits = Limits(max_drop=0.01, max_ms=28.0, time=3600.0)
    record = _ran(session(tmp_path, InVain(), limits=limits, search=FILL, space=replace(SPACE, spends=True)))
    assert record.chosen == 0
    assert record.ended == "every limit is kept"


SPENDS = Limits(max_drop=0.01, max_ms=28.0, time=3600.0)


def test_layers_in_float_that_cost_more_than_was_timed_become_fewer(tmp_path: Path) -> None:
    class FallsBack(World):
        def _figures(self, trial: TrialRecord) -> TrialRecord:
            found = super()._figures(trial)
            more = 1.06 if trial.kind == "quantized" and share_of(trial) else 1.0
            return found.model_copy(update={"latency_ms": (found.latency_ms or 0.0) * more})

    record = _ran(session(tmp_path, FallsBack(), limits=SPENDS, search=FILL, space=replace(SPACE, spends=True)))
    first, second = [trial for trial in record.trials if trial.kind == "quantized" and trial.number]
    assert share_of(first) > share_of(second)
    assert record.chosen == second.number
    assert 0.9 <= (second.latency_ms or 0) / 28.0 <= 1.0


@pytest.mark.parametrize("looked", [False, True])
def test_layers_in_float_that_fail_are_not_tried_again(tmp_path: Path, *, looked: bool) -> None:
    class Fails(World):
        def _figures(self, trial: TrialRecord) -> TrialRecord:
            failed = not looked and trial.kind == "quantized" and share_of(trial)
            return super()._figures(trial).model_copy(update={"state": "failed"} if failed else {})

        def look(self, trial: TrialRecord) -> TrialRecord:
            if looked and share_of(trial):
                raise ModelError("its answers are no numbers", id="model.no-numbers", why="nan")
            return super().look(trial)

    record = _ran(session(tmp_path, Fails(), limits=SPENDS, search=FILL, space=replace(SPACE, spends=True)))
    assert kinds(record.trials) == ["quantized", "timing", "timing", "quantized"]
    assert record.chosen == 0
    assert record.ended == "every limit is kept"
    assert record.looks == 1 + looked


def test_an_impossible_limit_ends_at_the_nearest_point(tmp_path: Path) -> None:
    limits = Limits(max_drop=0.01, max_ms=0.5, time=3600.0)
    search = session(tmp_path, World(), limits=limits, search=FILL)
    best = search.run()
    record = search.record()
    assert record.nearest
    assert record.chosen == best.number
    assert best.reason == ""
    assert record.trials[best.number].state == "kept"
    assert record.trials[best.number].reason.startswith("nearest to the limits: ")
    assert "of what is allowed" in record.trials[best.number].reason
    cheapest = min(trial.latency_ms for trial in record.trials if trial.drop is not None and trial.latency_ms)
    assert best.latency_ms == cheapest


@pytest.mark.parametrize("minutes", [4, 5, 10, 30, 60])
def test_the_box_holds(tmp_path: Path, minutes: int) -> None:
    world = World(need=0.004)
    search = session(tmp_path, world, limits=Limits(max_drop=0.01, time=minutes * 60.0))
    search.run()
    assert search.box.spent + 45 <= minutes * 60  # with the end, which comes after
    trained = sum(trial.steps for trial in world.done if trial.kind == "full")
    assert trained >= 50 * (minutes - 4)


def test_more_time_trains_more_and_prunes_more(tmp_path: Path) -> None:
    kept = []
    for minutes in (5, 15, 60):
        world = World(need=0.0)
        folder = tmp_path / str(minutes)
        folder.mkdir()
        session(folder, world, limits=Limits(max_drop=0.01, time=minutes * 60.0)).run()
        kept.append(next(shape_of(trial)[0] for trial in world.done if trial.kind == "full"))
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 0.5
    assert kept[-1] == pytest.approx(0.3)


class Kept(World):
    """Notes what is kept back of the box whenever a trial begins."""

    search: Session

    def submit(self, trials: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
        self.kept_back = [*getattr(self, "kept_back", []), self.search.box.kept_back]
        yield from super().submit(trials)


def test_a_killed_search_goes_on_with_the_same_trial_and_the_time_that_is_left(tmp_path: Path) -> None:
    whole = World(need=0.004)
    (tmp_path / "whole").mkdir()
    expected = session(tmp_path / "whole", whole, limits=HOUR)
    expected.run()
    killed = World(need=0.004, kill_at=8)
    (tmp_path / "killed").mkdir()
    with pytest.raises(Killed):
        session(tmp_path / "killed", killed, limits=HOUR).run()
    spent = killed.now - 30  # the last beat before it was killed
    second = Kept(need=0.004)
    search = second.search = session(tmp_path / "killed", second, limits=HOUR)
    assert search.box.attempts == 2
    assert search.box.spent == pytest.approx(spent, abs=5.0)
    begun = search.book.unfinished
    assert begun is not None
    assert begun.number == 8
    search.run()
    assert second.kept_back[0] > 45  # also in the trial that was begun
    assert second.done[0].stages == begun.stages
    assert 0 not in second.published  # what lies there is better than the first artifact
    assert [trial.stages for trial in search.book.trials[:9]] == [trial.stages for trial in expected.book.trials[:9]]
    assert search.box.spent <= HOUR.time  # type: ignore[operator]  # it is set


def test_a_look_that_is_repeated_from_the_cache_does_not_tell_what_looks_take(tmp_path: Path) -> None:
    class Cached(World):
        def look(self, trial: TrialRecord) -> TrialRecord:
            self.now -= 60 if self.looked else 0  # its straight line is in the cache by then
            return super().look(trial)

    with pytest.raises(Killed):
        session(tmp_path, World(kill_at=0), limits=HOUR).run()
    world = Cached(looked=[0])
    search = session(tmp_path, world, limits=HOUR)
    search.run()
    assert search.book.trials[0].look_seconds == 60


def test_an_output_that_does_not_hold_the_best_so_far_is_given_it_before_anything_else(tmp_path: Path) -> None:
    first = World(need=0.004, kill_at=9)
    with pytest.raises(Killed):
        session(tmp_path, first, limits=HOUR).run()
    elsewhere = World(need=0.004, holds=0, kill_at=9)  # another output, with an artifact that is worse
    search = session(tmp_path, elsewhere, limits=HOUR)
    best = search.now.best
    assert best is not None
    assert best.number > 0
    with pytest.raises(Killed):
        search.run()
    assert elsewhere.published == [best.number]
    here = World(need=0.004, holds=best.number, kill_at=9)
    with pytest.raises(Killed):
        session(tmp_path, here, limits=HOUR).run()
    assert here.published == []


def test_a_trial_that_was_to_be_looked_at_when_it_was_killed_is_looked_at_first(tmp_path: Path) -> None:
    class DiesLooking(World):
        def look(self, trial):  # type: ignore[no-untyped-def]  # as above
            if trial.number:
                raise Killed
            return super().look(trial)

    with pytest.raises(Killed):
        session(tmp_path, DiesLooking(need=0.004), limits=HOUR).run()
    second = World(need=0.004)
    search = session(tmp_path, second, limits=HOUR)
    begun = search.book.trials[-1]
    assert begun.kind == "full"
    search.run()
    assert second.looked[0] == begun.number
    assert begun.number not in [trial.number for trial in second.done]


def test_the_evaluation_split_is_looked_at_five_times_at_most(tmp_path: Path) -> None:
    world = Steep(need=0.0115)
    search = session(tmp_path, world, limits=Limits(max_drop=0.01, time=36000.0), space=MEASURES)
    search.run()
    assert len(world.looked) == search.record().looks <= 5
    assert search.record().ended == "what is fast enough and what is good enough have met"


def test_the_first_look_that_fails_ends_the_run(tmp_path: Path) -> None:
    class Broken(World):
        def look(self, trial: TrialRecord) -> TrialRecord:
            raise ModelError("its answers are no numbers", id="model.no-numbers")

    with pytest.raises(ModelError, match="no numbers"):
        session(tmp_path, Broken(), limits=HOUR).run()


def test_the_first_trial_costs_what_its_artifact_does_where_a_stage_was_undone(tmp_path: Path) -> None:
    class Undone(World):
        def look(self, trial: TrialRecord) -> TrialRecord:
            figures = {"latency_ms": 30.0, "size_bytes": 91_000_000} if trial.number == 0 else {}
            return super().look(trial).model_copy(update=figures)

    limits = Limits(max_drop=0.01, max_mb=30.0, time=3600.0)
    search = session(tmp_path, Undone(), limits=limits, search=FILL, space=UNTRAINED)
    record = _ran(search)
    assert (record.trials[0].latency_ms, record.trials[0].size_bytes) == (30.0, 91_000_000)
    assert record.chosen != 0


def test_what_would_lose_too_much_by_the_other_students_is_not_looked_at(tmp_path: Path) -> None:
    world = World(need=0.3)
    search = session(tmp_path, world, limits=HOUR)
    search.run()
    fulls = [trial for trial in search.record().trials if trial.kind == "full"]
    hopeless = [trial for trial in fulls if trial.drop is None and trial.state == "failed"]
    assert hopeless
    assert all(trial.reason.startswith("would lose about ") for trial in hopeless)
    assert not {trial.number for trial in hopeless} & set(world.looked)


def test_one_unlucky_look_does_not_spoil_what_comes_after_it(tmp_path: Path) -> None:
    class Unlucky(Steep):
        def look(self, trial: TrialRecord) -> TrialRecord:
            found = super().look(trial)
            if len(self.looked) != 2:
                return found
            return found.model_copy(update={"drop": (found.drop or 0) + 0.012, "drop_high": (found.drop or 0) + 0.02})

    world = Unlucky(need=0.0001)
    record = _ran(session(tmp_path, world, limits=HOUR, space=MEASURES))
    first, *later = [trial for trial in record.trials if trial.kind == "full"]
    assert first.number in world.looked
    assert (first.drop or 0) > 0.015  # and every other would lose as much, if that were sure
    assert record.chosen in [trial.number for trial in later]
    assert record.looks == 5


@pytest.mark.parametrize("name", WORLDS)
def test_looks_that_err_leave_no_search_without_a_student(name: str) -> None:
    found = list(results(WORLDS[name], 0.01, searches=4))
    assert all(student for _, student, _ in found)
    assert min(faster for faster, _, _ in found) > 1.2
    assert max(lost for _, _, lost in found) < 0.01 + 2 * EVALUATION


def test_without_training_every_way_to_quantize_is_tried(tmp_path: Path) -> None:
    search = session(tmp_path, World(), space=UNTRAINED)
    search.run()
    methods = [dict(table).get("method") for trial in search.book.trials for table in trial.stages[2:3]]
    assert methods == [None, "static", "fp16", None]
    assert [table["stage"] for table in search.book.trials[-1].stages] == ["export", "optimize", "verify"]


class OnlyStatic(World):
    """INT8 loses too much unless its ranges are static, trained or not."""

    def look(self, trial: TrialRecord) -> TrialRecord:
        found = super().look(trial)
        return found.model_copy(update={"drop": (found.drop or 0) + self._more(trial)})

    def _figures(self, trial: TrialRecord) -> TrialRecord:
        found = super()._figures(trial)
        if found.selection_drop is None:
            return found
        return found.model_copy(update={"selection_drop": found.selection_drop + self._more(trial)})

    def _more(self, trial: TrialRecord) -> float:
        tables = [table for table in trial.stages if table["stage"] == "quantize"]
        return 0.0 if not tables or tables[0].get("method") == "static" else 0.02


def test_a_quantization_that_loses_too_much_is_replaced_before_training_and_in_students(tmp_path: Path) -> None:
    world = OnlyStatic(need=0.004)
    record = _ran(session(tmp_path, world, limits=HOUR, space=with_levers()))
    assert kinds(record.trials)[:3] == ["quantized", "quantized", "extra"]
    assert world.looked[:2] == [0, 1]
    later = [trial for trial in record.trials if trial.kind in ("extra", "proxy", "full")]
    quantized = [table for trial in later for table in trial.stages if table["stage"] == "quantize"]
    assert {table["method"] for table in quantized} == {"static"}
    assert record.trials[record.chosen].kind == "full"


class Unverified(OnlyStatic):
    """Of the ways to quantize, what comes of those that lose little does not verify."""

    def look(self, trial: TrialRecord) -> TrialRecord:
        if trial.number and not self._more(trial):
            raise ModelError("its answers are no numbers", id="model.no-numbers", why="nan")
        return super().look(trial)


def test_a_look_that_fails_is_a_trial_that_failed_and_what_was_published_stays(tmp_path: Path) -> None:
    world = Unverified()
    search = session(tmp_path, world, space=UNTRAINED, limits=HOUR)
    record = _ran(search)
    assert record.chosen == 0
    assert world.published == [0]
    unverified = [trial for trial in record.trials if trial.number and trial.look_seconds]
    assert [trial.number for trial in unverified] == [1, 3]  # static, and not quantized at all
    assert {(trial.state, trial.reason) for trial in unverified} == {("failed", "its answers are no numbers: nan")}
    again = session(tmp_path, OnlyStatic(), space=UNTRAINED, limits=HOUR)
    assert again.book.unfinished is None
    assert _ran(again).trials == record.trials  # it goes on, and does not look at them again


def test_a_student_that_does_not_verify_ends_the_search_with_the_best_so_far(tmp_path: Path) -> None:
    class Invalid(World):
        def look(self, trial: TrialRecord) -> TrialRecord:
            if trial.kind == "full":
                raise ModelError("its answers are no numbers", id="model.no-numbers", why="nan")
            return super().look(trial)

    record = _ran(session(tmp_path, Invalid(), limits=HOUR))
    assert record.chosen == 0
    assert record.ended == f"trial {record.trials[-1].number} failed: its answers are no numbers: nan"


def test_ways_to_quantize_are_ranked_before_one_is_looked_at(tmp_path: Path) -> None:
    world = World(base_drop=0.02)
    search = session(tmp_path, world, limits=HOUR)
    search.run()
    assert kinds(search.book.trials)[:4] == ["quantized"] * 4
    assert not set(world.looked) & {1, 2, 3}  # by the selection split they lose as much


def test_savings_of_size_come_first_and_stay_in_every_later_trial(tmp_path: Path) -> None:
    search = session(tmp_path, World(need=0.004), search=Search(objective="size"), space=with_levers(), limits=HOUR)
    search.run()
    trials = search.record().trials
    assert kinds(trials)[:3] == ["quantized", "extra", "pace"]
    full = next(trial for trial in trials if trial.kind == "full")
    assert [table["stage"] for table in full.stages] == [
        "prune",
        "distill",
        "vocabulary",
        "export",
        "optimize",
        "quantize",
        "verify",
    ]
    assert full.stages[5]["embeddings"] == "int4"


def test_a_saving_that_makes_an_inference_slower_is_used_where_size_matters(tmp_path: Path) -> None:
    record = _ran(session(tmp_path, World(need=0.004), space=with_levers(), limits=HOUR))
    extra = next(trial for trial in record.trials if trial.kind == "extra")
    assert [table["stage"] for table in extra.stages] == ["vocabulary", "export", "optimize", "quantize", "verify"]
    assert all("embeddings" not in table for trial in record.trials for table in trial.stages)


def test_a_short_box_begins_with_a_gentler_shape_in_more_layers(tmp_path: Path) -> None:
    shapes = []
    for name, seconds in (("short", 300.0), ("long", 3600.0)):
        (tmp_path / name).mkdir()
        search = session(tmp_path / name, World(need=0.004), limits=Limits(max_drop=0.01, time=seconds))
        search.run()
        shapes.append(next(trial for trial in search.book.trials if trial.kind == "full"))
    short, long = shapes
    assert short.asked is not None
    assert long.asked is not None
    assert short.asked > 1.5 * long.asked
    assert short.layers is not None
    assert long.layers is not None
    assert short.layers > long.layers
    rates = [next(table for table in one.stages if table["stage"] == "distill").get("learning_rate") for one in shapes]
    assert rates == [5e-5, None]  # None: as the recipe has it


def test_a_short_box_trusts_a_longer_training_with_more(tmp_path: Path) -> None:
    fulls = []
    for seconds in (300.0, 350.0, 500.0):
        (tmp_path / str(seconds)).mkdir()
        limits = Limits(max_drop=0.01, time=seconds)
        record = _ran(session(tmp_path / str(seconds), World(need=0.004), limits=limits))
        fulls.append(next(trial for trial in record.trials if trial.kind == "full"))
    assert [full.layers for full in fulls] == [6, 6, 4]  # a quarter of the usual steps is trusted with whole layers
    asked = [full.asked or 0 for full in fulls]
    assert asked == sorted(asked, reverse=True)
    whole, quarter, fortieth = (1 - part * SPACE.full_ratio for part in (1.0, 0.57, 0.36))
    assert fortieth > asked[0] > asked[1] > quarter > asked[2] > whole


@pytest.mark.parametrize(("seconds", "tried"), [(3600.0, True), (300.0, False)])
def test_savings_of_size_are_tried_for_latency_too_unless_the_box_is_short(
    tmp_path: Path, seconds: float, *, tried: bool
) -> None:
    limits = Limits(max_drop=0.01, time=seconds)
    search = session(tmp_path, World(need=0.004), space=with_levers(), limits=limits)
    search.run()
    assert ("extra" in kinds(search.book.trials)) == tried


def test_a_limit_on_size_alone_is_met_without_training_where_savings_do(tmp_path: Path) -> None:
    limits = Limits(max_drop=0.01, max_mb=9.0, time=3600.0)
    search = session(tmp_path, World(), limits=limits, search=FILL, space=with_levers())
    assert search.run().kind == "extra"
    assert kinds(search.book.trials) == ["quantized", "extra"]


@pytest.mark.parametrize("kind", ["pace", "full"])
def test_training_that_fails_ends_the_search_and_leaves_the_first_artifact(tmp_path: Path, kind: str) -> None:
    search = session(tmp_path, World(fails=(kind,)), limits=HOUR)
    assert search.run().number == 0
    number = next(trial.number for trial in search.book.trials if trial.kind == kind)
    assert search.record().ended == f"trial {number} failed: it cannot be"
    assert search.record().trials[number].reason == "it cannot be"


def test_what_failed_last_is_tried_once_more_by_an_attempt_that_goes_on(tmp_path: Path) -> None:
    first = session(tmp_path, World(fails=("full",)), limits=HOUR)
    first.run()
    failed = first.book.trials[-1]
    assert (failed.kind, failed.state) == ("full", "failed")
    second = session(tmp_path, World(), limits=HOUR)
    second.run()
    again = second.book.trials[failed.number]
    assert (again.kind, again.state, again.stages) == ("full", "kept", failed.stages)
    assert len(second.book.trials) > len(first.book.trials)


def test_a_failed_proxy_is_only_left_out(tmp_path: Path) -> None:
    search = session(tmp_path, World(need=0.004, fails=("proxy",)), limits=HOUR)
    best = search.run()
    assert best.kind == "full"
    assert best.layers == 4  # the base recipe's


class OfOtherLayers(World):
    """Pruning leaves a layer more than it was asked for."""

    def _figures(self, trial: TrialRecord) -> TrialRecord:
        found = super()._figures(trial)
        return found if found.layers is None else found.model_copy(update={"layers": found.layers + 1})


def test_a_shape_that_comes_out_with_other_layers_is_timed_once(tmp_path: Path) -> None:
    search = session(tmp_path, OfOtherLayers(), search=FILL, limits=Limits(max_drop=0.05, max_ms=7.0, time=3600.0))
    search.run()
    made = search.book.trials
    timed = [trial.stages for trial in made if trial.kind == "timing"]
    assert len(timed) == len({str(stages) for stages in timed}) > 0
    assert "full" in kinds(made)


def test_a_model_that_is_kept_whole_is_not_compared_with_itself(tmp_path: Path) -> None:
    limits = Limits(max_drop=0.01, max_ms=15.0, time=3600.0)
    search = session(tmp_path, World(base_drop=0.02), search=FILL, limits=limits)
    search.run()
    made = search.book.trials
    assert next(trial.asked for trial in made if trial.kind == "full") == 1.0
    assert "proxy" not in kinds(made)


def test_proxies_choose_the_shape(tmp_path: Path) -> None:
    class Shallow(World):
        def _figures(self, trial):  # type: ignore[no-untyped-def]  # as the world's
            found = super()._figures(trial)
            worse = 0.03 * abs(shape_of(trial)[1] - 3)
            return found.model_copy(update={"divergence": found.divergence and found.divergence + worse})

    search = session(tmp_path, Shallow(need=0.004), limits=HOUR)
    assert search.run().layers == 3
    proxies = [trial for trial in search.record().trials if trial.kind == "proxy"]
    assert {trial.layers for trial in proxies} == {3, 4, 5, 6}
    assert len({trial.asked for trial in proxies}) == 1
    assert search.strategy.search == LATENCY


def test_of_shapes_that_are_as_good_the_usual_one_goes_on(tmp_path: Path) -> None:
    class Noisy(World):
        def _figures(self, trial):  # type: ignore[no-untyped-def]  # as the world's
            found = super()._figures(trial)
            better = 0.009 if trial.kind == "proxy" and shape_of(trial)[1] == 6 else 0.0
            cheaper = 0.98 if better else 1.0
            figures = {"divergence": found.divergence and found.divergence - better}
            return found.model_copy(update=figures | {"latency_ms": found.latency_ms and found.latency_ms * cheaper})

    assert session(tmp_path, Noisy(need=0.004), limits=HOUR).run().layers == 4


@pytest.mark.parametrize("more", [1.005, 1.06])
def test_a_student_that_costs_more_than_its_shape_did_is_made_smaller(tmp_path: Path, more: float) -> None:
    class FallsBack(World):
        def _figures(self, trial):  # type: ignore[no-untyped-def]  # as the world's
            found = super()._figures(trial)
            over = more / 0.955 if more < 1.01 else more
            return found.model_copy(update={"latency_ms": found.latency_ms * over}) if trial.kind == "full" else found

    limits = Limits(max_drop=0.02, max_ms=5.0, time=7200.0)
    record = _ran(session(tmp_path, FallsBack(need=0.01), limits=limits, search=FILL, space=MEASURES))
    assert record.ended == "every limit is kept"
    fulls = [trial for trial in record.trials if trial.kind == "full"]
    assert len(fulls) == 2
    assert 0.9 <= (fulls[-1].latency_ms or 0) / 5.0 <= 1.0


def test_a_student_that_costs_and_loses_too_much_is_made_smaller_before_it_is_trained_longer(tmp_path: Path) -> None:
    class FallsBack(World):
        def _figures(self, trial):  # type: ignore[no-untyped-def]  # as the world's
            found = super()._figures(trial)
            return found.model_copy(update={"latency_ms": found.latency_ms * 1.1}) if trial.kind == "full" else found

    limits = Limits(max_drop=0.01, max_ms=5.0, time=3600.0)
    record = _ran(session(tmp_path, FallsBack(need=0.06, bias=0.0), limits=limits, search=FILL))
    first, *later = [trial for trial in record.trials if trial.kind == "full"]
    assert first.latency_ms is not None
    assert first.latency_ms > 5.0
    assert first.drop is not None
    assert first.drop > 0.01
    assert [trial.parent for trial in later[:2]] == [None, later[0].number]
    assert all((trial.latency_ms or 0) <= 5.0 for trial in later)
    assert record.trials[record.chosen].latency_ms == later[0].latency_ms


def test_what_goes_on_from_a_shortened_training_is_told_what_the_clock_decided(tmp_path: Path) -> None:
    class Shortened(World):
        def submit(self, trials: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
            for trial in super().submit(trials):
                own = {f"distill.steps.{trial.number}.1": [20, 30]} if trial.kind == "full" else {}
                yield trial.model_copy(update={"shortened": trial.shortened | own})

    world = Shortened(need=0.004)
    record = _ran(session(tmp_path, world, limits=HOUR))
    begun = {trial.number: trial.shortened for trial in world.done if trial.kind == "full"}
    for trial in record.trials:
        if trial.kind == "full":
            assert begun[trial.number] == ({} if trial.parent is None else record.trials[trial.parent].shortened)
    assert max(len(shortened) for shortened in begun.values()) > 1


def test_without_labels_nothing_is_trained_where_the_loss_is_limited(tmp_path: Path) -> None:
    class Unlabelled(World):
        def _figures(self, trial: TrialRecord) -> TrialRecord:
            return super()._figures(trial).model_copy(update={"selection_drop": None})

        def look(self, trial: TrialRecord) -> TrialRecord:
            return super().look(trial).model_copy(update={"drop": None, "drop_high": None})

    record = _ran(session(tmp_path, Unlabelled(), limits=HOUR))
    assert kinds(record.trials) == ["quantized"]
    assert record.ended == "nothing tells what a student would lose: the data has no labels"
    (tmp_path / "free").mkdir()
    free = _ran(session(tmp_path / "free", Unlabelled(), limits=Limits(max_ms=5.0, time=3600.0), search=FILL))
    assert free.trials[free.chosen].kind == "full"


def test_without_data_nothing_is_looked_at(tmp_path: Path) -> None:
    search = session(tmp_path, World(), space=replace(SPACE, trains=False), scored=False)
    search.run()
    assert search.record().looks == 0


@pytest.mark.parametrize("share", [0.9, 0.5, 0.25, 0.12])
@pytest.mark.parametrize("error", [-0.1, 0.0, 0.1])
def test_a_table_of_costs_leaves_one_or_two_timings(tmp_path: Path, share: float, error: float) -> None:
    limits = Limits(max_drop=0.01, max_ms=14.0 * share, time=3600.0)
    search = session(tmp_path, World(need=0.0, error=error), limits=limits, search=FILL, space=MEASURES)
    best = search.run()
    trials = search.record().trials
    assert kinds(trials)[:4] == ["quantized", "pace", "costs", "timing"]
    assert 0.9 <= (best.latency_ms or 0) / (14.0 * share) <= 1.0
    layers = {trial.layers for trial in trials if trial.kind == "timing"}
    assert kinds(trials).count("timing") <= 2 * len(layers)
    least, most = REACH[(best.layers or 1) - 1]
    assert least <= (best.kept or 0) <= most
    assert best.share_of == "predicted cost"


def test_shapes_that_are_compared_can_all_cost_the_same(tmp_path: Path) -> None:
    limits = Limits(max_drop=0.01, max_ms=14.0 * 0.16, time=36000.0)
    search = session(tmp_path, World(need=0.004), limits=limits, search=FILL, space=MEASURES)
    search.run()
    proxies = [trial for trial in search.record().trials if trial.kind == "proxy"]
    assert {trial.layers for trial in proxies} == {3, 4}  # five and six layers cost more even at their narrowest
    assert len({trial.kept for trial in proxies}) == 1


def test_where_costs_cannot_be_measured_shapes_go_by_products_and_the_record_says_so(tmp_path: Path) -> None:
    limits = Limits(max_drop=0.01, max_ms=7.0, time=3600.0)
    search = session(tmp_path, World(need=0.0, fails=("costs",)), limits=limits, search=FILL, space=MEASURES)
    best = search.run()
    record = search.record()
    assert record.trials[2].kind == "costs"
    assert (record.trials[2].state, record.trials[2].reason) == ("failed", "no clock")
    assert best.kind == "full"
    assert best.share_of == "multiply-accumulates"
    assert all("cost" not in table for trial in record.trials for table in trial.stages)
    said = "costs of heads and neurons could not be measured, so that shapes went by multiply-accumulates: no clock"
    assert said in search_lines(record)


def test_less_than_the_narrowest_of_so_many_layers_goes_on_with_fewer(tmp_path: Path) -> None:
    world = World(need=0.0)
    search = session(tmp_path, world, limits=Limits(max_drop=0.01, time=36000.0), space=MEASURES)
    search.run()
    fulls = [trial for trial in search.record().trials if trial.kind == "full"]
    asked = [trial.asked or 1.0 for trial in fulls]
    assert asked[0] == pytest.approx(
        0.13 + 0.45 * (0.62 - 0.13), abs=0.001
    )  # three tenths of the products in four layers
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] < 0.13
    assert (fulls[0].layers, fulls[-1].layers) == (4, 3)


def test_damaged_trials_are_named_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "trials.json"
    Book(file).put(TrialRecord(number=0, kind="quantized", stages=(), drop=0.01))
    assert [trial.drop for trial in Book(file).trials] == [0.01]
    file.write_text(file.read_text().replace("0.01", "0.41"))
    assert find_damage(tmp_path) == "trials.json: it changed"
    assert Book(file).trials == ()
    assert "trials.json is damaged" in caplog.text
