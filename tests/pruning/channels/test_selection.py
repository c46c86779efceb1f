from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from zoo import aim

from edgekit.pruning.channels.cost import LayerMacs, MacCounter
from edgekit.pruning.channels.groups import Group, Unit, removed_channels
from edgekit.pruning.channels.selection import choose_units, step

TASK: Any = None  # the choice looks at scores and costs alone


def net(*widths: int) -> tuple[list[Group], MacCounter]:
    """Layers ``l0``, ``l1`` ... in a row, the last one whole."""
    groups, layers = [], {}
    for number, (before, after) in enumerate(pairwise(widths)):
        layers[f"l{number}"] = LayerMacs(before * after, after, before)
        reader = f"l{number + 1}"
        last = number == len(widths) - 2
        units = tuple(
            Unit(frozenset({(f"l{number}", "outputs", i), (reader, "inputs", i)})) for i in range(0 if last else after)
        )
        groups.append(Group(f"l{number}", units, "the last" if last else ""))
    return groups, MacCounter(layers)


def scores(groups: list[Group], seed: int = 0, **by_root: Any) -> dict[Unit, float]:
    random = np.random.default_rng(seed)
    return {
        unit: float(value)
        for group in groups
        for unit, value in zip(
            group.units, by_root.get(group.root, random.random(len(group.units)) + 0.01), strict=True
        )
    }


def left(groups: list[Group], gone: set[Unit]) -> list[int]:
    """Units that stay of each group that has any."""
    return [sum(unit not in gone for unit in group.units) for group in groups if group.units]


def channels(group: Group, gone: set[Unit]) -> list[int]:
    """Channels of a group that go, ascending."""
    return sorted(channel for unit in gone & set(group.units) for channel in unit.on((group.root, "outputs")))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.7])
def test_the_choice_comes_as_near_to_the_budget_as_a_block_allows(seed: int, ratio: float) -> None:
    groups, counter = net(8, 32, 64, 32, 4)
    found = scores(groups, seed)
    asked = aim(TASK, ratio=ratio, multiple=8, floor=0.0)
    gone = choose_units(groups, found, counter, asked)
    budget = counter.total({}) * (1 - ratio)
    result = counter.total(removed_channels(gone))
    largest = max(counter.saved(removed_channels(list(group.units[:8]))) for group in groups)
    assert abs(result - budget) <= largest / 2
    assert all(number % 8 == 0 and number >= 8 for number in left(groups, gone))


def test_nothing_goes_where_nothing_is_asked_for() -> None:
    groups, counter = net(8, 32, 32, 4)
    assert choose_units(groups, scores(groups), counter, aim(TASK, ratio=0.0)) == set()


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.1, 0),  # above by 0.1, below by 0.15 without a block: it stays
        (0.12, 0),
        (0.13, 1),  # 0.13 above, 0.12 below
        (0.37, 1),
        (0.38, 2),
        (0.62, 2),
        (0.63, 3),
        (0.99, 3),  # the last block always stays
    ],
)
def test_the_last_block_goes_where_that_is_nearer(ratio: float, expected: int) -> None:
    counter = MacCounter({"l0": LayerMacs(3200, 32, 100)})
    groups = [Group("l0", tuple(Unit(frozenset({("l0", "outputs", i)})) for i in range(32)))]
    gone = choose_units(groups, scores(groups), counter, aim(TASK, ratio=ratio, multiple=8, floor=0.0))
    assert len(gone) == 8 * expected


@pytest.mark.parametrize(
    ("floor", "stays"), [(0.0, 8), (0.2, 8), (0.25, 8), (0.26, 16), (0.5, 16), (0.6, 24), (1.0, 32)]
)
def test_a_share_of_each_layer_always_stays(floor: float, stays: int) -> None:
    groups, counter = net(8, 32, 32, 4)
    gone = choose_units(groups, scores(groups), counter, aim(TASK, ratio=0.99, multiple=8, floor=floor))
    assert left(groups, gone) == [stays, stays]


@pytest.mark.parametrize(
    ("widest", "multiple", "expected"),
    [
        (64, 8, 8),
        (32, 8, 8),  # four steps of eight
        (31, 8, 4),
        (16, 8, 4),
        (15, 8, 2),
        (8, 8, 2),
        (7, 8, 1),
        (3, 8, 1),
        (1, 8, 1),
        (64, 32, 16),
        (100, 1, 1),
        (48, 12, 12),
        (47, 12, 6),
        (10, 12, 1),  # 12, 6, 3, 1
    ],
)
def test_steps_are_the_targets_multiple_where_four_fit(widest: int, multiple: int, expected: int) -> None:
    assert step(widest, multiple) == expected


def test_a_layer_of_one_multiple_stays_whole_beside_wider_ones() -> None:
    groups, counter = net(16, 16, 64, 32, 16)
    found = scores(groups, l0=[0.01] * 16, l1=[1.0] * 64, l2=[1.0] * 32)
    gone = choose_units(groups, found, counter, aim(TASK, ratio=0.99, multiple=16, floor=0.0))
    assert left(groups, gone) == [16, 16, 16]
    groups, counter = net(16, 16, 32, 64)  # and also where what is wider stays whole
    gone = choose_units(groups, scores(groups), counter, aim(TASK, ratio=0.99, multiple=16, floor=0.0))
    assert left(groups, gone) == [16, 16]
    narrow, counter = net(16, 16, 8, 16)  # nothing is wider: it goes in smaller steps
    gone = choose_units(narrow, scores(narrow), counter, aim(TASK, ratio=0.99, multiple=16, floor=0.0))
    assert left(narrow, gone) == [4, 4]


def test_steps_are_counted_in_channels_of_which_a_unit_may_have_several() -> None:
    units = tuple(Unit(frozenset(("l0", "outputs", 8 * group + place) for group in range(4))) for place in range(8))
    groups = [Group("l0", units)]
    counter = MacCounter({"l0": LayerMacs(3200, 32, 100)})
    sizes = [
        len(choose_units(groups, scores(groups), counter, aim(TASK, ratio=ratio, multiple=8, floor=0.0)))
        for ratio in (0.25, 0.5, 0.75, 0.99)
    ]
    assert sizes == [2, 4, 6, 6]


@pytest.mark.parametrize("width", [36, 37, 40, 63])
def test_the_first_block_takes_what_is_over_the_multiple(width: int) -> None:
    groups, counter = net(8, width, 4)
    found = scores(groups)
    widths = set()
    for ratio in np.linspace(0.02, 0.95, 40):
        (stays,) = left(groups, choose_units(groups, found, counter, aim(TASK, ratio=float(ratio), floor=0.0)))
        widths.add(stays)
    assert widths == {width, *range(8, width, 8)}


@pytest.mark.parametrize("seed", range(3))
def test_the_least_important_of_a_layer_go_first(seed: int) -> None:
    groups, counter = net(8, 32, 32, 4)
    found = scores(groups, seed)
    gone = choose_units(groups, found, counter, aim(TASK, ratio=0.5, floor=0.0))
    for group in groups:
        kept = [found[unit] for unit in group.units if unit not in gone]
        lost = [found[unit] for unit in group.units if unit in gone]
        assert not lost or max(lost) <= min(kept)


def test_the_layer_that_matters_less_for_its_cost_goes_first() -> None:
    groups, counter = net(16, 32, 32, 16)
    # a channel of l0 saves 16 + 32 products, one of l1 as many: importance alone decides
    found = scores(groups, l0=[1.0] * 32, l1=[1.1] * 32)
    assert left(groups, choose_units(groups, found, counter, aim(TASK, ratio=0.25, floor=0.0))) == [24, 32]
    found = scores(groups, l0=[1.1] * 32, l1=[1.0] * 32)
    assert left(groups, choose_units(groups, found, counter, aim(TASK, ratio=0.25, floor=0.0))) == [32, 24]


def test_cost_decides_between_equals() -> None:
    groups, counter = net(16, 128, 32, 16)  # a channel of l0 saves 16 + 32, one of l1 128 + 16

    def widths(score: float) -> list[int]:
        """What stays when a channel of l1 has this score, and one of l0 has 1."""
        found = scores(groups, l0=[1.0] * 128, l1=[score] * 32)
        return left(groups, choose_units(groups, found, counter, aim(TASK, ratio=0.2, floor=0.0)))

    assert widths(1.0) == widths(2.9) == [128, 24]  # 2.9 / 144 is less than 1 / 48
    assert widths(3.1)[1] == 32  # 3.1 / 144 is more


def test_a_unit_does_not_go_before_one_that_matters_less() -> None:
    """Not even where it saves so much that it loses less for each product."""
    units = tuple(
        Unit(frozenset(("l0", "outputs", channel) for channel in part)) for part in ([0], range(1, 11), [11], [12])
    )
    counter = MacCounter({"l0": LayerMacs(1300, 13, 100)})
    groups = [Group("l0", units)]
    found = dict(zip(units, (1.0, 1.1, 5.0, 6.0), strict=True))
    assert choose_units(groups, found, counter, aim(TASK, ratio=10 / 13, multiple=1, floor=0.0)) == set(units[:2])
    assert choose_units(groups, found, counter, aim(TASK, ratio=1 / 13, multiple=1, floor=0.0)) == set(units[:1])


def test_equal_scores_go_in_the_order_of_their_channels() -> None:
    groups, counter = net(8, 32, 4)
    gone = choose_units(groups, scores(groups, l0=[1.0] * 32), counter, aim(TASK, ratio=0.25, floor=0.0))
    assert channels(groups[0], gone) == list(range(8))


def test_planted_channels_go_and_nothing_else() -> None:
    groups, counter = net(8, 32, 32, 4)
    useless = [3, 4, 9, 17, 20, 21, 30, 31]
    found = scores(groups, l0=[0.0 if i in useless else 5.0 for i in range(32)], l1=[5.0] * 32)
    gone = choose_units(groups, found, counter, aim(TASK, ratio=0.2, floor=0.0))
    assert (channels(groups[0], gone), channels(groups[1], gone)) == (useless, [])


def test_a_dear_block_is_not_taken_before_a_cheaper_one_of_its_layer() -> None:
    """Blocks of a layer go in order, even where a later one saves more for its importance."""
    groups, counter = net(8, 32, 4)
    found = scores(groups, l0=list(np.linspace(1, 2, 32)))
    sizes = [
        channels(groups[0], choose_units(groups, found, counter, aim(TASK, ratio=ratio, floor=0.0)))
        for ratio in (0.25, 0.5, 0.75)
    ]
    assert sizes == [list(range(8)), list(range(16)), list(range(24))]


def test_the_choice_repeats() -> None:
    groups, counter = net(8, 32, 64, 4)
    found = scores(groups)
    assert choose_units(groups, found, counter, aim(TASK)) == choose_units(
        groups, dict(reversed(found.items())), counter, aim(TASK)
    )
