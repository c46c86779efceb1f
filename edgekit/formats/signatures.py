"""What a graph of others takes and gives, read off the graph: types, free sizes, states, scores of classes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from edgekit.artifact import NUMBERS, State, TensorSpec
from edgekit.bounds import MAX_CLASSES, MAX_FIXED_NUMBERS
from edgekit.description import (
    Description,
    Feeding,
    Sample,
    Signature,
    TensorInput,
    class_names,
    find_layout,
    parse_input,
    read_layout,
    read_pixels,
)
from edgekit.errors import ModelError, UsageError
from edgekit.formats.known import kind_of
from edgekit.tasks.feeds import batch_dimension, fed_inputs, fixed_batch, has_batch

if TYPE_CHECKING:
    import onnx_ir as ir

# How the output of a state is called beside its input: silero's stateN, torch's hn and cn, and what exporters write.
STATE_ENDINGS = ("N", "n", "_n", "_out", "_output", "_new", "_next", "Out", "Next")


STATE_BEGINNINGS = ("new_", "next_", "out_", "output_", "updated_")


def read_signature(model: ir.Model, said: tuple[str, ...]) -> Signature:
    """What a graph takes and gives, and which of it goes round.

    Args:
        model: the graph.
        said: ``OUT:IN`` of states, by the user; by the names of both where nothing was said.

    Raises:
        ModelError: it takes or gives something else than tensors of numbers, or too many of them at once.
        UsageError: what was said names no output and input of one type and shape.
    """
    inputs = tuple(_spec(value) for value in model.graph.inputs if value.name not in model.graph.initializers)
    return make_signature(inputs, tuple(_spec(value) for value in model.graph.outputs), said)


def make_signature(
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    said: tuple[str, ...],
    scaled: tuple[str, ...] = (),
) -> Signature:
    """A signature of these inputs and outputs; ``scaled`` are the inputs that floats are quantized for.

    Raises:
        ModelError: one is no tensor of numbers, or too large, or nothing could be fed.
        UsageError: what was said of states names no output and input of one type and shape.
    """
    if not inputs:
        raise ModelError("the graph takes no inputs", id="model.unsuitable-graph", why="nothing could be fed to it")
    if not outputs:
        raise ModelError("the graph gives no outputs", id="model.unsuitable-graph", why="it would answer nothing")
    for side, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            if spec.dtype not in NUMBERS:
                raise ModelError(
                    f"the {side} {spec.name!r} has the type {spec.dtype!r}",
                    id="model.input-type",
                    why=f"allowed: tensors of {', '.join(NUMBERS)}",
                )
            if math.prod(dim for dim in spec.shape if isinstance(dim, int)) > MAX_FIXED_NUMBERS:
                raise ModelError(
                    f"the {side} {spec.name!r} has the shape {list(spec.shape)}",
                    id="model.unsuitable-graph",
                    why=f"allowed: at most {MAX_FIXED_NUMBERS} numbers, where the sizes are fixed",
                )
    pairs = [_said_pair(text, inputs, outputs) for text in said] or list(_usual_pairs(inputs, outputs))
    states = tuple(
        State(output=output.name, input=spec.name, initial=spec.shape, dtype=spec.dtype) for output, spec in pairs
    )
    signature = Signature(inputs=inputs, outputs=outputs, states=states, scaled=scaled)
    if not fed_inputs(signature):
        raise ModelError(
            "every input of the graph is a state",
            id="model.unsuitable-graph",
            why=f"outputs that go round: {', '.join(f'{state.output}:{state.input}' for state in states)}",
            hint="Name the states that are meant with --state OUT:IN.",
        )
    fixed = fixed_batch(signature)
    if states and fixed not in (None, 1):
        raise ModelError(
            f"the graph has states and takes {fixed} samples at once",
            id="model.unsuitable-graph",
            why="allowed with states: one sample at once, or any number",
            hint="Export it with a free batch.",
        )
    return signature


def _spec(value: ir.Value) -> TensorSpec:
    import onnx_ir as ir

    kind = kind_of(value) if isinstance(value.type, ir.TensorType) else None
    dtype = kind.numpy().name if kind is not None else "no tensor"
    if kind == ir.DataType.STRING:
        dtype = "string"
    shape = tuple(
        dim if isinstance(dim, int) else str(dim.value) if dim.value is not None else f"{value.name}_{axis}"
        for axis, dim in enumerate(value.shape or ())
    )
    return TensorSpec(name=str(value.name), dtype=dtype, shape=shape)


def _usual_pairs(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> Iterator[tuple[TensorSpec, TensorSpec]]:
    """Outputs that by their names are inputs of the next call, of one type and shape."""
    known = {spec.name: spec for spec in outputs}
    for spec in inputs:
        names = [spec.name + ending for ending in STATE_ENDINGS]
        names += [beginning + spec.name for beginning in STATE_BEGINNINGS]
        names += [spec.name.removesuffix("_in") + "_out"] if spec.name.endswith("_in") else []
        names += [spec.name.replace("past", "present", 1)] if spec.name.startswith("past") else []
        found = next((known[name] for name in names if name in known and _alike(known[name], spec)), None)
        if found is not None:
            yield found, spec


def _said_pair(
    text: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, TensorSpec]:
    before, colon, after = text.partition(":")
    output = next((spec for spec in outputs if spec.name == before), None)
    spec = next((spec for spec in inputs if spec.name == after), None)
    if not colon or output is None or spec is None:
        raise UsageError(
            f"--state {text!r} names no output and input of the graph",
            id="usage.bad-value",
            why=f"allowed: OUT:IN; outputs: {', '.join(one.name for one in outputs)}; "
            f"inputs: {', '.join(one.name for one in inputs)}",
        )
    if not _alike(output, spec):
        raise UsageError(
            f"--state {text!r} cannot go round",
            id="usage.bad-value",
            why=f"{before!r} is {output.dtype} {list(output.shape)}, {after!r} is {spec.dtype} {list(spec.shape)}",
        )
    return output, spec


def _alike(output: TensorSpec, spec: TensorSpec) -> bool:
    """Whether an output can be an input: of one type, and no fixed size contradicts."""
    pairs = zip(output.shape, spec.shape, strict=False)
    sizes = all(one == other or isinstance(one, str) or isinstance(other, str) for one, other in pairs)
    return bool(spec.shape) and output.dtype == spec.dtype and len(output.shape) == len(spec.shape) and sizes


def describe_tensors(softmaxed: Collection[str], signature: Signature, feeding: Feeding, name: str) -> Description:
    """A graph that is fed by the names of its inputs; ``softmaxed`` are the outputs that a softmax gives."""
    given = [option for option in ("input", "mean", "std", "preprocess", "layout") if feeding.get(option) is not None]
    if given:
        raise UsageError(
            f"--{given[0]} was given for a graph that is fed by the names of its inputs",
            id="usage.options-conflict",
            why="it is for --task image-classification",
        )
    states = {state.output for state in signature.states}
    answer = next((spec for spec in signature.outputs if spec.name not in states), signature.outputs[0])
    classes = _classes(answer, signature)
    if feeding.get("labels") is not None and not classes:
        raise UsageError(
            "--labels was given, and the graph's first output is no scores of classes",
            id="usage.options-conflict",
            why=f"{answer.name!r} is {list(answer.shape)}; scores are [batch, classes]",
        )
    return Description(
        entry=name,
        input=None,
        output=(classes,) if classes else (),
        labels=class_names(feeding.get("labels"), (), classes) if classes else (),
        graph=signature,
        answer=answer.name,
        probabilities=answer.name in softmaxed,
    )


def describe_images(
    softmaxed: Collection[str], signature: Signature, feeding: Feeding, sample: Sample | None, name: str
) -> Description:
    """A graph that is fed images."""
    fed = fed_inputs(signature)
    if len(fed) != 1 or signature.states or len(fed[0].shape) != 4 or not _takes_floats(fed[0], signature):
        told = ", ".join(f"{spec.name}: {spec.dtype} {list(spec.shape)}" for spec in signature.inputs)
        raise ModelError(
            f"{name!r} takes {told}, which is no batch of images",
            id="model.wrong-task",
            why="allowed: one input, float32 of four dimensions",
            hint="Use --task tensors, with arrays named as the inputs.",
        )
    answer, layout = signature.outputs[0], read_layout(feeding)
    classes = _classes(answer, signature)
    if not classes:
        raise ModelError(
            f"{name!r} answers with {answer.name!r} of the shape {list(answer.shape)}",
            id="model.wrong-task",
            why="scores of classes are [batch, classes]",
            hint="Use --task tensors: the answers are then compared with the original's.",
        )
    shape = _image_shape(fed[0], feeding, sample, layout)
    pixels = read_pixels(shape, feeding, layout or (None if feeding.get("preprocess") else find_layout(shape, None)))
    if pixels is None:
        raise ModelError(
            f"{name!r} takes {'x'.join(map(str, shape))}, which is no image",
            id="model.wrong-task",
            why="an image is 1 or 3 channels, height and width",
            hint="Use --task tensors, with arrays named as the inputs.",
        )
    return Description(
        entry=name,
        input=TensorInput(name=fed[0].name, shape=shape),
        output=(classes,),
        labels=class_names(feeding.get("labels"), sample.classes if sample else (), classes),
        pixels=pixels,
        graph=signature,
        answer=answer.name,
        probabilities=answer.name in softmaxed,
    )


def _image_shape(spec: TensorSpec, feeding: Feeding, sample: Sample | None, layout: str | None) -> tuple[int, ...]:
    """Three sizes in the graph's order: its own, free ones as they were said, else as in the data."""
    said = feeding.get("input")
    shape: tuple[int | str, ...] = spec.shape[1:]
    if said is not None:
        wanted, _ = parse_input(said)
    elif sample is not None and sample.image:
        last = layout == "NHWC" or (layout is None and shape[-1] in (1, 3) and shape[0] not in (1, 3))
        wanted = (*sample.shape[1:], sample.shape[0]) if last else sample.shape
    else:
        wanted = ()
    free = [dim for dim in shape if isinstance(dim, str)]
    if free and len(wanted) != 3:
        raise UsageError(
            f"the input {spec.name!r} has free sizes: {', '.join(free)}",
            id="usage.input-unknown",
            why="neither --input nor images to take an example from were given",
            hint="Give the shape of one batch: --input 1x3x224x224.",
        )
    sizes = [dim if isinstance(dim, int) else wanted[axis] for axis, dim in enumerate(shape)]
    if said is not None and tuple(sizes) != wanted:
        raise UsageError(
            f"--input {said} is not what the graph takes",
            id="usage.bad-value",
            why=f"{spec.name!r} is {list(spec.shape)}, batch first",
        )
    return tuple(sizes)


def _classes(answer: TensorSpec, signature: Signature) -> int:
    """How many classes an output has scores of: [batch, classes], two at least; 0 where it is something else.

    So many that nobody has names for them are something else, too.
    """
    fits = len(answer.shape) == 2 and has_batch(answer, batch_dimension(signature)) and answer.dtype.startswith("float")
    last = answer.shape[-1] if fits else 0
    return last if isinstance(last, int) and 1 < last <= MAX_CLASSES else 0


def _takes_floats(spec: TensorSpec, signature: Signature) -> bool:
    return spec.dtype == "float32" or spec.name in signature.scaled


def softmax_outputs(model: ir.Model) -> frozenset[str]:
    """Names of the outputs that come out of a softmax."""
    nodes = ((value.name, value.producer()) for value in model.graph.outputs)
    return frozenset(str(name) for name, node in nodes if node is not None and node.op_type == "Softmax")
