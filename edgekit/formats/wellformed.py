"""What a graph of others has to be before anything is done with it: its names, its functions, its external data.

Each is a way by which a small file reaches beyond itself: onto the terminal that prints its names, into memory by
functions that call functions, and to other files by the paths of its weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bounds import control_characters, inside
from edgekit.errors import ModelError
from edgekit.formats.known import subgraphs
from edgekit.formats.work import all_nodes

if TYPE_CHECKING:
    import onnx_ir as ir

# The largest models that exporters write have about 20,000 nodes.
MOST_NODES = 2_000_000


def check_names(model: ir.Model, file: Path) -> None:
    """Refuse names that are no text, or that steer the terminal that they are printed on.

    Those that are not UTF-8 come out of protobuf as bytes, and onnx's checker minds neither.

    Raises:
        ModelError: there is one.
    """
    functions = list(model.functions.values())
    nodes = [*all_nodes(model.graph), *(node for function in functions for node in function)]
    values = [*model.graph.inputs, *model.graph.outputs, *(value for node in nodes for value in node.outputs)]
    names: list[Any] = [name for node in nodes for name in (node.name, node.op_type, node.domain)]
    names += [value.name for value in values] + list(model.graph.initializers)
    names += [dim.value for value in values for dim in value.shape or () if not isinstance(dim, int)]
    names += [model.producer_name, model.producer_version, model.graph.name, *model.opset_imports]
    for name in names:
        if isinstance(name, bytes):
            raise _invalid(file, f"the name {name!r} is not UTF-8")
        if isinstance(name, str) and control_characters(name):
            raise _invalid(file, f"the name {name!r} has control characters")


def inline_functions(model: ir.Model, file: Path) -> int:
    """Put the functions of a graph in the place of their calls; how many there were.

    Raises:
        ModelError: it would then have more nodes than any model, or a function calls itself.
    """
    if not model.functions:
        return 0
    sizes: dict[Any, int | None] = {}

    def size_of(nodes: Iterator[ir.Node]) -> int:
        total = 0
        for node in nodes:
            total += called(node.op_identifier()) if node.op_identifier() in model.functions else 1
            if total > MOST_NODES:
                raise _invalid(file, f"it has more than {MOST_NODES} nodes once its functions are spelled out")
        return total

    def called(key: Any) -> int:
        if key not in sizes:
            sizes[key] = None
            sizes[key] = size_of(_within(iter(model.functions[key])))
        found = sizes[key]
        if found is None:
            raise _invalid(file, f"the function {key[1]!r} calls itself")
        return found

    try:
        size_of(all_nodes(model.graph))
    except RecursionError:
        raise _invalid(file, "its functions call each other too deep") from None
    from onnx_ir.passes.common import InlinePass

    count = len(model.functions)
    InlinePass()(model)
    return count


def external_files(model: ir.Model, file: Path) -> list[Path]:
    """The files that hold weights, sorted; each is there, in the graph's folder, and as long as the graph says.

    Raises:
        ModelError: one is not, or is a link: of a file that other names have, nobody knows who changes it.
    """
    folder, found = file.resolve().parent, set()
    for tensor in filter(is_external, all_tensors(model.graph)):
        name = str(tensor.location)
        place = folder / name
        if control_characters(name) or not inside(name.removeprefix("./")) or not place.resolve().is_relative_to(folder):
            raise ModelError(
                f"{file.name!r} keeps weights outside its own folder, in {name!r}",
                id="model.no-external-data",
                why="nothing but what lies beside a graph, or below it, is read",
            )
        offset = tensor.offset or 0
        length = tensor.length if tensor.length is not None else tensor.nbytes
        if offset < 0 or length < 0:
            raise _unsafe(file, name, f"from byte {offset} on, so many bytes: {length}")
        if place.is_file() and (place.is_symlink() or place.resolve() != place or place.stat().st_nlink > 1):
            raise _unsafe(file, name, "it is a link, or has other names")
        if not place.is_file() or place.stat().st_size < offset + length:
            told = f"has {place.stat().st_size} bytes, needed: {offset + length}" if place.is_file() else "is not there"
            raise ModelError(
                f"{file.name!r} keeps weights in {name!r}, which {told}",
                id="model.no-external-data",
                hint="Put the file beside the graph, as it was exported.",
            )
        found.add(place)
    return [file.parent / place.relative_to(folder) for place in sorted(found)]


def is_external(tensor: Any) -> bool:
    """Whether a tensor lies in another file."""
    import onnx_ir as ir

    return isinstance(tensor, ir.ExternalTensor)


def load_external(model: ir.Model) -> ir.Model:
    """Take into a graph what lies in other files: weights, and attributes of nodes, which onnx_ir leaves there."""
    import onnx_ir as ir

    for node in all_nodes(model.graph):
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and is_external(attribute.value):
                held = attribute.as_tensor()
                node.attributes[name] = ir.AttrTensor(name, ir.Tensor(held.numpy().copy(), name=held.name))
    return ir.external_data.load_to_model(model)


def _within(nodes: Iterator[ir.Node]) -> Iterator[ir.Node]:
    """These nodes and those of the graphs in them."""
    for node in nodes:
        yield node
        for inner in subgraphs(node).values():
            yield from all_nodes(inner)


def all_tensors(graph: ir.Graph) -> Iterator[Any]:
    """Every tensor that a graph and those in it hold: weights, and attributes of nodes."""
    import onnx_ir as ir

    yield from (value.const_value for value in graph.initializers.values() if value.const_value is not None)
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR:
                yield attribute.as_tensor()
        for inner in subgraphs(node).values():
            yield from all_tensors(inner)


def _invalid(file: Path, why: str) -> ModelError:
    return ModelError(f"{file.name!r} is no valid ONNX graph", id="model.invalid-onnx", why=why)


def _unsafe(file: Path, name: str, why: str) -> ModelError:
    return ModelError(
        f"{file.name!r} keeps weights in {name!r}, which is not read", id="model.unsafe-external-data", why=why
    )
