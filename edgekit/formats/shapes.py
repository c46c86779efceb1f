"""Shapes and small constants of a graph at one workload: what each value is once the free dimensions have sizes.

onnx infers one node at a time, in the order of the file. In between, what computes shapes (``Shape``, ``Gather``,
``Concat``...) is evaluated on small arrays, so that a reshape to a computed shape has a known result, and an ``If`` on
a size takes one branch. What cannot be inferred stays unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.errors import ModelError
from edgekit.formats.contrib import CONTRIB_RULES, STANDARD_TWINS
from edgekit.formats.graph import CONTRIB
from edgekit.formats.known import (
    MOST_ELEMENTS,
    UNKNOWN,
    Known,
    Shapes,
    constant_of,
    integer,
    integers,
    kind_of,
    label,
    subgraphs,
)
from edgekit.formats.work import all_nodes
from edgekit.tasks.base import Array

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

# What shapes are computed with. Nothing else is evaluated: a graph of a stranger may ask for any amount of memory.
EVALUATED = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Range",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Reshape",
        "Slice",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)
# Operators with a window, and which input its weight is; 0 where only the attribute has its size.
WINDOWED = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3, "MaxPool": 0, "AveragePool": 0, "LpPool": 0}
# Loops are inferred again while their carried values still change shape; after this often, what changes is unknown.
LOOP_PASSES = 2
# Loops in loops multiply the passes: ten in each other infer the innermost body 1,024 times. A graph may take as many
# inferences as if all of it lay in four, and a small one as many as a large one has nodes.
MOST_PASSES, FEW_INFERENCES = LOOP_PASSES**4, 20_000


def infer_shapes(model: ir.Model, sizes: Mapping[str, int]) -> Shapes:
    """Infer what can be known of each value.

    Args:
        model: without functions: they are inlined before.
        sizes: of the free dimensions by name; those that are not named stay unknown.

    Raises:
        ModelError: its loops are in each other so deep that this would never end, or a node and the graphs in it do
            not fit each other.
    """
    inference = _Inference(model, sizes)
    for value in model.graph.inputs:
        inference.shapes.known[value] = inference.declared(value)
    inference.graph(model.graph)
    return inference.shapes


class _Inference:
    def __init__(self, model: ir.Model, sizes: Mapping[str, int]) -> None:
        self.shapes = Shapes()
        self._sizes = sizes
        self._opsets = {("" if domain == "ai.onnx" else domain): v for domain, v in model.opset_imports.items()}
        self._left = max(FEW_INFERENCES, MOST_PASSES * sum(1 for _ in all_nodes(model.graph)))

    def graph(self, graph: ir.Graph) -> None:
        for value in graph.initializers.values():
            self.shapes.known[value] = constant_of(value)
        for node in graph:
            self._left -= 1
            if self._left < 0:
                raise _impossible(f"its loops are too deep in each other: {LOOP_PASSES} passes of each multiply")
            found = self._node(node)
            refused = node in self.shapes.refused
            for index, output in enumerate(node.outputs):
                known = found[index] if index < len(found) else UNKNOWN
                # what the file says of a node that cannot run holds for another workload
                self.shapes.known[output] = Known(kind_of(output)) if refused else _refine(known, self, output)

    def declared(self, value: ir.Value) -> Known:
        """What the file says of a value, its free dimensions bound."""
        shape = value.shape
        if shape is None:
            return Known(kind_of(value))
        dims = (dim if isinstance(dim, int) else self._sizes.get(str(dim.value)) for dim in shape)
        return Known(kind_of(value), tuple(dims))

    def _node(self, node: ir.Node) -> list[Known]:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            return [constant_of(node.outputs[0])]
        if node.domain in ("", "ai.onnx"):
            special = {"If": self._if, "Loop": self._loop, "Scan": self._scan, "Shape": self._shape, "Size": self._size}
            if node.op_type in special:
                if misfit := _misfit(node):
                    raise _impossible(f"{label(node)!r} is {misfit}")
                return special[node.op_type](node)
        inputs = [self.shapes.of(value) for value in node.inputs]
        found = self._infer(node, inputs)
        if node.op_type in EVALUATED and node.domain in ("", "ai.onnx") and len(found) == 1:
            data = _evaluate(node, inputs, found[0], self._opsets.get("", 0))
            return [found[0]._replace(data=data)]
        return found

    def _infer(self, node: ir.Node, inputs: list[Known]) -> list[Known]:
        if node.domain == CONTRIB and node.op_type in CONTRIB_RULES:
            return [Known(kind, shape) for kind, shape in CONTRIB_RULES[node.op_type](node, inputs)]
        domain, kind = node.domain, node.op_type
        if node.domain == CONTRIB and node.op_type in STANDARD_TWINS:
            domain, kind = "", STANDARD_TWINS[node.op_type]
        if any(
            known.kind is None for value, known in zip(node.inputs, inputs, strict=True) if value is not None
        ) or subgraphs(node):
            return []
        return self._ask_onnx(node, kind, "" if domain == "ai.onnx" else domain, inputs)

    def _ask_onnx(self, node: ir.Node, kind: str, domain: str, inputs: list[Known]) -> list[Known]:
        """onnx's own inference of one node; what it refuses is kept with its reason."""
        import onnx
        import onnx_ir as ir

        if not onnx.defs.has(kind, domain):
            self.shapes.strange.add(f"{domain}.{kind}" if domain else kind)
            return []
        proto = ir.serde.serialize_node(node)
        if proto.op_type != kind or proto.domain != domain:  # a twin: what only it has does not change shapes
            taken = onnx.defs.get_schema(kind, domain).attributes
            for attribute in [item for item in proto.attribute if item.name not in taken]:
                proto.attribute.remove(attribute)
        proto.op_type, proto.domain = kind, domain
        named = [(value.name or "", known) for value, known in zip(node.inputs, inputs, strict=True) if value]
        types = {name: _type_of(known) for name, known in named}
        data = {name: onnx.numpy_helper.from_array(known.data) for name, known in named if known.data is not None}
        narrow = _too_narrow(node, inputs)
        if narrow:
            self.shapes.refused[node] = narrow
            return []
        try:
            schema = onnx.defs.get_schema(kind, self._opsets.get(domain, 1), domain)
            found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data)
        except (
            onnx.checker.ValidationError,
            onnx.defs.SchemaError,
            onnx.shape_inference.InferenceError,
            RuntimeError,
            ValueError,
        ) as error:
            self.shapes.refused[node] = str(error).strip().splitlines()[0]
            return []
        return [_known_of(found.get(output.name or "")) for output in node.outputs]

    def _shape(self, node: ir.Node) -> list[Known]:
        import numpy as np
        import onnx_ir as ir

        shape = self.shapes.input(node, 0).shape
        if shape is None:
            return [Known(ir.DataType.INT64, (None,))]
        end = integer(node, "end", len(shape))
        part = shape[integer(node, "start") : end]
        data = None if None in part else np.array(part, dtype=np.int64)
        return [Known(ir.DataType.INT64, (len(part),), data)]

    def _size(self, node: ir.Node) -> list[Known]:
        import numpy as np
        import onnx_ir as ir

        elements = self.shapes.input(node, 0).elements
        return [Known(ir.DataType.INT64, (), None if elements is None else np.array(elements, dtype=np.int64))]

    def _if(self, node: ir.Node) -> list[Known]:
        branches, condition = subgraphs(node), self.shapes.input(node, 0).data
        if condition is not None and condition.size == 1:
            taken = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
            self.shapes.branches[node] = taken
            for name in branches.keys() - {taken}:  # its types are looked at; that it cannot run here says nothing
                refused = dict(self.shapes.refused)
                self.graph(branches[name])
                self.shapes.refused = refused
            branches = {taken: branches[taken]}
        ends = []
        for graph in branches.values():
            self.graph(graph)
            ends.append([self.shapes.of(value) for value in graph.outputs])
        return [_common(outcomes) for outcomes in zip(*ends, strict=True)]

    def _loop(self, node: ir.Node) -> list[Known]:
        import numpy as np
        import onnx_ir as ir

        body = subgraphs(node)["body"]
        limit, condition = (self.shapes.input(node, index).data for index in (0, 1))
        goes_on = len(node.inputs) < 2 or node.inputs[1] is None or (condition is not None and bool(condition.all()))
        true = np.array(True) if goes_on else None
        carried = [self.shapes.of(value)._replace(data=None) for value in node.inputs[2:]]
        for _ in range(LOOP_PASSES):
            starts = [Known(ir.DataType.INT64, ()), Known(ir.DataType.BOOL, (), true), *carried]
            self.shapes.known.update(zip(body.inputs, starts, strict=True))
            self.graph(body)
            after = [self.shapes.of(value) for value in body.outputs[1 : 1 + len(carried)]]
            before, carried = carried, [_common(pair)._replace(data=None) for pair in zip(carried, after, strict=True)]
            if carried == before:  # another pass would find the same
                break
        again = self.shapes.of(body.outputs[0]).data
        endless = again is not None and bool(again.all())  # nothing but the limit ends it
        trips = int(limit.reshape(-1)[0]) if limit is not None and limit.size == 1 and endless else None
        self.shapes.trips[node] = trips
        stacked = [_stack(self.shapes.of(value), trips, 0) for value in body.outputs[1 + len(carried) :]]
        return [*carried, *stacked]

    def _scan(self, node: ir.Node) -> list[Known]:
        body, count = subgraphs(node)["body"], integer(node, "num_scan_inputs")
        states = [self.shapes.of(value)._replace(data=None) for value in node.inputs[: len(node.inputs) - count]]
        given = [self.shapes.of(value) for value in node.inputs[len(node.inputs) - count :]]
        axes = integers(node, "scan_input_axes") or [0] * count
        lengths = [_size_at(known, axis) for known, axis in zip(given, axes, strict=True)]
        trips = next((length for length in lengths if length is not None), None)
        self.shapes.trips[node] = trips
        slices = [_unstack(known, axis) for known, axis in zip(given, axes, strict=True)]
        self.shapes.known.update(zip(body.inputs, [*states, *slices], strict=True))
        self.graph(body)
        outputs = body.outputs[len(states) :]
        ends = integers(node, "scan_output_axes") or [0] * len(outputs)
        stacked = [_stack(self.shapes.of(value), trips, axis) for value, axis in zip(outputs, ends, strict=True)]
        return [*states, *stacked]


def _refine(known: Known, inference: _Inference, value: ir.Value) -> Known:
    """What was inferred, completed by what the file says where inference knows nothing."""
    declared = inference.declared(value)
    kind = known.kind if known.kind is not None else declared.kind
    if known.shape is None or declared.shape is None or len(known.shape) != len(declared.shape):
        return Known(kind, known.shape if known.shape is not None else declared.shape, known.data)
    pairs = zip(known.shape, declared.shape, strict=True)
    return Known(kind, tuple(one if one is not None else other for one, other in pairs), known.data)


def _common(outcomes: Sequence[Known]) -> Known:
    """What holds for all of several outcomes."""
    first, *rest = outcomes
    for other in rest:
        kind = first.kind if first.kind == other.kind else None
        if first.shape is None or other.shape is None or len(first.shape) != len(other.shape):
            first = Known(kind)
        else:
            pairs = zip(first.shape, other.shape, strict=True)
            first = Known(kind, tuple(one if one == another else None for one, another in pairs))
    return first


def _misfit(node: ir.Node) -> str:
    """What does not fit between a node and the graphs in it, which no checker sees; empty where all does."""
    graphs = list(subgraphs(node).values())
    if node.op_type == "If":
        same = len({len(graph.outputs) for graph in graphs}) == 1
        return "" if same else "an If whose branches give different numbers of values"
    if node.op_type == "Loop":
        takes = max(len(node.inputs), 2)
        gives = takes - 1  # whether it goes on, and what it carries
    elif node.op_type == "Scan":
        takes = len(node.inputs)
        gives = takes - integer(node, "num_scan_inputs")
    else:
        return ""
    (body,) = graphs
    if len(body.inputs) != takes or not 0 <= gives <= min(takes, len(body.outputs)):
        return (
            f"a {node.op_type} whose body takes {len(body.inputs)} values and gives {len(body.outputs)};"
            f" needed: {takes}, and at least {gives}"
        )
    for name, scanned in (("scan_input_axes", takes - gives), ("scan_output_axes", len(body.outputs) - gives)):
        if len(integers(node, name)) not in (0, scanned):
            return f"a Scan with {len(integers(node, name))} {name} for {scanned} values"
    return ""


def _impossible(why: str) -> ModelError:
    return ModelError("the shapes of the graph cannot be inferred", id="model.invalid-onnx", why=why)


def _size_at(known: Known, axis: int) -> int | None:
    return known.shape[axis % len(known.shape)] if known.shape else None


def _stack(known: Known, count: int | None, axis: int) -> Known:
    if known.shape is None:
        return Known(known.kind)
    at = axis % (len(known.shape) + 1)
    return Known(known.kind, (*known.shape[:at], count, *known.shape[at:]))


def _unstack(known: Known, axis: int) -> Known:
    if not known.shape:
        return Known(known.kind)
    at = axis % len(known.shape)
    return Known(known.kind, (*known.shape[:at], *known.shape[at + 1 :]))


def _too_narrow(node: ir.Node, inputs: Sequence[Known]) -> str:
    """Why a window does not fit into its input, which onnx's inference does not see; empty where it does."""
    weight = WINDOWED.get(node.op_type)
    shape = inputs[0].shape if inputs else None
    padding = node.attributes.get("auto_pad")
    if weight is None or shape is None or (padding is not None and padding.as_string() not in ("NOTSET", "VALID")):
        return ""
    kernel: Sequence[int | None] = integers(node, "kernel_shape")
    if not kernel and 0 < weight < len(inputs):
        kernel = (inputs[weight].shape or ())[2:]
    pads, dilations = integers(node, "pads"), integers(node, "dilations")
    for axis, (width, size) in enumerate(zip(kernel, shape[2:], strict=False)):
        if width is None or size is None:
            continue
        padded = size + (pads[axis] + pads[axis + len(kernel)] if pads else 0)
        reach = (width - 1) * (dilations[axis] if dilations else 1) + 1
        if reach > padded:
            return f"its window of {reach} is wider than its input of {padded}"
    return ""


def _type_of(known: Known) -> onnx.TypeProto:
    import onnx

    assert known.kind is not None  # asked before
    return onnx.helper.make_tensor_type_proto(int(known.kind), known.shape)


def _known_of(found: onnx.TypeProto | None) -> Known:
    import onnx_ir as ir

    if found is None or not found.HasField("tensor_type"):
        return UNKNOWN
    tensor = found.tensor_type
    kind = ir.DataType(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return Known(kind)
    return Known(kind, tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim))


def _evaluate(node: ir.Node, inputs: Sequence[Known], output: Known, opset: int) -> Array | None:
    """The node's output by onnx's reference, where all of it is known and small."""
    import numpy as np
    import onnx_ir as ir
    from onnx.reference.ops import load_op

    if output.elements is None or output.elements > MOST_ELEMENTS:
        return None
    arrays = [known.data for known in inputs]
    if any(array is None for value, array in zip(node.inputs, arrays, strict=True) if value is not None):
        return None
    attributes: dict[str, Any] = {
        name: ir.serde.serialize_tensor(item.value) if item.type == ir.AttributeType.TENSOR else item.value
        for name, item in node.attributes.items()
    }
    try:
        with np.errstate(all="ignore"):
            result = load_op("", node.op_type, opset).eval(*arrays, **attributes)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # the reference lacks this version or this type: the value stays unknown
    array = np.asarray(result)
    return array if array.size <= MOST_ELEMENTS and array.dtype.kind in "biuf" else None
