"""A transformer encoder told from its configuration and the shapes of its weights: heads, neurons, work, memory.

Nothing is built or loaded: a pruned model's heads and neurons are in the shapes of its matrices. The names of the
matrices are those of `edgekit.formats.encoder`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.errors import ModelError
from edgekit.formats.encoder import ANATOMIES, Anatomy
from edgekit.formats.surgery import EncoderPlan
from edgekit.formats.tensors import StoredTensor
from edgekit.formats.thinning import tokens_by_layer
from edgekit.inspection.records import EncoderLayerRecord, EncoderRecord, MemoryRecord, WorkRecord
from edgekit.tasks.base import Workload

PARTS = ("q", "k", "v", "o", "up", "down")
READING = 3  # the first of them multiply every token that comes in, the others those that are handed on
# What one number is called by family.
WIDTH = ("hidden_size", "dim", "d_model")
HEADS = ("num_attention_heads", "n_heads")
LAYERS = ("num_hidden_layers", "n_layers")
NEURONS = ("intermediate_size", "hidden_dim")
ONCE_A_SAMPLE = ("ForSequenceClassification", "ForImageClassification", "ForImageClassificationWithTeacher")
ONCE_A_TOKEN = ("ForTokenClassification", "ForQuestionAnswering")

WORK_RULE = "products of the layers for each token, scores and values of attention for each pair, the head"
MEMORY_RULE = "float32 weights, and the larger of attention and feed-forward of one layer, not fused"
FP32_BYTES = 4


@dataclass(frozen=True)
class Encoder:
    """An encoder's facts.

    Attributes:
        record: what is shown.
        layer_weights: elements of the six matrices of each layer: of queries, keys and values, and of the other three.
        config: the model's configuration.
        tensors: every tensor by name.
    """

    record: EncoderRecord
    layer_weights: tuple[tuple[int, int], ...]
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    @property
    def architecture(self) -> str:
        return str((self.config.get("architectures") or [""])[0])

    def tokens(self, fed: int) -> list[tuple[int, int]]:
        """How many tokens each layer takes in and hands on, of so many that a sample has."""
        shares = self.record.tokens or (1.0,) * (len(self.record.layers) - 1)
        handed = tokens_by_layer(fed, shares)
        return [*zip([fed, *handed], [*handed, [fed, *handed][-1]], strict=True)]


def find_encoder(
    config: Mapping[str, Any], tensors: Mapping[str, StoredTensor], plan: EncoderPlan | None
) -> Encoder | None:
    """The encoder in a model folder, or None where its family's names are not known.

    Args:
        config: the model's configuration.
        tensors: every tensor by name.
        plan: what it was pruned by.

    Raises:
        ModelError: the plan does not fit the weights.
    """
    family = str(config.get("model_type", ""))
    known = ANATOMIES.get(family, ())
    width, heads = _number(config, WIDTH), _number(config, HEADS)
    if not known or not width or not heads:
        return None
    head_width = int(config.get("head_dim") or width // heads)
    for anatomy in known:
        layers = _layers(tensors, anatomy)
        if layers:
            break
    else:
        return None
    kept = None if plan is None else tuple(layer.index for layer in plan.layers)
    if kept is not None and len(kept) != len(layers):
        raise ModelError(
            f"the plan keeps {len(kept)} layers", id="model.plan-mismatch", why=f"the weights have {len(layers)}"
        )
    records = tuple(
        EncoderLayerRecord(
            index=index if kept is None else kept[index],
            heads=matrices["o"].shape[1] // head_width,
            neurons=matrices["down"].shape[1],
            parameters=parameters,
        )
        for index, (matrices, parameters) in enumerate(layers)
    )
    record = EncoderRecord(
        width=layers[0][0]["q"].shape[1],
        head_width=head_width,
        layers=records,
        of_layers=_number(config, LAYERS) or len(records),
        of_heads=heads,
        of_neurons=_number(config, NEURONS) or max(layer.neurons for layer in records),
        of_width=width,
        tokens=() if plan is None else plan.tokens or (),
    )
    weights = tuple(
        (
            sum(matrices[part].elements for part in PARTS[:READING]),
            sum(matrices[part].elements for part in PARTS[READING:]),
        )
        for matrices, _ in layers
    )
    return Encoder(record, weights, config, tensors)


def estimate_work(encoder: Encoder, workload: Workload) -> WorkRecord:
    """Multiply-accumulates of one run: those of a graph that was exported and not rewritten."""
    tokens, samples = tokens_of(encoder, workload), workload.batch
    if tokens is None:
        return WorkRecord(macs=None, complete=False, rule=WORK_RULE, notes=("the number of tokens is not known",))
    macs = 0
    flow = encoder.tokens(tokens)
    for layer, (reading, rest), (came, left) in zip(encoder.record.layers, encoder.layer_weights, flow, strict=True):
        chosen = came if left < came else 0  # the first token's scores, by which tokens are left out
        mixed = (2 * came * left + chosen) * layer.heads * encoder.record.head_width
        macs += samples * (came * reading + left * rest + mixed)
    macs += samples * _embedding_work(encoder, tokens)
    often = {ONCE_A_SAMPLE: 1, ONCE_A_TOKEN: tokens}
    times = next((often[ends] for ends in often if encoder.architecture.endswith(ends)), None)
    if times is None:
        note = f"what {encoder.architecture or 'the model'} has after its layers was not counted"
        return WorkRecord(macs=macs, complete=False, rule=WORK_RULE, notes=(note,))
    return WorkRecord(macs=macs + samples * times * _head_weights(encoder), complete=True, rule=WORK_RULE)


def estimate_memory(encoder: Encoder, parameters: int, workload: Workload) -> MemoryRecord:
    """Peak memory of one run in float32, each operator with its inputs and outputs."""
    tokens = tokens_of(encoder, workload)
    width, sizes = encoder.record.width, {}
    if tokens is not None:
        for layer, (came, left) in zip(encoder.record.layers, encoder.tokens(tokens), strict=True):
            inner = layer.heads * encoder.record.head_width
            # the residual stream, the values, and the scores before and after the softmax
            attention = came * (width + inner) + 2 * layer.heads * came * left
            forward = left * (width + 2 * layer.neurons)  # the residual stream, the neurons before and after
            sizes[f"attention of layer {layer.index}"] = attention
            sizes[f"feed-forward of layer {layer.index}"] = forward
    at = max(sizes, key=lambda name: sizes[name]) if sizes else ""
    weights = parameters * FP32_BYTES
    activations = workload.batch * sizes[at] * FP32_BYTES if sizes else None
    return MemoryRecord(
        weights_bytes=weights,
        activations_bytes=activations,
        peak_bytes=None if activations is None else weights + activations,
        complete=bool(sizes),
        at=at,
        rule=MEMORY_RULE,
    )


def tokens_of(encoder: Encoder, workload: Workload) -> int | None:
    """How many tokens one sample is: for images, its patches and what the model puts before them."""
    patch = _side(encoder.config.get("patch_size"))
    if patch is None:
        return workload.tokens
    own = _side(encoder.config.get("image_size"))
    positions = next((tensor.shape[-2] for name, tensor in encoder.tensors.items() if _is_positions(name)), None)
    if own is None or positions is None:
        return None
    side = workload.image or own
    return (side // patch) ** 2 + positions - (own // patch) ** 2


def _layers(tensors: Mapping[str, StoredTensor], anatomy: Anatomy) -> list[tuple[dict[str, StoredTensor], int]]:
    """For each layer its six matrices, and all of its parameters; empty where a matrix is missing."""
    place = re.compile(rf"(?:^|\.){re.escape(anatomy.layers)}\.(\d+)\.(.+)$")
    inside: dict[int, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        if match := place.search(name):
            inside.setdefault(int(match[1]), {})[match[2]] = tensor
    found = []
    for _, named in sorted(inside.items()):
        matrices = {part: named.get(f"{getattr(anatomy, part)}.weight") for part in PARTS}
        if any(matrix is None or len(matrix.shape) != 2 for matrix in matrices.values()):
            return []
        whole = {part: matrix for part, matrix in matrices.items() if matrix is not None}
        found.append((whole, sum(tensor.elements for tensor in named.values() if tensor.floating)))
    return found


def _embedding_work(encoder: Encoder, tokens: int) -> int:
    """What the embeddings of one sample compute: patches of an image, or a projection to the model's width."""
    work = 0
    for name, tensor in encoder.tensors.items():
        if name.endswith("embeddings_project.weight"):
            work += tokens * tensor.elements
        elif name.endswith("patch_embeddings.projection.weight"):
            positions = next(one.shape[-2] for key, one in encoder.tensors.items() if _is_positions(key))
            own, patch = _side(encoder.config.get("image_size")), _side(encoder.config.get("patch_size"))
            before = positions - ((own or 0) // (patch or 1)) ** 2
            work += (tokens - before) * tensor.elements
    return work


def _head_weights(encoder: Encoder) -> int:
    """Elements of the matrices after the layers."""
    outside = re.compile(r"(?:^|\.)(?:embeddings|embeddings_project|encoder|layers?|transformer)\.")
    matrices = (tensor for name, tensor in encoder.tensors.items() if not outside.search(name))
    return sum(tensor.elements for tensor in matrices if len(tensor.shape) == 2)


def _is_positions(name: str) -> bool:
    return name.endswith("embeddings.position_embeddings")


def _side(value: object) -> int | None:
    """A size in pixels: a number, or height and width that are equal."""
    if isinstance(value, int):
        return value
    return int(value[0]) if isinstance(value, (list, tuple)) and len(set(value)) == 1 else None


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """The first of several keys that the configuration has; 0 where it has none."""
    value = next((config[name] for name in names if isinstance(config.get(name), int)), 0)
    return value if not isinstance(value, bool) and math.isfinite(value) else 0
