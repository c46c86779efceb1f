from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from zoo import ZOO, conv, example, make

from edgekit.formats.channels import cut_channels
from edgekit.pruning.channels.groups import (
    Atom,
    Group,
    Unit,
    _trials,
    channels_of,
    differentiable,
    find_groups,
    plan_without,
    reading_weights,
    removed_channels,
    silence,
)

pytestmark = pytest.mark.usefixtures("torch_alone")
LAST = "its channels are outputs of the module, or nothing that can be cut reads them"
BREAKS, CHANGES = "without some of them the module does not run", "without some of them other outputs change"
# Every group of the zoo by its root: how many units it has, or how its reason begins.
EXPECTED: dict[str, dict[str, int | str]] = {
    "plain": {"features.0.0": 16, "features.2.0": 32, "features.4.0": 32, "hidden": 64, "head": LAST},
    "residual": {
        "inner.0.0.0": 24,
        "inner.1.0.0": 24,
        "inner.1.1": 16,  # with the stem and the other block's end
        "project": 32,  # with the wide block's end
        "wide.0.0": 32,
        "head": LAST,
    },
    "inception": {
        "stem.0": 32,
        "first.0.0": 16,
        "first.1.0": 32,
        "first.2.0": 16,
        "second.0.0": 32,
        "second.1.0": 32,
        "head": LAST,
    },
    "separable": {"first.0.0": 16, "expand.1.0": 64, "expand.2": 32, "head": LAST},
    "dense": {
        "stem.0": 16,
        "layers.0.0": 8,
        "layers.1.0": 8,
        "layers.2.0": 8,
        "layers.3.0": 8,
        "transition.0": 24,
        "head": LAST,
    },
    "grouped": {"stem.0": 8, "grouped.0": 8, "point.0": 32, "head": LAST},
    "perceptron": {"layers.0": 64, "layers.3": 48, "layers.5": LAST},
    "tagger": {
        "embedding": "layers of the kind Embedding stay whole",
        "recurrent": "layers of the kind LSTM stay whole",
        "hidden": 64,
        "head": LAST,
    },
    "padded": {"inner.0": 32, "outer": BREAKS, "head": LAST},
    "shuffled": {"stem.0": BREAKS, "last.0": 32, "head": LAST},
    "flipped": {"stem.0": CHANGES, "last.0": 32, "head": LAST},
    "upsampled": {"stem.0": 16, "down.0": 24, "up": 16, "last.0": 24, "head": LAST},
    "squeezed": {"down": 8, "up": 32, "last.0": 24, "head": LAST},
    "signal": {"first": 16, "second": 24, "head": LAST},
    "normed": {
        "": "layers of the kind Normed stay whole",
        "stem": "feeds norm (GroupNorm)",
        "norm": "layers of the kind GroupNorm stay whole",
        "scaled": "feeds a parameter that belongs to no layer",
        "last.0": 32,
        "head": LAST,
    },
}
PIXELS = (2, 6, 5)


class Small(nn.Module):
    """Layers by name, and what is done with them."""

    def __init__(
        self, forward: Callable[[Any, torch.Tensor], torch.Tensor], **layers: nn.Module | nn.Parameter
    ) -> None:
        super().__init__()
        self.how = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.how(self, x)


def point(before: int, after: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(before, after, 1, **options)


def pooled(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    return self.head(functional.relu(hidden).mean((2, 3)))


def groups_of(model: nn.Module, shape: tuple[int, ...] = PIXELS) -> dict[str, Group]:
    torch.manual_seed(1)
    found = find_groups(model.eval(), {"x": torch.randn(3, *shape)})
    return {group.root: group for group in found}


def outs(layer: str, *channels: int) -> set[Atom]:
    return {(layer, "outputs", channel) for channel in channels}


def ins(layer: str, *channels: int) -> set[Atom]:
    return {(layer, "inputs", channel) for channel in channels}


def outputs(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs)


@functools.cache
def zoo(name: str) -> tuple[nn.Module, dict[str, torch.Tensor], list[Group]]:
    """A module of the zoo, an input and its groups; not to be changed."""
    model, inputs = make(name), example(name)
    return model, inputs, find_groups(model, inputs)


def some_of(groups: list[Group], seed: int) -> list[Unit]:
    """About half of the units, at least one of each group left."""
    generator = torch.Generator().manual_seed(seed)
    return [unit for group in groups for unit in group.units[1:] if float(torch.rand((), generator=generator)) < 0.5]


@pytest.mark.parametrize("name", ZOO)
def test_groups_of_the_zoo(name: str) -> None:
    _, _, found = zoo(name)
    assert [group.root for group in found] == list(EXPECTED[name])
    for group in found:
        expected = EXPECTED[name][group.root]
        if isinstance(expected, int):
            assert (len(group.units), group.refused) == (expected, ""), group.root
        else:
            assert group.units == ()
            assert group.refused.startswith(expected), group.refused


@pytest.mark.parametrize("name", ZOO)
def test_silencing_equals_cutting_whatever_the_units(name: str) -> None:
    model, inputs, groups = zoo(name)
    whole = outputs(model, inputs)
    for seed in range(4):
        gone = some_of(groups, seed)
        masked, cut = copy.deepcopy(model), copy.deepcopy(model)
        silence(masked, gone)
        cut_channels(cut, plan_without(model, gone))
        expected, given = outputs(masked, inputs), outputs(cut, inputs)
        torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)
        assert float((given - whole).abs().max()) > 1e-3  # the units mattered
        before, after = (sum(p.numel() for p in each.parameters()) for each in (model, cut))
        assert after < before


@pytest.mark.parametrize("name", ZOO)
def test_every_single_unit_can_go_alone(name: str) -> None:
    model, inputs, groups = zoo(name)
    for group in groups:
        for unit in group.units[1 :: max(1, len(group.units) // 2)]:
            masked, cut = copy.deepcopy(model), copy.deepcopy(model)
            silence(masked, [unit])
            cut_channels(cut, plan_without(model, [unit]))
            torch.testing.assert_close(outputs(cut, inputs), outputs(masked, inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ZOO)
def test_units_share_no_atom(name: str) -> None:
    atoms = [atom for group in zoo(name)[2] for unit in group.units for atom in unit.atoms]
    assert len(atoms) == len(set(atoms))


@pytest.mark.parametrize("name", ["residual", "grouped", "tagger", "signal"])
def test_the_module_is_left_as_it_was(name: str) -> None:
    model = make(name)
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    find_groups(model, example(name))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()].count(False) == 1
    assert not frozen.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(layer.training or layer._forward_hooks for layer in model.modules())


def test_channels_of_a_sum_are_one() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.a(x))
        return pooled(self, self.c(hidden + self.b(hidden)))

    model = Small(forward, a=point(2, 3), norm=nn.BatchNorm2d(3), b=point(3, 3), c=point(3, 4), head=nn.Linear(4, 2))
    found = groups_of(model)
    (root,) = found.keys() & {"a", "b"}
    assert [unit.atoms for unit in found[root].units] == [
        outs("a", i) | outs("norm", i) | outs("b", i) | ins("b", i) | ins("c", i) for i in range(3)
    ]
    assert [unit.atoms for unit in found["c"].units] == [outs("c", i) | ins("head", i) for i in range(4)]


def test_a_reader_of_a_concatenation_has_them_one_behind_the_other() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.a(x), self.b(x), self.a2(x)], dim=1)
        return pooled(self, self.c(functional.relu(self.norm(joined))))

    layers = {"a": point(2, 2), "b": point(2, 3), "a2": point(2, 2), "norm": nn.BatchNorm2d(7), "c": point(7, 4)}
    found = groups_of(Small(forward, **layers, head=nn.Linear(4, 2)))
    for name, channels, offset in (("a", 2, 0), ("b", 3, 2), ("a2", 2, 5)):
        assert [unit.atoms for unit in found[name].units] == [
            outs(name, i) | outs("norm", offset + i) | ins("c", offset + i) for i in range(channels)
        ]


def test_a_depthwise_convolution_hands_channels_through() -> None:
    model = Small(
        lambda self, x: pooled(self, self.c(self.deep(self.a(x)))),
        a=point(2, 4),
        deep=nn.Conv2d(4, 4, 3, padding=1, groups=4),
        c=point(4, 3),
        head=nn.Linear(3, 2),
    )
    found = groups_of(model)
    assert "a" not in found
    assert [unit.atoms for unit in found["deep"].units] == [
        outs("a", i) | outs("deep", i) | ins("c", i) for i in range(4)
    ]


def test_channels_at_one_place_of_a_grouped_convolution_go_together() -> None:
    model = Small(
        lambda self, x: pooled(self, self.c(functional.relu(self.grouped(self.a(x))))),
        a=point(2, 4),
        grouped=point(4, 6, groups=2),  # groups of 2 inputs and 3 outputs
        c=point(6, 3),
        head=nn.Linear(3, 2),
    )
    found = groups_of(model)
    assert [unit.atoms for unit in found["a"].units] == [outs("a", i, i + 2) | ins("grouped", i, i + 2) for i in (0, 1)]
    assert [unit.atoms for unit in found["grouped"].units] == [
        outs("grouped", i, i + 3) | ins("c", i, i + 3) for i in (0, 1, 2)
    ]


def test_a_flattened_channel_is_as_many_columns_as_it_has_pixels() -> None:
    model = Small(
        lambda self, x: self.head(functional.relu(self.a(x)).flatten(1)), a=point(2, 3), head=nn.Linear(3 * 6 * 5, 2)
    )
    found = groups_of(model)
    assert [unit.atoms for unit in found["a"].units] == [
        outs("a", i) | ins("head", *range(30 * i, 30 * i + 30)) for i in range(3)
    ]
    assert found["head"].refused == LAST


def test_activations_with_one_weight_follow_and_those_with_many_are_cut() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return pooled(self, self.c(self.many(self.one(self.a(x)))))

    layers = {"a": point(2, 3), "one": nn.PReLU(), "many": nn.PReLU(3), "c": point(3, 4)}
    found = groups_of(Small(forward, **layers, head=nn.Linear(4, 2)))
    assert [unit.atoms for unit in found["a"].units] == [outs("a", i) | outs("many", i) | ins("c", i) for i in range(3)]


def test_a_gate_belongs_to_the_channels_that_it_weighs() -> None:
    found = {group.root: group for group in zoo("squeezed")[2]}
    units = {min(unit.on(("norm", "outputs"))): unit for unit in found["up"].units}
    assert sorted(units) == list(range(32))
    assert units[5].atoms == outs("left", 5) | outs("norm", 5) | outs("up", 5) | ins("down", 5) | ins("last.0", 5)
    assert units[14].atoms == outs("right", 2) | outs("norm", 14) | outs("up", 14) | ins("down", 14) | ins("last.0", 14)


def test_the_outputs_of_the_module_stay_whole() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        hidden = x.mean((2, 3))
        return self.head(hidden) + self.other(hidden)

    found = groups_of(Small(forward, head=nn.Linear(2, 3), other=nn.Linear(2, 3)))
    assert {group.refused for group in found.values()} == {"its channels are the outputs of the module"}


def test_channels_that_hang_together_stay_whole() -> None:
    model = Small(
        lambda self, x: pooled(self, self.c(self.spread(self.a(x)))),
        a=point(2, 4),
        spread=point(4, 8, groups=4),  # one input for each group
        c=point(8, 3),
        head=nn.Linear(3, 2),
    )
    found = groups_of(model)
    assert found["a"].refused == "all its channels hang together"
    assert [unit.atoms for unit in found["spread"].units] == [
        outs("spread", *range(i, 8, 2)) | ins("c", *range(i, 8, 2)) for i in (0, 1)
    ]


@pytest.mark.parametrize("channels", [2, 3, 4, 7, 10, 16, 31, 64])
def test_a_reversed_order_is_seen_whatever_the_number_of_channels(channels: int) -> None:
    """A choice of every third channel is its own mirror image where there are 4, 7, 10, 16 or 64."""
    model = Small(
        lambda self, x: pooled(self, self.b(functional.relu(self.a(x)).flip(1))),
        a=point(2, channels),
        b=point(channels, 4),
        head=nn.Linear(4, 2),
    )
    assert groups_of(model)["a"].refused.startswith(CHANGES)


@pytest.mark.parametrize(("channels", "size"), [(2, 1), (3, 1), (4, 1), (6, 2), (16, 5), (64, 21)])
def test_a_proof_takes_two_sets_of_units_that_share_none(channels: int, size: int) -> None:
    """A mistake that leaves one set in its place moves the other."""
    units = tuple(Unit(frozenset(outs("a", channel))) for channel in range(channels))
    one, other = _trials(units)
    assert (len(set(one)), len(set(other)), len({*one, *other})) == (size, size, 2 * size)


WRONG: dict[str, tuple[Callable[[Any, torch.Tensor], torch.Tensor], str]] = {
    "input beside channels": (lambda self, x: self.c(torch.cat([x, self.a(x)], dim=1)), CHANGES),
    "pixels before channels": (
        lambda self, x: self.wide(self.a(x).permute(0, 2, 3, 1).flatten(1))[:, :, None, None],
        CHANGES,
    ),
    "mean over channels": (lambda self, x: self.b((hidden := self.a(x)) - hidden.mean(1, keepdim=True)), CHANGES),
    "softmax over channels": (lambda self, x: self.b(self.a(x).softmax(1)), CHANGES),
    "rolled": (lambda self, x: self.b(self.a(x).roll(1, 1)), CHANGES),
    "by number": (lambda self, x: self.b(self.a(x)[:, [*range(1, 12), 0]]), BREAKS),
    "a constant for each": (lambda self, x: self.b(self.a(x) * torch.arange(12.0)[:, None, None]), BREAKS),
    "an assertion": (lambda self, x: self.b(checked(self.a(x))), BREAKS),
    "the same weights twice": (lambda self, x: self.b(self.twin(self.a(x))), CHANGES),
}


def checked(hidden: torch.Tensor) -> torch.Tensor:
    if hidden.shape[1] != 12:
        raise AssertionError(f"{hidden.shape[1]} channels")
    return hidden


@pytest.mark.parametrize("kind", WRONG)
def test_what_a_trace_does_not_understand_stays_whole(kind: str) -> None:
    forward, reason = WRONG[kind]
    torch.manual_seed(3)
    model = Small(
        lambda self, x: pooled(self, forward(self, x)),
        a=point(2, 12),
        b=point(12, 12),
        c=point(14, 12),
        wide=nn.Linear(12 * 30, 12),
        twin=point(12, 12),
        head=nn.Linear(12, 2),
    )
    model.twin.weight = model.b.weight
    found = groups_of(model)
    assert found["a"].units == ()
    assert found["a"].refused.startswith(reason)
    after = {"pixels before channels": "wide", "input beside channels": "c"}.get(kind, "b")
    assert len(found[after].units) == 12  # what comes behind it can go all the same


def test_the_reason_has_the_error_of_the_users_code() -> None:
    model = Small(
        lambda self, x: pooled(self, self.b(checked(self.a(x)))), a=point(2, 12), b=point(12, 12), head=nn.Linear(12, 2)
    )
    assert groups_of(model)["a"].refused == f"{BREAKS} (AssertionError: 8 channels)"


def test_frozen_weights_can_go_as_any_other() -> None:
    model = Small(
        lambda self, x: pooled(self, self.b(functional.relu(self.a(x)))),
        a=point(2, 4),
        b=point(4, 3),
        head=nn.Linear(3, 2),
    ).requires_grad_(False)
    found = groups_of(model)
    assert {root: len(group.units) for root, group in found.items()} == {"a": 4, "b": 3, "head": 0}
    assert all(parameter.requires_grad for parameter in differentiable(model).parameters())


def test_what_torch_pruning_fails_on_is_named_and_stays_whole() -> None:
    model = Small(
        lambda self, x: self.head(functional.relu(self.c(self.gates(self.a(x))[0])).mean(1)),
        a=nn.Linear(7, 8),
        gates=nn.GRU(8, 8, batch_first=True),
        c=nn.Linear(8, 6),
        head=nn.Linear(6, 2),
    )
    found = groups_of(model, (5, 7))
    assert found["a"].refused == "torch-pruning cannot follow its channels (IndexError: list index out of range)"
    assert found["gates"].refused == "layers of the kind GRU stay whole"
    assert [unit.atoms for unit in found["c"].units] == [outs("c", i) | ins("head", i) for i in range(6)]


def test_a_module_that_torch_pruning_cannot_trace_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError("an operation")

    monkeypatch.setattr("torch_pruning.DependencyGraph.build_dependency", fails)
    model = Small(lambda self, x: pooled(self, self.a(x)), a=point(2, 4), head=nn.Linear(4, 2))
    reason = "torch-pruning cannot follow its channels (KeyError: 'an operation')"
    assert groups_of(model) == {"a": Group("a", (), reason), "head": Group("head", (), reason)}


def test_a_layer_without_gradient_is_named_and_stays_whole() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return pooled(self, self.a(x))

    found = groups_of(Small(forward, a=point(2, 4), head=nn.Linear(4, 2)))
    assert {name: (group.units, group.refused) for name, group in found.items()} == {
        "a": ((), "torch-pruning does not see what it does to the outputs"),
        "head": ((), LAST),
    }


def test_a_layer_that_is_called_twice_is_cut_once() -> None:
    model = Small(
        lambda self, x: pooled(self, self.b(functional.relu(self.b(functional.relu(self.a(x)))))),
        a=point(2, 4),
        b=point(4, 4),
        head=nn.Linear(4, 2),
    )
    assert [unit.atoms for unit in groups_of(model)["b"].units] == [
        outs("a", i) | outs("b", i) | ins("b", i) | ins("head", i) for i in range(4)
    ]


def test_reading_weights_of_each_kind_of_layer() -> None:
    plain, grouped = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3, groups=2)
    up, linear = nn.ConvTranspose2d(4, 6, 2), nn.Linear(4, 6)
    assert torch.equal(reading_weights(plain, [1, 3])[1], plain.weight[:, 3])
    assert torch.equal(reading_weights(linear, [2])[0], linear.weight[:, 2])
    assert torch.equal(reading_weights(up, [2])[0], up.weight[2])
    # the second group: outputs 3 to 5 read inputs 2 and 3, as their own 0 and 1
    assert torch.equal(reading_weights(grouped, [3])[0], grouped.weight[3:6, 1])
    assert torch.equal(reading_weights(grouped, [1])[0], grouped.weight[0:3, 1])


def test_silence_zeroes_the_readers_alone() -> None:
    model, _, groups = zoo("residual")
    group = next(group for group in groups if group.root == "inner.0.0.0")
    silenced = copy.deepcopy(model)
    silence(silenced, group.units[2:4])
    changed = {
        name for name, value in silenced.state_dict().items() if not torch.equal(value, model.state_dict()[name])
    }
    assert changed == {"inner.0.1.weight"}
    reader = silenced.get_submodule("inner.0.1").weight
    assert reader.abs().sum((0, 2, 3)).eq(0).nonzero().flatten().tolist() == [2, 3]  # type: ignore[operator]


def test_the_plan_keeps_what_no_unit_takes() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval()
    units = [Unit(frozenset({("0", "outputs", i), ("1", "outputs", i), ("2", "inputs", i)})) for i in (0, 2)]
    assert removed_channels(units) == {("0", "outputs"): {0, 2}, ("1", "outputs"): {0, 2}, ("2", "inputs"): {0, 2}}
    assert units[1].on(("2", "inputs")) == [2]
    plan = plan_without(model, units)
    assert plan.model_dump(exclude={"schema_", "kind"}) == {
        "architecture": "Sequential",
        "layers": (
            {"layer": "0", "outputs": (1, 3), "inputs": None},
            {"layer": "1", "outputs": (1, 3), "inputs": None},
            {"layer": "2", "outputs": None, "inputs": (1, 3)},
        ),
    }
    assert plan_without(model, []).layers == ()


@pytest.mark.parametrize(
    ("layer", "reads", "writes"),
    [
        (nn.Linear(3, 5), 3, 5),
        (nn.Conv1d(4, 6, 3, groups=2), 4, 6),
        (nn.ConvTranspose2d(4, 6, 3), 4, 6),
        (nn.BatchNorm2d(7), 7, 7),
        (nn.PReLU(8), 8, 8),
        (nn.Embedding(30, 9), 9, 9),
    ],
)
def test_channels_of_each_side(layer: nn.Module, reads: int, writes: int) -> None:
    model = nn.Sequential(layer)
    assert (channels_of(model, ("0", "inputs")), channels_of(model, ("0", "outputs"))) == (reads, writes)


def test_convolutions_of_the_zoo_have_their_norms() -> None:
    """What the tests above stand on: a norm that changes every channel in its own way."""
    block = conv(2, 3)
    assert [type(layer).__name__ for layer in block] == ["Conv2d", "BatchNorm2d", "ReLU"]
    norms = [layer for layer in make("plain").modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(len(set(norm.weight.tolist())) == norm.num_features for norm in norms)
