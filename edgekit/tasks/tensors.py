"""Tensors: a graph of others that is fed arrays by the names of its inputs, whatever it computes.

A sample is one array for each input that is no state. Where an input takes integers with a scale, as in TFLite, floats
are quantized by the scale, and integers go in as they are. States begin as zeros for each sample. Where an array has
one axis more than its input, that axis is the steps: the graph is called once a step, and the states go round.

Quality is the metric of the labels where the data has some and the first output is scores of classes. Else the answers
are compared with the original's: ``agreement``, the share of samples whose best class is the original's, where there
are scores of classes; ``closeness``, 1 less the mean relative error, where there are none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from edgekit.artifact import WHOLE, TensorSpec
from edgekit.bounds import load_json
from edgekit.description import Signature
from edgekit.errors import DataError, ModelError
from edgekit.modules import Build
from edgekit.tasks.arrays import SUFFIX, read_arrays
from edgekit.tasks.base import Array, Batch, ComponentSpec, Examples, Metric, Runner, TaskOptions, Workload
from edgekit.tasks.classification import Classification
from edgekit.tasks.data import INPUT_COLUMNS, LABEL_COLUMNS
from edgekit.tasks.feeds import batch_dimension, check_batch, fed_inputs, has_batch, made_up, run_fixed, start_of
from edgekit.tasks.origin import ModuleOrigin

if TYPE_CHECKING:
    import torch

AGREEMENT, CLOSENESS = "agreement", "closeness"


class Tensors(Classification):
    """Named arrays in; every output that is no state, side by side as [batch, numbers], out."""

    name = "tensors"
    compares = True
    columns: Mapping[str, tuple[str, ...]] = {"label": LABEL_COLUMNS}

    def __init__(self, folder: Path, options: TaskOptions, build: Build | None = None) -> None:
        super().__init__(folder, options, build)
        names = [spec.name for spec in fed_inputs(self.signature)]
        known: dict[str, tuple[str, ...]] = {name: (name.lower(),) for name in names}
        if len(names) == 1:
            known[names[0]] += INPUT_COLUMNS["input"]
        self.columns = {**known, "label": LABEL_COLUMNS}

    @cached_property
    def signature(self) -> Signature:
        """What the graph takes and gives."""
        found = self.origin.description.graph if isinstance(self.origin, ModuleOrigin) else None
        if found is None:
            raise ModelError(f"the task {self.name!r} is for .onnx and .tflite files", id="model.wrong-task")
        return found

    @cached_property
    def batch_dimension(self) -> int | str | None:
        return batch_dimension(self.signature)

    @cached_property
    def answers(self) -> tuple[TensorSpec, ...]:
        """The outputs that are no states; all of them where there are no others."""
        states = {state.output for state in self.signature.states}
        return tuple(spec for spec in self.signature.outputs if spec.name not in states) or self.signature.outputs

    @property
    def classes(self) -> int:
        """How many classes the first output has scores of; 0 where it has none."""
        output = cast("ModuleOrigin", self.origin).description.output
        return output[0] if len(output) == 1 else 0

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return {"kind": "tensors"}

    @property
    def metrics(self) -> Mapping[str, Metric]:
        likeness: dict[str, Metric] = {CLOSENESS: self._closeness}
        if not self.classes:
            return likeness
        labelled = {name: self._of_classes(metric) for name, metric in super().metrics.items()}
        return {**labelled, AGREEMENT: self._agreement, **likeness}

    def metrics_for(self, labels: Array) -> Mapping[str, Metric]:
        """Those of labels [samples], or of the original's answers [samples, numbers] in their place."""
        likeness = labels.ndim > 1
        return {name: one for name, one in self.metrics.items() if likeness == (name in (AGREEMENT, CLOSENESS))}

    def class_scores(self, outputs: Array) -> Array:
        return outputs[..., : self.classes or 1]

    def _of_classes(self, metric: Metric) -> Metric:
        return lambda outputs, labels: metric(self.class_scores(outputs), labels)

    def _agreement(self, outputs: Array, original: Array) -> float:
        """Share of samples whose best class is the original's."""
        from edgekit.tasks.metrics import best_class

        mine, theirs = (best_class(self.class_scores(values)) for values in (outputs, original))
        return float((mine == theirs).mean())

    def _closeness(self, outputs: Array, original: Array) -> float:
        """1 less the mean over samples and outputs of the relative error |mine - theirs| / |theirs|, at most 1."""
        return float(self._likenesses(outputs, original).mean())

    def sample_scores(self, outputs: Array, labels: Array) -> Array | None:
        return self._likenesses(outputs, labels) if self.metric_for(labels) == CLOSENESS else None

    def _likenesses(self, outputs: Array, original: Array) -> Array:
        """The closeness of each sample [samples], in float64."""
        import numpy as np

        errors = []
        for begin, end in self._blocks(original.shape[-1]):
            mine, theirs = (values[:, begin:end].astype(np.float64) for values in (outputs, original))
            length = np.maximum(np.linalg.norm(theirs, axis=-1), 1e-12)
            with np.errstate(invalid="ignore"):
                error = np.linalg.norm(mine - theirs, axis=-1) / length
            errors.append(np.where(error < 1.0, error, 1.0))  # what is no number is not close
        likenesses: Array = 1.0 - np.mean(errors, axis=0)
        return likenesses

    def _blocks(self, width: int) -> list[tuple[int, int]]:
        """Where each output lies in a row of all; one block where their sizes are not known beforehand."""
        sizes = [math.prod(cast("tuple[int, ...]", spec.shape[1:])) for spec in self.answers if _is_fixed(spec)]
        if len(sizes) < len(self.answers) or sum(sizes) != width:
            return [(0, width)]
        ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def components(self, model: torch.nn.Module) -> dict[str, ComponentSpec]:
        raise ModelError("an .onnx file is no torch module", id="model.wrong-task")

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Examples:
        missing = [spec.name for spec in fed_inputs(self.signature) if spec.name not in rows]
        if missing:
            raise DataError(
                f"the data has no column for the input {missing[0]!r}",
                id="data.no-column",
                why=f"the graph takes {', '.join(spec.name for spec in fed_inputs(self.signature))}",
                hint=f"Name it: --columns {missing[0]}=NAME.",
            )
        return TensorsExamples(self, rows)

    def forward(self, runner: Runner, batch: Batch) -> Array:
        """Every answer as [batch, numbers], side by side; of several steps, one after the other."""
        import numpy as np

        specs = {spec.name: spec for spec in fed_inputs(self.signature)}
        feeds = {name: values for name, values in batch.items() if name in specs}
        axes = {
            name: int(has_batch(specs[name], self.batch_dimension))  # the steps come after the samples
            for name, values in feeds.items()
            if values.ndim > len(specs[name].shape)
        }
        samples = self._samples(feeds, specs)
        states = {
            state.input: batch[state.input] if state.input in batch else start_of(state, self.batch_dimension, samples)
            for state in self.signature.states
        }
        steps = min((feeds[name].shape[axis] for name, axis in axes.items()), default=1)
        rows = []
        for step in range(steps):
            now = {
                name: np.take(values, step, axis=axes[name]) if name in axes else values
                for name, values in feeds.items()
            }
            outputs = self._call(runner, now | states)
            states = {state.input: outputs[state.output] for state in self.signature.states}
            rows.append([_flat(outputs[spec.name], samples, spec.name) for spec in self.answers])
        return np.concatenate([np.concatenate(parts, axis=1) for parts in zip(*rows, strict=True)], axis=1)

    def _samples(self, feeds: Mapping[str, Array], specs: Mapping[str, TensorSpec]) -> int:
        fed = [len(values) for name, values in feeds.items() if has_batch(specs[name], self.batch_dimension)]
        return fed[0] if fed else 1

    def _call(self, runner: Runner, feeds: Mapping[str, Array]) -> dict[str, Array]:
        fixed = self.fixed_batch
        if fixed is None or self.signature.states:
            return runner.run(WHOLE, feeds)
        specs = {spec.name: spec for spec in self.signature.inputs}
        shared = [name for name in feeds if not has_batch(specs[name], fixed)]
        return run_fixed(runner, feeds, fixed, shared)

    def interpret(self, logits: Array) -> list[list[tuple[str, float]]]:
        """Classes with scores, best first; where there are none, the numbers of each output in their order."""
        if self.classes:
            return super().interpret(self.class_scores(logits))
        blocks = self._blocks(logits.shape[-1])
        names = [spec.name for spec in self.answers] if len(blocks) > 1 else [self.answers[0].name]
        return [
            [
                (f"{name}[{index}]", float(row[begin + index]))
                for name, (begin, end) in zip(names, blocks, strict=True)
                for index in range(end - begin)
            ]
            for row in logits
        ]

    def workload_feeds(self, workload: Workload) -> dict[str, Batch]:
        check_batch(self.batch_dimension, workload)
        return {WHOLE: {spec.name: made_up(spec, workload) for spec in self.signature.inputs}}

    def read_label(self, value: object, names: Sequence[str] | None) -> Any:
        if not self.classes:
            raise DataError(
                "the data has labels, and the graph's first output is no scores of classes",
                id="data.unknown-label",
                why=f"{self.answers[0].name!r} is {list(self.answers[0].shape)}; scores are [batch, classes]",
                hint="Leave the column of labels out: the answers are then compared with the original's.",
            )
        return super().read_label(value, names)

    def read_input(self, text: str) -> dict[str, Any]:
        """A ``.npz`` file with one sample, or JSON: an object of arrays by input, or one array for a single input."""
        names = [spec.name for spec in fed_inputs(self.signature)]
        if text.endswith(SUFFIX):
            if not Path(text).expanduser().is_file():
                raise DataError(f"there is no file {text!r}", id="data.missing")
            return cast("dict[str, Any]", read_arrays(Path(text).expanduser())[0])
        try:
            found = load_json(text.encode())
        except ValueError as error:
            raise DataError(
                f"{text[:80]!r} is neither a {SUFFIX} file nor JSON",
                id="data.unsuitable-sample",
                why=str(error),
                hint=f'Give {{"{names[0]}": [...]}}, an array for each input.',
            ) from error
        return found if isinstance(found, dict) else {names[0]: found}


@dataclass(frozen=True)
class TensorsExamples:
    """Arrays by the names of the inputs, as the data holds them."""

    task: Tensors
    rows: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def length(self, index: int) -> int:
        """How many numbers a sample has: samples of one size share a batch."""
        return sum(self._row(spec, index).size for spec in fed_inputs(self.task.signature))

    def batch(self, indices: Sequence[int]) -> Batch:
        """Each input [batch, ...], or [batch, steps, ...]; one that has no axis of samples as it is."""
        import numpy as np

        batch: Batch = {}
        for spec in fed_inputs(self.task.signature):
            rows = [self._row(spec, index) for index in indices]
            shapes = {row.shape for row in rows}
            shared = not has_batch(spec, self.task.batch_dimension)
            if len(shapes) > 1 or (shared and any((row != rows[0]).any() for row in rows)):
                raise DataError(
                    f"samples that differ in {spec.name!r} cannot share a batch",
                    id="data.unsuitable-sample",
                    why=f"shapes: {', '.join(map(str, sorted(shapes)))}"
                    if len(shapes) > 1
                    else "it has no axis of samples",
                    hint="Leave out --batch: one sample is then run at a time.",
                )
            batch[spec.name] = rows[0] if shared else np.stack(rows)
        labels = self.rows.get("label")
        return batch | self.task.label_array(None if labels is None else [labels[index] for index in indices])

    def _row(self, spec: TensorSpec, index: int) -> Array:
        import numpy as np

        try:
            values = np.asarray(self.rows[spec.name][index])
        except ValueError as error:
            raise self._unsuitable(spec, index, "is no array of one shape", str(error)) from error
        if values.dtype.kind not in "biuf":
            raise self._unsuitable(spec, index, f"has the type {values.dtype}", f"the graph takes {spec.dtype}")
        wanted = spec.shape[1:] if has_batch(spec, self.task.batch_dimension) else spec.shape
        stepped = bool(self.task.signature.states) and values.ndim == len(wanted) + 1
        shape = values.shape[1:] if stepped else values.shape
        if not _fits(shape, wanted):
            steps = ", with steps before them" if self.task.signature.states else ""
            raise self._unsuitable(
                spec, index, f"has the shape {list(values.shape)}", f"a sample of it is {_told(wanted)}{steps}"
            )
        if values.dtype.kind == "f" and spec.name in self.task.signature.scaled:
            return values.astype(np.float32)  # the runtime quantizes it by the input's scale
        row = values.astype(spec.dtype)
        if values.dtype.kind in "iu" and np.dtype(spec.dtype).kind in "iu" and (row != values).any():
            raise self._unsuitable(spec, index, f"has numbers beyond {spec.dtype}", f"the graph takes {spec.dtype}")
        if values.dtype.kind == "f" and np.dtype(spec.dtype).kind in "biu" and (row != values).any():
            raise self._unsuitable(spec, index, "has fractions", f"the graph takes {spec.dtype}")
        return row

    def _unsuitable(self, spec: TensorSpec, index: int, what: str, why: str) -> DataError:
        return DataError(f"row {index} of the column {spec.name!r} {what}", id="data.unsuitable-sample", why=why)


def _is_fixed(spec: TensorSpec) -> bool:
    return all(isinstance(dim, int) for dim in spec.shape[1:])


def _fits(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        isinstance(dim, str) or size == dim for size, dim in zip(shape, wanted, strict=True)
    )


def _told(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]" if shape else "a single number"


def _flat(values: Array, samples: int, name: str) -> Array:
    """An output as [samples, numbers].

    Raises:
        DataError: it has no axis of samples, and there are several.
    """
    import numpy as np

    array = np.asarray(values)
    if samples == 1 or (array.ndim and len(array) == samples):
        flat = array.reshape(samples, -1)
        return flat if flat.dtype.kind == "f" else flat.astype(np.float32)
    raise DataError(
        f"the output {name!r} has the shape {list(array.shape)} for {samples} samples",
        id="data.unsuitable-sample",
        why="its first axis is not the samples",
        hint="Leave out --batch: one sample is then run at a time.",
    )
