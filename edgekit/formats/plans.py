"""Plans on disk, of either kind.

A pruned model is ``model.safetensors`` and ``plan.json``. The plan is replayed on a fresh model of the original's
architecture, and the weights then fit: no module is ever pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from edgekit.artifact import PLAN, write_text
from edgekit.bounds import MAX_PLAN_BYTES
from edgekit.errors import ArtifactError
from edgekit.formats.channels import ChannelPlan, cut_channels
from edgekit.formats.surgery import EncoderPlan, replay

if TYPE_CHECKING:
    from torch import nn

P = TypeVar("P")
Plan = EncoderPlan | ChannelPlan
_PLAN: TypeAdapter[Plan] = TypeAdapter(Annotated[Plan, Field(discriminator="kind")])


def save_plan(plan: Plan, folder: Path) -> None:
    """Write ``plan.json``."""
    write_text(folder / PLAN, plan.model_dump_json(by_alias=True) + "\n")


def read_plan(folder: Path) -> Plan | None:
    """The plan in a model folder; None where nothing was pruned."""
    return read_plan_file(folder / PLAN, _PLAN)


def read_plan_file(file: Path, kind: TypeAdapter[P]) -> P | None:
    """A plan of any kind; None where there is no such file.

    Raises:
        ArtifactError: it is too large, or no plan of this kind.
    """
    if not file.is_file():
        return None
    if file.stat().st_size > MAX_PLAN_BYTES:
        raise ArtifactError(
            f"{str(file)!r} has {file.stat().st_size} bytes",
            id="artifact.invalid-file",
            why=f"allowed: {MAX_PLAN_BYTES}",
        )
    try:
        return kind.validate_json(file.read_bytes())
    except ValidationError as error:
        raise ArtifactError(
            f"{str(file)!r} is no valid plan", id="artifact.invalid-file", why=str(error.errors()[0]["msg"])
        ) from error


def apply_plan(model: nn.Module, plan: Plan) -> nn.Module:
    """Cut ``model`` in place to what ``plan`` keeps, and return it."""
    return replay(model, plan) if isinstance(plan, EncoderPlan) else cut_channels(model, plan)


def chain(earlier: Plan | None, later: Plan) -> Plan:
    """The plan of pruning by one and then, counted in what that one leaves, by the other."""
    if isinstance(earlier, EncoderPlan) and isinstance(later, EncoderPlan):
        return earlier.then(later)
    if isinstance(earlier, ChannelPlan) and isinstance(later, ChannelPlan):
        return earlier.then(later)
    return later
