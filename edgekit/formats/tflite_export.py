"""Export of one component to TFLite, from ``torch.export`` by litert-torch: no TensorFlow, and nothing here runs one.

Texts get a *signature* for each of a few fixed lengths, all on the same weights: litert-torch has no free number of
tokens. Images keep a free batch where it has one for the graph, else a batch of one. Inputs have the layout and the
names that the task gives them, as in an ONNX export, so that one set of arrays feeds every format; integers are int32,
as TFLite wants them.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import WHOLE, write_bytes
from edgekit.errors import ModelError, UsageError
from edgekit.formats.explicit import with_named_outputs
from edgekit.formats.flatbuffer import pack, read_model, require, unpack
from edgekit.formats.onnx import PRODUCER, dynamic_shapes
from edgekit.formats.silence import silenced
from edgekit.formats.tflite import BATCH, WEIGHTED_KINDS, count_operators
from edgekit.tasks.base import ComponentSpec

if TYPE_CHECKING:
    import torch

SEQUENCE = "sequence"
ROOT = "with_named_outputs"  # the function whose class every module's path begins with
LENGTHS = (32, 64, 128)
SIGNATURE = "serving_default"  # TFLite's name for the only signature
COMPUTED_SHAPE = "SHAPE"  # the operator that begins arithmetic on shapes at run time
WEIGHTED_MODULES = tuple(f"torch.nn.modules.{kind}." for kind in ("linear", "conv", "sparse"))
# What torch and jax raise for a model that cannot be converted.
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, KeyError, IndexError)


def export_component(spec: ComponentSpec, file: Path, lengths: Sequence[int] = LENGTHS) -> None:
    """Export a component through ``torch.export`` and litert-torch.

    Args:
        spec: the component.
        file: the new file.
        lengths: of texts, in tokens: one signature each, ``tokens_32``. Ignored where no input has a free length.

    Raises:
        ModelError: torch or litert-torch cannot export it; the reason is theirs.
        UsageError: a length that the model does not take, or none.
        HostError: a package of the extra is missing.
    """
    require()
    if any(SEQUENCE in axes.values() for axes in spec.axes.values()):
        content = _convert(spec, _text_samples(spec, lengths))
    else:
        content = _convert_images(spec)
    write_bytes(file, content)


def _text_samples(spec: ComponentSpec, lengths: Sequence[int]) -> dict[str, dict[str, torch.Tensor]]:
    """One text of each length, by the name of its signature."""
    most = spec.limits.get(SEQUENCE)
    wrong = [length for length in lengths if length < 1 or (most is not None and length > most)]
    if wrong or not lengths:
        raise UsageError(
            f"texts of {', '.join(map(str, wrong)) or 'no'} tokens were asked for",
            id="usage.workload",
            why=f"the model takes 1 to {most or 'any number of'} tokens, and a TFLite file has at least one length",
        )
    return {f"tokens_{length}": sized(spec, {BATCH: 1, SEQUENCE: length}) for length in sorted(set(lengths))}


def sized(spec: ComponentSpec, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """The component's example with its free dimensions cut or repeated to these sizes."""
    import torch

    found = {}
    for name, value in spec.example.items():
        for axis, dim in spec.axes.get(name, {}).items():
            if dim in sizes:
                value = value.index_select(axis, torch.arange(sizes[dim]) % value.shape[axis])  # noqa: PLW2901
        found[name] = value
    return found


def _convert_images(spec: ComponentSpec) -> bytes:
    """With a free batch where that needs no arithmetic on shapes, which keeps fast kernels away; else with one of 1."""
    try:
        content = _convert(spec, {SIGNATURE: spec.example}, free=True)
        if COMPUTED_SHAPE not in count_operators(read_model(content, SIGNATURE)):
            return content
    except ModelError:  # litert-torch has no free size for most operators that reshape
        pass
    return _convert(spec, {SIGNATURE: sized(spec, {BATCH: 1})})


def _convert(spec: ComponentSpec, samples: Mapping[str, dict[str, torch.Tensor]], *, free: bool = False) -> bytes:
    """A file with a signature for each sample.

    Raises:
        ModelError: torch or litert-torch cannot convert it.
    """
    with _quiet():
        import litert_torch
        from litert_converter.mlir.ir import MLIRError

        module = with_named_outputs(spec)
        converter = litert_torch.Converter()
        for name, sample in samples.items():
            converter.add_signature(name, module, (), sample, dynamic_shapes=dynamic_shapes(spec) if free else None)
        try:
            content = bytes(converter.convert().model_content())
        except (*REFUSALS, MLIRError) as error:
            raise ModelError(
                "litert-torch cannot export this model to TFLite",
                id="model.export-fails",
                why=(str(error).strip() or type(error).__name__).splitlines()[0],
                hint="The exporter's own report follows with EDGEKIT_DEBUG=1.",
            ) from error
    return _renamed(content)


def _renamed(content: bytes) -> bytes:
    """The file with short names for its tensors, after their signature's where there are several.

    litert-torch spells out every class on the way, hundreds of letters a tensor. What a layer with weights gives is
    named as the layer; other tensors of the same module get numbers.
    """
    model = unpack(content)
    model.description = PRODUCER
    structure = read_model(content, PRODUCER)
    for key, entry in structure.signatures.items():
        graph = structure.graphs[entry.graph]
        prefix = f"{key}/" if len(structure.signatures) > 1 else ""
        names = {place: name for ends in (entry.inputs, entry.outputs) for name, place in ends.items()}
        weighted = [
            place for operator in graph.operators if operator.kind in WEIGHTED_KINDS for place in operator.writes
        ]
        others = [place for operator in graph.operators for place in operator.writes]
        used: Counter[str] = Counter()
        for place in dict.fromkeys((*names, *weighted, *others, *range(len(graph.tensors)))):
            name = names.get(place) or short_name(graph.tensors[place].name)
            used[name] += 1
            suffix = f":{used[name]}" if used[name] > 1 else ""
            model.subgraphs[entry.graph].tensors[place].name = f"{prefix}{name}{suffix}".encode()
    return pack(model)


def short_name(name: str) -> str:
    """The path of attributes in litert-torch's name of a tensor: ``model`` at the top, its own name where it has none.

    Of several places that were fused, it is that of a layer with weights: ``x.Component/x.Classifier_module/
    x.BertModel_bert/torch.nn.modules.linear.Linear_dense;2`` is ``bert.dense``.
    """
    places = [part for part in name.split(";") if "/" in part]
    if not places:
        return WHOLE if ROOT in name else name
    found = next((part for part in places if part.rpartition("/")[2].startswith(WEIGHTED_MODULES)), places[0])
    steps = [step.rpartition(".")[2].partition("_")[2] for step in found.split("/")[2:]]
    return ".".join(step for step in steps if step) or WHOLE


@contextmanager
def _quiet() -> Iterator[None]:
    """litert-torch prints each step on standard output, which is edgekit's; it and jax log and warn of their own."""
    previous = logging.root.manager.disable
    logging.disable(max(previous, logging.WARNING))
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), silenced():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
