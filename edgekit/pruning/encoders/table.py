"""Cost tables: what one inference of an encoder costs on one device, by the width of each part of each layer.

Layers run one after the other, so that their costs add up (Wu et al. 2019, FBNet, section 3.3; Kurtic et al. 2023,
ZipLM, section 3.2). A table holds four curves over widths: attention and feed-forward, in the last layer and in every
other one. Between measured widths costs are taken to be straight lines.

Every product of a layer has the stream on one side, so that all of it costs less where the stream is narrower. A table
that was asked to holds the same curves at several hidden sizes, and costs lie on straight lines between those, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from edgekit.artifact import write_text
from edgekit.bounds import MAX_LOCK_BYTES, load_json
from edgekit.errors import UsageError
from edgekit.settings import Frozen, read_bounded, validate

Unit = Literal["ms", "million instructions"]
# Of each layer that is left, in order: heads, neurons.
Widths = Sequence[tuple[int, int]]
ONE_SIZE, SEVERAL_SIZES = "edgekit.costs/1", "edgekit.costs/2"
# What tables of several hidden sizes alone have: see ``_Told``.
OF_SEVERAL = ("narrowest", "hidden", "narrower")
CURVES = ("attention", "feed_forward", "last_attention", "last_feed_forward")


def _ascending(curve: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    if any(one[0] >= other[0] for one, other in pairwise(curve)):
        raise ValueError("the widths do not ascend")
    return curve


# What a document has of a table beside the table.
TOLD = ("largest_error", "digest")
# Width and cost, ascending.
Point = tuple[Annotated[int, Field(ge=1)], FiniteFloat]
Curve = Annotated[tuple[Point, ...], Field(min_length=1), AfterValidator(_ascending)]


class _Told(Frozen):
    """A table that does not write what it does not have of several hidden sizes.

    So that a table of one has the file and the digest that it had before there were others.
    """

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if value or name not in OF_SEVERAL}


class Geometry(_Told):
    """The shape of an encoder as far as pruning leaves it.

    Attributes:
        architecture: the model's class.
        hidden: columns of the stream.
        head_width: columns of a head.
        heads, neurons: of the widest layer.
        first_token_only: whether the last layer is read at the first token alone.
        narrowest: the fewest columns that pruning leaves of the stream; None where it leaves them all.
    """

    architecture: str
    hidden: int = Field(ge=1)
    head_width: int = Field(ge=1)
    heads: int = Field(ge=1)
    neurons: int = Field(ge=1)
    first_token_only: bool
    narrowest: int | None = Field(None, ge=1)


class Scope(Frozen):
    """What a table holds for.

    Attributes:
        target: name of the target.
        runtime, provider, threads: what computed, as an artifact is run.
        runtime_version: of the runtime that was measured.
        device, fingerprint: the machine that was measured on.
        workload: what one inference is.
        graph: the stages that make the graph, each with the settings that latency hangs on.
        geometry: of the encoder.
    """

    target: str
    runtime: str
    provider: str
    threads: int
    runtime_version: str = ""
    device: str
    fingerprint: str
    workload: dict[str, JsonValue]
    graph: tuple[dict[str, JsonValue], ...]
    geometry: Geometry

    def differs_from(self, other: Scope) -> str:
        """What sets it apart from another scope, beside the machine and versions; empty where nothing does.

        An encoder that is narrower than the measured ones is within the table.
        """
        for name in ("target", "runtime", "provider", "threads", "workload", "graph"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name}: {mine} in the table, {theirs} here"
        mine, theirs = self.geometry, other.geometry
        for name in ("architecture", "hidden", "head_width", "first_token_only"):
            if getattr(mine, name) != getattr(theirs, name):
                return f"{name}: {getattr(mine, name)} in the table, {getattr(theirs, name)} here"
        for name in ("heads", "neurons"):
            if getattr(mine, name) < getattr(theirs, name):
                return f"{name}: up to {getattr(mine, name)} in the table, {getattr(theirs, name)} here"
        least, wanted = (one.narrowest or one.hidden for one in (mine, theirs))
        return f"hidden: from {least} columns on in the table, {wanted} here" if least > wanted else ""


class MeasuredEncoder(_Told):
    """An encoder that was measured.

    Attributes:
        widths: heads and neurons of each layer.
        cost: measured.
        predicted: by the table.
        fitted: whether the table was made of it; the others show how well it predicts.
        hidden: columns of its stream; None where it has all.
    """

    widths: tuple[tuple[int, int], ...]
    cost: FiniteFloat = Field(gt=0)
    predicted: FiniteFloat
    fitted: bool
    hidden: int | None = Field(None, ge=1)

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted / self.cost - 1


class HiddenCosts(Frozen):
    """The same curves at a smaller hidden size.

    Attributes:
        hidden: columns of the stream.
        base, attention, feed_forward, last_attention, last_feed_forward: as in ``CostTable``.
    """

    hidden: int = Field(ge=1)
    base: FiniteFloat
    attention: Curve
    feed_forward: Curve
    last_attention: Curve
    last_feed_forward: Curve


class CostTable(_Told):
    """What an inference costs, by widths.

    Attributes:
        scope: what it holds for.
        unit: of every cost.
        base: of embeddings and head, and of what the last layer costs whatever its widths are.
        attention: by heads, with what a layer costs whatever its widths are.
        feed_forward: by neurons.
        last_attention, last_feed_forward: the same of the last layer.
        rewrites: of the graph, those that paid and were applied.
        encoders: what was measured.
        warnings: what disturbed the machine meanwhile.
        narrower: the curves at each smaller hidden size that was measured, ascending.
    """

    schema_: Literal["edgekit.costs/1", "edgekit.costs/2"] = Field("edgekit.costs/1", alias="schema")
    scope: Scope
    unit: Unit
    base: FiniteFloat
    attention: Curve
    feed_forward: Curve
    last_attention: Curve
    last_feed_forward: Curve
    rewrites: tuple[str, ...] = ()
    encoders: tuple[MeasuredEncoder, ...] = ()
    warnings: tuple[str, ...] = ()
    narrower: tuple[HiddenCosts, ...] = ()

    @model_validator(mode="after")
    def _sizes_agree(self) -> CostTable:
        sizes, shape = self.hidden_sizes, self.scope.geometry
        if any(one >= other for one, other in pairwise(sizes)):
            raise ValueError("the hidden sizes do not ascend to that of the model")
        if sizes[0] != (shape.narrowest or shape.hidden):
            raise ValueError(f"costs begin at a hidden size of {sizes[0]}, which is not the narrowest of the scope")
        if bool(self.narrower) != (self.schema_ == SEVERAL_SIZES):
            raise ValueError(f"{SEVERAL_SIZES} is of several hidden sizes, {ONE_SIZE} of one")
        return self

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Those that were measured, ascending; the last one is the model's."""
        return (*(one.hidden for one in self.narrower), self.scope.geometry.hidden)

    def at(self, hidden: int) -> CostTable:
        """What an inference costs where the stream has so many columns: each cost on the line between its neighbours.

        Raises:
            UsageError: so many columns are not between those that were measured.
        """
        shape = self.scope.geometry
        if hidden == shape.hidden:
            return self
        if not self.hidden_sizes[0] <= hidden <= shape.hidden:
            raise UsageError(
                f"costs were measured at a hidden size of {', '.join(map(str, self.hidden_sizes))}",
                id="usage.costs-mismatch",
                why=f"{hidden} columns of it stay",
                hint="Leave out --costs, or make a table with `edgekit costs` and the same prune.hidden.",
            )
        sizes: list[HiddenCosts | CostTable] = [*self.narrower, self]

        def between(costs: list[float]) -> float:
            return at_width(tuple(zip(self.hidden_sizes, costs, strict=True)), hidden)

        def curve(name: str) -> Curve:
            curves: list[Curve] = [getattr(size, name) for size in sizes]
            return tuple((width, between([at_width(one, width) for one in curves])) for width, _ in curves[-1])

        changes: dict[str, Any] = {name: curve(name) for name in CURVES}
        changes["base"] = between([size.base for size in sizes])
        here = shape.model_copy(update={"hidden": hidden, "narrowest": None})
        scope = self.scope.model_copy(update={"geometry": here})
        return self.model_copy(
            update=changes | {"schema_": ONE_SIZE, "scope": scope, "narrower": (), "encoders": (), "warnings": ()}
        )

    def told(self) -> dict[str, JsonValue]:
        """What is computed of it, for those who read it as JSON."""
        return {name: getattr(self, name) for name in TOLD}

    @property
    def digest(self) -> str:
        """sha256 of all of it."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def heads_cost(self, heads: int, *, last: bool) -> float:
        """The cost of attention with so many heads."""
        return at_width(self.last_attention if last else self.attention, heads)

    def neurons_cost(self, neurons: int, *, last: bool) -> float:
        """The cost of a feed-forward block with so many neurons."""
        return at_width(self.last_feed_forward if last else self.feed_forward, neurons)

    def predict(self, widths: Widths) -> float:
        """The cost of one inference of an encoder with so many heads and neurons in each layer."""
        total = self.base
        for index, (heads, neurons) in enumerate(widths):
            last = index == len(widths) - 1
            total += self.heads_cost(heads, last=last) + self.neurons_cost(neurons, last=last)
        return total

    @property
    def largest_error(self) -> float | None:
        """Of the encoders that the table was not made of, the largest error; None where there are none."""
        return max((abs(one.error) for one in self.encoders if not one.fitted), default=None)

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        write_text(file, self.model_dump_json(by_alias=True, indent=1) + "\n")


def at_width(curve: Curve, width: int) -> float:
    """A curve's cost at a width: on the line between its neighbours, beyond an end on the line of the last two."""
    if len(curve) == 1:
        return curve[0][1]
    right = next((index for index, (knot, _) in enumerate(curve) if knot >= width), len(curve) - 1)
    (low, below), (high, above) = curve[max(right, 1) - 1], curve[max(right, 1)]
    return below + (above - below) * (width - low) / (high - low)


def load_costs(path: str | Path) -> CostTable:
    """A table from its file, or from what `edgekit costs --json` prints.

    Raises:
        UsageError: there is none, or it is no valid table.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(
            f"there is no file of costs {str(path)!r}",
            id="usage.no-file",
            hint="`edgekit costs MODEL --target T -o FILE` makes one.",
        )
    text = read_bounded(file, "costs", MAX_LOCK_BYTES)
    try:
        values = load_json(text.encode())
    except ValueError as error:
        raise UsageError(
            f"costs {str(path)!r} are not valid JSON", id="usage.invalid-settings", why=str(error)
        ) from error
    if isinstance(values, dict):
        values = {name: value for name, value in values.items() if name not in TOLD}
    return validate(CostTable, values, f"costs {str(path)!r}")


def check_scope(table: CostTable, wanted: Scope) -> None:
    """See that a table holds for what is wanted.

    Raises:
        UsageError: it does not.
    """
    difference = table.scope.differs_from(wanted)
    if difference:
        raise UsageError(
            "the table of costs is for something else",
            id="usage.costs-mismatch",
            why=difference,
            hint="Leave out --costs, and a table is measured; or make one with `edgekit costs` and the same options.",
        )
