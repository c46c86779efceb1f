"""Where a task's model comes from: a folder of transformers, or a module given as code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from edgekit.bounds import control_characters
from edgekit.checkpoint import WEIGHTS, load_state, weights_mismatch
from edgekit.description import Description, read_description
from edgekit.errors import ModelError, retelling
from edgekit.modules import Build, build_module
from edgekit.source import MODULE, check_config
from edgekit.tasks.base import TrainingOutput
from edgekit.tasks.feeds import fixed_batch

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
SINGLE: Problem = "single_label_classification"
MULTI: Problem = "multi_label_classification"
REGRESSION: Problem = "regression"


class Origin(ABC):
    """A model's own files, and how it is built, loaded and called.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # name of the output that holds the logits, and whether they went through a softmax already
    answer: str = "logits"
    probabilities: bool = False
    # the one number of samples that the model takes at once; None where it takes any
    fixed_batch: int | None = None

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, by index."""

    @property
    @abstractmethod
    def problem(self) -> Problem:
        """What the outputs are."""

    @abstractmethod
    def load(self) -> torch.nn.Module:
        """The model with its weights, float32, in evaluation mode."""

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """The same architecture with fresh weights."""

    @abstractmethod
    def call(
        self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], *, hidden_states: bool, attentions: bool
    ) -> TrainingOutput:
        """Run it for training."""


class TransformersOrigin(Origin):
    """A folder as ``save_pretrained`` writes it.

    Args:
        folder: where it lies.
        auto_class: transformers' Auto class of the task.
    """

    def __init__(self, folder: Path, auto_class: Any) -> None:
        super().__init__(folder)
        self.auto_class = auto_class

    @cached_property
    def config(self) -> PretrainedConfig:
        from transformers import AutoConfig

        check_config(self.folder)
        with retelling(_unsuitable_config):
            config = cast("PretrainedConfig", AutoConfig.from_pretrained(self.folder, trust_remote_code=False))
            _check_types(config)
        if type(config) not in self.auto_class._model_mapping:
            raise ModelError(
                f"transformers has no {config.model_type} model for this task",
                id="model.wrong-task",
                why=f"its config.json names {', '.join(config.architectures or ())}",
            )
        return config

    @property
    def labels(self) -> tuple[str, ...]:
        names = cast("Mapping[int, str]", self.config.id2label)
        return tuple(names[index] for index in sorted(names))

    @property
    def problem(self) -> Problem:
        """transformers' problem type: from the config, else by the number of outputs."""
        said = self.config.problem_type
        return said or (REGRESSION if self.config.num_labels == 1 else SINGLE)

    def load(self) -> torch.nn.Module:
        import torch
        from safetensors import SafetensorError

        try:
            with retelling(_does_not_load, but=SafetensorError):
                model, found = self.auto_class.from_pretrained(
                    self.folder,
                    dtype=torch.float32,
                    weights_only=True,
                    trust_remote_code=False,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
        except SafetensorError as error:
            raise ModelError(
                "the model's weights are not valid safetensors", id="model.corrupt-weights", why=str(error)
            ) from error
        _check_complete(found)
        return cast("torch.nn.Module", model.eval())

    def build(self) -> torch.nn.Module:
        import torch

        with retelling(_unsuitable_config):
            return cast("torch.nn.Module", self.auto_class.from_config(self.config, dtype=torch.float32).eval())

    def call(
        self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], *, hidden_states: bool, attentions: bool
    ) -> TrainingOutput:
        output = cast("PreTrainedModel", model)(
            **inputs, output_hidden_states=hidden_states, output_attentions=attentions
        )
        return TrainingOutput(
            output.logits,
            tuple(output.hidden_states) if hidden_states else (),
            tuple(output.attentions) if attentions else (),
        )


def _check_types(config: PretrainedConfig) -> None:
    """See that what edgekit reads of a configuration is what it has to be; transformers 4 takes anything.

    Raises:
        TypeError: it is not.
    """
    for name in ("max_position_embeddings", "vocab_size", "num_channels"):
        value = getattr(config, name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise TypeError(f"{name} is {value!r}, and has to be a whole number above 0")
    labels = cast("object", config.id2label)
    if not isinstance(labels, dict) or not labels or not all(isinstance(name, str) for name in labels.values()):
        raise TypeError("id2label is no table of names")
    strange = next((name for name in labels.values() if control_characters(name)), None)
    if strange is not None:
        raise TypeError(f"id2label has {strange!r}, with control characters")


def _unsuitable_config(why: str) -> ModelError:
    return ModelError("transformers does not take the model's configuration", id="model.invalid-config", why=why)


def _does_not_load(why: str) -> ModelError:
    return ModelError("the model does not load", id="model.does-not-load", why=why)


class ModuleOrigin(Origin):
    """A module given as code, or a graph of others, beside its ``module.json``.

    Args:
        folder: where weights and description lie.
        code: builds a fresh module; None where only an exported artifact is used.
    """

    problem = SINGLE

    def __init__(self, folder: Path, code: Build | None) -> None:
        super().__init__(folder)
        self.code = code
        self.answer = self.description.answer
        self.probabilities = self.description.probabilities
        self.fixed_batch = fixed_batch(self.description.graph)

    @cached_property
    def description(self) -> Description:
        return read_description(self.folder)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.description.labels

    def load(self) -> torch.nn.Module:
        module = self.build()
        load_state(module, self.folder / WEIGHTS)
        return module.eval()

    def build(self) -> torch.nn.Module:
        if self.code is None:
            raise ModelError(
                f"the module was built by {self.description.entry}, and no code runs unless you name it",
                id="model.code-not-named",
                why="a torch artifact holds weights and a plan, not the code",
                hint=f"Name it: edgekit.load_pruned(PATH, build='path/to/{self.description.entry}').",
            )
        return build_module(self.code, self.description.entry)

    def call(
        self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], *, hidden_states: bool, attentions: bool
    ) -> TrainingOutput:
        if hidden_states or attentions:
            raise ModelError(
                "a module given as code does not hand out its hidden states or attention maps",
                id="model.unsuitable-code",
            )
        return TrainingOutput(model(**inputs))


def _check_complete(found: Mapping[str, Any]) -> None:
    """What transformers would fill with random numbers, in silence, is an error.

    Args:
        found: its account of the loading.
    """
    missing = sorted(found["missing_keys"])
    mismatched = sorted(item[0] for item in found["mismatched_keys"])
    if missing or mismatched:
        raise weights_mismatch(
            "the weights do not fit the model that config.json describes",
            {"missing": missing, "of another shape": mismatched},
        )


def find_origin(folder: Path, auto_class: Any, build: Build | None) -> Origin:
    """What the files in a folder speak of; ``auto_class`` is None where transformers has none for the task."""
    if (folder / MODULE).is_file():
        return ModuleOrigin(folder, build)
    if auto_class is None:
        raise ModelError(
            "this task is for modules given as code", id="model.wrong-task", why=f"the folder has no {MODULE}"
        )
    return TransformersOrigin(folder, auto_class())
