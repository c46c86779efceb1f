"""An artifact: an immutable directory of components and a manifest that hashes every file the model needs.

Every stage reads one artifact and writes a new one. The last one, the result of a run, also holds a report, and is
sealed: ``sealing.py``.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from edgekit.bounds import (
    MAX_MANIFEST_BYTES,
    check_lines,
    check_numbers,
    check_texts,
    control_characters,
    inside,
)
from edgekit.errors import ArtifactError
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
