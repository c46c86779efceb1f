"""Classification of plain numbers by a module given as code: features, signals, or sequences with a label each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from edgekit.artifact import WHOLE
from edgekit.bounds import load_json
from edgekit.description import TensorInput
from edgekit.errors import DataError, ModelError
from edgekit.tasks.base import LABELS, Array, Batch, ComponentSpec, Examples, Metric, Workload, softmax
from edgekit.tasks.classification import UNLABELLED, Classification
from edgekit.tasks.data import INPUT_COLUMNS, LABEL_COLUMNS
from edgekit.tasks.feeds import check_room
from edgekit.tasks.origin import ModuleOrigin

if TYPE_CHECKING:
    import torch


class TensorClassification(Classification):
    """Arrays of one shape in; logits [batch, classes], or [batch, ..., classes] with a label at each place."""

    name = "tensor-classification"
    columns = {
        "input": INPUT_COLUMNS["input"],
        "label": LABEL_COLUMNS,
    }

    @property
    def input(self) -> TensorInput:
        """What the module takes."""
        if not isinstance(self.origin, ModuleOrigin):
            raise ModelError(f"the task {self.name!r} is for modules given as code", id="model.wrong-task")
        return self.origin.description.only_input

    @property
    def places(self) -> tuple[int, ...]:
        """Shape of the labels of one sample: () for one label."""
        return cast("ModuleOrigin", self.origin).description.output[:-1]

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return {"kind": "none", "shape": list(self.input.shape), "dtype": self.input.dtype}

    def components(self, model: torch.nn.Module) -> dict[str, ComponentSpec]:
        import torch

        given = self.input
        generator = torch.Generator().manual_seed(0)
        example = (
            torch.randn(2, *given.shape, generator=generator)
            if given.dtype == "float32"
            else torch.zeros(2, *given.shape, dtype=torch.int64)
        )
        return {WHOLE: ComponentSpec(model.eval(), {given.name: example}, {given.name: {0: "batch"}}, ("logits",))}

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Examples:
        return TensorExamples(self, rows["input"], rows.get("label"))

    def workload_feeds(self, workload: Workload) -> dict[str, Batch]:
        import numpy as np

        given, random = self.input, np.random.default_rng(0)
        shape = (workload.batch, *given.shape)
        check_room(given.name, shape)
        if given.dtype == "int64":
            return {WHOLE: {given.name: np.zeros(shape, dtype=np.int64)}}
        return {WHOLE: {given.name: random.standard_normal(shape, dtype=np.float32)}}

    def read_input(self, text: str) -> dict[str, Any]:
        try:
            return {"input": load_json(text.encode())}
        except ValueError as error:
            raise DataError(f"{text[:80]!r} is no JSON array", id="data.unsuitable-sample", why=str(error)) from error

    def is_label(self, value: object) -> bool:
        return value is not None if self.places else super().is_label(value)

    def read_label(self, value: object, names: Sequence[str] | None) -> Any:
        return self._read_places(value, names, self.places)

    def _read_places(self, value: object, names: Sequence[str] | None, places: tuple[int, ...]) -> Any:
        listed = isinstance(value, (list, tuple))
        if listed != bool(places) or (listed and len(cast("Sequence[object]", value)) != places[0]):
            raise DataError(
                f"the data has the label {str(value)[:80]}",
                id="data.unknown-label",
                why=f"the module gives labels of the shape {list(self.places)} for a sample"
                if self.places
                else "the module gives one label for a sample",
                hint="Choose another column with --columns label=NAME.",
            )
        if not places:
            return super().read_label(value, names)
        return [self._read_places(item, names, places[1:]) for item in cast("Sequence[object]", value)]

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=UNLABELLED)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """As for any classification; over every place that has a label."""
        return {name: _over_places(function) for name, function in super().metrics.items()}

    def interpret(self, logits: Array) -> list[list[tuple[str, float]]]:
        """For one label, all labels with scores, best first; for a sequence, the best label of each place."""
        if not self.places:
            return super().interpret(logits)
        scores = softmax(logits)
        flat = scores.reshape(len(scores), -1, scores.shape[-1])
        return [[(self.labels[int(row.argmax())], float(row.max())) for row in sample] for sample in flat]


def _over_places(metric: Metric) -> Metric:
    def over_places(outputs: Array, labels: Array) -> float:
        known = labels.reshape(-1) != UNLABELLED
        return metric(outputs.reshape(-1, outputs.shape[-1])[known], labels.reshape(-1)[known])

    return over_places


@dataclass(frozen=True)
class TensorExamples:
    """Arrays as the data holds them."""

    task: TensorClassification
    inputs: Sequence[Any]
    labels: Sequence[Any] | None

    def __len__(self) -> int:
        return len(self.inputs)

    def length(self, index: int) -> int:
        return 1

    def batch(self, indices: Sequence[int]) -> Batch:
        """The input [batch, ...]."""
        import numpy as np

        rows = np.stack([self._row(index) for index in indices])
        labels = None if self.labels is None else [self.labels[index] for index in indices]
        return {self.task.input.name: rows} | ({} if labels is None else {LABELS: np.asarray(labels, dtype=np.int64)})

    def _row(self, index: int) -> Array:
        import numpy as np

        given = self.task.input
        try:
            values = np.asarray(self.inputs[index], dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"row {index} of the data is no array of numbers", id="data.unsuitable-sample", why=str(error)
            ) from error
        if values.shape != given.shape:
            raise DataError(
                f"row {index} of the data has the shape {list(values.shape)}",
                id="data.unsuitable-sample",
                why=f"the module takes {list(given.shape)}",
            )
        if not np.isfinite(values).all():
            raise DataError(f"row {index} of the data has places without a number", id="data.unsuitable-sample")
        row = values.astype(given.dtype)
        if given.dtype == "int64" and (row != values).any():
            raise DataError(
                f"row {index} of the data has fractions", id="data.unsuitable-sample", why="the module takes int64"
            )
        return row
