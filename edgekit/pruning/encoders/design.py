"""Which small encoders are measured for a cost table, and how its curves follow from them.

One width is changed at a time, from a centre:

    one layer                      base and the last layer
    m layers and the last          less the one before, over m: an ordinary layer
    ... other heads in the m       less the centre, over m: attention by heads
    ... other neurons in the m     the same: feed-forward by neurons
    ... other widths in the last   less the centre: the last layer, where it is not like the others

Only sums can be measured: what a layer costs whatever its widths are (its norms and sums) could stand anywhere. By
convention a block of no neurons costs nothing, and so does attention of no heads in the last layer; the rest stands
with ordinary attention, and of the last layer with ``base``.

Where the hidden size is to be pruned, the same encoders are measured with fewer columns in their stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from edgekit.errors import UsageError
from edgekit.pruning.encoders.table import Curve, Geometry, at_width

Key = tuple[tuple[int, int], ...]
# Columns of the stream, and heads and neurons of each layer.
Small = tuple[int, Key]
# Attention is linear in its heads; products of matrices are less so in their columns.
HEAD_SHARES = (1 / 4, 1 / 2, 1.0)
NEURON_SHARES = (1 / 8, 1 / 3, 2 / 3, 1.0)
# Ordinary layers in the encoders that are measured: two, so that noise counts half.
ORDINARY = 2
# Of each layer of an encoder that shows how well a table predicts: shares of heads and neurons, none of them above.
CHECKED = ((0.75, 0.2), (0.4, 0.5), (0.6, 0.85), (0.9, 0.4))
# Hidden sizes that are measured beside the model's own, and those between them that show how well a table predicts.
HIDDEN_SHARES = (1 / 2, 3 / 4)
HIDDEN_CHECKED = (5 / 8, 7 / 8)


@dataclass(frozen=True)
class Curves:
    """The figures of a table: see ``CostTable``."""

    base: float
    attention: Curve
    feed_forward: Curve
    last_attention: Curve
    last_feed_forward: Curve


def narrowest(hidden: int, left: int, multiple: int) -> int | None:
    """The smallest hidden size that a table is to hold for; None where the stream keeps all its columns.

    It goes down to half in any case: one table is then enough to try several hidden sizes.

    Args:
        hidden: columns of the model's stream.
        left: columns that are to stay.
        multiple: of widths.
    """
    return None if left >= hidden else min(left, _share(hidden, HIDDEN_SHARES[0], multiple))


def _share(whole: int, share: float, multiple: int) -> int:
    """A share of a width, as a multiple."""
    return whole if share == 1 else min(whole, max(multiple, round(whole * share / multiple) * multiple))


@dataclass(frozen=True)
class Design:
    """The encoders to measure.

    Attributes:
        hidden: columns of the stream that are measured, the model's own first.
        heads, neurons: the widths that are measured, ascending.
        ordinary: layers before the last one.
        same_last: whether the last layer is like every other one.
        checks: encoders that show how well the table predicts, of the model's own hidden size.
        narrower_checks: the same of smaller ones.
    """

    hidden: tuple[int, ...]
    heads: tuple[int, ...]
    neurons: tuple[int, ...]
    ordinary: int
    same_last: bool
    checks: tuple[Key, ...] = ()
    narrower_checks: tuple[Small, ...] = ()

    @classmethod
    def of(cls, geometry: Geometry, layers: int, multiple: int) -> Design:
        """For an encoder of ``layers`` layers on a target that likes widths to be multiples.

        Raises:
            UsageError: it has one layer only.
        """
        if layers < 2:
            raise UsageError(
                "a model of one layer has no cost table",
                id="usage.settings-conflict",
                why="costs are measured of the last layer and of those before it",
                hint="Use --set prune.cost=macs.",
            )

        def heads_at(share: float) -> int:
            return max(1, round(geometry.heads * share))

        def neurons_at(share: float) -> int:
            return _share(geometry.neurons, share, multiple)

        design = cls(
            hidden=_hidden_sizes(geometry, multiple),
            heads=tuple(sorted({heads_at(share) for share in HEAD_SHARES})),
            neurons=tuple(sorted({neurons_at(share) for share in NEURON_SHARES})),
            ordinary=min(ORDINARY, layers - 1),
            same_last=not geometry.first_token_only,
        )
        shapes = [tuple((heads_at(h), neurons_at(n)) for h, n in CHECKED[:depth]) for depth in (2, 3, 4)]
        shapes.append(((heads_at(0.6), neurons_at(0.45)),) * layers)
        fitting = [shape for shape in dict.fromkeys(shapes) if len(shape) <= layers and shape not in design.encoders]
        checks, between = tuple(fitting[-3:]), list[Small]()
        if geometry.narrowest is not None:
            sizes = (_share(geometry.hidden, share, multiple) for share in HIDDEN_CHECKED)
            between = [
                (size, shape)
                for size, shape in zip(sizes, checks[-2:], strict=False)
                if geometry.narrowest <= size < geometry.hidden
            ]
        return replace(design, checks=checks, narrower_checks=tuple(between))

    @property
    def centre(self) -> tuple[int, int]:
        """Heads and neurons that the other encoders differ from in one width."""
        return self.heads[len(self.heads) // 2], self.neurons[(len(self.neurons) - 1) // 2]

    @property
    def last_neurons(self) -> tuple[int, ...]:
        """Of one token, feed-forward costs next to nothing: two widths are enough."""
        return tuple(sorted({self.centre[1], self.neurons[-1]}))

    def with_ordinary(self, heads: int, neurons: int) -> Key:
        """The centre with other layers before the last."""
        return (*[(heads, neurons)] * self.ordinary, self.centre)

    def with_last(self, heads: int, neurons: int) -> Key:
        """The centre with another last layer."""
        return (*[self.centre] * self.ordinary, (heads, neurons))

    @property
    def encoders(self) -> tuple[Key, ...]:
        """Heads and neurons of each layer of every encoder that the table is made of, the centre first."""
        heads, neurons = self.centre
        found = [self.with_ordinary(heads, neurons), (self.centre,)]
        found += [self.with_ordinary(width, neurons) for width in self.heads]
        found += [self.with_ordinary(heads, width) for width in self.neurons]
        if not self.same_last:
            found += [self.with_last(width, neurons) for width in self.heads]
            found += [self.with_last(heads, width) for width in self.last_neurons]
        return tuple(dict.fromkeys(found))

    @property
    def fitted(self) -> tuple[Small, ...]:
        """Every encoder that the table is made of, those of the model's own hidden size first."""
        return tuple((hidden, shape) for hidden in self.hidden for shape in self.encoders)

    @property
    def measured(self) -> tuple[Small, ...]:
        """Every encoder that is measured, the centre first."""
        return (*self.fitted, *((self.hidden[0], shape) for shape in self.checks), *self.narrower_checks)

    def solve(self, costs: Mapping[Key, float]) -> Curves:
        """The curves at one hidden size, from the cost of every encoder."""
        heads, neurons = self.centre
        middle, one = costs[self.with_ordinary(heads, neurons)], costs[(self.centre,)]

        def curve(widths: tuple[int, ...], cost_at: Callable[[int], float], share: int) -> Curve:
            """Differences to the centre, never falling: noise must not make a wider part the cheaper one."""
            points: list[tuple[int, float]] = []
            for width in widths:
                cost = (cost_at(width) - middle) / share
                points.append((width, max(cost, points[-1][1]) if points else cost))
            return tuple(points)

        attention = curve(self.heads, lambda width: costs[self.with_ordinary(width, neurons)], self.ordinary)
        forward = _from_zero(curve(self.neurons, lambda width: costs[self.with_ordinary(heads, width)], self.ordinary))
        layer = (middle - one) / self.ordinary
        attention = _raised(attention, layer - at_width(attention, heads) - at_width(forward, neurons))
        if self.same_last:
            return Curves(one - layer, attention, forward, attention, forward)
        last_attention = _from_zero(curve(self.heads, lambda width: costs[self.with_last(width, neurons)], 1))
        last_forward = _from_zero(curve(self.last_neurons, lambda width: costs[self.with_last(heads, width)], 1))
        base = one - at_width(last_attention, heads) - at_width(last_forward, neurons)
        return Curves(base, attention, forward, last_attention, last_forward)


def _hidden_sizes(geometry: Geometry, multiple: int) -> tuple[int, ...]:
    """The model's own, and smaller ones down to the narrowest."""
    own, least = geometry.hidden, geometry.narrowest
    if least is None:
        return (own,)
    sizes = {least, *(_share(own, share, multiple) for share in HIDDEN_SHARES)}
    return (own, *sorted((size for size in sizes if least <= size < own), reverse=True))


def _raised(curve: Curve, by: float) -> Curve:
    return tuple((width, cost + by) for width, cost in curve)


def _from_zero(curve: Curve) -> Curve:
    """The curve moved so that its line through the first two widths starts at no cost for no width."""
    return _raised(curve, -at_width(curve, 0))
