"""Weights of a module, from safetensors or from a checkpoint of torch's own format.

This is the one place where the latter is read: by torch's loader that runs no code.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bounds import check_archive
from edgekit.errors import HostError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Name of edgekit's own file.
WEIGHTS = "model.safetensors"
# Before it, torch's loader that runs no code wrote beyond its memory on a crafted file (CVE-2026-24747).
SAFE_TORCH = (2, 10)
# Where trainers put the state dict inside their own dictionary.
WRAPPERS = ("state_dict", "model_state_dict", "model")
# What names of weights begin with after DataParallel, torch.compile, and a trainer that holds the module as its model.
PREFIXES = ("module.", "_orig_mod.", "model.")


def load_weights(module: nn.Module, file: Path) -> None:
    """Load a user's checkpoint; a prefix or wrapper that trainers leave around it is taken off.

    Raises:
        ModelError: it cannot be read, or does not fit the module tensor by tensor.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise ModelError(f"there is no file of weights {str(file)!r}", id="model.no-weights")
    try:
        tensors = load_file(file) if file.suffix == ".safetensors" else load_checkpoint(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"the weights in {file.name!r} are not valid safetensors", id="model.corrupt-weights", why=str(error)
        ) from error
    tensors, mine = _fitting(module, tensors), module.state_dict()
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # sparse or quantized ones
        raise ModelError(
            f"the weights in {file.name!r} do not fit the module", id="model.weights-mismatch", why=first_lines(error)
        ) from error
    shared = {mine[name].data_ptr() for name in mine.keys() & tensors.keys()}  # a file holds tied weights once
    missing = [
        name for name in missing if not name.endswith("num_batches_tracked") and mine[name].data_ptr() not in shared
    ]
    if missing or unexpected:
        raise weights_mismatch(
            f"the weights in {file.name!r} do not fit the module",
            {"missing": missing, "not in the module": unexpected},
        )


def weights_mismatch(what: str, names: Mapping[str, Sequence[str]]) -> ModelError:
    """The error of weights that do not fit: of each thing that is wrong, the first names."""
    return ModelError(
        what,
        id="model.weights-mismatch",
        why="; ".join(
            f"{problem}: {', '.join(listed[:5])}{' ...' if len(listed) > 5 else ''}"
            for problem, listed in names.items()
            if listed
        ),
    )


def _fitting(module: nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the module's names: prefixes that all of them have go where the module has none of them."""
    mine = module.state_dict()
    while tensors and not mine.keys() & tensors.keys():
        prefix = next((part for part in PREFIXES if all(name.startswith(part) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    for name, value in tensors.items():
        if name in mine and mine[name].shape != value.shape:
            raise ModelError(
                f"the weights for {name!r} have the shape {list(value.shape)}",
                id="model.weights-mismatch",
                why=f"the module's: {list(mine[name].shape)}",
            )
    return tensors


def save_state(module: nn.Module, file: Path) -> None:
    """Write a module's tensors as edgekit's own safetensors, readable by everyone (0644)."""
    from safetensors.torch import save_model

    save_model(module, str(file), metadata={"format": "pt"})
    file.chmod(0o644)


def load_state(module: nn.Module, file: Path) -> None:
    """Load a module's tensors from edgekit's own safetensors, every one of them.

    Raises:
        ModelError: they do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(module, str(file))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise ModelError(
            f"the weights in {file.name!r} do not fit the module", id="model.weights-mismatch", why=first_lines(error)
        ) from error


def load_checkpoint(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.pt``, ``.pth`` or ``.bin`` file by name.

    Raises:
        ModelError: it holds anything but tensors, or no state dict.
        HostError: this torch is too old to read a stranger's file.
    """
    import torch

    if parse_version(torch.__version__) < SAFE_TORCH:
        raise HostError(
            f"torch {torch.__version__} does not read {file.name!r} safely",
            id="environment.old-package",
            why=f"before {'.'.join(map(str, SAFE_TORCH))} a checkpoint could change its memory (CVE-2026-24747)",
            hint="Bring torch up to date, or save the weights as safetensors.",
        )
    try:
        if zipfile.is_zipfile(file):
            check_archive(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251  # weights_only reads tensors
    except Exception as error:  # on a broken file its loader raises anything
        raise ModelError(
            f"{file.name!r} is no checkpoint that can be read without running its code",
            id="model.weights-format",
            why=f"torch: {type(error).__name__}: {first_lines(error)}",
            hint="Save the weights as safetensors: safetensors.torch.save_file(module.state_dict(), FILE).",
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise ModelError(
            f"{file.name!r} holds no state dict", id="model.weights-format", why=f"it holds a {type(loaded).__name__}"
        )
    return loaded


def parse_version(text: str) -> tuple[int, int]:
    """The first two numbers of a version such as ``2.10.0+cpu``."""
    major, minor = re.findall(r"\d+", text)[:2]
    return int(major), int(minor)


def first_lines(error: BaseException) -> str:
    """The first lines of an error's text, where the whole would fill a screen."""
    return "\n".join(str(error).strip().splitlines()[:4])
