"""ONNX files read and written without holding their weights: they stay in the file until they are needed.

A graph's file is a few hundred kilobytes of structure around its weights. What is read is the structure; each large
weight becomes a tensor that knows its place in the file and is read when somebody looks.
Writing copies weights from there one by one. The bytes written are those that onnx would write (``ir.save``): protobuf
has fields in the order of their numbers, and a field's length before it.

https://protobuf.dev/programming-guides/encoding/; numbers of fields from onnx/onnx.proto.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
import weakref
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

# ModelProto.graph, GraphProto.initializer and TensorProto.raw_data.
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
# Bytes from which on a weight stays in the file: smaller ones are constants that rewrites look at.
LARGE = 4096
# Types whose elements are whole bytes, as numpy has them.
PLAIN = ("float32", "float16", "float64", "int8", "uint8", "int32", "int64")
# Bytes that are copied at once: few enough that the next ones take the same place in memory.
BLOCK = 1 << 20


class Field(NamedTuple):
    """A field of a message: its number and wire type, where it begins, and where its value does and ends."""

    number: int
    kind: int
    begin: int
    value: int
    end: int


class Hollow(NamedTuple):
    """A message without its large weights, and where these lie: the first byte of each, by name."""

    content: bytes
    places: dict[str, int]


def read_lazily(file: Path) -> ir.Model:
    """A graph whose large weights stay in its file, which is held open for them.

    Raises:
        DecodeError: it is no such message.
        OSError, ValueError: it cannot be read.
    """
    import onnx_ir as ir

    if sys.platform == "win32":  # where a file that is open can be neither exchanged nor removed
        return ir.load(file)
    held = _Held(file)
    hollow = _hollow(held.number)
    model = _deserialize(hollow.content)
    ir.external_data.set_base_dir(model.graph, file.parent)
    for name, place in hollow.places.items():
        value = model.graph.initializers[name]
        tensor = value.const_value
        assert tensor is not None  # its header was read
        shape, dtype = ir.Shape(tensor.shape.numpy()), tensor.dtype
        value.const_value = ir.LazyTensor(_Stored(held, place, tensor), dtype, shape, name=name)
    return model


def read_structure(file: Path) -> ir.Model:
    """A graph without the elements of its large weights, whose types and shapes are there; not to be changed.

    Raises:
        DecodeError: it is no such message.
        OSError, ValueError: it cannot be read.
    """
    with file.open("rb") as stream:
        return _structure(_hollow(stream.fileno()).content)


@lru_cache(maxsize=8)  # the graphs that a stage has before it are asked for several things each, and copied as they are
def _structure(content: bytes) -> ir.Model:
    return _deserialize(content)


def _deserialize(content: bytes) -> ir.Model:
    import onnx
    import onnx_ir as ir

    return ir.serde.deserialize_model(onnx.ModelProto.FromString(content))


class _Held:
    """A file that is open as long as somebody may read a weight from it."""

    def __init__(self, file: Path) -> None:
        self.number = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.number)


class _Stored:
    """A weight in a file, which ``ir.LazyTensor`` reads by calling it.

    Args:
        held: the file.
        place: its first byte there.
        tensor: the same without elements.
    """

    def __init__(self, held: _Held, place: int, tensor: ir.TensorProtocol) -> None:
        self._held, self._place, self._length = held, place, tensor.nbytes
        self._shape, self._dtype, self._name = tensor.shape.numpy(), tensor.dtype.numpy(), tensor.name

    def __call__(self) -> ir.TensorProtocol:
        import numpy as np
        import onnx_ir as ir

        content = self._bytes(0, self._length)
        return ir.Tensor(np.frombuffer(content, self._dtype).reshape(self._shape), name=self._name)

    def copy(self, stream: BinaryIO) -> None:
        """Write it as it is, a block at a time."""
        for at in range(0, self._length, BLOCK):
            stream.write(self._bytes(at, min(BLOCK, self._length - at)))

    def _bytes(self, at: int, count: int) -> bytes:
        content = os.pread(self._held.number, count, self._place + at)
        if len(content) < count:
            raise ValueError(f"the file of the weight {self._name!r} has become shorter")
        return content


def write_streamed(model: ir.Model, file: Path) -> None:
    """Write a graph with its weights inside, one after the other, and put the file into its place when it is whole."""
    import numpy as np
    import onnx_ir as ir

    large = {
        name: value
        for name, value in model.graph.initializers.items()
        if isinstance(value.const_value, (ir.LazyTensor, ir.Tensor))
        and value.const_value.nbytes > LARGE
        and value.const_value.dtype.numpy().name in PLAIN
    }
    tensors = {name: cast("ir.TensorProtocol", value.const_value) for name, value in large.items()}
    try:
        for value in large.values():
            value.const_value = ir.Tensor(np.zeros(0, np.int8), name=value.name)
        proto = ir.serde.serialize_model(model)
    finally:
        for name, value in large.items():
            value.const_value = tensors[name]
    unfinished = file.with_name(f".{file.name}.unfinished")
    with unfinished.open("wb") as stream:
        _write(proto, tensors, stream)
    os.replace(unfinished, file)


def _write(proto: onnx.ModelProto, tensors: dict[str, ir.TensorProtocol], stream: BinaryIO) -> None:
    import onnx

    heads, sizes = list[bytes](), list[int]()
    weights = list(proto.graph.initializer)
    for weight in weights:
        tensor = tensors.get(weight.name)
        if tensor is None:
            heads.append(weight.SerializeToString())
            sizes.append(len(heads[-1]))
            continue
        head = onnx.TensorProto(dims=tensor.shape.numpy(), data_type=tensor.dtype.value, name=weight.name)
        heads.append(head.SerializeToString() + _opening(RAW_DATA, tensor.nbytes))
        sizes.append(len(heads[-1]) + tensor.nbytes)
    del proto.graph.initializer[:]
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    rest = proto.SerializeToString()
    openings = [_opening(INITIALIZER, size) for size in sizes]
    whole = len(graph) + sum(map(len, openings)) + sum(sizes)
    before, inside = _split(rest, GRAPH), _split(graph, INITIALIZER)
    stream.write(rest[:before] + _opening(GRAPH, whole) + graph[:inside])
    for weight, opening, beginning in zip(weights, openings, heads, strict=True):
        stream.write(opening + beginning)
        if weight.name in tensors:
            _write_elements(tensors[weight.name], stream)
    stream.write(graph[inside:] + rest[before:])


def _write_elements(tensor: ir.TensorProtocol, stream: BinaryIO) -> None:
    import numpy as np

    if isinstance(tensor.raw, _Stored):
        tensor.raw.copy(stream)
    else:
        stream.write(np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data)


def _split(message: bytes, number: int) -> int:
    """Where a field of this number belongs in a message that has none."""
    return next((field.begin for field in _fields(memoryview(message), 0) if field.number > number), len(message))


def _opening(number: int, length: int) -> bytes:
    """What stands before a value that has a length."""
    return _varint(number << 3 | LENGTH) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _hollow(number: int) -> Hollow:
    """The message in an open file without its large weights."""
    view = memoryview(mmap.mmap(number, 0, access=mmap.ACCESS_READ))
    content, places = bytearray(), dict[str, int]()
    for field in _fields(view, 0):
        if field.number != GRAPH or field.kind != LENGTH:
            content += view[field.begin : field.end]
            continue
        graph = bytearray()
        for inner in _fields(view[: field.end], field.value):
            weight = None
            if inner.number == INITIALIZER and inner.kind == LENGTH and inner.end - inner.value > LARGE:
                weight = _hollow_weight(view[: inner.end], inner.value, places)
            graph += view[inner.begin : inner.end] if weight is None else _opening(INITIALIZER, len(weight)) + weight
        content += _opening(GRAPH, len(graph)) + graph
    return Hollow(bytes(content), places)


def _hollow_weight(view: memoryview, begin: int, places: dict[str, int]) -> bytes | None:
    """A weight's message without its elements, whose place is entered; None where they are not plain bytes."""
    import onnx
    import onnx_ir as ir

    rest, raw = bytearray(), list[Field]()
    for field in _fields(view, begin):
        if field.number == RAW_DATA and field.kind == LENGTH:
            raw.append(field)
        else:
            rest += view[field.begin : field.end]
    if len(raw) != 1 or len(rest) > LARGE:
        return None
    head = onnx.TensorProto.FromString(bytes(rest))
    if (
        head.data_type not in _plain_types()
        or not head.name
        or head.name in places
        or head.data_location == onnx.TensorProto.EXTERNAL
    ):
        return None
    size = math.prod(head.dims) * ir.DataType(head.data_type).itemsize
    if size != raw[0].end - raw[0].value:
        return None
    places[head.name] = raw[0].value
    return bytes(rest)


@cache
def _plain_types() -> frozenset[int]:
    """The types of PLAIN by their numbers in a message."""
    import numpy as np
    import onnx_ir as ir

    return frozenset(ir.DataType.from_numpy(np.dtype(name)).value for name in PLAIN)


def _fields(view: memoryview, at: int) -> Iterator[Field]:
    """The fields of a message from a place to the end of a view.

    Raises:
        DecodeError: one goes beyond it, or is of a kind that messages do not have.
    """
    from google.protobuf.message import DecodeError

    size = len(view)
    while at < size:
        begin = at
        try:
            tag, at = _read_varint(view, at)
            kind = tag & 7
            if kind == LENGTH:
                length, at = _read_varint(view, at)
                end = at + length
            elif kind == VARINT:
                _, end = _read_varint(view, at)
            else:
                end = at + {EIGHT_BYTES: 8, FOUR_BYTES: 4}[kind]
        except (IndexError, KeyError) as error:
            raise DecodeError("a field has no end, or is of no kind that there is") from error
        if end > size:
            raise DecodeError("a field goes beyond the message")
        yield Field(tag >> 3, kind, begin, at, end)
        at = end


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError
