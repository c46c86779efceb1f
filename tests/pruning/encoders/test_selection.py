from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.formats.surgery import EncoderPlan, LayerPlan
from edgekit.pruning.encoders.cost import CostModel
from edgekit.pruning.encoders.importance import Scores
from edgekit.pruning.encoders.selection import Bounds, choose_layers, choose_widths

COST = CostModel.of(tokens=16, hidden=32, head_width=8, first_token_only=False)
FIRST = CostModel.of(tokens=16, hidden=32, head_width=8, first_token_only=True)


def scores(layers: int = 3, heads: int = 4, neurons: int = 64, seed: int = 0) -> Scores:
    random = np.random.default_rng(seed)
    return Scores(
        random.random(layers).astype(np.float32),
        [random.random(heads).astype(np.float32) for _ in range(layers)],
        [random.random(neurons).astype(np.float32) for _ in range(layers)],
    )


def whole(found: Scores) -> int:
    return COST.total([(len(h), len(n)) for h, n in zip(found.heads, found.neurons, strict=True)])


def choose(found: Scores, share: float, multiple: int = 8, floor: float = 0.0, cost: CostModel = COST) -> EncoderPlan:
    total = cost.total([(len(h), len(n)) for h, n in zip(found.heads, found.neurons, strict=True)])
    return choose_widths(found, cost, Bounds(int(total * share), multiple, floor), "Tiny")


def largest_cut(cost: CostModel, multiple: int) -> int:
    return max(cost.head, cost.last_head, multiple * cost.neuron)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("cost", [COST, FIRST])
def test_the_budget_is_kept_and_used(seed: int, share: float, cost: CostModel) -> None:
    found = scores(seed=seed)
    budget = int(cost.total([(4, 64)] * 3) * share)
    left = cost.plan(choose(found, share, cost=cost))
    assert left <= budget
    assert left > budget - largest_cut(cost, 8)


def test_a_budget_of_everything_cuts_nothing() -> None:
    plan = choose(scores(), 1.0)
    assert plan.layers == tuple(
        LayerPlan(index=index, heads=tuple(range(4)), neurons=tuple(range(64))) for index in range(3)
    )


@pytest.mark.parametrize(("neurons", "multiple"), [(64, 16), (70, 16), (70, 8), (33, 32), (12, 16), (16, 16)])
def test_widths_are_multiples_and_one_head_and_one_block_stay(neurons: int, multiple: int) -> None:
    plan = choose(scores(neurons=neurons), 0.0, multiple)
    smallest = min(multiple, neurons)
    assert [(len(layer.heads), len(layer.neurons)) for layer in plan.layers] == [(1, smallest)] * 3


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_every_width_that_was_cut_is_a_multiple(share: float) -> None:
    plan = choose(scores(neurons=70), share, 16)
    widths = {len(layer.neurons) for layer in plan.layers}
    assert widths <= {16, 32, 48, 64, 70}


@pytest.mark.parametrize("floor", [0.2, 0.5, 0.6, 1.0])
@pytest.mark.parametrize("neurons", [64, 66])
def test_a_share_of_each_layer_always_stays(floor: float, neurons: int) -> None:
    plan = choose(scores(neurons=neurons), 0.0, 8, floor)
    for layer in plan.layers:
        assert len(layer.heads) >= floor * 4
        assert len(layer.neurons) >= floor * neurons


def test_what_stays_matters_more_than_what_goes() -> None:
    found = scores()
    plan = choose(found, 0.5)
    for layer, heads, neurons in zip(plan.layers, found.heads, found.neurons, strict=True):
        gone = sorted(set(range(4)) - set(layer.heads))
        if gone:
            assert heads[list(layer.heads)].min() >= heads[gone].max()
        lost = sorted(set(range(64)) - set(layer.neurons))
        if lost:
            assert neurons[list(layer.neurons)].min() >= neurons[lost].max()


def test_the_budget_is_shared_by_all_layers() -> None:
    found = scores()
    found.heads[1][:] *= 0.001
    found.neurons[1][:] *= 0.001
    plan = choose(found, 0.75)
    assert len(plan.layers[1].neurons) < 32
    assert all((len(plan.layers[index].heads), len(plan.layers[index].neurons)) == (4, 64) for index in (0, 2))


def test_the_scale_of_heads_against_neurons_does_not_matter() -> None:
    found = scores()
    scaled = Scores(found.layers, [heads * 1000 for heads in found.heads], found.neurons)
    assert choose(found, 0.5) == choose(scaled, 0.5)


def test_scores_of_zero_throughout_still_give_a_plan() -> None:
    found = scores()
    nothing = Scores(found.layers * 0, [h * 0 for h in found.heads], [n * 0 for n in found.neurons])
    assert COST.plan(choose(nothing, 0.4)) <= 0.4 * whole(found)


def test_indices_ascend_and_the_choice_repeats() -> None:
    plan = choose(scores(), 0.5)
    assert all(list(layer.heads) == sorted(set(layer.heads)) for layer in plan.layers)
    assert all(list(layer.neurons) == sorted(set(layer.neurons)) for layer in plan.layers)
    assert plan == choose(scores(), 0.5)
    assert plan.architecture == "Tiny"


@pytest.mark.parametrize(
    ("values", "keep", "expected"),
    [([0.3, 0.1, 0.9, 0.2], 2, (0, 2)), ([0.3, 0.1, 0.9, 0.2], 3, (0, 2, 3)), ([1.0, 1.0, 1.0, 1.0], 1, (0,))],
)
def test_the_layers_that_matter_most_stay_in_their_order(values: Any, keep: int, expected: tuple[int, ...]) -> None:
    plan = choose(scores(layers=4), 1.0)
    chosen = choose_layers(plan, Scores(np.array(values), [], []), keep)
    assert tuple(layer.index for layer in chosen.layers) == expected
    assert chosen.layers[0].neurons == tuple(range(64))
