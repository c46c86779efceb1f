"""What a graph of others is fed: which axis the samples are on, inputs that are made up, and a batch that is fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgekit.artifact import WHOLE, State, TensorSpec
from edgekit.confinement import limits_for, out_of_memory
from edgekit.description import Signature
from edgekit.errors import ModelError, UsageError
from edgekit.tasks.base import Array, Runner, Workload

NUMBER_BYTES = 8  # of what is drawn, whatever type it has in the end


def fed_inputs(signature: Signature) -> tuple[TensorSpec, ...]:
    """The inputs that are no states."""
    states = {state.input for state in signature.states}
    return tuple(spec for spec in signature.inputs if spec.name not in states)


def batch_dimension(signature: Signature | None) -> int | str | None:
    """The first dimension of the first input that has one: a name, or the number of samples; None where none has."""
    shapes = [spec.shape for spec in fed_inputs(signature)] if signature is not None else []
    return next((shape[0] for shape in shapes if shape), None)


def fixed_batch(signature: Signature | None) -> int | None:
    """The one number of samples that a graph takes at once; None where it takes any."""
    found = batch_dimension(signature)
    return found if isinstance(found, int) else None


def has_batch(spec: TensorSpec, batch: int | str | None) -> bool:
    """Whether the first axis of an input is that of the samples: a free one, or as long as the batch is fixed."""
    return bool(spec.shape) and (isinstance(spec.shape[0], str) or spec.shape[0] == batch)


def made_up(spec: TensorSpec, workload: Workload) -> Array:
    """An input for a graph that nobody described: small positive integers, ones for masks, or normal noise.

    Raises:
        ModelError: inputs of its type cannot be made up.
        ResourceLimitError: there is no memory for one of its size.
    """
    import numpy as np

    shape = [dim if isinstance(dim, int) else free_size(dim, axis, workload) for axis, dim in enumerate(spec.shape)]
    check_room(spec.name, shape)
    random = np.random.default_rng(0)
    if spec.dtype == "bool" or "mask" in spec.name:
        return np.ones(shape, dtype=spec.dtype)
    if spec.dtype.startswith(("int", "uint")):
        return np.asarray(random.integers(0, 2, shape)).astype(spec.dtype)
    if spec.dtype.startswith("float"):
        return np.asarray(random.standard_normal(shape)).astype(spec.dtype)
    raise ModelError(
        f"the input {spec.name!r} has the type {spec.dtype!r}",
        id="model.input-type",
        why="inputs can be made for integers, floats and booleans",
    )


def check_room(name: str, shape: Sequence[int]) -> None:
    """See that the numbers of an input fit into memory, before any is drawn.

    Raises:
        ResourceLimitError: they do not.
    """
    limits = limits_for(0)
    if math.prod(max(dim, 1) for dim in shape) * NUMBER_BYTES > limits.memory_bytes:
        raise out_of_memory(f"the input {name!r}", limits, f"its shape is {list(shape)}")


def is_batch(dim: int | str, axis: int) -> bool:
    """Whether a dimension takes the workload's batch: a free one that is the first, or called so."""
    return isinstance(dim, str) and (axis == 0 or "batch" in dim.lower())


def free_size(name: str, axis: int, workload: Workload) -> int:
    """The size of a free dimension: the batch first or by name, then the length of a text."""
    if is_batch(name, axis):
        return workload.batch
    if workload.image is not None and any(word in name.lower() for word in ("height", "width")):
        return workload.image
    return workload.tokens


def start_of(state: State, batch: int | str | None, samples: int) -> Array:
    """Zeros for a state at the first call, of as many samples.

    Raises:
        ModelError: it has a free dimension that is not the batch.
        ResourceLimitError: there is no memory for it.
    """
    import numpy as np

    sizes = []
    for dim in state.initial:
        if isinstance(dim, int):
            sizes.append(dim)
        elif dim == batch or "batch" in dim.lower():
            sizes.append(samples)
        else:
            raise ModelError(
                f"the state {state.input!r} has the free dimension {dim!r}",
                id="model.unsuitable-graph",
                why=f"a state begins as zeros of known sizes; only the batch, {batch!r}, may be free",
            )
    check_room(state.input, sizes)
    return np.zeros(sizes, dtype=state.dtype)


def run_fixed(runner: Runner, feeds: Mapping[str, Array], batch: int, shared: Sequence[str] = ()) -> dict[str, Array]:
    """Run any number of samples through a graph that takes so many at once: in parts, the last one filled up.

    Args:
        runner: runs the graph.
        feeds: each [samples, ...].
        batch: the graph's.
        shared: those of the feeds that have no axis of samples.
    """
    import numpy as np

    samples = len(next(values for name, values in feeds.items() if name not in shared))
    parts: list[dict[str, Array]] = []
    for start in range(0, samples, batch):
        rows = np.minimum(np.arange(start, start + batch), samples - 1)  # the last sample again and again
        part = {name: values if name in shared else values[rows] for name, values in feeds.items()}
        parts.append(runner.run(WHOLE, part))
    whole = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: np.concatenate(values)[:samples] if np.ndim(values[0]) and len(values[0]) == batch else values[0]
        for name, values in whole.items()
    }


def check_batch(batch: int | str | None, workload: Workload) -> None:
    """Check that a graph takes the workload's batch.

    Raises:
        UsageError: it takes another one only.
    """
    if isinstance(batch, int) and batch != workload.batch:
        raise UsageError(
            f"--batch {workload.batch} is not the model's",
            id="usage.workload",
            why=f"the graph takes {batch} samples at once, and no other number",
            hint=f"Give --batch {batch}.",
        )
