"""Data in ``.npz`` files: named arrays whose first axis is the samples. What they say of their sizes is not trusted."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bounds import check_archive
from edgekit.errors import DataError

if TYPE_CHECKING:
    from edgekit.tasks.base import Array

SUFFIX = ".npz"
# Under which of these a text array that is shorter than the others names the classes, and is no column of samples.
CLASS_NAMES = ("names", "classes", "class_names", "label_names")
# Of Unicode: the last character, and the halves of pairs, which are none by themselves.
MAX_CHARACTER, FIRST_HALF, LAST_HALF = 0x10FFFF, 0xD800, 0xDFFF

# What zipfile, zlib and numpy raise on a damaged file; an unknown way of packing, or a version, is not implemented, and
# numpy reads a header that is no literal once more as Python 2 wrote it.
READING = (
    OSError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    tokenize.TokenError,
)


class Arrays:
    """Columns of equal length, used as a split of ``datasets`` is.

    Args:
        columns: name to array [samples, ...].
    """

    features: Mapping[str, object] = {}

    def __init__(self, columns: Mapping[str, Array]) -> None:
        self._columns = dict(columns)

    @property
    def column_names(self) -> list[str]:
        return list(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, str):
            values = self._columns[key]
            return values if values.ndim > 1 else values.tolist()
        return {name: values[key] for name, values in self._columns.items()}

    def select(self, rows: Sequence[int]) -> Arrays:
        """Some of the samples, in this order."""
        chosen = list(rows)
        return Arrays({name: values[chosen] for name, values in self._columns.items()})


def read_arrays(file: Path) -> Arrays:
    """The arrays of a file.

    Raises:
        DataError: it cannot be read, is too large, or its arrays are not of equal length; says which.
    """
    import numpy as np

    try:
        _check_sizes(file)
        with np.load(file, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        for name, values in columns.items():
            _check_text(name, values)
    except READING as error:
        raise DataError(
            f"the data in {file.name!r} cannot be read",
            id="data.unreadable",
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="Write it with numpy.savez(FILE, name=array, ...), arrays of numbers only.",
        ) from error
    columns = _without_class_names(columns)
    lengths = {name: len(values) if values.ndim else None for name, values in columns.items()}
    if not columns or None in lengths.values() or len(set(lengths.values())) > 1:
        told = ", ".join(f"{name}: {'a single number' if n is None else n}" for name, n in lengths.items())
        raise DataError(
            f"the arrays in {file.name!r} are not of equal length",
            id="data.unreadable",
            why=f"the first axis of each is the samples; found {told or 'no array'}",
        )
    if not len(next(iter(columns.values()))):
        raise DataError(f"the data in {file.name!r} has no rows", id="data.empty")
    return Arrays(columns)


def _check_text(name: str, values: Array) -> None:
    """Refuse numbers in a text array that no character has: Python makes no text of them.

    Raises:
        ValueError: there is one.
    """
    import numpy as np

    if values.dtype.kind != "U":
        return
    codes = np.ascontiguousarray(values).view(np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
    if ((codes > MAX_CHARACTER) | ((codes >= FIRST_HALF) & (codes <= LAST_HALF))).any():
        raise ValueError(f"{name} has numbers in it that are no characters")


def _without_class_names(columns: dict[str, Array]) -> dict[str, Array]:
    """The columns without a list of the classes' names, which some files have beside the samples."""
    longest = max((len(values) for values in columns.values() if values.ndim), default=0)
    return {
        name: values
        for name, values in columns.items()
        if name not in CLASS_NAMES or values.dtype.kind != "U" or len(values) == longest
    }


def _check_sizes(file: Path) -> None:
    """Compare what each array's header says with the bytes that the archive has of it, before any is made.

    Raises:
        ValueError: they differ, an array holds objects, or the archive is not what it seems.
    """
    import math

    from numpy.lib import format as npy

    check_archive(file)
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as stream:
                version = npy.read_magic(stream)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(stream)
                if dtype.hasobject:
                    raise ValueError(f"{entry.filename} holds objects, not numbers")
                if dtype.names is not None:
                    raise ValueError(f"{entry.filename} holds records, not numbers")
                if not math.prod(shape[1:]) * dtype.itemsize:
                    raise ValueError(f"{entry.filename} has the shape {list(shape)} and the type {dtype}: nothing")
                if math.prod(shape) * dtype.itemsize + stream.tell() != entry.file_size:
                    raise ValueError(f"{entry.filename} says that it has the shape {list(shape)}, and is not as long")
