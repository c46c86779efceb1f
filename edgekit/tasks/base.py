"""What a task is: how to feed a model and how to score it, whatever the model is made of.

A model is a table of *components*, each a graph with named inputs and outputs; some have *states*, tensors that go
round from one call to the next. A task says what the components are and drives them, so that no stage needs to know
whether it holds a classifier or an encoder with a recurrent decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from pydantic import Field, JsonValue

from edgekit.artifact import State
from edgekit.errors import UnknownNameError
from edgekit.modules import Build
from edgekit.settings import Frozen

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    Array = npt.NDArray[Any]
    Metric = Callable[[Array, Array], float]
else:
    Array = Metric = Any

Batch = dict[str, Array]
LABELS = "labels"
MASK = "attention_mask"  # of text, in a batch: 1 for real tokens


class Runner(Protocol):
    """All that a runtime offers: run one component on named arrays."""

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]: ...


class Workload(Frozen):
    """What one inference is, wherever a latency is given.

    Attributes:
        batch: samples at once.
        tokens: length of each text; ignored by images.
        image: height and width of each image in pixels; None is the model's own size.
    """

    batch: int = Field(1, ge=1)
    tokens: int = Field(128, ge=1)
    image: int | None = Field(None, ge=1)


@dataclass(frozen=True)
class ComponentSpec:
    """A component before it is exported.

    Attributes:
        module: takes the inputs by name and returns the outputs in order.
        example: one example of every input, each free dimension at least 2.
        axes: for each input, the free dimensions by number and name.
        outputs: names of the outputs, in order.
        limits: largest value of a named dimension, where there is one.
        states: outputs that become inputs of the next call.
    """

    module: torch.nn.Module
    example: dict[str, torch.Tensor]
    axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...]
    limits: dict[str, int] = field(default_factory=dict)
    states: tuple[State, ...] = ()


class Examples(Protocol):
    """Pre-processed samples, made into batches on demand."""

    def __len__(self) -> int: ...

    def length(self, index: int) -> int:
        """What a sample costs: its tokens; 1 where all cost the same."""

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples as named arrays, with ``labels`` where they have any."""


class TaskOptions(Frozen):
    """What the user may say of a task.

    Attributes:
        metric: one of the task's metrics; None is its first.
        columns: our name of a column to the data's.
        max_length: longest text in tokens; None is the model's own limit.
    """

    metric: str | None = None
    columns: dict[str, str] = {}
    max_length: int | None = Field(None, ge=1)


class Task(ABC):
    """A task bound to one model folder.

    Args:
        folder: the model's files (config, tokenizer or image processor).
        options: what the user said of it.
        build: builds a fresh module where the model was given as code.
    """

    name: str
    # whether the answers are compared with the original's where the data has no labels
    compares: bool = False
    # our name of a column to the names by which it is recognised, in order of preference
    columns: Mapping[str, tuple[str, ...]]

    def __init__(self, folder: Path, options: TaskOptions, build: Build | None = None) -> None:
        self.folder = folder
        self.options = options
        self.build = build
        if options.metric is not None and options.metric not in self.metrics:
            raise UnknownNameError(
                "metric",
                options.metric,
                self.metrics,
                id="unknown-name.metric",
                hint=f"They are those of the task {self.name!r}.",
            )

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """Metrics of (logits [samples, outputs], labels [samples, ...]), higher is better; the first is the default."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, by index; empty where there are none."""

    @property
    def several(self) -> bool:
        """Whether a sample may have several labels at once."""
        return False

    @property
    def reads_first_token(self) -> bool:
        """Whether nothing but the first token of the last layer is read."""
        return False

    def at(self, folder: Path, build: Build | None = None) -> Self:
        """The same task on another folder's files; ``build`` where another function builds that model."""
        return type(self)(folder, self.options, build or self.build)

    @property
    def metric_name(self) -> str:
        return self.options.metric or next(iter(self.metrics))

    def metrics_for(self, labels: Array) -> Mapping[str, Metric]:
        """Those of the metrics that such labels can be scored by; the first is the default."""
        del labels
        return self.metrics

    def metric_for(self, labels: Array) -> str:
        """Name of the metric that such labels are scored by: the user's, else the first.

        Raises:
            UnknownNameError: the user's is not for such labels.
        """
        known = self.metrics_for(labels)
        if self.options.metric is not None and self.options.metric not in known:
            raise UnknownNameError(
                "metric of these data",
                self.options.metric,
                known,
                id="unknown-name.metric",
                hint="It depends on whether the data has labels.",
            )
        return self.options.metric or next(iter(known))

    def score(self, outputs: Array, labels: Array) -> float:
        """The task's metric of one set of outputs."""
        return self.metrics_for(labels)[self.metric_for(labels)](outputs, labels)

    def sample_scores(self, outputs: Array, labels: Array) -> Array | None:
        """What each sample scores [samples], for a metric that is their mean and slow on thousands of resamples.

        None for every other.
        """
        del outputs, labels
        return None

    def class_scores(self, outputs: Array) -> Array:
        """What of the outputs [samples, ..., outputs] are the scores of classes: all of it, or one number a sample."""
        return outputs

    @abstractmethod
    def load_model(self) -> torch.nn.Module:
        """The folder's model on its own architecture, float32, in evaluation mode."""

    @abstractmethod
    def build_model(self) -> torch.nn.Module:
        """The same architecture with fresh weights, for a plan to be replayed on."""

    @abstractmethod
    def components(self, model: torch.nn.Module) -> dict[str, ComponentSpec]:
        """The parts of a loaded model that are exported."""

    @abstractmethod
    def forward(self, runner: Runner, batch: Batch) -> Array:
        """Drive the components over one batch: logits [batch, ...]."""

    @abstractmethod
    def call(
        self,
        model: torch.nn.Module,
        batch: Mapping[str, torch.Tensor],
        *,
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> TrainingOutput:
        """Run the torch module for training: logits, and what distillation looks at."""

    @abstractmethod
    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss the model was trained with, a scalar: the mean over the batch."""

    @abstractmethod
    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Examples:
        """Raw columns under our names, as samples to make batches of."""

    @abstractmethod
    def interpret(self, logits: Array) -> list[list[tuple[str, float]]]:
        """For each sample, labels with scores, best first."""

    @abstractmethod
    def workload_feeds(self, workload: Workload) -> dict[str, Batch]:
        """For each component, inputs of the workload's size (seeded; latency does not depend on the values)."""

    @abstractmethod
    def read_label(self, value: object, names: Sequence[str] | None) -> int | float | list[float]:
        """A label of the data as a number; ``names`` are the data's own class names, if any. -1 is unlabelled."""

    def is_label(self, value: object) -> bool:
        """Whether a value of the label column labels its row; None never does."""
        return value is not None

    @property
    @abstractmethod
    def preprocessing(self) -> dict[str, JsonValue]:
        """What a manifest records of the pre-processing."""

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, in units of stored pixels (0 to 255); empty without images."""
        return (), ()

    @abstractmethod
    def read_input(self, text: str) -> dict[str, Any]:
        """One input of the command line as a row under our column names."""


@dataclass(frozen=True)
class TrainingOutput:
    """What a module gives when it is trained.

    Attributes:
        logits: [batch, outputs].
        hidden_states: the embedding's output, then each layer's: [batch, tokens, width].
        attentions: each layer's probabilities: [batch, heads, tokens, tokens].
    """

    logits: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] = ()
    attentions: tuple[torch.Tensor, ...] = ()

    def float(self) -> TrainingOutput:
        """The same in float32, in which losses are computed whatever the products were."""
        return TrainingOutput(
            self.logits.float(),
            tuple(states.float() for states in self.hidden_states),
            tuple(maps.float() for maps in self.attentions),
        )


def ordered_batches(examples: Examples, size: int) -> Iterator[list[int]]:
    """Indices in batches, like lengths together so that little is padded; every sample once, the same at every call."""
    order = sorted(range(len(examples)), key=examples.length) if size > 1 else range(len(examples))
    for start in range(0, len(examples), size):
        yield list(order[start : start + size])


def shuffled_batches(examples: Examples, size: int, seed: int, epoch: int) -> list[list[int]]:
    """One epoch of training batches, full ones only where there are enough samples.

    Samples are shuffled, sorted by length within pools of 50 batches, and the batches shuffled again: little padding,
    and another order each epoch. The same seed and epoch give the same list.
    """
    import numpy as np

    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(examples)).tolist()
    if len(order) >= size:  # the rest is left out before lengths are looked at, so that it is another one each epoch
        order = order[: len(order) - len(order) % size]
    batches: list[list[int]] = []
    for start in range(0, len(order), size * 50):
        pool = sorted(order[start : start + size * 50], key=examples.length)
        batches += [pool[begin : begin + size] for begin in range(0, len(pool), size)]
    return [batches[index] for index in random.permutation(len(batches))]


def told_names(task: Task) -> tuple[str, ...]:
    """The names of a task's classes, in small letters; empty where they are only numbered."""
    numbered = all(name in (str(index), f"LABEL_{index}") for index, name in enumerate(task.labels))
    return () if numbered else tuple(name.casefold() for name in task.labels)


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis."""
    import numpy as np

    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
