"""torch as a Runner: the components as modules, the reference that every export is compared with."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import ModelError, retelling
from edgekit.tasks.base import Array, ComponentSpec

NAME = "torch"


class TorchRunner:
    """Components that were not exported.

    Args:
        components: what the task made of a loaded model.
    """

    def __init__(self, components: Mapping[str, ComponentSpec]) -> None:
        self._components = components

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on named arrays."""
        import torch

        spec = self._components[component]
        with torch.inference_mode(), retelling(_does_not_run):
            outputs = spec.module(**{name: torch.from_numpy(values) for name, values in feeds.items()})
        values = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return {name: value.numpy() for name, value in zip(spec.outputs, values, strict=True)}


def _does_not_run(why: str) -> ModelError:
    return ModelError("torch does not run the model", id="model.does-not-load", why=why)
