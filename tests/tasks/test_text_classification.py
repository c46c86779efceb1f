"""What a tokenizer's settings may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from edgekit.errors import ModelError
from edgekit.tasks.text_classification import TextClassification


def task_with(folder: Path, **settings: Any) -> TextClassification:
    """The task of a model whose tokenizer has other settings."""
    tiny.save(tiny.build("bert"), folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    task = tiny.task_for(folder)
    assert isinstance(task, TextClassification)
    return task


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"model_max_length": []}, "its model_max_length is []; allowed: a number from 1"),
        ({"model_max_length": ""}, "its model_max_length is ''; allowed: a number from 1"),
        ({"model_max_length": True}, "its model_max_length is True; allowed: a number from 1"),
        ({"model_max_length": 0}, "its model_max_length is 0; allowed: a number from 1"),
        ({"model_max_length": float("nan")}, "its model_max_length is nan; allowed: a number from 1"),
        ({"model_input_names": ["attention_mask"]}, "it gives ['attention_mask'], and no input_ids"),
    ],
)
def test_settings_that_feed_nothing_are_refused(settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    task = task_with(tmp_path, **settings)
    with pytest.raises(ModelError) as caught:
        _ = task.max_length
    assert (caught.value.id, caught.value.why) == ("model.no-preprocessor", why)


@pytest.mark.parametrize(("longest", "tokens"), [(8, 8), (8.0, 8), (1e30, 40), (float("inf"), 40)])
def test_the_longest_text_is_a_whole_number_of_tokens(longest: float, tokens: int, tmp_path: Path) -> None:
    length = task_with(tmp_path, model_max_length=longest).max_length
    assert (type(length), length) == (int, tokens)


def test_each_input_is_fed_once(tmp_path: Path) -> None:
    task = task_with(tmp_path, model_input_names=["input_ids", ["input_ids"], "input_ids", "attention_mask"])
    assert task.input_names == ("input_ids", "attention_mask")
