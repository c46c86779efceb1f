"""What is known of the values of a graph, and small readers of its nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from edgekit.tasks.base import Array

if TYPE_CHECKING:
    import onnx_ir as ir

Dims = tuple[int | None, ...]
# Arrays above this are weights: no shape is computed of them.
MOST_ELEMENTS = 1024


class Known(NamedTuple):
    """What is known of a value.

    Attributes:
        kind: type of the elements; None where it is unknown, or where the value is no tensor.
        shape: sizes, None for each that is unknown; None where not even their number is known.
        data: the elements, where they are few and known.
    """

    kind: ir.DataType | None = None
    shape: Dims | None = None
    data: Array | None = None

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """The shape where all of it is known."""
        if self.shape is None or None in self.shape:
            return None
        return tuple(size for size in self.shape if size is not None)

    @property
    def elements(self) -> int | None:
        """How many elements it has."""
        return None if self.sizes is None else math.prod(self.sizes)

    @property
    def nbytes(self) -> int | None:
        """Bytes of its elements; 4-bit types are packed by two."""
        if self.elements is None or self.kind is None or not has_size(self.kind):
            return None
        return math.ceil(self.elements * self.kind.bitwidth / 8)


UNKNOWN = Known()


@dataclass
class Shapes:
    """What is known of a graph.

    Attributes:
        known: every value that was come across.
        branches: for an ``If`` whose condition is known, the name of the branch that it takes.
        trips: for a ``Loop`` or ``Scan``, how often its body runs; None where that depends on the data.
        strange: operators that nobody here knows, so that their outputs are unknown.
        refused: what onnx says against single nodes: the graph cannot run on this workload.
    """

    known: dict[ir.Value, Known] = field(default_factory=dict)
    branches: dict[ir.Node, str] = field(default_factory=dict)
    trips: dict[ir.Node, int | None] = field(default_factory=dict)
    strange: set[str] = field(default_factory=set)
    refused: dict[ir.Node, str] = field(default_factory=dict)

    def of(self, value: ir.Value | None) -> Known:
        """What is known of one value."""
        return UNKNOWN if value is None else self.known.get(value, UNKNOWN)

    def input(self, node: ir.Node, index: int) -> Known:
        """What is known of one input of a node; nothing where it has no such input."""
        return self.of(node.inputs[index]) if index < len(node.inputs) else UNKNOWN

    def output(self, node: ir.Node) -> Known:
        """What is known of a node's first output."""
        return self.of(node.outputs[0]) if node.outputs else UNKNOWN


def has_size(kind: ir.DataType) -> bool:
    """Whether the elements of a type have a size: text has none."""
    import onnx_ir as ir

    return kind not in (ir.DataType.UNDEFINED, ir.DataType.STRING)


def kind_of(value: ir.Value) -> ir.DataType | None:
    """The type of a value's elements as its file says it; None where that says nothing, or calls it undefined."""
    import onnx_ir as ir

    return None if value.dtype == ir.DataType.UNDEFINED else value.dtype


def label(node: ir.Node) -> str:
    """The name of a node, or its kind where it has none."""
    return node.name or node.op_type


def subgraphs(node: ir.Node) -> dict[str, ir.Graph]:
    """The graphs that a node holds, by the name of the attribute."""
    import onnx_ir as ir

    return {name: item.as_graph() for name, item in node.attributes.items() if item.type == ir.AttributeType.GRAPH}


def integer(node: ir.Node, name: str, default: int = 0) -> int:
    """An attribute that is a whole number."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def integers(node: ir.Node, name: str) -> Sequence[int]:
    """An attribute that is a list of whole numbers; empty where it is absent."""
    attribute = node.attributes.get(name)
    return () if attribute is None else attribute.as_ints()


def constant_of(value: ir.Value) -> Known:
    """An initializer, or what a ``Constant`` node gives; its elements where they are few and can be read."""
    import onnx_ir as ir

    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None:
        return UNKNOWN
    shape = tuple(size if isinstance(size, int) else None for size in tensor.shape)
    known = Known(tensor.dtype, shape)
    if tensor.size > MOST_ELEMENTS or isinstance(tensor, ir.ExternalTensor) or not has_size(tensor.dtype):
        return known
    array = tensor.numpy()
    return known._replace(data=array) if array.dtype.kind in "biuf" else known
