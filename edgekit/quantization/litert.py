"""Quantization of TFLite files, by ai-edge-quantizer: what it is asked for, calibration, and what became of each layer.

Calibration is edgekit's own. The library's takes a moving average over the samples, and so clips what few of them
reach; here every activation's true minimum and maximum are merged, sample by sample.

A static scheme differs by what the graph is made of. Between convolutions everything is integer, so that activations
stay 8 bits wide. In a transformer only the layers with weights are: with its attention, its normalisation and its mask
of -10000 in 8 bits as well, it was slower and less accurate than with these in float.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from edgekit.artifact import Artifact, Component, write_bytes
from edgekit.environment import version_of
from edgekit.errors import ModelError, UnknownNameError, UsageError
from edgekit.formats.flatbuffer import Graph as Structure
from edgekit.formats.flatbuffer import Model, Operator, load_model, pack, require, unpack
from edgekit.formats.silence import silenced
from edgekit.formats.tflite import (
    WEIGHTED_KINDS,
    FloatLayer,
    elements_of,
    float_layers,
    layer_of,
    output_of,
    weight_of,
)
from edgekit.quantization.methods import TFLITE_METHODS, advise, methods_for
from edgekit.quantization.schemes import WeightedNode, quiet
from edgekit.runtimes import LITERT, open_runner, tflite_runtime
from edgekit.runtimes.ort import RecordingRunner
from edgekit.runtimes.tflite_graph import Graph
from edgekit.settings import Frozen
from edgekit.target import Target
from edgekit.tasks.base import Batch, Task

PACKAGE = "ai-edge-quantizer"
Method = Literal["fp16", "dynamic", "weight-only", "static"]
Ranges = dict[str, tuple[float, float]]  # least and largest value of an activation, by its name without the signature

EMBEDDING_KIND = "EMBEDDING_LOOKUP"
CONVOLUTION_KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
# What the quantizer calls an operator where that is not the schema's name.
NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
KEPT = "kept float as asked"
PASSING_KINDS = ("QUANTIZE", "DEQUANTIZE")
# What the quantizer raises for a graph that it cannot take.
REFUSALS = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError)


class LiteRTScheme(Frozen):
    """How a TFLite file is quantized.

    Attributes:
        method: ``fp16`` and ``weight-only`` (INT8) store weights small and compute in float32; ``dynamic`` scales
            activations as they come and multiplies in integers; ``static`` scales them once, from calibration.
        embeddings: whether embedding tables are quantized too; their rows are read, not multiplied.
        hybrid: whether the runtime computes rightly what reads INT8 weights and float activations.
        keep: names of layers that stay float.
    """

    method: Method
    embeddings: bool = True
    hybrid: bool = True
    keep: tuple[str, ...] = ()


class Quantized(NamedTuple):
    """What became of a file.

    Attributes:
        layers: names of those whose weights are small now.
        left: those whose weights are float, by name, each with the reason.
        float_operators: operators that compute in float, by kind, of one inference.
    """

    layers: tuple[str, ...]
    left: dict[str, str]
    float_operators: dict[str, int]


def resolve_method(method: str, target: Target, runtime: str) -> Method:
    """What ``auto`` stands for, and whether the runtime computes the method rightly.

    LiteRT gains most from ``dynamic``; tflite-runtime 2.14 multiplies INT8 weights with float activations wrongly
    (``runtimes/tflite_runtime.py``), so that it gets weights that are unpacked first: as many instructions as float32,
    a quarter of the size. ``static`` is right there too. On a Cortex-A7 it takes 0.75 to 0.91 of the instructions for
    plain and residual convolutions, but 1.6 and more for depthwise and grouped ones: it has to be asked for.

    Args:
        method: the setting.
        target: the device.
        runtime: that runs the file there.

    Raises:
        UsageError: the runtime does not compute it rightly, or TFLite has no such method.
    """
    known = TFLITE_METHODS if runtime == LITERT else tflite_runtime.METHODS
    if method == "auto":
        return "dynamic" if runtime == LITERT else "weight-only"
    if method not in known:
        raise UsageError(
            f"quantize.method={method} cannot go with the runtime {runtime}",
            id="usage.settings-conflict",
            why=f"its methods: {', '.join(known)}",
            hint=f"Leave the method to auto. {advise(methods_for(target, 'tflite', runtime), '')}".strip(),
        )
    return cast("Method", method)


def refuse_onnx_choices(**settings: str) -> None:
    """Refuse what can only be chosen for ONNX: any setting that is not left to its default.

    Raises:
        UsageError: one is not.
    """
    for name, value in settings.items():
        if value not in ("auto", "onnxruntime", "int8", "float", "none", "false"):
            raise UsageError(
                f"quantize.{name}={value} cannot go with the format tflite",
                id="usage.settings-conflict",
                why="it is a choice for ONNX: TFLite's integers are s8 on both sides, made by ai-edge-quantizer",
                hint=f"Leave quantize.{name} to its default, or use --format onnx.",
            )


def weighted_layers(model: Path | Model) -> list[WeightedNode]:
    """The layers with constant weights, in the order in which they run, each once for all signatures."""
    read = model if isinstance(model, Model) else load_model(model)
    return [
        WeightedNode(layer_of(output_of(graph, operator)), operator.kind, elements_of(graph.tensors[weight].shape))
        for graph in [read.graphs[next(iter(read.entries.values())).graph]]
        for operator in graph.operators
        if (weight := weight_of(graph, operator)) is not None
    ]


class Calibrator:
    """The least and the largest value of every activation, over samples of any size that the signatures take.

    Args:
        file: float32.
        component: what is said of it.
        threads: of the inference.
    """

    def __init__(self, file: Path, component: Component, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_path=str(file),
            num_threads=threads,
            experimental_preserve_all_tensors=True,
            # a delegate keeps its activations to itself
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._graph = Graph(self._interpreter, component.model_dump())
        self._model = load_model(file)
        self.ranges: Ranges = {}

    def add(self, feeds: Batch) -> None:
        """Run a sample and merge what its activations reach; a layer has one range in all signatures."""
        import numpy as np

        for key, part in self._graph.parts(feeds):
            self._graph.call(key, part)
            number = self._model.entries[key].graph
            for index, tensor in enumerate(self._model.graphs[number].tensors):
                if tensor.dtype != "float32" or tensor.buffer_bytes:
                    continue
                values = self._interpreter.get_tensor(index, number)
                finite = values[np.isfinite(values)]
                if finite.size:
                    name = layer_of(tensor.name)
                    low, high = self.ranges.get(name, (np.inf, -np.inf))
                    self.ranges[name] = (min(low, float(finite.min())), max(high, float(finite.max())))


def true_ranges(artifact: Artifact, task: Task, batches: Iterable[Batch], threads: int) -> dict[str, Ranges]:
    """For each component the ranges of its activations over samples, states and what other components give included.

    Args:
        artifact: float32, of format ``tflite``.
        task: bound to it.
        batches: of one sample each; none is held longer than until the next.
        threads: of the inference.
    """
    parts = artifact.manifest.components
    calibrators = {name: Calibrator(artifact.file(name), part, threads) for name, part in parts.items()}
    runner = open_runner(artifact, threads)
    for batch in batches:
        recorder = RecordingRunner(runner)
        task.forward(recorder, batch)
        for name, calls in recorder.fed.items():
            for feeds in calls:
                calibrators[name].add(feeds)
    return {name: calibrator.ranges for name, calibrator in calibrators.items()}


def quantize_model(source: Path, destination: Path, scheme: LiteRTScheme, ranges: Ranges | None = None) -> Quantized:
    """Write a quantized file.

    Args:
        source: float32.
        destination: the new file.
        scheme: how.
        ranges: for ``static``, what ``Calibrator`` found.

    Raises:
        ModelError: ai-edge-quantizer cannot take the graph, the reason is its own; or the scheme allows no hybrid
            layers, and there are some.
        UnknownNameError: a layer to keep that the graph does not have.
        UsageError: a static scheme without ranges.
        HostError: a package of the extra is missing.
    """
    require()
    model = load_model(source)
    layers = weighted_layers(model)
    for name in scheme.keep:
        if name not in (layer.name for layer in layers):
            raise UnknownNameError("layer", name, [layer.name for layer in layers], id="unknown-name.layer")
    if scheme.method == "static" and not ranges:
        raise UsageError(
            "static quantization needs ranges of activations, and none were given",
            id="usage.settings-conflict",
            hint="Calibrate on samples first, or choose another method.",
        )
    with _quiet():
        from ai_edge_quantizer.quantizer import Quantizer

        try:
            quantizer = Quantizer(str(source))
            _ask(quantizer, scheme, layers)
            found = _statistics(model, ranges or {}) if scheme.method == "static" else None
            done = quantizer.quantize(found, enable_progress_bar=False, enable_progress_report=False)
        except REFUSALS as error:
            known = TFLITE_METHODS if scheme.hybrid else tflite_runtime.METHODS
            raise ModelError(
                f"{PACKAGE} {version_of(PACKAGE)} cannot quantize this model",
                id="model.export-fails",
                why=(str(error).strip() or type(error).__name__).splitlines()[0],
                hint=advise([one for one in known if one != scheme.method], ""),
            ) from error
        content = pack(unpack(bytes(done.quantized_model)))
    write_bytes(destination, content)
    if not scheme.hybrid:
        tflite_runtime.check_file(destination)
    return _outcome(model, load_model(destination), scheme)


def is_convolutional(layers: list[WeightedNode]) -> bool:
    """Whether most of the weights are in convolutions."""
    inside = sum(layer.elements for layer in layers if layer.kind in CONVOLUTION_KINDS)
    return inside > sum(layer.elements for layer in layers) / 2


def _ask(quantizer: Any, scheme: LiteRTScheme, layers: list[WeightedNode]) -> None:
    """Tell the quantizer the scheme; of several rules for an operator the last one holds."""
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    def leave(pattern: str, kind: Any) -> None:
        quantizer.update_quantization_recipe(pattern, kind, algorithm_key=AlgorithmName.NO_QUANTIZE)

    everything, every = ".*", TFLOperationName.ALL_SUPPORTED
    if scheme.method == "fp16":
        quantizer.add_weight_only_config(everything, every, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
    elif scheme.method == "dynamic":
        quantizer.add_dynamic_config(everything, every, 8)
    elif scheme.method == "weight-only":
        quantizer.add_weight_only_config(everything, every, 8)
    else:
        kinds = {layer.kind for layer in layers} - {EMBEDDING_KIND, "BATCH_MATMUL"}
        asked = [every] if is_convolutional(layers) else [_named(kind) for kind in sorted(kinds)]
        for kind in asked:
            quantizer.add_static_config(everything, kind, 8, 8)
        for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):  # callers feed floats and get floats
            leave(everything, end)
        if scheme.hybrid:  # rows are scaled as they are read, so that no table is unpacked in memory
            quantizer.add_dynamic_config(everything, TFLOperationName.EMBEDDING_LOOKUP, 8)
        else:
            quantizer.add_weight_only_config(everything, TFLOperationName.EMBEDDING_LOOKUP, 8)
    if not scheme.embeddings:
        leave(everything, TFLOperationName.EMBEDDING_LOOKUP)
    for name in scheme.keep:
        leave(rf"(^|/){re.escape(name)};?$", every)


def _named(kind: str) -> Any:
    from ai_edge_quantizer.qtyping import TFLOperationName

    return TFLOperationName[NAMES.get(kind, kind)]


def _statistics(model: Model, ranges: Ranges) -> dict[str, dict[str, Any]]:
    """The ranges as the quantizer takes them: by tensor of each signature, in arrays of the tensor's rank."""
    import numpy as np

    return {
        tensor.name: {
            end: np.full((1,) * max(len(tensor.shape), 1), value, np.float32)
            for end, value in zip(("min", "max"), ranges[layer_of(tensor.name)], strict=True)
        }
        for graph in model.graphs
        for tensor in graph.tensors
        if layer_of(tensor.name) in ranges and tensor.dtype == "float32" and not tensor.buffer_bytes
    }


def left_in_float(before: Model, after: Model, scheme: LiteRTScheme) -> dict[str, str]:
    """The layers whose weights are float32 in the new file, by name, each with the reason as far as it is known."""
    layers = float_layers(before)
    return {name: _reason(name, layer, layers, scheme) for name, layer in float_layers(after).items()}


def _reason(name: str, layer: FloatLayer, layers: dict[str, FloatLayer], scheme: LiteRTScheme) -> str:
    if name in scheme.keep:
        return KEPT
    if layer.kind == EMBEDDING_KIND and not scheme.embeddings:
        return "embeddings were not asked for"
    mine = layers[name].buffers if name in layers else frozenset()
    sharing = [other for other, one in layers.items() if other != name and one.buffers & mine]
    if sharing:
        return f"their weights are those of {sharing[0]} too"
    quantizer = f"{PACKAGE} {version_of(PACKAGE)}"
    if layer.kind not in WEIGHTED_KINDS:
        return f"{quantizer} has no {scheme.method} {layer.kind}"
    return f"{quantizer} left this {layer.kind} as it was, and does not say why"


def _outcome(before: Model, after: Model, scheme: LiteRTScheme) -> Quantized:
    """What became of each layer, read from the new file."""
    left = left_in_float(before, after, scheme)
    changed = after.graphs[next(iter(after.entries.values())).graph]
    counts: dict[str, int] = {}
    for operator in changed.operators:
        if _computes_in_float(changed, operator):
            counts[operator.kind] = counts.get(operator.kind, 0) + 1
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return Quantized(tuple(name for name in float_layers(before) if name not in left), left, ordered)


def _computes_in_float(graph: Structure, operator: Operator) -> bool:
    """Whether an operator multiplies or adds floats: one that writes them, and does not read INT8 weights itself."""
    written = [graph.tensors[index].dtype for index in operator.writes]
    weight = weight_of(graph, operator)
    integer = weight is not None and graph.tensors[weight].dtype in ("int8", "int4")
    return "float32" in written and operator.kind not in PASSING_KINDS and not integer


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer logs each of its steps, and says on standard output how small the file became."""
    with quiet(), warnings.catch_warnings(), redirect_stdout(StringIO()), silenced():
        warnings.simplefilter("ignore")
        yield
