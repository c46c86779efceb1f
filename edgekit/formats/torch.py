"""Torch artifacts on disk: safetensors, the original's configuration, and a plan where something was pruned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import WHOLE, Component
from edgekit.checkpoint import WEIGHTS, save_state
from edgekit.errors import ModelError
from edgekit.formats.plans import Plan, apply_plan, read_plan, save_plan
from edgekit.tasks.base import Task

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle


def torch_components(files: tuple[str, ...] = (WEIGHTS,)) -> dict[str, Component]:
    """The components of a torch artifact: its weights; inputs and outputs are named when it is exported."""
    return {WHOLE: Component(files=files, inputs=(), outputs=())}


def save_weights(model: nn.Module, folder: Path, plan: Plan | None) -> None:
    """Write ``model.safetensors``, and ``plan.json`` where the model was pruned."""
    folder.mkdir(parents=True, exist_ok=True)
    save_state(model, folder / WEIGHTS)
    if plan is not None:
        save_plan(plan, folder)


def load_model(task: Task) -> tuple[nn.Module, Plan | None]:
    """The model in the task's folder, pruned as its plan says, and the plan.

    Raises:
        ModelError: the weights do not fit.
    """
    plan = read_plan(task.folder)
    if plan is None:
        return task.load_model(), None
    from safetensors import SafetensorError
    from safetensors.torch import load_model as load_safetensors

    model = apply_plan(task.build_model(), plan)
    try:
        load_safetensors(model, str(task.folder / WEIGHTS))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise ModelError(
            f"the weights in {task.folder.name!r} do not fit its plan",
            id="model.plan-mismatch",
            why=str(error).splitlines()[0],
        ) from error
    return model.eval(), plan


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Take these hooks off at the end of the block."""
    kept = list(handles)
    try:
        yield
    finally:
        for handle in kept:
            handle.remove()


def batch_norms(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every batch norm of a module, by name."""
    from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for all of them

    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, _BatchNorm)]
