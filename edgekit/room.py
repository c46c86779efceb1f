"""Room on the disk: what a run surely writes, told before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from edgekit.cache import Cache, object_files
from edgekit.errors import ResourceLimitError
from edgekit.report import MEGABYTE
from edgekit.request import Request

# Copies of the model that lie in the cache when the first result is ready, which every run has: the model as it was
# given, its export, the export that was verified, and the result being put together. A recipe that quantizes adds less
# than one of these, one that trains several; how many hangs on what pruning leaves, and so is not counted.
CACHED_COPIES = 4
# The first result, beside the output that it then takes the place of.
OUTPUT_COPIES = 1


def check_room(request: Request, cache: Cache, out: Path) -> None:
    """See that there is room for what a run writes before its first result.

    Raises:
        ResourceLimitError: there is not; how much is needed and how much there is.
    """
    copies = CACHED_COPIES - (cache.root / "objects" / request.import_key(request.original)).is_dir()
    size = request.source.size_bytes
    need_room([(cache.root, copies * size), (out.parent, OUTPUT_COPIES * size)])


def check_room_for(folder: Path, out: Path) -> None:
    """See that there is room for a copy of a finished object beside an output.

    Raises:
        ResourceLimitError: there is not.
    """
    need_room([(out.parent, sum(path.stat().st_size for path in object_files(folder)))])


def need_room(wanted: Iterable[tuple[Path, int]]) -> None:
    """See that every disk has room for all that goes there.

    Args:
        wanted: folders, there or not yet, and bytes.

    Raises:
        ResourceLimitError: one has not.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size in wanted:
        place = next(path for path in (folder, *folder.resolve().parents) if path.exists())
        device = place.stat().st_dev
        disks[device] = (disks.get(device, (place, 0))[0], disks.get(device, (place, 0))[1] + size)
    for place, size in disks.values():
        free = shutil.disk_usage(place).free
        if free < size:
            raise ResourceLimitError(
                f"there is not enough room on the disk of {str(place)!r}",
                id="resource-limit.disk-space",
                why=f"at least {_megabytes(size)} are needed, and {_megabytes(free)} are free",
            )


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.1f} MB"
