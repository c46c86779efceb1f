"""What ``inspect`` finds, as records: of a graph, of a network before export, of an artifact. Nothing here computes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from edgekit.artifact import Shape, State
from edgekit.settings import Frozen


class FileRecord(Frozen):
    """A file of the model; ``size_bytes`` is None where it is missing, or must not be looked at."""

    name: str
    size_bytes: int | None


class TensorRecord(Frozen):
    """An input or output.

    Attributes:
        name: its name.
        dtype: as numpy names it; ``unknown`` where the file does not say.
        shape: as the file has it, with names of free dimensions.
        at: its sizes at the workload; None for each that cannot be told.
    """

    name: str
    dtype: str
    shape: Shape
    at: tuple[int | None, ...]


class WorkRecord(Frozen):
    """An estimate of the work of one run.

    Attributes:
        macs: multiply-accumulates; None where nothing can be said.
        complete: whether they were all counted; otherwise ``macs`` is a lower bound.
        rule: how they were counted.
        notes: what is assumed or missing.
    """

    macs: int | None
    complete: bool
    rule: str
    notes: tuple[str, ...] = ()


class MemoryRecord(Frozen):
    """An estimate of the peak memory of one run, without the runtime's own.

    Attributes:
        weights_bytes: of all constants, or of all parameters.
        activations_bytes: of the largest set that lives at once; None where nothing can be said.
        peak_bytes: both together.
        complete: whether the size of every activation was known; otherwise it is a lower bound.
        at: where that set lives.
        rule: how it was counted.
    """

    weights_bytes: int
    activations_bytes: int | None
    peak_bytes: int | None
    complete: bool
    at: str
    rule: str


class WeightsRecord(Frozen):
    """Parameters that are stored in one precision."""

    precision: str
    parameters: int
    size_bytes: int


class OperatorRecord(Frozen):
    """Operators of one kind that compute in one precision; ``macs`` is None where some of them are unknown."""

    kind: str
    precision: str
    count: int
    macs: int | None


class LayerRecord(Frozen):
    """A node with a weight matrix; ``macs`` is None where its work is unknown."""

    name: str
    kind: str
    weight: tuple[int, ...]
    parameters: int
    precision: str
    macs: int | None


class QuantizationRecord(Frozen):
    """Layers that are quantized alike; see `edgekit.formats.integers`.

    Attributes:
        method: ``dynamic``, ``static`` or ``weights only``.
        notation: how the graph says so.
        scheme: types of activations and weights, as ``u8s8``; of the weights alone for ``weights only``.
        per_channel: whether weights have a scale for each channel; None where that cannot be told.
        seven_bits: whether the weights fill 7 bits at most; None where they were not read.
        kinds: operators by kind.
    """

    method: str
    notation: str
    scheme: str
    per_channel: bool | None
    seven_bits: bool | None
    kinds: dict[str, int]


class GraphRecord(Frozen):
    """A graph at one workload.

    Attributes:
        format: ``onnx`` or ``tflite``.
        component: its name in the artifact.
        files: the graph, then its external data.
        opsets: versions of the operator sets, by domain; "" is ONNX's own. TFLite has none.
        producer: what wrote it, as it says.
        ir_version: of the file format.
        signatures: entry points of a TFLite file, each with the sizes that it fixes.
        functions: how many functions of its own it has; they were inlined.
        sizes: what each free dimension was set to.
        free: names of dimensions that stay free, since the workload does not say what they are.
        states: outputs that become inputs, where an artifact says so.
        operators: the most work first.
        layers: in the order of the file.
        layers_in_float: how many layers with weight matrices are not quantized.
        strange: operators that are not known here: shapes behind them are unknown, unless the file says them.
        refused: what onnx says against single nodes at this workload.
    """

    component: str
    files: tuple[FileRecord, ...]
    opsets: dict[str, int]
    producer: str
    ir_version: int
    functions: int
    sizes: dict[str, int]
    free: tuple[str, ...]
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    states: tuple[State, ...]
    parameters: int
    weights: tuple[WeightsRecord, ...]
    operators: tuple[OperatorRecord, ...]
    layers: tuple[LayerRecord, ...]
    quantization: tuple[QuantizationRecord, ...]
    layers_in_float: int
    work: WorkRecord
    memory: MemoryRecord
    strange: tuple[str, ...]
    refused: dict[str, str]
    format: Literal["onnx", "tflite"] = "onnx"
    signatures: dict[str, dict[str, int]] = {}


class EncoderLayerRecord(Frozen):
    """A transformer layer: its place in the original, and how many heads, neurons and parameters it has."""

    index: int
    heads: int
    neurons: int
    parameters: int


class EncoderRecord(Frozen):
    """The layers of a transformer encoder.

    Attributes:
        width: of the residual stream.
        head_width: columns of one head.
        layers: those that are there.
        of_layers, of_heads, of_neurons, of_width: what the architecture has, in each layer where nothing is pruned.
        tokens: the share of a sample's tokens that each layer but the last hands on; empty where all hand on all.
    """

    width: int
    head_width: int
    layers: tuple[EncoderLayerRecord, ...]
    of_layers: int
    of_heads: int
    of_neurons: int
    of_width: int
    tokens: tuple[float, ...] = ()


class PartRecord(Frozen):
    """Parameters of one part of a network, by the names of its tensors."""

    name: str
    tensors: int
    parameters: int


class NetworkRecord(Frozen):
    """A network that was not exported, told by its configuration and the names and shapes of its tensors.

    Attributes:
        architecture: its class.
        family: transformers' name of the family; empty for a module given as code.
        files: the weight files.
        parts: parameters by part, in the order of the file.
        encoder: layers with heads and neurons, where the architecture is one whose names are known.
        pruned: the kind of its plan; empty where nothing was pruned.
    """

    architecture: str
    family: str
    files: tuple[FileRecord, ...]
    parameters: int
    weights: tuple[WeightsRecord, ...]
    parts: tuple[PartRecord, ...]
    encoder: EncoderRecord | None
    pruned: str
    work: WorkRecord
    memory: MemoryRecord | None


class MadeRecord(Frozen):
    """A stage that made an artifact, with what it says of its own work, where the artifact has a report."""

    stage: str
    version: int
    settings: dict[str, JsonValue]
    details: dict[str, JsonValue] = {}


class ArtifactRecord(Frozen):
    """What an artifact says of itself.

    Attributes:
        format: ``onnx``, ``tflite`` or ``torch``.
        task: name of the task.
        labels: names of the classes.
        source: where the model came from.
        target: what it was made for; None before export.
        stages: what made it, in order.
        data: name and digest of the data.
        sealed: whether it has a list of sums over every file; `verify` checks them.
        folder_bytes: size of everything in the directory.
        status: of its report: ``complete``, ``in progress``, or empty where it has none.
    """

    format: str
    task: str
    labels: tuple[str, ...]
    source: dict[str, str | None]
    target: str | None
    stages: tuple[MadeRecord, ...]
    data: dict[str, str]
    sealed: bool
    folder_bytes: int
    status: str


class InspectRecord(Frozen):
    """What lies at a path.

    Attributes:
        name: of the file or folder, without its path.
        kind: ``graph``, ``folder`` (of transformers) or ``artifact``.
        size_bytes: of the model's files, external data included.
        workload: what estimates are for.
        artifact: of an artifact.
        graphs: of an ``.onnx`` or ``.tflite`` file, or one for each component.
        network: of a model that was not exported.
        notes: what could not be told, and why.
    """

    schema_: Literal["edgekit.inspect/1"] = Field("edgekit.inspect/1", alias="schema")
    name: str
    kind: Literal["graph", "folder", "artifact"]
    size_bytes: int
    workload: dict[str, int | None]
    artifact: ArtifactRecord | None = None
    graphs: tuple[GraphRecord, ...] = ()
    network: NetworkRecord | None = None
    notes: tuple[str, ...] = ()
