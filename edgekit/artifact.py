"""An artifact: an immutable directory of components and a manifest that hashes every file the model needs.

Every stage reads one artifact and writes a new one. The last one, the result of a run, also holds a report, and is
sealed: ``sealing.py``.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from edgekit.bounds import (
    MAX_MANIFEST_BYTES,
    MAX_SUMS_BYTES,
    check_lines,
    check_numbers,
    check_texts,
    control_characters,
    inside,
)
from edgekit.errors import ArtifactError, UsageError
from edgekit.settings import Frozen, first_wrong
from edgekit.source import sha256_file

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
PLAN, VOCABULARY_PLAN = "plan.json", "vocabulary.json"
PAGE, CARD = "report.html", "README.md"
WHOLE = "model"
# Never part of the model: written beside it, after it, and without a sum in the manifest. No part has such a name.
UNSEALED = (MANIFEST, SUMS, PAGE, CARD, "report.json", "recipe.lock.toml", "details.json")
KEPT_NAMES = frozenset(name.casefold() for name in UNSEALED)  # as a system that knows no capitals has them

# Types of tensors that are fed and read, as numpy names them.
NUMBERS = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")

Format = Literal["torch", "onnx", "tflite"]
Shape = tuple[int | str, ...]


class TensorSpec(Frozen):
    """A named tensor: ``dtype`` as numpy names it, ``shape`` with a name for each free dimension."""

    name: str
    dtype: str
    shape: Shape


class State(Frozen):
    """A tensor handed to the next call: ``output`` becomes ``input``, zeros of shape ``initial`` at first."""

    output: str
    input: str
    initial: Shape
    dtype: str = "float32"


class Component(Frozen):
    """One graph of an artifact.

    Attributes:
        files: its files, the graph first, external data after it.
        inputs: named inputs, in order.
        outputs: named outputs, in order.
        precision: of most of its weights: ``fp32``, ``fp16`` or ``int8``; two weights of 4 bits count as one.
        integers: of an ONNX graph that edgekit quantized, types of activations and weights, as ``u8s8, weights of 7
            bits, tables of 4 bits``.
        states: tensors that go round.
        signatures: of a TFLite file, its entry points, each with the free dimensions that it fixes, as in
            ``{"tokens_64": {"batch": 1, "sequence": 64}}``; places behind a shorter sample are zeros.
    """

    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str = "fp32"
    integers: str = ""
    states: tuple[State, ...] = ()
    signatures: dict[str, dict[str, int]] = {}


class StageRecord(Frozen):
    """A stage that made the artifact what it is."""

    stage: str
    version: int
    settings: dict[str, JsonValue]


class Manifest(Frozen):
    """What an artifact is: no time, no path, no measurement.

    ``source`` is the model it was made from; where that was a student of one's own, ``teacher`` is the original.
    ``runtime`` gave the golden outputs.
    """

    schema_: Literal["edgekit.artifact/1"] = Field("edgekit.artifact/1", alias="schema")
    format: Format
    task: str
    labels: tuple[str, ...] = ()
    source: dict[str, str | None]
    teacher: dict[str, str | None] | None = None
    target: str | None = None
    runtime: str | None = None
    components: dict[str, Component]
    stages: tuple[StageRecord, ...] = ()
    data: dict[str, str] = {}
    tools: dict[str, str] = {}
    golden_tolerance: float | None = None
    preprocessing: dict[str, JsonValue] = {}
    files: dict[str, str] = {}


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk.

    Attributes:
        path: the directory.
        manifest: what it says of itself.
    """

    path: Path
    manifest: Manifest

    @property
    def format(self) -> Format:
        return self.manifest.format

    @property
    def size_bytes(self) -> int:
        """Size of the components' files, external data included."""
        return sum(
            (self.path / name).stat().st_size for part in self.manifest.components.values() for name in part.files
        )

    @property
    def folder_bytes(self) -> int:
        """Size of everything in the directory."""
        return sum(path.stat().st_size for path in walk(self.path))

    def file(self, component: str = WHOLE) -> Path:
        """The graph (or weights) of one component."""
        return self.path / self.manifest.components[component].files[0]


def open_artifact(path: str | Path) -> Artifact:
    """Read an artifact's manifest.

    Raises:
        ArtifactError: no directory, no manifest, one of another version or of what no graph takes, or a link in it.
    """
    root = Path(path).expanduser()
    file = root / MANIFEST
    if not file.is_file():
        raise ArtifactError(
            f"{str(path)!r} is not an artifact", id="artifact.not-an-artifact", why=f"it has no {MANIFEST}"
        )
    content = read_kept(file, MAX_MANIFEST_BYTES)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactError(
            f"{str(file)!r} is no valid manifest", id="artifact.invalid-file", why=first_wrong(error)
        ) from error
    _check_names(root, manifest)
    try:
        values = manifest.model_dump()
        check_texts(values)
        check_lines(values["source"])
        check_numbers(values)
        for part in manifest.components.values():
            check_tensors(part.inputs + part.outputs, part.states)
    except ValueError as error:
        raise ArtifactError(
            f"{str(file)!r} is no valid manifest", id="artifact.invalid-file", why=str(error)
        ) from error
    _check_plain(root)
    return Artifact(root, manifest)


def check_tensors(specs: Sequence[TensorSpec], states: Sequence[State] = ()) -> None:
    """Refuse tensors of which nobody could make one, whatever a file says of them.

    Raises:
        ValueError: the type of one is none of `NUMBERS`, or a dimension is negative.
    """
    begun = [TensorSpec(name=one.input, dtype=one.dtype, shape=one.initial) for one in states]
    for name, dtype, shape in ((one.name, one.dtype, one.shape) for one in (*specs, *begun)):
        if dtype not in NUMBERS:
            raise ValueError(f"{name!r} has the type {dtype!r}; allowed: {', '.join(NUMBERS)}")
        if any(isinstance(dim, int) and dim < 0 for dim in shape):
            raise ValueError(f"{name!r} has the shape {list(shape)}")


def read_kept(file: Path, most: int) -> bytes:
    """The content of a file that edgekit keeps beside a model, such as its manifest.

    Raises:
        ArtifactError: there is none, or it has more than ``most`` bytes.
    """
    if not file.is_file():
        raise ArtifactError(f"{str(file.parent)!r} holds no {file.name}", id="artifact.not-an-artifact")
    size = file.stat().st_size
    if size > most:
        raise ArtifactError(f"{str(file)!r} has {size} bytes", id="artifact.invalid-file", why=f"allowed: {most}")
    return file.read_bytes()


def _check_plain(root: Path) -> None:
    """Refuse a folder with links in it, which lead outside, whether the manifest names them or not.

    Raises:
        ArtifactError: there is one, or a pipe or a device.
    """
    found = next((path for path in walk(root) if not is_plain(path)), None)
    if found is not None:
        raise ArtifactError(
            f"{str(found)!r} is no plain file",
            id="artifact.invalid-file",
            why="an artifact holds its files itself, and not links, pipes or devices",
        )


def _check_names(root: Path, manifest: Manifest) -> None:
    """Refuse a manifest that names files outside its folder.

    Raises:
        ArtifactError: it does, or a name steers the terminal that it is printed on.
    """
    parts = [name for part in manifest.components.values() for name in part.files]
    for name in (*parts, *manifest.files):
        if not inside(name) or control_characters(name):
            raise _wrong_name(root, name, "it is no plain name of a file below its folder")
    for name in parts:
        if (root / name).exists() and not (root / name).is_file():
            raise _wrong_name(root, name, "it is no plain file")
    for name, part in manifest.components.items():
        if not part.files:
            raise _wrong_name(root, name, "it has no file")
        if not inside(name) or "/" in name or control_characters(name):
            raise _wrong_name(root, name, "it is no plain name of a component")
    _check_sums(root, manifest)


def _check_sums(root: Path, manifest: Manifest) -> None:
    """Refuse a part of the model that has no sum: what is known of an artifact hangs on the sums in its manifest.

    Raises:
        ArtifactError: there is one, or one has the name of a file that edgekit writes beside the model.
    """
    for name in (name for part in manifest.components.values() for name in part.files):
        if name.casefold() in KEPT_NAMES:
            raise _wrong_name(root, name, "edgekit has a file of its own with that name beside the model")
        if name not in manifest.files:
            raise _wrong_name(root, name, "it has no sum of it among its files")


def _wrong_name(root: Path, name: str, why: str) -> ArtifactError:
    return ArtifactError(f"{str(root / MANIFEST)!r} names {name!r}", id="artifact.invalid-file", why=why)


def is_artifact(path: str | Path) -> bool:
    """Whether a directory says that it is an artifact."""
    return (Path(path).expanduser() / MANIFEST).is_file()


def is_output(path: str | Path) -> bool:
    """Whether a directory is an artifact by its manifest, and holds nothing else: who replaces it removes all of it."""
    root = Path(path).expanduser()
    try:
        manifest = json.loads(read_kept(root / MANIFEST, MAX_MANIFEST_BYTES))
        if not str(manifest["schema"]).startswith("edgekit.artifact/"):
            return False
        listed = read_kept(root / SUMS, MAX_SUMS_BYTES).decode() if (root / SUMS).is_file() else ""
        known = {*UNSEALED, *manifest.get("files", ()), *(line.partition("  ")[2] for line in listed.splitlines())}
    except (ArtifactError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
    return all(file.relative_to(root).as_posix() in known for file in walk(root))


def write_artifact(root: Path, manifest: Manifest, copied: Mapping[str, str] | None = None) -> Artifact:
    """Hash every file under ``root`` into the manifest and write it: the directory is an artifact from then on.

    Args:
        root: the directory.
        manifest: what it says, but for the sums.
        copied: sha256 of files that were copied from where they had a sum, by name: a copy that is not like what it was
            made of has a wrong sum then, which is seen, and not a right one.

    Raises:
        ArtifactError: a component has a file that is not there, or one with a name of edgekit's own.
    """
    paths = {path.relative_to(root).as_posix(): path for path in walk(root)}
    known = copied or {}
    files = {name: known.get(name) or sha256_file(path) for name, path in paths.items() if name not in UNSEALED}
    sealed = manifest.model_copy(update={"files": files})
    _check_sums(root, sealed)
    write_text(root / MANIFEST, sealed.model_dump_json(by_alias=True, indent=2) + "\n")
    return Artifact(root, sealed)


def walk(root: Path) -> list[Path]:
    """Every file below ``root``, sorted by name; links count as files, so that an added one is seen."""
    return sorted(path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())


def is_plain(path: Path) -> bool:
    """Whether a path is a file of its own: no link, and no pipe or device, which is read without an end."""
    return not path.is_symlink() and path.is_file()


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def copy_files(files: list[Path], destination: Path) -> None:
    """Copy files flat into a directory: real copies, since onnx refuses links, readable by everyone (0644)."""
    destination.mkdir(parents=True, exist_ok=True)
    for path in files:
        copied = destination / path.name
        shutil.copyfile(path, copied)
        copied.chmod(0o644)


def check_output(out: Path, ours: Callable[[Path], bool] = is_output) -> None:
    """Refuse an output path that holds something which is not ours.

    Args:
        out: where something is to be put.
        ours: whether a directory is an earlier output of the same kind.

    Raises:
        UsageError: the path is a file, a mount point, or a directory that is neither empty nor ours.
    """
    if os.path.ismount(os.path.realpath(out)):
        raise _is_mount_point(out)
    if out.is_dir() and (not any(out.iterdir()) or ours(out)):
        return
    if out.exists() or out.is_symlink():
        raise UsageError(
            f"{str(out)!r} exists and was not made by edgekit, or not all that is in it",
            id="usage.output-taken",
            why="allowed: a new path, an empty directory, or an earlier output of edgekit, which is replaced",
            hint="Choose another path with -o.",
        )


def _is_mount_point(out: Path) -> UsageError:
    return UsageError(
        f"{str(out)!r} is a mount point",
        id="usage.output-taken",
        why="an output is put in its place in one step, which cannot be done with a mount point",
        hint=f"Name a folder inside it: {out / 'model'}",
    )


def publish(staged: Path, out: Path, ours: Callable[[Path], bool] = is_output) -> None:
    """Put a finished directory in the place of ``out`` in one step: a reader sees the old or the new one, never a mix.

    ``staged`` lies on the same file system as ``out``, and is gone afterwards. ``ours`` is that of ``check_output``.
    """
    check_output(out, ours)
    write_through(staged)
    out = out.resolve()  # a link to an earlier output stays a link
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.rename(out)
        return
    except OSError as error:
        if error.errno == errno.EBUSY:  # a folder of the same file system is mounted there, which no path shows
            raise _is_mount_point(out) from error
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    if exchange(staged, out):
        shutil.rmtree(staged, ignore_errors=True)  # the old one, by now
        return
    old = staged.with_name(f"{staged.name}-old")  # a system without renameat2: two renames
    out.rename(old)
    try:
        staged.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_through(folder: Path) -> None:
    """Have all of a directory on the disk: else its name may be there after a power cut, and its files empty."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Swap two directories atomically (Linux ``renameat2``, ``RENAME_EXCHANGE``); False where that cannot be had."""
    at_fdcwd, rename_exchange = -100, 2
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if function(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(number, os.strerror(number), str(other))
