"""How wide weights may be where pairs of products are added in a saturating int16.

Weights of 7 bits cannot saturate (2 * 255 * 64 = 32640), whatever the activations are, and lose a bit. They are what is
used unless they lose too much on the selection split; then 8 bits where no sum was seen to saturate, and then unsigned
weights, whose products are added exactly, at about half the speed. Layers that still lose too much stay float.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple, cast

from pydantic import JsonValue

from edgekit.measure.quality import exceeds
from edgekit.quantization.schemes import Scheme
from edgekit.report import Saturation

Range = Literal["auto", "always", "never"]
SEVEN, MIXED, UNSIGNED, EIGHT = "7 bits", "8 bits where no sum saturates", "u8u8", "8 bits"


class Width(NamedTuple):
    """What was chosen.

    Attributes:
        scheme: with it.
        name: one of the four above.
        reason: a sentence for the report.
        losses: name and loss of what was tried on the selection split, in order.
    """

    scheme: Scheme
    name: str
    reason: str
    losses: tuple[tuple[str, float], ...] = ()

    def details(self, seen: Sequence[Saturation] | None, samples: int) -> dict[str, JsonValue]:
        """What the report says of it."""
        found = None if seen is None else [one.model_dump(mode="json") for one in seen]
        return {
            "chosen": self.name,
            "reason": self.reason,
            "losses": cast("JsonValue", [list(pair) for pair in self.losses]),
            "samples": samples,
            "saturated_at_8_bits": cast("JsonValue", found),
        }


def candidate_widths(scheme: Scheme, layers: Sequence[str], saturated: Collection[str]) -> dict[str, Scheme]:
    """Schemes by name, in the order in which they are tried.

    Args:
        scheme: of s8 weights.
        layers: every layer, as component/node.
        saturated: names of those that were seen to saturate with 8 bits.
    """
    spared = tuple(name for name in layers if name not in saturated)
    narrow = scheme.model_copy(update={"reduce_range": True})
    found = {SEVEN: narrow}
    if spared:
        found[MIXED] = narrow.model_copy(update={"full_range": spared})
    if scheme.activations == "u8":
        found[UNSIGNED] = scheme.model_copy(update={"weights": "u8", "reduce_range": False})
    return found


def choose_width(
    candidates: dict[str, Scheme], seen: str, drop: Callable[[Scheme], float] | None, tolerance: float
) -> Width:
    """The first that loses no more than the tolerance, else the one that loses least; 7 bits where that is unknown.

    Args:
        candidates: by name.
        seen: what 8 bits would do, as a clause.
        drop: loss on the selection split, None where there is none.
        tolerance: the largest loss that is taken.
    """
    losses: list[tuple[str, float]] = []
    for name, scheme in candidates.items():
        if drop is None:
            return Width(scheme, name, f"{name}, which cannot saturate: {seen}")
        losses.append((name, drop(scheme)))
        if not exceeds(losses[-1][1], tolerance):
            break
    name, least = min(losses, key=lambda pair: pair[1])
    others = ", ".join(f"{other} {_points(loss)}" for other, loss in losses if other != name)
    reason = f"{name}: {seen}; {_points(least)} lost on the selection split" + (f" ({others})" if others else "")
    return Width(candidates[name], name, reason, tuple(losses))


def describe_saturation(seen: Sequence[Saturation] | None, samples: int) -> str:
    """What weights of 8 bits do, as a clause."""
    if seen is None:
        return "sums of weights of 8 bits may saturate, and without data nobody knows whether they do"
    if not seen:
        return f"with 8 bits no sum saturated on {samples} samples, which others may"
    one = "1 layer" if len(seen) == 1 else f"{len(seen)} layers"
    return f"with 8 bits, sums of {one} saturate on {samples} samples, most in {seen[0].layer} ({seen[0].share:.1%})"


def _points(loss: float) -> str:
    return f"{loss * 100:.2f} points"
