"""The one place where a checkpoint of torch's own format is read: by its loader that runs no code."""

from __future__ import annotations

import pickle  # noqa: TID251  # for the name of the loader's error alone
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import ModelError

if TYPE_CHECKING:
    import torch

# Where trainers put the state dict inside their own dictionary.
WRAPPERS = ("state_dict", "model_state_dict", "model")


def load_checkpoint(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.pt``, ``.pth`` or ``.bin`` file by name.

    Raises:
        ModelError: it holds anything but tensors, or no state dict.
    """
    import torch

    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251  # weights_only reads tensors
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(
            f"{file.name!r} is no checkpoint that can be read without running its code",
            why=first_lines(error),
            hint="Save the weights as safetensors: safetensors.torch.save_file(module.state_dict(), FILE).",
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ModelError(f"{file.name!r} holds no state dict", why=f"it holds a {type(loaded).__name__}")
    return loaded


def first_lines(error: BaseException) -> str:
    """The first lines of an error's text, where the whole would fill a screen."""
    return "\n".join(str(error).strip().splitlines()[:4])
