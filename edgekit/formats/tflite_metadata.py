"""TFLite metadata: labels, normalization and licence inside the file, as phones' libraries and ``unzip`` read them.

There are two parts, by https://ai.google.dev/edge/litert/models/metadata: a flatbuffer of the schema
metadata_schema.fbs in a buffer of the model called TFLITE_METADATA, and a zip behind the model with the files that it
names. The libraries that write it are no longer kept up (tflite-support) or bring an imaging stack along (mediapipe),
so it is written here, slot by slot. Whatever rewrites the model drops the zip: metadata come last.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from edgekit.artifact import write_bytes
from edgekit.errors import ModelError
from edgekit.formats.flatbuffer import RUNTIME, Model, load_model, pack, read_model, require, unpack
from edgekit.settings import Frozen

if TYPE_CHECKING:
    from flatbuffers import Builder

BUFFER = "TFLITE_METADATA"
IDENTIFIER = b"M001"  # `file_identifier` in metadata_schema.fbs
PARSER_VERSION = "1.0.0"  # the oldest that knows every field written here
LABELS, PREPROCESSING, LICENCE = "labels.txt", "preprocessing.json", "LICENSE.txt"
# AssociatedFileType
DESCRIPTIONS, TENSOR_AXIS_LABELS = 1, 2
NORMALIZATION = 1  # ProcessUnitOptions.NormalizationOptions
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold: equal models give equal bytes
READABLE = 0o100644 << 16  # a plain file that everyone may read

Field = Callable[["Builder"], int]


class Metadata(Frozen):
    """What is written into a file.

    Attributes:
        name: of the model.
        labels: of the classes, by index.
        mean, std: for each channel, in units of the stored pixels (0 to 255): (pixel - mean) / std is what the model
            takes. Empty where the input is no image.
        preprocessing: what the manifest says of it.
        licence: the text, or its name.
    """

    name: str
    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    preprocessing: dict[str, JsonValue] = {}
    licence: str = ""

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the zip, by name."""
        found = {}
        if self.labels:
            found[LABELS] = "".join(f"{label}\n" for label in self.labels).encode()
        if self.preprocessing:
            found[PREPROCESSING] = (json.dumps(self.preprocessing, indent=2, sort_keys=True) + "\n").encode()
        if self.licence:
            found[LICENCE] = f"{self.licence.rstrip()}\n".encode()
        return found


def add_metadata(file: Path, metadata: Metadata) -> None:
    """Write metadata into a file, in the place of what it has of them.

    Raises:
        ModelError: not a TFLite file, or one with so many labels that they are not the outputs' classes.
        HostError: the package with the schema is missing.
    """
    require((RUNTIME,))
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    content = file.read_bytes()
    structure = read_model(content, file.name)
    _check_labels(structure, metadata, file)
    model = unpack(content)
    entry = next((entry for entry in model.metadata or [] if entry.name.decode() == BUFFER), None)
    if entry is None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = BUFFER.encode(), len(model.buffers)
        model.buffers.append(schema.BufferT())
        model.metadata = [*(model.metadata or []), entry]
    model.buffers[entry.buffer].data = np.frombuffer(_flatbuffer(structure, metadata), np.uint8)
    write_bytes(file, _with_zip(pack(model), metadata.files))


def associated_files(file: Path) -> dict[str, bytes]:
    """The files of the zip behind a model; none where there is no zip."""
    load_model(file)
    if not zipfile.is_zipfile(file):
        return {}
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _check_labels(model: Model, metadata: Metadata, file: Path) -> None:
    entry = next(iter(model.entries.values()))
    outputs = [model.graphs[entry.graph].tensors[index] for index in entry.outputs.values()]
    classes = outputs[0].shape[-1] if outputs and outputs[0].shape else 0
    if metadata.labels and len(metadata.labels) != classes:
        raise ModelError(
            f"{len(metadata.labels)} labels were given for {file.name!r}",
            id="model.wrong-task",
            why=f"its first output has {classes} classes",
        )


def _with_zip(model: bytes, files: Mapping[str, bytes]) -> bytes:
    """A model with a zip behind it, without times, owners or compression; its offsets count from the model's start."""
    if not files:
        return model
    stream = io.BytesIO(model)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.create_system, entry.external_attr = 3, READABLE
            archive.writestr(entry, content)
    return stream.getvalue()


def _flatbuffer(model: Model, metadata: Metadata) -> bytes:
    """ModelMetadata: each number below is a field's place in its table of the schema."""
    import flatbuffers

    entry = next(iter(model.entries.values()))
    normalized = {4: _tables([_normalization(metadata)])} if metadata.mean else {}
    labelled = {6: _tables([_file(LABELS, TENSOR_AXIS_LABELS)])} if metadata.labels else {}
    inputs = [{0: _text(name)} | (normalized if place == 0 else {}) for place, name in enumerate(entry.inputs)]
    outputs = [{0: _text(name)} | (labelled if place == 0 else {}) for place, name in enumerate(entry.outputs)]
    subgraph = {2: _tables(inputs), 3: _tables(outputs)}
    others = [_file(name, DESCRIPTIONS) for name in metadata.files if name != LABELS]
    fields = {0: _text(metadata.name), 3: _tables([subgraph]), 7: _text(PARSER_VERSION)}
    if metadata.licence:
        fields[5] = _text(metadata.licence.strip().splitlines()[0])
    if others:
        fields[6] = _tables(others)
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, fields), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _normalization(metadata: Metadata) -> dict[int, Field | int]:
    """A ProcessUnit: (pixel - mean) / std."""
    options: dict[int, Field | int] = {0: _floats(metadata.mean), 1: _floats(metadata.std)}
    return {0: NORMALIZATION, 1: lambda builder: _table(builder, options)}


def _file(name: str, kind: int) -> dict[int, Field | int]:
    """An AssociatedFile."""
    return {0: _text(name), 2: kind}


def _text(value: str) -> Field:
    return lambda builder: int(builder.CreateString(value))


def _floats(values: Sequence[float]) -> Field:
    import numpy as np

    return lambda builder: int(builder.CreateNumpyVector(np.asarray(values, np.float32)))


def _tables(tables: Sequence[Mapping[int, Field | int]]) -> Field:
    def build(builder: Any) -> int:
        places = [_table(builder, fields) for fields in tables]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return int(builder.EndVector())

    return build


def _table(builder: Any, fields: Mapping[int, Field | int]) -> int:
    """A table: what its fields point to is written first; a number is a byte of its own."""
    places = {slot: field if isinstance(field, int) else field(builder) for slot, field in fields.items()}
    builder.StartObject(max(fields) + 1)
    for slot, value in places.items():
        if isinstance(fields[slot], int):
            builder.PrependUint8Slot(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(builder.EndObject())
