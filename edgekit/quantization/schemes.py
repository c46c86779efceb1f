"""What a quantized graph looks like, by settings and by the target's wish; static ones by onnxruntime's tools."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from edgekit.artifact import Artifact, copy_files
from edgekit.disk import telling_full
from edgekit.errors import ModelError, UsageError
from edgekit.formats.graph import stored
from edgekit.formats.onnx import load_graph, load_structure, save_graph
from edgekit.formats.wellformed import external_files
from edgekit.quantization.blocks import looks_up_tokens, narrow_tables
from edgekit.quantization.dynamic import PRODUCT, Widths, quantize_dynamically
from edgekit.quantization.methods import HALF, advise, methods_for
from edgekit.quantization.products import pack_products, packs
from edgekit.runtimes import ort
from edgekit.settings import Frozen
from edgekit.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

Method = Literal["auto", "dynamic", "static", "fp16", "bf16", "int4", "weight-only"]
SchemeName = Literal["auto", "u8s8", "s8s8", "u8u8"]
Embeddings = Literal["int8", "int4", "float"]

# The operators whose weights are quantized, named: left to itself, onnxruntime's tool also takes activations' products.
LINEAR_KINDS = ("MatMul", "Gemm")
CONVOLUTION_KIND = "Conv"
EMBEDDING_KIND = "Gather"
# What lies between convolutions: quantized with them in a static scheme, so that activations stay 8 bits wide.
PASSING_KINDS = ("Add", "Relu", "Clip", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool")
# A constant smaller than this is a bias or an index table: nothing is won by quantizing it.
FEWEST_ELEMENTS = 1024
FLOAT = 1  # onnx.TensorProto.FLOAT


class Scheme(Frozen):
    """A resolved scheme.

    Attributes:
        method: ``dynamic`` (activations scaled as they come), ``static`` (scaled once, from calibration), ``fp16``, or
            ``int4`` (weights of products of matrices alone; tables are INT8 as in ``dynamic``).
        activations, weights: integer types.
        per_channel: one weight scale per output channel.
        reduce_range: 7-bit weights.
        full_range: layers whose weights are 8 bits wide all the same, as component/node.
        embeddings: whether embedding tables are quantized too.
        convolutions: whether convolutions are, and what lies between them.
        biases: whether the biases of a static scheme are.
        int4: tables of words in INT4, as component/node.
    """

    method: Literal["dynamic", "static", "fp16", "int4"]
    activations: Literal["u8", "s8"]
    weights: Literal["u8", "s8"]
    per_channel: bool
    reduce_range: bool
    embeddings: bool
    convolutions: bool = False
    biases: bool = True
    full_range: tuple[str, ...] = ()
    int4: tuple[str, ...] = ()

    def takes(self, node: WeightedNode) -> bool:
        """Whether it quantizes a node; a Gemm with factors, or of a turned input, only a static one does."""
        if self.method == "dynamic":
            return node.packs or node.kind != "Gemm"
        return self.method != "int4" or node.packs or not node.multiplies

    def within(self, component: str) -> Scheme:
        """The same for one component: its layers by the names of their nodes."""
        start = f"{component}/"

        def inside(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name.removeprefix(start) for name in names if name.startswith(start))

        return self.model_copy(update={"full_range": inside(self.full_range), "int4": inside(self.int4)})


class WeightedNode(NamedTuple):
    """A node with constant weights that can be quantized.

    Attributes:
        name, kind: of the node.
        elements: of its weights.
        narrows: whether it looks up tokens in a table, which may be INT4.
        packs: whether it is a product whose weights may be.
    """

    name: str
    kind: str
    elements: int
    narrows: bool = False
    packs: bool = False

    @property
    def multiplies(self) -> bool:
        """Whether its weights are multiplied, and not looked up."""
        return self.kind != EMBEDDING_KIND


def resolve_scheme(
    method: Method, scheme: SchemeName, embeddings: Embeddings, target: Target, *, convolutional: bool = False
) -> Scheme:
    """The scheme that a target wants, changed by what the user said.

    ``auto`` is INT8 where the target takes it, else FP16. onnxruntime scales activations dynamically as u8 only, and
    for products of matrices only: of INT8, ``auto`` is dynamic where that fits, else static.

    Args:
        method: the setting.
        scheme: the setting.
        embeddings: the setting.
        target: the device.
        convolutional: whether most of the weights are in convolutions.

    Raises:
        UsageError: the two cannot go together, or nothing runs the result.
    """
    methods = methods_for(target, "onnx", ort.NAME)
    if method == "bf16":
        raise UsageError(
            "quantize.method=bf16 would give a graph that no CPU runs",
            id="usage.settings-conflict",
            why="neural-compressor mixes bf16 and float32 in torch, but onnxruntime multiplies no bf16 on a CPU",
            hint="Leave the method to auto"
            + (", or use --set quantize.method=fp16 for weights of half the size." if HALF in methods else "."),
        )
    if method == "weight-only":
        raise UsageError(
            "quantize.method=weight-only is a method of TFLite",
            id="usage.settings-conflict",
            why="onnxruntime would unpack the weights before each product",
            hint=advise(methods, "Leave the method to auto.")
            + (" Or make TFLite: --format tflite." if "tflite" in target.formats else ""),
        )
    wish = target.int8
    activations, weights = (wish.activations, wish.weights) if scheme == "auto" else (scheme[:2], scheme[2:])
    if method == "dynamic" and activations == "s8":
        raise UsageError(
            f"quantize.method=dynamic cannot go with quantize.scheme={scheme}",
            id="usage.settings-conflict",
            why="onnxruntime's dynamic quantization scales activations as u8",
            hint=f"Leave the method to auto. {advise([one for one in methods if one != method], '')}".strip(),
        )
    resolved = method
    if method == "auto":
        resolved = "static" if activations == "s8" or convolutional else "dynamic"
        if scheme == "auto" and "int8" not in target.precisions and "fp16" in target.precisions:
            resolved = "fp16"
    if "int4" in (embeddings, resolved):
        _check_blocks("embeddings" if embeddings == "int4" else "method", resolved, target)
    return Scheme.model_validate(
        {
            "method": resolved,
            "activations": activations,
            "weights": weights,
            "per_channel": wish.per_channel,
            # the products of INT4 do not saturate, and tables are not multiplied
            "reduce_range": wish.reduce_range and weights == "s8" and resolved != "int4",
            "embeddings": embeddings != "float",
            "convolutions": convolutional and resolved == "static",
            "biases": wish.biases,
        }
    )


def reads_blocks(target: Target) -> bool:
    """Whether a target has operators that read INT4: onnxruntime's on a processor."""
    return target.runtime.provider == "cpu" and target.runtime.name == ort.NAME


def _check_blocks(setting: str, method: str, target: Target) -> None:
    """Refuse INT4 where the weights are FP16, or where something else than onnxruntime on the processor computes."""
    if method == HALF or not reads_blocks(target):
        reads = {"embeddings": "GatherBlockQuantized reads the tables", "method": "MatMulNBits reads the weights"}
        raise UsageError(
            f"quantize.{setting}=int4 cannot go with "
            + ("quantize.method=fp16" if method == HALF else f"the target {target.name!r}"),
            id="usage.settings-conflict",
            why=f"it is a choice beside INT8, for onnxruntime on a CPU: its {reads[setting]}",
            hint=f"Leave quantize.{setting} away.",
        )


def weighted_nodes(model: ir.Model, *, embeddings: bool, convolutions: bool = True) -> list[WeightedNode]:
    """The nodes of a graph whose weights can be quantized, in order; every one gets a name."""
    kinds = (
        *LINEAR_KINDS,
        *((EMBEDDING_KIND,) if embeddings else ()),
        *((CONVOLUTION_KIND,) if convolutions else ()),
    )
    found = []
    _name_all(model)
    for node in model.graph:
        if node.domain or node.op_type not in kinds:
            continue
        table = stored(node.inputs[0 if node.op_type == EMBEDDING_KIND else 1])
        if table is None or table.size < FEWEST_ELEMENTS or table.dtype.numpy().kind != "f":
            continue
        if len(table.shape) > 2 if node.op_type == CONVOLUTION_KIND else len(table.shape) == 2:
            name, elements = str(node.name), int(table.size)
            found.append(WeightedNode(name, node.op_type, elements, looks_up_tokens(node), packs(node)))
    return found


def name_nodes(artifact: Artifact, folder: Path) -> Artifact:
    """The graphs with a name for every node, since nodes are chosen by name: a copy in a folder where one lacks any."""
    files = [artifact.file(name) for name in artifact.manifest.components]
    if not any(_name_all(load_structure(file)) for file in files):
        return artifact
    for file in files:
        model = load_graph(file)
        _name_all(model)
        save_graph(model, folder / file.name)
    return Artifact(folder, artifact.manifest)


def _name_all(model: ir.Model) -> bool:
    """Give a name to every node that has none, or that of the product which a Gemm becomes; whether there was one."""
    products = {f"{node.name}{PRODUCT}" for node in model.graph if node.op_type == "Gemm" and node.name}
    taken = {str(node.name) for node in model.graph} | products
    wrong = [(index, node) for index, node in enumerate(model.graph) if not node.name or node.name in products]
    for index, node in wrong:
        name = f"{node.op_type}_{index}"
        while {name, f"{name}{PRODUCT}"} & taken:
            name += "_"
        taken |= {name, f"{name}{PRODUCT}"}
        node.name = name
    return bool(wrong)


def static_kinds(scheme: Scheme) -> tuple[str, ...]:
    """The operators whose activations have one scale, from calibration."""
    return (*LINEAR_KINDS, CONVOLUTION_KIND, *PASSING_KINDS) if scheme.convolutions else LINEAR_KINDS


def passing_nodes(model: ir.Model, chosen: Collection[str]) -> list[str]:
    """Names of the nodes between convolutions that stand next to a chosen node, or next to another of these.

    Where all around is float, integers would only be made and undone: they lose accuracy and save nothing.

    Args:
        model: the graph.
        chosen: names of the nodes that are quantized for their weights.
    """
    found: set[ir.Node] = set()
    open_ends = [node for node in model.graph if node.name in chosen]
    while open_ends:
        node = open_ends.pop()
        for near in (*node.predecessors(), *node.successors()):
            if near not in found and not near.domain and near.op_type in PASSING_KINDS:
                found.add(near)
                open_ends.append(near)
    return [str(node.name) for node in model.graph if node in found]


def is_convolutional(nodes: Sequence[WeightedNode]) -> bool:
    """Whether most of the weights are in convolutions."""
    inside = sum(node.elements for node in nodes if node.kind == CONVOLUTION_KIND)
    return inside > sum(node.elements for node in nodes) / 2


def quantize_graph(source: Path, destination: Path, scheme: Scheme, nodes: Sequence[str], ranges: Path | None) -> None:
    """Write a graph in INT8.

    Args:
        source: float32 graph.
        destination: the new file.
        scheme: how, with names of nodes in it; ``half.py`` has FP16.
        nodes: which of its nodes; the others stay as they are.
        ranges: for ``static``, the file of calibrated ranges.
    """
    narrow = [name for name in nodes if name in scheme.int4]
    nodes = [name for name in nodes if name not in narrow]
    packed: list[str] = []
    if scheme.method == "int4":
        packed = [str(node.name) for node in load_graph(source).graph if node.name in nodes and packs(node)]
        nodes = [name for name in nodes if name not in packed]
    if scheme.convolutions and nodes:
        nodes = [*nodes, *passing_nodes(load_graph(source), nodes)]
    with quiet():
        if nodes:
            _write(source, destination, scheme, nodes, ranges)
        else:
            save_graph(load_graph(source), destination)
    if scheme.method == "static" or narrow or packed:
        model = load_graph(destination)
        if narrow:
            narrow_tables(model, narrow)
        if packed:
            pack_products(model, packed)
        save_graph(model, destination)


@contextlib.contextmanager
def copy_of_its_own(graph: Path, folder: Path) -> Iterator[Path]:
    """A graph, with its external data, where nobody else reads or writes it: onnxruntime's tools write beside it.

    What they read may be an object of the cache, which other processes read meanwhile, and write beside, too.

    Args:
        graph: of an artifact.
        folder: where to put the copy's folder, which is gone afterwards.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        copy_files([graph, *external_files(load_structure(graph), graph)], Path(name))
        yield Path(name) / graph.name


def _write(source: Path, destination: Path, scheme: Scheme, nodes: Sequence[str], ranges: Path | None) -> None:
    """Static by onnxruntime's tools, dynamic by what gives the same as they do.

    Raises:
        ModelError: they do not take the graph; the reason is theirs.
    """
    full = telling_full(destination.parent, source.stat().st_size)
    with told_refusals("onnxruntime's quantizer"), full:
        if scheme.method == "static":
            _static(source, destination, scheme, nodes, ranges)
        else:
            _dynamic(source, destination, scheme, nodes)


def _dynamic(source: Path, destination: Path, scheme: Scheme, nodes: Sequence[str]) -> None:
    model = load_graph(source)
    widths = Widths(scheme.weights, scheme.per_channel, scheme.reduce_range, scheme.full_range)
    quantize_dynamically(model, nodes, widths)
    save_graph(model, destination)


def _static(source: Path, destination: Path, scheme: Scheme, nodes: Sequence[str], ranges: Path | None) -> None:
    from onnxruntime.quantization import QuantFormat, quantize_static

    with copy_of_its_own(source, destination.parent) as graph:
        quantize_static(
            graph,
            destination,
            None,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*static_kinds(scheme), EMBEDDING_KIND],
            nodes_to_quantize=list(nodes),
            per_channel=scheme.per_channel,
            reduce_range=scheme.reduce_range,
            activation_type=_kind(scheme.activations),
            weight_type=_kind(scheme.weights),
            calibration_cache_path=ranges,
            extra_options={
                "ActivationSymmetric": scheme.activations == "s8",
                "DefaultTensorType": FLOAT,
                "MatMulConstBOnly": True,
                "QuantizeBias": scheme.biases,
                "TensorQuantOverrides": _full_ranges(source, scheme),
            },
        )


def _full_ranges(source: Path, scheme: Scheme) -> dict[str, list[dict[str, object]]]:
    """What onnxruntime's tool is told of the weights that stay 8 bits wide, by their names."""
    if not scheme.full_range:
        return {}
    told: dict[str, list[dict[str, object]]] = {}
    for node in load_graph(source).graph:
        weight = node.inputs[1] if node.name in scheme.full_range and node.op_type != EMBEDDING_KIND else None
        if weight is not None:
            rows = node.op_type == CONVOLUTION_KIND or (
                "transB" in node.attributes and node.attributes["transB"].as_int() == 1
            )
            axis = {"axis": 0 if rows else 1} if scheme.per_channel else {}
            told[str(weight.name)] = [{**axis, "reduce_range": False}]
    return told


def _kind(name: str) -> object:
    from onnxruntime.quantization import QuantType

    return QuantType.QUInt8 if name == "u8" else QuantType.QInt8


@contextlib.contextmanager
def told_refusals(tool: str) -> Iterator[None]:
    """What one of onnxruntime's tools raises about a graph, as an error that names the tool.

    Raises:
        ModelError: it does not take the graph; the reason is its own.
    """
    try:
        yield
    except (AssertionError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        raise ModelError(
            f"{tool} does not take the graph",
            id="model.quantize-fails",
            why=(str(error).strip() or type(error).__name__).splitlines()[0],
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """onnxruntime's tool asks on the root logger for a preparation that has been done here."""
    previous = logging.root.manager.disable
    logging.disable(max(previous, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(previous)
