"""Golden inputs and outputs: kept in the artifact, so that any machine can prove that it answers as it did here.

``golden/COMPONENT.safetensors`` holds calls of one component (``0/in/input_ids``, ``0/out/logits``, ...), and
``golden/task.safetensors`` whole samples from end to end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from edgekit.artifact import Artifact
from edgekit.errors import VerificationError
from edgekit.runtimes import open_confined, open_runner
from edgekit.runtimes.ort import RecordingRunner
from edgekit.tasks.base import LABELS, Array, Batch, Task

FOLDER = "golden"
TASK_FILE = "task"
MOST_CALLS = 8
# Largest difference by precision, in units of the output's largest value: kernels of two machines of one target add in
# another order, and an activation that lies between two integers may be rounded either way.
TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "int8": 5e-2}


def write_golden(artifact: Artifact, task: Task, batches: Sequence[Batch], runtime: str | None = None) -> None:
    """Run samples through an artifact, in a runtime as ``open_runner`` takes it, and keep what went in and came out."""
    from safetensors.numpy import save_file

    recorder = RecordingRunner(open_runner(artifact, runtime=runtime))
    whole: Batch = {}
    for index, batch in enumerate(batches):
        inputs = {name: values for name, values in batch.items() if name != LABELS}
        whole |= {f"{index}/in/{name}": values for name, values in inputs.items()}
        whole[f"{index}/out/logits"] = task.forward(recorder, inputs)
    folder = artifact.path / FOLDER
    folder.mkdir(exist_ok=True)
    files = {TASK_FILE: whole}
    for component, calls in recorder.fed.items():
        files[component] = {}
        for index, (fed, gave) in enumerate(zip(calls, recorder.gave[component], strict=True)):
            if index < MOST_CALLS:
                files[component] |= {f"{index}/in/{name}": values for name, values in fed.items()}
                files[component] |= {f"{index}/out/{name}": values for name, values in gave.items()}
    for name, tensors in files.items():
        file = folder / f"{name}.safetensors"
        save_file({key: _contiguous(values) for key, values in tensors.items()}, str(file))
        file.chmod(0o644)


def check_golden(artifact: Artifact, task: Task) -> dict[str, float]:
    """Run the golden inputs again in the runtime that answered then; for each component and the whole the worst change.

    Raises:
        VerificationError: an output differs by more than the manifest allows.
    """
    runner = open_confined(artifact, runtime=artifact.manifest.runtime)
    worst: dict[str, float] = {}
    for component in (*artifact.manifest.components, TASK_FILE):
        stored = _read(artifact.path / FOLDER / f"{component}.safetensors")
        worst[component] = 0.0
        for feeds, expected in stored:
            outputs = (
                {"logits": task.forward(runner, feeds)} if component == TASK_FILE else runner.run(component, feeds)
            )
            for name, values in expected.items():
                mine = outputs.get(name)
                difference = float("inf") if mine is None else relative_difference(mine, values)
                worst[component] = max(worst[component], difference)
    allowed = artifact.manifest.golden_tolerance or 0.0
    for component, difference in worst.items():
        if not difference <= allowed:
            raise VerificationError(
                f"golden/{component}.safetensors: the outputs differ by {difference:.2e} of their largest value",
                id="verification.answers-differ",
                why=f"allowed: {allowed:.0e}",
                hint="The runtime here computes something else: compare its version with the manifest's tools.",
            )
    return worst


def relative_difference(mine: Array, reference: Array) -> float:
    """The largest difference in units of the reference's largest value that is finite.

    Infinite where the shapes differ or a value is NaN, which is larger than nothing, so that ``max`` passes over it.
    """
    import numpy as np

    if mine.shape != reference.shape:
        return float("inf")
    if not reference.size:
        return 0.0
    one, other = (values if values.dtype.kind == "f" else values.astype(np.float64) for values in (mine, reference))
    with np.errstate(invalid="ignore"):
        largest = float(np.where(one == other, 0.0, np.abs(one - other)).max())
    scale = float(np.abs(other[np.isfinite(other)]).max(initial=0.0))
    return math.inf if math.isnan(largest) else largest / max(scale, 1e-6)


def finite(difference: float) -> float | None:
    """A difference as JSON has it, which knows no infinite one."""
    return difference if math.isfinite(difference) else None


def _read(file: Path) -> list[tuple[Batch, Batch]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise VerificationError(
            f"golden/{file.name} cannot be read", id="verification.golden-unreadable", why=str(error)
        ) from error
    calls: dict[int, tuple[Batch, Batch]] = {}
    for key, values in tensors.items():
        index, _, rest = key.partition("/")
        side, _, name = rest.partition("/")
        if not index.isdecimal() or side not in ("in", "out") or not name:
            raise VerificationError(
                f"golden/{file.name} cannot be read",
                id="verification.golden-unreadable",
                why=f"it holds {key!r}; allowed: NUMBER/in/NAME and NUMBER/out/NAME",
            )
        calls.setdefault(int(index), ({}, {}))[0 if side == "in" else 1][name] = values
    return [calls[index] for index in sorted(calls)]


def _contiguous(values: Array) -> Array:
    import numpy as np

    return np.ascontiguousarray(values) if values.ndim else values  # which would make one axis of none
