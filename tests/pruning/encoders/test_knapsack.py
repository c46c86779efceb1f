from __future__ import annotations

import itertools

import numpy as np
import pytest
from pruning.encoders.test_selection import scores
from pruning.encoders.test_table import table

from edgekit.errors import UsageError
from edgekit.pruning.encoders.importance import Scores
from edgekit.pruning.encoders.knapsack import Allowed, allowed_neurons, choose_numbers, most_important

# Costs that are not linear: the second head costs next to nothing, and so does the last block of neurons.
TABLE = table(
    base=1.0,
    attention=((1, 2.0), (2, 2.1), (4, 6.0)),
    feed_forward=((8, 1.0), (32, 5.0), (48, 6.0), (64, 6.1)),
    last_attention=((1, 1.0), (4, 2.0)),
    last_feed_forward=((8, 0.1), (64, 0.4)),
)


def allowed(budget: float, *, multiple: int = 16, floor: float = 0.0, one_scale: bool = True) -> Allowed:
    return Allowed(budget, multiple, floor, one_scale)


def value(found: Scores, widths: list[tuple[int, int]]) -> float:
    """The importance that the most important heads and neurons add up to."""
    total = 0.0
    for heads, neurons, (h, n) in zip(found.heads, found.neurons, widths, strict=True):
        total += float(np.sort(heads)[::-1][:h].sum() + np.sort(neurons)[::-1][:n].sum())
    return total


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.35, 0.5, 0.75])
def test_nothing_of_more_importance_fits_the_budget(seed: int, share: float) -> None:
    found = scores(layers=2, seed=seed)
    options = list(itertools.product(range(1, 5), (16, 32, 48, 64)))
    costs = {pair: TABLE.predict(pair) for pair in itertools.product(options, repeat=2)}
    least, most = min(costs.values()), max(costs.values())
    budget = least + share * (most - least)
    widths = choose_numbers(found, TABLE, allowed(budget))
    assert TABLE.predict(widths) <= budget
    best = max(value(found, list(pair)) for pair, cost in costs.items() if cost <= budget)
    assert value(found, widths) == pytest.approx(best, rel=1e-4)


def test_a_step_that_costs_next_to_nothing_is_taken() -> None:
    flat = Scores(np.ones(2), [np.ones(4), np.ones(4)], [np.ones(64), np.ones(64)])
    (heads, _), _ = choose_numbers(flat, TABLE, allowed(9.0))
    assert heads == 2


def test_a_budget_of_everything_keeps_everything() -> None:
    found = scores(layers=3)
    assert choose_numbers(found, TABLE, allowed(TABLE.predict([(4, 64)] * 3) + 1e-9)) == [(4, 64)] * 3


@pytest.mark.parametrize("layers", [1, 3, 12])
def test_the_budget_is_kept_and_used(layers: int) -> None:
    found = scores(layers=layers)
    whole = TABLE.predict([(4, 64)] * layers)
    least = TABLE.predict([(1, 16)] * layers)
    budget = (whole + least) / 2
    cost = TABLE.predict(choose_numbers(found, TABLE, allowed(budget)))
    assert budget - 4.0 < cost <= budget


def test_the_floor_is_kept_and_a_budget_below_it_is_an_error() -> None:
    found = scores(layers=2)
    widths = choose_numbers(found, TABLE, allowed(TABLE.predict([(3, 48)] * 2) + 1e-6, floor=0.6))
    assert widths == [(3, 48)] * 2
    with pytest.raises(UsageError, match="a budget of 2 ms cannot be met by pruning") as refused:
        choose_numbers(found, TABLE, allowed(2.0))
    assert refused.value.id == "usage.budget-too-small"
    assert f"predicted at {TABLE.predict([(1, 16)] * 2):.4g} ms" in refused.value.why


def test_a_budget_that_is_met_by_the_smallest_alone_gives_the_smallest() -> None:
    found = scores(layers=2)
    assert choose_numbers(found, TABLE, allowed(TABLE.predict([(1, 16)] * 2))) == [(1, 16)] * 2


def test_scores_of_two_scales_are_each_measured_against_their_own_mean() -> None:
    found = scores(layers=2)
    larger = Scores(found.layers, [heads * 1000 for heads in found.heads], found.neurons)
    budget = 12.0
    apart = [choose_numbers(one, TABLE, allowed(budget, one_scale=False)) for one in (found, larger)]
    assert apart[0] == apart[1]
    as_they_are = choose_numbers(larger, TABLE, allowed(budget))
    assert sum(heads for heads, _ in as_they_are) > sum(heads for heads, _ in apart[0])


@pytest.mark.parametrize(
    ("whole", "floor", "numbers"),
    [(64, 0.0, [16, 32, 48, 64]), (64, 0.3, [32, 48, 64]), (40, 0.0, [16, 32, 40]), (12, 0.0, [12]), (64, 1.0, [64])],
)
def test_widths_are_multiples_or_whole(whole: int, floor: float, numbers: list[int]) -> None:
    assert allowed_neurons(whole, allowed(1.0, floor=floor)) == numbers


def test_the_most_important_stay() -> None:
    found = Scores(np.ones(1), [np.array([0.1, 0.9, 0.5])], [np.array([3.0, 1.0, 2.0, 4.0])])
    (layer,) = most_important(found, [(2, 2)], "Tiny").layers
    assert (layer.heads, layer.neurons) == ((1, 2), (0, 3))
