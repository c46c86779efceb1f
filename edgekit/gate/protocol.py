"""How a gate measures: fresh processes, each with every side in it, until the answer is clear or the time is spent.

A process loads all subjects, in an order that is drawn, warms them up, and times them in rounds: in each, every subject
has one block of inferences, in an order drawn anew. A block is short, so that two that are beside each other see the
same machine, and its median is not moved by an inference that was interrupted. Then the next process does the same.

A small model is loaded several times in each process, and another copy takes its turn each round: where the weights of
a copy lie in memory decides how they share the caches, which moves the median of a model of a tenth of a millisecond by
one to three percent, and stays as it is for as long as the copy is loaded.

What a process costs before it answers, and what memory it takes, is measured in processes of one subject each.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edgekit.errors import UnknownNameError, UsageError
from edgekit.gate.statistics import FEWEST_PROCESSES
from edgekit.gate.traces import warm_after
from edgekit.runtimes.measuring import Answer, Place, ProcessRun, Subject, latency_run, run_processes, start_run

# A block lasts so long: about a time slice of Linux' scheduler, and less than what bursts of other load last.
BLOCK_MS = 5.0
FEWEST_INFERENCES, FEWEST_ROUNDS, MOST_ROUNDS, WARMUP = 3, 3, 1000, 5
# The part of the budget that one process may take, and its bounds: to start it takes about half a second.
PART, SHORTEST_S, LONGEST_S = 1 / 25, 0.3, 1.0
# The part of the budget for processes of one subject, and the most of each that are started.
PART_OF_STARTS, MOST_STARTS = 1 / 4, 15
# The number of processes grows by this factor from one look to the next, so that looks stay few.
# The first look takes more than a verdict does: of five processes, some lie close together by chance.
FIRST_LOOK, BETWEEN_LOOKS = 8, 1.25

# A subject is loaded so often that its copies take so many bytes, and so often at most.
BYTES_OF_COPIES, MOST_COPIES = 32_000_000, 16

Stopped = Literal["clear", "budget", "done"]
Measure = Callable[[Sequence[ProcessRun], float, int], Sequence[Answer]]


@dataclass(frozen=True)
class Plan:
    """How long is measured.

    Attributes:
        budget_s: most time; the fewest processes are made all the same.
        least_s: before so long, nothing ends because it is clear.
        least_inferences: of each side, before which nothing ends, whether it is clear or the time is spent.
        process_s: how long each process times; None is a part of the budget.
        processes: exactly so many; None is as many as there is time for.
        starts: of each subject alone, fewest.
        copies: how often each process loads every subject; None is by the size of the largest.
        preset: its name.
        seed: of every order that is drawn.
    """

    budget_s: float = 60.0
    least_s: float = 0.0
    least_inferences: int = 0
    process_s: float | None = None
    processes: int | None = None
    starts: int = FEWEST_PROCESSES
    copies: int | None = None
    preset: str | None = None
    seed: int = 0

    @property
    def seconds(self) -> float:
        """How long each process times."""
        return self.process_s or min(LONGEST_S, max(SHORTEST_S, self.budget_s * PART))

    def asked(self, seed: int) -> dict[str, Any]:
        """What a process is asked for, as the runner's ``measure_latency`` takes it."""
        return {
            "seconds": self.seconds,
            "enough_seconds": self.seconds,
            "rounds": FEWEST_ROUNDS,
            "fewest_rounds": FEWEST_ROUNDS,
            "most_rounds": MOST_ROUNDS,
            "block": FEWEST_INFERENCES,
            "block_ms": BLOCK_MS,
            "warmup": WARMUP,
            "copies": self.copies or 1,
            "seed": seed,
        }


# Numbers of queries and seconds after the rules of MLPerf Mobile (1024 queries and 60 s) and of MLPerf Tiny (5 loops of
# at least 10 s each): mlcommons/mobile_app_open and mlcommons/tiny. What they measure is none of MLPerf's results: so
# `tiny` is five fresh processes, and its figure the median over the blocks of all, where MLPerf has that of five loops;
# and of the others' seconds the starts of processes are a part, where MLPerf counts those of the queries.
PRESETS = {
    "quick": Plan(budget_s=10.0, least_s=10.0, least_inferences=128, preset="quick"),
    "mlperf-mobile": Plan(budget_s=60.0, least_s=60.0, least_inferences=1024, preset="mlperf-mobile"),
    "tiny": Plan(budget_s=60.0, least_s=50.0, process_s=10.0, processes=5, preset="tiny"),
}
ALONE, COMPARED = Plan(budget_s=10.0, least_s=10.0), Plan(budget_s=60.0)


def find_plan(preset: str | None, budget_s: float | None, *, compared: bool, seed: int = 0) -> Plan:
    """The plan that a preset names, with another budget where one is given.

    Raises:
        UnknownNameError: there is no such preset.
        UsageError: it has no budget.
    """
    if preset is not None and preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS, id="unknown-name.preset")
    plan = PRESETS[preset] if preset else (COMPARED if compared else ALONE)
    if preset is not None and budget_s is not None and plan.processes is not None:
        raise UsageError(
            f"the preset {preset!r} and a budget were both given",
            id="usage.options-conflict",
            why=f"the preset is {plan.processes} processes of {plan.seconds:.0f} s each, whatever that takes",
            hint="Leave one of them out.",
        )
    if budget_s is not None:
        plan = replace(plan, budget_s=budget_s, least_s=min(plan.least_s, budget_s))
    return replace(plan, seed=seed)


def copies_of(size_bytes: int) -> int:
    """How often each process loads a subject of a size."""
    return max(1, min(MOST_COPIES, BYTES_OF_COPIES // max(1, size_bytes)))


@dataclass
class Trace:
    """What the processes measured so far.

    Attributes:
        answers: of each process, in their order.
        trimmed: rounds of each process that were still warming up.
    """

    answers: list[Answer] = field(default_factory=list)
    trimmed: list[int] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Take in a process; the same rounds of all subjects are left out as warming up."""
        self.answers.append(answer)
        self.trimmed.append(max(map(_warm_rounds, answer.blocks_ms.values())))

    def blocks_ms(self, subject: str) -> list[list[list[float]]]:
        """Of a subject, for each process its blocks, each with the milliseconds of every inference."""
        pairs = zip(self.answers, self.trimmed, strict=True)
        return [answer.blocks_ms[subject][cut:] for answer, cut in pairs]

    def inferences(self, subject: str) -> int:
        """How many of a subject count."""
        return sum(len(block) for process in self.blocks_ms(subject) for block in process)


def _warm_rounds(blocks: list[list[float]]) -> int:
    """Rounds of a subject in a process that were warming up, at most half."""
    cut = warm_after([one for block in blocks for one in block])
    return min(-(-cut // len(blocks[0])), len(blocks) // 2)


@dataclass(frozen=True)
class Outcome:
    """What was measured, and why no more.

    Attributes:
        trace: all of it.
        stopped: why it ended.
        looks: how often ``clear`` was asked.
        spent_s: what it took.
    """

    trace: Trace
    stopped: Stopped
    looks: int
    spent_s: float


def time_sides(
    subjects: Sequence[str],
    plan: Plan,
    measure: Measure,
    clear: Callable[[Trace], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Time subjects beside each other in fresh processes.

    Args:
        subjects: names of all components of all sides.
        plan: how long.
        measure: runs processes within so many seconds, and at least so many.
        clear: whether more would change nothing, asked between processes; None where that is never so.
        clock: seconds.
    """
    order, trace, began, looks, longest = random.Random(plan.seed), Trace(), clock(), 0, 0.0
    while True:
        wanted = _next_look(len(trace.answers), plan, clear)
        runs = [_process(subjects, plan, order) for _ in range(wanted - len(trace.answers))]
        fewest = len(runs) if not trace.answers and plan.processes else max(1, FEWEST_PROCESSES - len(trace.answers))
        start = clock()
        answers = measure(runs, plan.budget_s - (start - began), fewest)
        longest = max(longest, (clock() - start) / len(answers))
        for answer in answers:
            trace.add(answer)
        spent = clock() - began
        if plan.processes is not None and len(trace.answers) >= plan.processes:
            return Outcome(trace, "done", looks, spent)
        if min(map(trace.inferences, subjects)) < plan.least_inferences:
            plan = replace(plan, budget_s=max(plan.budget_s, spent + 2 * plan.seconds))
            continue
        if clear is not None and spent >= plan.least_s:
            looks += 1
            if clear(trace):
                return Outcome(trace, "clear", looks, spent)
        if len(answers) < len(runs) or spent + longest > plan.budget_s:  # no time for another
            return Outcome(trace, "budget", looks, spent)


def start_sides(subjects: Sequence[str], plan: Plan, measure: Measure) -> dict[str, list[Answer]]:
    """Processes of one subject each, for what it costs to begin: all subjects in turns, in an order drawn anew.

    Args:
        subjects: as for ``time_sides``.
        plan: how many, and how long.
        measure: as for ``time_sides``.
    """
    order, names = random.Random(plan.seed), list[str]()
    for _ in range(max(plan.starts, MOST_STARTS if plan.processes is None else plan.starts)):
        turn = list(subjects)
        order.shuffle(turn)
        names += turn
    answers = measure([start_run(name) for name in names], plan.budget_s * PART_OF_STARTS, plan.starts * len(subjects))
    whole = len(answers) - len(answers) % len(subjects)  # turns that were finished
    found: dict[str, list[Answer]] = {name: [] for name in subjects}
    for name, answer in zip(names, answers[:whole], strict=False):
        found[name].append(answer)
    return found


def _next_look(done: int, plan: Plan, clear: Callable[[Trace], bool] | None) -> int:
    """After how many processes the next look is taken."""
    if plan.processes is not None:
        return plan.processes
    if clear is None:
        return done + max(FEWEST_PROCESSES, int(plan.budget_s / plan.seconds))
    return max(FIRST_LOOK, done + 1, int(done * BETWEEN_LOOKS))


def _process(subjects: Sequence[str], plan: Plan, order: random.Random) -> ProcessRun:
    """A process that loads the subjects in an order of its own."""
    names = list(subjects)
    order.shuffle(names)
    return latency_run(names, plan.asked(order.randrange(1 << 30)))


def measure_at(place: Place, subjects: Mapping[str, Subject]) -> Measure:
    """Processes at a place."""

    def measure(runs: Sequence[ProcessRun], seconds: float, fewest: int) -> Sequence[Answer]:
        return run_processes(subjects, place, runs, seconds=seconds, fewest=fewest)

    return measure
