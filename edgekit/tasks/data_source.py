"""Where data lies, what kind of data it is, and its rows as Hugging Face ``datasets`` reads them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.errors import DataError, HostError, exhaustion, retelling
from edgekit.settings import Frozen
from edgekit.source import digest_files
from edgekit.tasks.arrays import SUFFIX as ARRAYS
from edgekit.tasks.arrays import read_arrays
from edgekit.tasks.data_checks import ELSEWHERE, SETTINGS, check_file, check_folder, is_hidden

if TYPE_CHECKING:
    from datasets import Dataset

READERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SUFFIXES = (*READERS, ARRAYS)


class DataSource(Frozen):
    """Where the data comes from.

    Attributes:
        location: what the user gave: a file, a folder or a hub id.
        kind: how it is read.
        revision: on the hub, the commit.
        digest: sha256 over the files, or the hub's commit.
        stamps: what the files of a folder were when they were hashed, see ``stamp_of``, by their real paths.
    """

    location: str
    kind: Literal["file", "folder", "hub"]
    revision: str | None = None
    digest: str
    stamps: dict[bytes, tuple[int, int, int]] = Field(default={}, repr=False)

    @property
    def record(self) -> dict[str, str]:
        """What a manifest says of the data: no local path."""
        name = self.location if self.kind == "hub" else Path(self.location).name
        return {"name": name, "digest": self.digest}


def resolve_data(location: str | Path, *, revision: str | None = None) -> DataSource:
    """Find data: a file or folder of csv, json lines, parquet or npz, a folder of images, or a hub id.

    Raises:
        DataError: nothing there that can be read.
    """
    text = str(location)
    path = Path(text).expanduser()
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{text!r} is no data file that edgekit reads",
                id="data.unreadable",
                why=f"allowed: {', '.join(SUFFIXES)}, or a folder",
            )
        check_file(path)
        return DataSource(location=str(path.resolve()), kind="file", digest=_digest(path))
    if path.is_dir():
        files = _files(path)
        if not files:
            raise DataError(f"the data folder {text!r} is empty", id="data.empty")
        check_folder(path, files)
        stamps = {os.fsencode(file.resolve()): stamp_of(file) for file in files}
        return DataSource(location=str(path.resolve()), kind="folder", digest=_digest(path), stamps=stamps)
    if text.startswith((".", "/", "~")) or text.count("/") > 1 or path.suffix.lower() in SUFFIXES:
        raise DataError(
            f"there is no file or folder {text!r}",
            id="data.missing",
            hint="Check the path, or give a hub id such as 'stanfordnlp/sst2'.",
        )
    return _resolve_hub(text, revision)


def _files(folder: Path) -> list[Path]:
    """What ``datasets`` may read in a folder: its settings, and all files that are not hidden, nor a folder above them.

    Raises:
        DataError: there is a link to a folder.
    """
    files = [folder / SETTINGS] if (folder / SETTINGS).is_file() else []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        linked = next((Path(place, name) for name in folders if Path(place, name).is_symlink()), None)
        if linked is not None:
            raise DataError(
                f"the data folder {str(folder)!r} holds a link to a folder: {linked.relative_to(folder).as_posix()!r}",
                id="data.elsewhere",
                why=ELSEWHERE,
                hint="Put the files themselves there.",
            )
        files += [Path(place, name) for name in names if not is_hidden(name) and Path(place, name).is_file()]
    return sorted(files)


def stamp_of(file: Path) -> tuple[int, int, int]:
    """What tells that a file was changed: its size in bytes, its time in ns, and its number on the disk."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _digest(path: Path) -> str:
    """sha256 over a file, or over the files of a folder."""
    return digest_files(path.parent, [path]) if path.is_file() else digest_files(path, _files(path))


def _resolve_hub(name: str, revision: str | None) -> DataSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:  # no file is fetched: the folder's name is the commit
        commit = Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=[])).name
    except HFValidationError as error:
        raise DataError(
            f"{name!r} is neither a file, nor a folder, nor a hub id", id="data.missing", why=str(error)
        ) from error
    except LocalEntryNotFoundError as error:
        raise HostError(
            f"{name!r} is no file or folder here, and the hub could not be reached",
            id="environment.no-network",
            why=str(error).splitlines()[0],
        ) from error
    except HfHubHTTPError as error:
        raise DataError(
            f"the hub has no dataset {name!r}", id="data.not-on-hub", why=str(error).splitlines()[0]
        ) from error
    return DataSource(location=name, kind="hub", revision=commit, digest=commit)


def load_splits(source: DataSource) -> dict[str, Dataset]:
    """The rows of data by split, of which none is empty; reading them opens no file that they name.

    Raises:
        DataError: it has none, or cannot be read.
    """
    from datasets import DatasetDict, load_dataset
    from datasets.exceptions import DatasetGenerationError

    path = Path(source.location)
    arrays = _array_files(source, path)
    if arrays:
        return {name: read_arrays(file) for name, file in arrays.items()}

    def unreadable(why: str) -> DataError:
        return DataError(f"the data in {path.name!r} cannot be read", id="data.unreadable", why=why)

    with _quiet(), retelling(unreadable), _kept_rows(source) as kept:
        try:
            if source.kind == "file":
                reader = READERS[path.suffix.lower()]
                options = {"sep": "\t"} if path.suffix.lower() == ".tsv" else {}
                loaded = load_dataset(reader, data_files=str(path), cache_dir=kept, **options)
            else:
                loaded = load_dataset(source.location, revision=source.revision, cache_dir=kept)
        except (DatasetGenerationError, ValueError, FileNotFoundError) as error:
            if exhaustion(error) is not None:
                raise  # which is no fault of the data
            cause = error.__cause__ or error
            if "corresponds to no data" in str(cause):  # as datasets says it
                raise DataError(f"the data in {path.name!r} has no rows", id="data.empty") from error
            raise DataError(
                f"the data in {path.name!r} cannot be read",
                id="data.unreadable",
                why=str(cause).splitlines()[0] if str(cause) else type(cause).__name__,
                hint="Allowed: csv, tsv, json lines, parquet or npz with named columns; folders of images by class.",
            ) from error
    if not isinstance(loaded, DatasetDict):
        raise DataError(f"the data in {path.name!r} has no splits", id="data.empty")
    splits = {str(name): dataset for name, dataset in loaded.items() if len(dataset)}
    if not splits:
        raise DataError(f"the data in {path.name!r} has no rows", id="data.empty")
    with retelling(unreadable):
        return {name: _unopened(dataset) for name, dataset in splits.items()}


def _unopened(dataset: Dataset) -> Dataset:
    """The same rows, in which an image, a sound or the like stays the bytes or the path that the data has of it.

    A column of any name may hold them, and ``datasets`` opens whatever the path names, an address as well, once the
    column is looked at.
    """
    from datasets import Dataset as Rows
    from datasets import Features

    info = dataset.info.copy()
    info.features = Features({name: _undecoded(feature) for name, feature in dataset.features.items()})
    return Rows(dataset.data, info, dataset.split)


def _undecoded(feature: Any) -> Any:
    """A kind of column, of lists or of tables, that leaves its values as they are stored; JSON names no file."""
    if isinstance(feature, dict):
        return {name: _undecoded(inner) for name, inner in feature.items()}
    if hasattr(feature, "feature"):
        return dataclasses.replace(feature, feature=_undecoded(feature.feature))
    if hasattr(feature, "decode") and type(feature).__name__ != "Json":
        return dataclasses.replace(feature, decode=False)
    return feature


@contextlib.contextmanager
def _kept_rows(source: DataSource) -> Iterator[str | None]:
    """Where ``datasets`` keeps the rows of files: by their content, since it takes what has the same time for the same.

    Raises:
        DataError: the files were changed since they were hashed.
    """
    from datasets import config

    if source.kind == "hub":
        yield None
        return
    folder = Path(config.HF_DATASETS_CACHE) / "edgekit" / source.digest
    yield str(folder)
    if _digest(Path(source.location)) != source.digest:
        shutil.rmtree(folder, ignore_errors=True)
        raise changed(source)


def changed(source: DataSource) -> DataError:
    """The error of data that is no longer what was hashed."""
    return DataError(
        f"the data in {Path(source.location).name!r} was changed while it was read",
        id="data.changed",
        hint="Run it again on data at rest.",
    )


def _array_files(source: DataSource, path: Path) -> dict[str, Path]:
    """The ``.npz`` files of a source by the split that each is named after; none where it has no such file."""
    if source.kind == "file":
        return {"train": path} if path.suffix.lower() == ARRAYS else {}
    if source.kind == "hub":
        return {}
    return {file.stem: file for file in _files(path) if file.parent == path and file.suffix.lower() == ARRAYS}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither progress bars nor a log of datasets' own."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity

    verbosity, disabled = get_verbosity(), are_progress_bars_disabled()
    set_verbosity(CRITICAL)  # its errors are raised, too
    if not disabled:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if not disabled:
            enable_progress_bars()
