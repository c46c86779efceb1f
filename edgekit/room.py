"""Room on the disk: what a run surely writes, told before it begins."""

from __future__ import annotations

from pathlib import Path

from edgekit.cache import Cache, object_files
from edgekit.disk import need_room
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
