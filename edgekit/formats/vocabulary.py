"""Which rows of a model's vocabulary stay, and the surgery on the matrices that have a row for each token."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, TypeAdapter, model_validator

from edgekit.artifact import VOCABULARY_PLAN, write_text
from edgekit.errors import ModelError
from edgekit.formats.plans import read_plan_file
from edgekit.formats.tokenizer import NAMES_TOKEN, visit_named, visited
from edgekit.settings import Frozen

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

# Files that name tokens by number and describe the model, not the tokenizer.
CONFIG, GENERATION = "config.json", "generation_config.json"
SIZE = "vocab_size"


class VocabularyPlan(Frozen):
    """What stays of a vocabulary: a row's new number is its place in ``kept``.

    ``config.json`` has the new size, so that a model is loaded without this plan; with it the original is cut again.

    Attributes:
        size: rows of the original.
        kept: those that stay, ascending.
    """

    schema_: Literal["edgekit.vocabulary/1"] = Field("edgekit.vocabulary/1", alias="schema")
    size: int = Field(ge=1)
    kept: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascending(self) -> VocabularyPlan:
        if list(self.kept) != sorted(set(self.kept)) or self.kept[0] < 0 or self.kept[-1] >= self.size:
            raise ValueError(f"the rows do not ascend from 0 or more to below {self.size}")
        return self

    @cached_property
    def new(self) -> dict[int, int]:
        """The new number of each row that stays."""
        return {old: number for number, old in enumerate(self.kept)}

    def has(self, number: int) -> bool:
        """Whether a row stays; what was beyond the last row before is left alone."""
        return number in self.new or not 0 <= number < self.size

    def renumber(self, number: int) -> int:
        """The new number of a row; what was beyond the last row before is so afterwards."""
        return self.new[number] if 0 <= number < self.size else number


def save_vocabulary(plan: VocabularyPlan, folder: Path) -> None:
    """Write ``vocabulary.json``."""
    write_text(folder / VOCABULARY_PLAN, plan.model_dump_json(by_alias=True) + "\n")


def read_vocabulary(folder: Path) -> VocabularyPlan | None:
    """The plan in a model folder; None where the vocabulary is whole."""
    return read_plan_file(folder / VOCABULARY_PLAN, TypeAdapter(VocabularyPlan))


def vocabulary_size(model: nn.Module) -> int:
    """Rows of the embedding."""
    return int(_table(model).weight.shape[0])


def named_rows(model: nn.Module) -> set[int]:
    """Rows that have to stay whatever a tokenizer says of them.

    Those that the configuration names; and where positions are counted from the padding's number, as RoBERTa does it,
    all up to the padding's, which then keeps its number.
    """
    seen = visited(visit_named, _named(model))
    table = _table(model)
    for module in model.modules():
        padding = getattr(module, "padding_idx", None)
        if module is not table and padding is not None and hasattr(module, "num_embeddings"):
            seen.update(range(padding + 1))
    return {number for number in seen if 0 <= number < vocabulary_size(model)}


def cut_vocabulary(model: nn.Module, plan: VocabularyPlan) -> nn.Module:
    """Cut the embedding [size, width] in place to [len(kept), width], and the head over the vocabulary, if any.

    A matrix that several modules share stays shared.

    Raises:
        ModelError: the model's embedding has another size than the plan's.
    """
    import torch
    from torch import nn

    table, head = _table(model), cast("Any", model).get_output_embeddings()
    if vocabulary_size(model) != plan.size:
        raise ModelError(
            f"the plan is for a vocabulary of {plan.size}",
            id="model.plan-mismatch",
            why=f"the model's embedding has {vocabulary_size(model)} rows",
        )
    rows, count = torch.tensor(plan.kept), len(plan.kept)
    whole = [table.weight]
    if head is not None:  # what holds it may have its bias, too
        holders = [module for module in model.modules() if any(part is head for part in module.children())]
        own = [matrix for module in holders for matrix in module.parameters(recurse=False)]
        whole += [matrix for matrix in (*head.parameters(), *own) if matrix.shape[0] == plan.size]
    cut = {id(matrix): nn.Parameter(matrix.detach()[rows].clone()) for matrix in whole}
    for module in model.modules():
        for name, matrix in module.named_parameters(recurse=False):
            if id(matrix) in cut:
                setattr(module, name, cut[id(matrix)])
    table.num_embeddings = count
    if table.padding_idx is not None:
        table.padding_idx = plan.renumber(table.padding_idx)
    if head is not None:
        head.out_features = count
    named = _named(model)
    visit_named(named, plan.renumber)
    cast("PreTrainedModel", model).config.update(named | {SIZE: count})
    return model


def write_config(model: nn.Module, source: Path, folder: Path, plan: VocabularyPlan) -> None:
    """Write a folder's configurations with the new size and numbers into another folder.

    Args:
        model: cut; its configuration also has what ``config.json`` leaves to the architecture's defaults.
        source: the folder that the model was loaded from; a token that its generation settings name and nothing else
            does may be gone, and is not named any more.
        folder: where the files go.
        plan: what stays.
    """
    values = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    write_text(folder / CONFIG, json.dumps(values | _named(model), indent=2) + "\n")
    if (source / GENERATION).is_file():
        values = json.loads((source / GENERATION).read_text(encoding="utf-8"))
        values = {key: value for key, value in values.items() if all(map(plan.has, visited(visit_named, {key: value})))}
        visit_named(values, plan.renumber)
        write_text(folder / GENERATION, json.dumps(values, indent=2) + "\n")


def _named(model: nn.Module) -> dict[str, Any]:
    """What a model's configuration says of its vocabulary: the size, and the numbers of tokens."""
    values = cast("PreTrainedModel", model).config.to_dict()
    return {key: value for key, value in values.items() if key == SIZE or key.endswith(NAMES_TOKEN)}


def _table(model: nn.Module) -> nn.Embedding:
    return cast("nn.Embedding", cast("PreTrainedModel", model).get_input_embeddings())
