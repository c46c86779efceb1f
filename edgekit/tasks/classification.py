"""What text and image classification share: labels, losses, metrics, scores, and one component named ``model``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from edgekit.artifact import WHOLE
from edgekit.errors import DataError
from edgekit.tasks.base import LABELS, Array, Batch, Metric, Runner, Task, TrainingOutput, softmax
from edgekit.tasks.feeds import run_fixed
from edgekit.tasks.origin import MULTI, REGRESSION, SINGLE, Origin, Problem, TransformersOrigin, find_origin

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

UNLABELLED = -1


class Classification(Task):
    """A classifier with one component, ``model``, and one output, ``logits``."""

    @cached_property
    def origin(self) -> Origin:
        """Where the model comes from."""
        return find_origin(self.folder, self.auto_class, self.build)

    @property
    def config(self) -> PretrainedConfig:
        """transformers' configuration; there is none for a module given as code."""
        return cast("TransformersOrigin", self.origin).config

    @property
    def problem(self) -> Problem:
        return self.origin.problem

    @property
    def several(self) -> bool:
        return self.problem == MULTI

    @property
    def reads_first_token(self) -> bool:
        return isinstance(self.origin, TransformersOrigin)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        from edgekit.tasks import metrics

        return {
            SINGLE: {"accuracy": metrics.accuracy, "f1": metrics.f1_macro},
            MULTI: {"f1": metrics.f1_micro_multilabel, "exact_match": metrics.exact_match_multilabel},
            REGRESSION: {"pearson": metrics.pearson, "spearman": metrics.spearman},
        }[self.problem]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.origin.labels

    # gives transformers' Auto class of the task; None where there is none
    auto_class: Callable[[], Any] | None = None

    def load_model(self) -> torch.nn.Module:
        return self.origin.load()

    def build_model(self) -> torch.nn.Module:
        return self.origin.build()

    def forward(self, runner: Runner, batch: Batch) -> Array:
        feeds = {name: values for name, values in batch.items() if name != LABELS}
        if self.fixed_batch is None:
            return runner.run(WHOLE, feeds)[self.origin.answer]
        return run_fixed(runner, feeds, self.fixed_batch)[self.origin.answer]

    @property
    def fixed_batch(self) -> int | None:
        """The one number of samples that the model takes at once; None where it takes any."""
        return self.origin.fixed_batch

    def call(
        self,
        model: torch.nn.Module,
        batch: Mapping[str, torch.Tensor],
        *,
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> TrainingOutput:
        inputs = {name: values for name, values in batch.items() if name != LABELS}
        return self.origin.call(model, inputs, hidden_states=hidden_states, attentions=attentions)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        if self.problem == REGRESSION:
            return functional.mse_loss(logits.squeeze(-1), labels.float())
        if self.problem == MULTI:
            return functional.binary_cross_entropy_with_logits(logits, labels.float())
        return functional.cross_entropy(logits, labels)

    def interpret(self, logits: Array) -> list[list[tuple[str, float]]]:
        import numpy as np

        if self.problem == REGRESSION:
            return [[(self.labels[0], float(row[0]))] for row in logits]
        if self.origin.probabilities:
            scores = logits
        else:
            scores = softmax(logits) if self.problem == SINGLE else 1 / (1 + np.exp(-logits))
        ranked = [np.argsort(-row, kind="stable") for row in scores]
        return [[(self.labels[i], float(row[i])) for i in order] for row, order in zip(scores, ranked, strict=True)]

    def is_label(self, value: object) -> bool:
        """None never labels a row; nor does -1, by datasets' custom, where labels are classes."""
        return value is not None and (self.problem != SINGLE or value != UNLABELLED)

    def read_label(self, value: object, names: Sequence[str] | None) -> int | float | list[float]:
        if self.problem == REGRESSION:
            try:
                return float(cast("float", value))
            except (TypeError, ValueError, OverflowError) as error:
                raise DataError(
                    f"the data has the label {repr(value)[:80]}, which is no number",
                    id="data.unknown-label",
                    why="the model has one output, so that its labels are numbers",
                    hint="Choose another column with --columns label=NAME.",
                ) from error
        if self.problem == MULTI:
            return self._read_many(cast("Sequence[object]", value), names)
        return self._read_one(value, names)

    def _read_one(self, value: object, names: Sequence[str] | None) -> int:
        known = {name.casefold(): index for index, name in enumerate(self.labels)}
        if value is None:
            return UNLABELLED
        if isinstance(value, str):
            if value.casefold() in known:
                return known[value.casefold()]
            if not value.lstrip("-").isdigit():
                raise self._mismatch(value)
        try:
            index = int(cast("int", value))
        except (TypeError, ValueError, OverflowError) as error:
            raise self._mismatch(value) from error
        if index == UNLABELLED:
            return UNLABELLED
        if not isinstance(value, str) and index != value:
            raise self._mismatch(value)  # half a class
        if names and not 0 <= index < len(names):
            raise self._mismatch(index)
        if names and all(name.casefold() in known for name in names):
            return known[names[index].casefold()]
        if names and not self._generic() and not all(name.isdigit() for name in names):
            raise self._mismatch(names[index])
        if not 0 <= index < len(self.labels):
            raise self._mismatch(index)
        return index

    def _read_many(self, value: Sequence[object], names: Sequence[str] | None) -> list[float]:
        if isinstance(value, dict) or not hasattr(value, "__len__"):
            raise self._mismatch(value)
        if len(value) == len(self.labels) and all(isinstance(item, (int, float)) and item in (0, 1) for item in value):
            return [float(cast("float", item)) for item in value]
        chosen = {self._read_one(item, names) for item in value}
        return [float(index in chosen) for index in range(len(self.labels))]

    def _generic(self) -> bool:
        return all(name == f"LABEL_{index}" for index, name in enumerate(self.labels))

    def _mismatch(self, value: object) -> DataError:
        return DataError(
            f"the data has the label {repr(value)[:80]}, which the model does not know",
            id="data.unknown-label",
            why=f"the model's labels: {', '.join(f'{index} {name}' for index, name in enumerate(self.labels[:20]))}",
            hint="Rename the labels in the data, or choose another column with --columns label=NAME.",
        )

    def label_array(self, values: Sequence[Any] | None) -> Batch:
        """Labels as a batch holds them: int64 [samples], or float32 for several labels and regression."""
        import numpy as np

        if values is None:
            return {}
        return {LABELS: np.asarray(values, dtype=np.int64 if self.problem == SINGLE else np.float32)}
