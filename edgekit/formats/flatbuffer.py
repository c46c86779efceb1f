"""TFLite files as they lie on disk: graphs, signatures and buffers, read by the schema and checked as they are read.

A file holds graphs, and *signatures*: entry points with named inputs and outputs, each on a graph of its own. Weights
lie in buffers that the graphs share. A file of an older converter has no signatures; its first graph is the model then,
and the names are those of its tensors.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from edgekit.bounds import MAX_GRAPH_BYTES, MOST_SHARED, control_characters
from edgekit.environment import version_of
from edgekit.errors import HostError, ModelError

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every file: `file_identifier` in the schema
RUNTIME = "ai-edge-litert"
# What the extra [tflite] brings, by the names of the package index.
PACKAGES = ("litert-torch", "ai-edge-quantizer", RUNTIME)
DATA_FIELD = 4  # of the schema's table Buffer: its first field lies behind two 16-bit sizes
# What flatbuffers' reader raises where an offset leads nowhere.
CORRUPT = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, MemoryError)


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph: -1 in ``shape`` is free, ``buffer_bytes`` is 0 where its values are not in the file.

    ``scales`` is how many scales it has: none, one, or one for each channel.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    buffer: int
    buffer_bytes: int
    scales: int = 0


class Operator(NamedTuple):
    """An operator: its kind, a custom one's after ``custom.``, and the tensors it reads and writes, -1 for none."""

    kind: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """One graph: tensors, operators in the order in which they run, and which tensors go in and come out."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """An entry point: the graph that it runs, and tensors of that graph by the names that callers use."""

    graph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class Model:
    """A file as it was read.

    Attributes:
        graphs: the first is the model where there are no signatures.
        signatures: by key, in the file's order.
        metadata: named buffers, as (first byte, length).
        size_bytes: of the flatbuffer's file.
    """

    graphs: tuple[Graph, ...]
    signatures: dict[str, Signature]
    metadata: dict[str, tuple[int, int]]
    size_bytes: int

    @property
    def entries(self) -> dict[str, Signature]:
        """The signatures; where there are none, the first graph under the empty key."""
        if self.signatures:
            return self.signatures
        graph = self.graphs[0]
        named = [{graph.tensors[index].name: index for index in places} for places in (graph.inputs, graph.outputs)]
        return {"": Signature(0, named[0], named[1])}


def require(packages: Sequence[str] = PACKAGES) -> None:
    """Check that packages of the extra are here, without importing them.

    Raises:
        HostError: one is missing.
    """
    missing = [package for package in packages if version_of(package) is None]
    if missing:
        raise HostError(
            f"TFLite needs {' and '.join(missing)}, which this environment lacks",
            id="environment.no-package",
            hint="Install it with: pip install 'edgekit[tflite]'.",
        )


def load_model(file: Path) -> Model:
    """Read a file's structure, without its weights.

    Raises:
        ModelError: not a TFLite file, or a damaged one.
        HostError: the package with the schema is missing.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _invalid(file.name, error.strerror or str(error)) from error
    return read_model(data, file.name)


def read_model(data: bytes, name: str) -> Model:
    """Read the structure of a file's bytes; ``name`` is what errors call it.

    Every offset and every buffer is checked against the file's size first, so that a file that was cut short is found
    here and not by the runtime, which reads it unchecked.

    Raises:
        ModelError: not a TFLite file, or a damaged one.
        HostError: the package with the schema is missing.
    """
    require((RUNTIME,))
    if len(data) > MAX_GRAPH_BYTES:
        raise _invalid(name, f"{len(data)} bytes; a TFLite file has at most {MAX_GRAPH_BYTES}")
    if data[4:8] != IDENTIFIER:
        raise _invalid(name, f"it does not have {IDENTIFIER.decode()} in bytes 4 to 8")
    try:
        return _Reader(data).model()
    except CORRUPT as error:
        raise _invalid(name, f"the file was cut short or changed ({error})") from error


def unpack(content: bytes) -> Any:
    """A file as objects of the schema, to be changed."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def pack(model: Any) -> bytes:
    """The file of such objects. Scales that are the same are stored once: a signature more does not cost its own."""
    import numpy as np
    from ai_edge_litert.tools import flatbuffer_utils

    shared: dict[tuple[object, ...], _Shared] = {}
    scaled = [
        tensor
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.quantization is not None and tensor.quantization.scale is not None and not tensor.quantization.details
    ]
    tables = [tensor.quantization for tensor in scaled]
    for tensor, table in zip(scaled, tables, strict=True):
        parts = (table.scale, table.zeroPoint, table.min, table.max)
        arrays = [np.asarray(() if part is None else part) for part in parts]
        key = (table.quantizedDimension, *((array.dtype.str, array.tobytes()) for array in arrays))
        tensor.quantization = shared.setdefault(key, _Shared(table))
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    for tensor, table in zip(scaled, tables, strict=True):
        tensor.quantization = table
    return content


class _Shared:
    """A table of the file that several others point to: packed once."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._place: int | None = None

    def Pack(self, builder: Any) -> int:  # the name that flatbuffers' packers have
        if self._place is None:
            self._place = int(self._table.Pack(builder))
        return self._place


def _invalid(name: str, why: str) -> ModelError:
    return ModelError(f"{name!r} is not a readable TFLite file", id="model.invalid-tflite", why=why)


@cache
def _names(enumeration: str) -> dict[int, str]:
    """Names of one of the schema's enumerations, by number."""
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, enumeration)).items() if not name.startswith("_")}


class _Reader:
    """Reads a flatbuffer by its schema; what lies outside of it is a ValueError.

    Args:
        data: the file.
    """

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._data, self._left = data, MOST_SHARED * len(data)
        self._root = schema.Model.GetRootAs(data, 0)

    def model(self) -> Model:
        """All of it."""
        root = self._root
        buffers = [self._buffer(root.Buffers(index)) for index in range(self._count(root.BuffersLength()))]
        codes = [self._kind(root.OperatorCodes(index)) for index in range(self._count(root.OperatorCodesLength()))]
        graphs = tuple(
            self._graph(root.Subgraphs(index), codes, buffers) for index in range(self._count(root.SubgraphsLength()))
        )
        if not graphs:
            raise ValueError("it holds no graph")
        signatures = {}
        for index in range(self._count(root.SignatureDefsLength())):
            entry = root.SignatureDefs(index)
            tensors = len(graphs[entry.SubgraphIndex()].tensors)
            ends = [
                {self._text(end.Name()): _place(end.TensorIndex(), tensors) for end in found}
                for found in (
                    [entry.Inputs(place) for place in range(self._count(entry.InputsLength()))],
                    [entry.Outputs(place) for place in range(self._count(entry.OutputsLength()))],
                )
            ]
            signatures[self._text(entry.SignatureKey())] = Signature(entry.SubgraphIndex(), ends[0], ends[1])
        metadata = {}
        for index in range(self._count(root.MetadataLength())):
            entry = root.Metadata(index)
            metadata[self._text(entry.Name())] = buffers[_place(entry.Buffer(), len(buffers))]
        return Model(graphs, signatures, metadata, len(self._data))

    def _buffer(self, buffer: Any) -> tuple[int, int]:
        """Where a buffer's bytes lie: inside the flatbuffer, or behind it by their own offset."""
        if buffer.Offset() > 1:
            start, length = buffer.Offset(), buffer.Size()
        else:
            length = self._count(buffer.DataLength())
            start = buffer._tab.Vector(buffer._tab.Offset(DATA_FIELD)) if length else 0
        if start + length > len(self._data):
            raise ValueError(f"a buffer ends at byte {start + length} of {len(self._data)}")
        return int(start), int(length)

    def _kind(self, code: Any) -> str:
        """An operator's name; a custom one's after the domain ``custom``."""
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _names("BuiltinOperator").get(number, f"operator {number}")
        return f"custom.{self._text(code.CustomCode())}" if name == "CUSTOM" else name

    def _graph(self, graph: Any, codes: Sequence[str], buffers: Sequence[tuple[int, int]]) -> Graph:
        tensors = tuple(
            self._tensor(graph.Tensors(index), buffers) for index in range(self._count(graph.TensorsLength()))
        )
        operators = []
        for index in range(self._count(graph.OperatorsLength())):
            operator = graph.Operators(index)
            reads = self._places(operator.InputsAsNumpy(), len(tensors))
            writes = self._places(operator.OutputsAsNumpy(), len(tensors))
            operators.append(Operator(codes[_place(operator.OpcodeIndex(), len(codes))], reads, writes))
        inputs = self._places(graph.InputsAsNumpy(), len(tensors))
        return Graph(tensors, tuple(operators), inputs, self._places(graph.OutputsAsNumpy(), len(tensors)))

    def _tensor(self, tensor: Any, buffers: Sequence[tuple[int, int]]) -> Tensor:
        index = _place(tensor.Buffer(), len(buffers))
        shape = self._numbers(tensor.ShapeAsNumpy())
        free = self._numbers(tensor.ShapeSignatureAsNumpy())
        dtype = _names("TensorType").get(tensor.Type())
        if dtype is None:
            raise ValueError(f"there is no tensor type {tensor.Type()}")
        quantization = tensor.Quantization()
        scales = self._count(quantization.ScaleLength()) if quantization is not None else 0
        return Tensor(self._text(tensor.Name()), dtype.lower(), free or shape, index, buffers[index][1], scales)

    def _count(self, length: int) -> int:
        """A vector's length. One that cannot be in the file would be read for ever, and all of them add up."""
        if not 0 <= length <= len(self._data):
            raise ValueError(f"a list of {length} in a file of {len(self._data)} bytes")
        self._left -= length
        if self._left < 0:
            raise ValueError("its lists name the same parts again and again")
        return int(length)

    def _places(self, found: Any, tensors: int) -> tuple[int, ...]:
        """Numbers of tensors; -1 stands for one that is left out."""
        return tuple(index if index == -1 else _place(index, tensors) for index in self._numbers(found))

    def _numbers(self, found: Any) -> tuple[int, ...]:
        """A vector of integers; the reader gives 0 for one that is absent."""
        return () if isinstance(found, int) else tuple(int(value) for value in found[: self._count(len(found))])

    def _text(self, value: bytes | None) -> str:
        text = "" if value is None else value[: self._count(len(value))].decode("utf-8", errors="replace")
        if control_characters(text):
            raise ValueError(f"the name {text!r} has control characters")
        return text


def _place(index: int, length: int) -> int:
    if not 0 <= index < length:
        raise ValueError(f"it names number {index} of {length}")
    return int(index)
