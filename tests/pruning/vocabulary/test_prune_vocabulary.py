from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import logits, task_for
from vocabularies import CORPUS, FAMILIES, OTHERS

from edgekit.errors import ModelError
from edgekit.formats.tokenizer import read_tokenizer
from edgekit.formats.torch import load_model, save_weights
from edgekit.pruning.vocabulary import check_tokenizer, choose_tokens, count_tokens, prune_vocabulary, write_vocabulary
from edgekit.tasks.base import Examples, Task


def encoded(task: Task, texts: list[str]) -> Examples:
    return task.encode({"text": texts, "label": [0] * len(texts)})


@pytest.fixture(params=FAMILIES)
def cut(request: pytest.FixtureRequest, tokenizers: Any, tmp_path: Path, torch_alone: Any) -> Any:
    """A task, the same after its vocabulary was pruned, and what was said of it."""
    task = task_for(tokenizers.model(request.param, tmp_path / "whole"))
    model, found = task.load_model(), read_tokenizer(task.folder)
    counts = count_tokens(encoded(task, CORPUS), len(found.ids))
    plan, details = prune_vocabulary(model, found, counts)
    folder = tmp_path / "cut"
    save_weights(model, folder, None)
    assert write_vocabulary(model, task.folder, folder, found, plan) == ()
    for file in task.folder.iterdir():
        if not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)
    return task, task.at(folder), plan, details


def test_the_answers_on_the_corpus_are_the_same(cut: Any) -> None:
    task, after, plan, details = cut
    model, smaller = task.load_model(), load_model(after)[0]
    assert smaller.get_input_embeddings().weight.shape[0] == len(plan.kept) == details["tokens_after"]
    assert details["tokens_after"] < 0.6 * details["tokens_before"] == 0.6 * plan.size
    one, other = (encoded(each, CORPUS).batch(range(len(CORPUS))) for each in (task, after))
    assert [[plan.new[number] for number in row] for row in one["input_ids"].tolist()] == other["input_ids"].tolist()
    np.testing.assert_array_equal(logits(task, model, one), logits(after, smaller, other))


def test_transformers_and_tokenizers_read_other_texts_alike(cut: Any) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    task, after, plan, _ = cut
    before, mine = AutoTokenizer.from_pretrained(task.folder), AutoTokenizer.from_pretrained(after.folder)
    alone = Tokenizer.from_file(str(after.folder / "tokenizer.json"))
    assert type(mine) is type(before)
    assert mine.get_vocab() == alone.get_vocab(with_added_tokens=True)
    assert mine.all_special_tokens == before.all_special_tokens
    assert mine.all_special_ids == [plan.new[number] for number in before.all_special_ids]
    for text in OTHERS:
        one, other = before(text)["input_ids"], mine(text)["input_ids"]
        assert before.decode(one, skip_special_tokens=True) == mine.decode(other, skip_special_tokens=True)
        assert before.tokenize(text) != [] or mine.tokenize(text) == []


def test_uses_are_counted_without_padding(tokenizers: Any, tmp_path: Path) -> None:
    task = task_for(tokenizers.model("wordpiece", tmp_path))
    counts = count_tokens(encoded(task, ["bo", "bo bo bo"]), 500)
    ids = read_tokenizer(tmp_path).ids
    pieces = read_tokenizer(tmp_path).spell(["bo"])
    assert counts[ids["[PAD]"]] == 0
    assert counts[ids["[CLS]"]] == counts[ids["[SEP]"]] == 2
    assert {int(counts[piece]) for piece in pieces} == {4}
    assert counts.sum() == 4 + 4 * len(pieces)


def test_what_is_used_too_rarely_goes_unless_it_is_asked_for(tokenizers: Any) -> None:
    found = read_tokenizer(tokenizers["wordpiece"])
    counts = np.zeros(500, np.int64)
    word, other = [number for token, number in found.ids.items() if len(token) > 4 and token.isalpha()][:2]
    token = next(name for name, number in found.ids.items() if number == other)
    counts[word], counts[other] = 3, 2
    kept = choose_tokens(found, counts, min_count=3)
    assert word in kept
    assert other not in kept
    assert choose_tokens(found, counts, min_count=3, keep=(token,)) == kept | {other}
    assert choose_tokens(found, counts, min_count=2) == kept | {other}


def test_tokens_without_a_row_are_an_error(tokenizers: Any, tmp_path: Path) -> None:
    task = task_for(tokenizers.model("wordpiece", tmp_path, vocab_size=300))
    with pytest.raises(ModelError, match="numbers its tokens up to 499\nthe model's embedding has 300 rows") as caught:
        prune_vocabulary(task.load_model(), read_tokenizer(tmp_path), np.zeros(500, np.int64))
    assert caught.value.id == "model.unsuitable-tokenizer"


def test_a_name_of_a_token_without_a_row_is_an_error(tokenizers: Any, tmp_path: Path) -> None:
    task = task_for(tokenizers.model("wordpiece", tmp_path))
    found = read_tokenizer(tmp_path)
    padded = replace(found, state=found.state | {"padding": {"pad_id": 10**6}})
    with pytest.raises(ModelError, match="numbers its tokens up to 1000000") as caught:
        prune_vocabulary(task.load_model(), padded, np.zeros(500, np.int64))
    assert caught.value.id == "model.unsuitable-tokenizer"


def test_a_folder_is_checked_before_any_work(tokenizers: Any, tmp_path: Path) -> None:
    check_tokenizer(tokenizers["unigram"])
    state = json.loads((tokenizers["unigram"] / "tokenizer.json").read_text())
    state["model"]["vocab"].append(["xyz", -3.0])
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(ModelError, match="no text could be written with x, y, z"):
        check_tokenizer(tmp_path)
