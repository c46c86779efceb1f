"""Vocabulary: tokens that the training split does not use leave the tokenizer, and their rows leave the embedding."""

from __future__ import annotations

from typing import cast

from pydantic import Field

from edgekit.artifact import Artifact
from edgekit.errors import ModelError, UsageError
from edgekit.formats.tokenizer import TokenizerFile, read_tokenizer
from edgekit.formats.torch import load_model, save_weights, torch_components
from edgekit.pruning.vocabulary import count_tokens, prune_vocabulary, write_vocabulary
from edgekit.stages.base import Goal, Job, Stage, StageSettings, finish
from edgekit.tasks.base import Task
from edgekit.tasks.text_classification import TextClassification


class VocabularySettings(StageSettings):
    min_count: int = Field(1, ge=1, description="as often a token has to be used in the training split to stay")
    keep: tuple[str, ...] = Field((), description="words whose tokens stay in any case")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("VocabularySettings", settings)
    task, tokenizer = job.task_for(artifact), read_tokenizer(artifact.path)
    _compare(tokenizer, task)
    model, plan = load_model(task)
    train = job.need_data().train
    job.progress.start("vocabulary", None)
    counts = count_tokens(train, max(tokenizer.ids.values()) + 1)
    kept, details = prune_vocabulary(model, tokenizer, counts, min_count=settings.min_count, keep=settings.keep)
    folder = job.scratch()
    save_weights(model, folder, plan)
    unfit = write_vocabulary(model, artifact.path, folder, tokenizer, kept)
    job.progress.finish(f"{len(kept.kept)} of {kept.size} tokens")
    changes = {"components": torch_components()}
    made = finish(folder, artifact, VOCABULARY, settings, changes=changes, details=details, without=unfit)
    _compare(read_tokenizer(folder), job.task_for(made))
    return made


def _compare(found: TokenizerFile, task: Task) -> None:
    """Texts are read through transformers, and its classes may number tokens in ways of their own."""
    if cast("TextClassification", task).tokenizer.get_vocab() != found.ids:
        raise ModelError(
            "transformers numbers the tokenizer's tokens otherwise than tokenizer.json",
            id="model.unsuitable-tokenizer",
            why=f"its class is {type(cast('TextClassification', task).tokenizer).__name__}",
        )


def check(settings: StageSettings, goal: Goal) -> None:
    """Refuse what reads no texts."""
    del settings
    if goal.tokens is None:
        raise UsageError(
            "the stage vocabulary is for texts, and this task has none",
            id="usage.nothing-to-prune",
            hint="Use a recipe without it.",
        )


VOCABULARY = Stage(
    "vocabulary",
    version=1,
    accepts="torch",
    produces="torch",
    settings=VocabularySettings,
    uses=("data", "seed"),
    needs_data=lambda settings, goal: True,
    run=run,
    check=check,
    closes=True,
)
