"""The images of a data set, decoded one by one as ``datasets`` does it, but not from wherever the data says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from edgekit.errors import DataError, retelling
from edgekit.tasks.data_checks import ELSEWHERE
from edgekit.tasks.data_source import DataSource, changed, stamp_of
from edgekit.tasks.pixels import without_programs

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image


class StoredImages(Sequence[Any]):
    """A column of images: of bytes that are in the data, or of files in its folder.

    A table may give a path in place of an image's bytes, and ``datasets`` opens whatever that names, addresses on the
    network as well. A file is opened at each access, and is to be the one that was hashed; that of a table, which is
    hashed alone, the one that was opened first.

    Args:
        dataset: the rows.
        column: see ``is_images``.
        source: where they come from.
    """

    def __init__(self, dataset: Dataset, column: str, source: DataSource) -> None:
        from datasets import Image as Feature

        mode = getattr(dataset.features[column], "mode", None)
        self._decoded = Feature(mode=mode)
        self._stored = dataset.cast_column(column, Feature(mode=mode, decode=False))[column]
        self._source, self._folders = source, _folders(source)
        self._stamps = dict(source.stamps)

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...

    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]

        def unreadable(why: str) -> DataError:
            return DataError(f"row {index} is not an image that Pillow reads", id="data.unsuitable-sample", why=why)

        with retelling(unreadable, but=IndexError):
            stored = self._stored[index]
        without_programs()
        with retelling(unreadable):
            if stored is None or stored["bytes"] is stored["path"] is None:
                raise DataError(f"row {index} has no image", id="data.unsuitable-sample")
            if stored["bytes"] is None:
                self._check_place(stored["path"])
            found: Image = self._decoded.decode_example(stored)
            return found

    def _check_place(self, path: str) -> None:
        """See that a file lies in the data's folder, as it was; of a hub's data, that it was fetched.

        Raises:
            DataError: it does not, was not hashed with the folder, or was changed.
            ValueError: it is no plain file: a pipe would be waited for.
        """
        whole = Path(os.path.abspath(path))
        real = whole.resolve()
        below = any(whole.is_relative_to(one) or real.is_relative_to(one.resolve()) for one in self._folders)
        if "://" in path or "::" in path or not below:
            raise DataError(f"the data names an image outside its folder: {path!r}", id="data.elsewhere", why=ELSEWHERE)
        if not whole.is_file():
            raise ValueError(f"{path!r} is no file")
        key, stamp = os.fsencode(real), stamp_of(whole)
        if self._source.kind == "folder" and key not in self._stamps:
            raise DataError(
                f"the data names an image that is hidden or new in its folder: {path!r}",
                id="data.elsewhere",
                why=ELSEWHERE,
            )
        if self._stamps.setdefault(key, stamp) != stamp:
            raise changed(self._source)


def _folders(source: DataSource) -> list[Path]:
    """Where the files of data lie: in its folder, or where a hub's are kept."""
    if source.kind != "hub":
        return [Path(source.location) if source.kind == "folder" else Path(source.location).parent]
    from datasets import config
    from huggingface_hub.constants import HF_HUB_CACHE

    kept = (HF_HUB_CACHE, config.DOWNLOADED_DATASETS_PATH, config.EXTRACTED_DATASETS_PATH)
    return [Path(os.path.abspath(place)) for place in kept]


def is_images(dataset: Any, column: str) -> bool:
    """Whether a column that is to be images is what ``datasets`` takes for them, or paths of their files."""
    feature = dataset.features.get(column)
    return type(feature).__name__ == "Image" or getattr(feature, "dtype", "") in ("string", "large_string")
