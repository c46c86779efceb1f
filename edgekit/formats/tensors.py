"""Names, types and shapes of the tensors in weight files, without reading the tensors themselves where that can be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from edgekit.bounds import control_characters
from edgekit.errors import ModelError

BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "position_ids")
PRECISIONS = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "I8": "int8", "U8": "int8"}
BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16}


class StoredTensor(NamedTuple):
    """A tensor in a file.

    Attributes:
        precision: as ``fp32``; in small letters what safetensors calls it where there is no such name.
        shape: its sizes.
        nbytes: its bytes.
        floating: whether its elements are no integers.
    """

    precision: str
    shape: tuple[int, ...]
    nbytes: int
    floating: bool

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_tensors(files: list[Path]) -> dict[str, StoredTensor]:
    """The tensors of weight files by name; of ``.bin`` files by loading them, without running their code.

    Raises:
        ModelError: a file cannot be read.
    """
    found: dict[str, StoredTensor] = {}
    for file in files:
        found |= _safetensors(file) if file.suffix == ".safetensors" else _checkpoint(file)
    strange = next((name for name in found if control_characters(name)), None)
    if strange is not None:
        raise ModelError(
            f"a tensor is called {strange!r}", id="model.corrupt-weights", why="the name has control characters"
        )
    return found


def is_parameter(name: str, tensor: StoredTensor) -> bool:
    """Whether a tensor was trained: no counter, no statistic, no table of positions."""
    return name.rpartition(".")[2] not in BUFFERS and (tensor.floating or tensor.precision == "int8")


def _safetensors(file: Path) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as stored:
            slices = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118  # it has no iterator
            return {name: _stored(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"the weights in {file.name!r} are not valid safetensors", id="model.corrupt-weights", why=str(error)
        ) from error


def _checkpoint(file: Path) -> dict[str, StoredTensor]:
    from edgekit.checkpoint import load_checkpoint

    names = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8", "uint8": "U8"}
    return {
        name: _stored(names.get(kind := str(tensor.dtype).removeprefix("torch."), kind), tuple(tensor.shape))
        for name, tensor in load_checkpoint(file).items()
    }


def _stored(kind: str, shape: tuple[int, ...]) -> StoredTensor:
    bits = BITS.get(kind, 8)
    floating = kind.startswith(("F", "BF"))
    return StoredTensor(PRECISIONS.get(kind, kind.lower()), shape, math.prod(shape) * bits // 8, floating)
