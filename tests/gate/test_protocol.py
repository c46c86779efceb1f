from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from edgekit.errors import UnknownNameError, UsageError
from edgekit.gate.protocol import (
    MOST_COPIES,
    MOST_STARTS,
    PRESETS,
    Plan,
    Trace,
    copies_of,
    find_plan,
    start_sides,
    time_sides,
)
from edgekit.gate.statistics import FEWEST_PROCESSES
from edgekit.runtimes.measuring import Answer, ProcessRun

SIDES = ("candidate/model", "baseline/model")


@dataclass
class Machine:
    """A device whose processes take so many seconds each, with its clock.

    Attributes:
        takes: seconds of a process.
        rounds: of each process.
        runs: what was asked for.
    """

    takes: float = 1.0
    rounds: int = 4
    now: float = 100.0
    runs: list[ProcessRun] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def measure(self, runs: Sequence[ProcessRun], seconds: float, fewest: int) -> list[Answer]:
        began, answers = self.now, list[Answer]()
        for run in runs:
            if len(answers) >= fewest and self.now - began + self.takes > seconds:
                break
            self.now += self.takes
            self.runs.append(run)
            blocks = {name: [[1.0, 1.1, 0.9]] * self.rounds for name in run.subjects}
            answers.append(Answer(load_ms=5.0, peak_memory_bytes=10, blocks_ms=blocks))
        return answers


def test_a_gate_ends_when_it_is_clear() -> None:
    machine, seen = Machine(), list[int]()

    def clear(trace: Trace) -> bool:
        seen.append(len(trace.answers))
        return len(trace.answers) >= 10

    outcome = time_sides(SIDES, Plan(budget_s=60.0), machine.measure, clear, machine.clock)
    assert seen == [8, 10]
    assert (outcome.stopped, outcome.looks, outcome.spent_s) == ("clear", 2, 10.0)
    assert outcome.trace.inferences(SIDES[0]) == 10 * 4 * 3


def test_looks_become_rare_and_the_budget_is_kept() -> None:
    machine = Machine()
    outcome = time_sides(SIDES, Plan(budget_s=20.5), machine.measure, lambda trace: False, machine.clock)
    assert (outcome.stopped, len(outcome.trace.answers), outcome.spent_s) == ("budget", 20, 20.0)
    assert outcome.looks == 6  # after 8, 10, 12, 15, 18 and 20 processes


def test_the_fewest_processes_are_made_whatever_they_take() -> None:
    machine = Machine(takes=30.0)
    outcome = time_sides(SIDES, Plan(budget_s=10.0), machine.measure, lambda trace: False, machine.clock)
    assert (outcome.stopped, len(outcome.trace.answers)) == ("budget", FEWEST_PROCESSES)


def test_orders_come_from_the_seed() -> None:
    def orders(seed: int) -> list[tuple[tuple[str, ...], int]]:
        machine = Machine()
        time_sides(SIDES, Plan(budget_s=12.0, seed=seed), machine.measure, lambda trace: False, machine.clock)
        return [(run.subjects, run.asked["seed"]) for run in machine.runs]

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)
    assert {subjects for subjects, _ in orders(1)} == {SIDES, SIDES[::-1]}


def test_a_preset_goes_on_until_it_has_its_inferences() -> None:
    machine = Machine()
    plan = replace(PRESETS["quick"], budget_s=5.0, least_s=5.0)
    outcome = time_sides(SIDES, plan, machine.measure, None, machine.clock)
    assert outcome.trace.inferences(SIDES[0]) >= 128
    assert len(outcome.trace.answers) == 11


def test_an_exact_number_of_processes_is_one_request() -> None:
    machine = Machine(takes=10.0)
    outcome = time_sides(SIDES, PRESETS["tiny"], machine.measure, lambda trace: True, machine.clock)
    assert (outcome.stopped, len(outcome.trace.answers), outcome.looks) == ("done", 5, 0)
    assert machine.runs[0].asked["seconds"] == 10.0


def test_rounds_that_were_warming_up_are_left_out_of_all_sides() -> None:
    blocks = [[2.0] * 10] * 6 + [[1.0] * 10] * 20
    cold = Answer(load_ms=1.0, peak_memory_bytes=1, blocks_ms={SIDES[0]: blocks, SIDES[1]: [[1.0] * 10] * 26})
    trace = Trace()
    trace.add(cold)
    assert trace.trimmed == [6]
    assert [len(trace.blocks_ms(side)[0]) for side in SIDES] == [20, 20]


def test_starts_take_turns_and_only_whole_turns_count() -> None:
    machine = Machine()
    found = start_sides(SIDES, Plan(budget_s=52.0), machine.measure)
    assert [len(answers) for answers in found.values()] == [6, 6]
    turns = [{run.subjects[0] for run in machine.runs[at : at + 2]} for at in range(0, 12, 2)]
    assert turns == [set(SIDES)] * 6
    many = Machine(takes=0.001)
    assert len(start_sides(SIDES, Plan(), many.measure)[SIDES[0]]) == MOST_STARTS


def test_small_models_are_loaded_several_times() -> None:
    assert [copies_of(size) for size in (10_000, 10_000_000, 50_000_000)] == [MOST_COPIES, 3, 1]


def test_a_plan_is_found_by_its_preset() -> None:
    assert find_plan(None, None, compared=False).budget_s == 10.0
    assert find_plan(None, None, compared=True).budget_s == 60.0
    quick = find_plan("quick", 3.0, compared=True, seed=7)
    assert (quick.budget_s, quick.least_s, quick.least_inferences, quick.seed) == (3.0, 3.0, 128, 7)
    with pytest.raises(UnknownNameError, match="allowed: mlperf-mobile, quick, tiny") as raised:
        find_plan("slow", None, compared=True)
    assert raised.value.id == "unknown-name.preset"


def test_a_preset_of_so_many_processes_takes_no_budget() -> None:
    with pytest.raises(UsageError, match="the preset 'tiny' and a budget were both given") as raised:
        find_plan("tiny", 20.0, compared=True)
    assert raised.value.id == "usage.options-conflict"
    assert raised.value.why == "the preset is 5 processes of 10 s each, whatever that takes"
    assert find_plan("tiny", None, compared=True).processes == 5


def test_a_process_times_a_part_of_the_budget() -> None:
    assert [Plan(budget_s=budget).seconds for budget in (1.0, 10.0, 600.0)] == [0.3, pytest.approx(0.4), 1.0]
    assert np.isclose(PRESETS["tiny"].seconds, 10.0)
