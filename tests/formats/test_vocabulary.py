from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import HIDDEN, VOCABULARY, build

from edgekit.errors import ArtifactError, ModelError
from edgekit.formats.vocabulary import (
    VocabularyPlan,
    cut_vocabulary,
    named_rows,
    read_vocabulary,
    save_vocabulary,
    vocabulary_size,
    write_config,
)

KEPT = (0, 1, 2, 5, 9, 20, 59)
PLAN = VocabularyPlan(size=VOCABULARY, kept=KEPT)


def masked(family: str, *, tied: bool = True) -> Any:
    """A tiny model with a head over its vocabulary."""
    import transformers as t

    config = build(family).config
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    model = {"bert": t.BertForMaskedLM, "roberta": t.RobertaForMaskedLM}[family](config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def ids(*numbers: int) -> torch.Tensor:
    return torch.tensor([numbers])


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
@torch.no_grad()
def test_a_cut_classifier_answers_the_same_under_new_numbers(torch_alone: Any, family: str) -> None:
    model = build(family)
    before = model(input_ids=ids(2, 9, 59, 20, 5)).logits
    rows = model.get_input_embeddings().weight[list(KEPT)].clone()
    assert cut_vocabulary(model, PLAN) is model
    table = model.get_input_embeddings()
    assert (tuple(table.weight.shape), table.num_embeddings) == ((len(KEPT), HIDDEN), len(KEPT))
    torch.testing.assert_close(table.weight, rows, rtol=0, atol=0)
    torch.testing.assert_close(model(input_ids=ids(2, 4, 6, 5, 3)).logits, before, rtol=0, atol=0)
    assert (vocabulary_size(model), model.config.vocab_size) == (len(KEPT), len(KEPT))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["bert", "roberta"])
@torch.no_grad()
def test_a_head_over_the_vocabulary_is_cut_with_it(torch_alone: Any, family: str, tied: bool) -> None:
    model = masked(family, tied=tied)
    before = model(input_ids=ids(2, 9, 59)).logits
    cut_vocabulary(model, PLAN)
    after = model(input_ids=ids(2, 4, 6)).logits
    torch.testing.assert_close(after, before[..., list(KEPT)], rtol=0, atol=1e-6)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert (head.weight is table.weight) == tied
    assert (head.out_features, head.bias.shape) == (len(KEPT), (len(KEPT),))
    fresh = type(model)(model.config)
    assert [value.shape for value in fresh.parameters()] == [value.shape for value in model.parameters()]


def test_the_padding_row_follows() -> None:
    model = build("bert", pad_token_id=9)
    assert named_rows(model) >= {9}
    cut_vocabulary(model, PLAN)
    assert model.get_input_embeddings().padding_idx == model.config.pad_token_id == 4


def test_where_positions_count_from_the_padding_it_keeps_its_number() -> None:
    assert named_rows(build("roberta", pad_token_id=4, bos_token_id=7, eos_token_id=99)) == {0, 1, 2, 3, 4, 7}
    assert named_rows(build("bert", pad_token_id=4)) == {4}


def test_another_size_is_an_error() -> None:
    with pytest.raises(ModelError, match=f"a vocabulary of 61\nthe model's embedding has {VOCABULARY} rows") as caught:
        cut_vocabulary(build("bert"), VocabularyPlan(size=61, kept=KEPT))
    assert caught.value.id == "model.plan-mismatch"


def test_configurations_have_the_new_numbers(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "cut"
    folder.mkdir()
    model = build("roberta", pad_token_id=1, eos_token_id=9)
    model.save_pretrained(source)
    said = json.loads((source / "config.json").read_text())
    del said["pad_token_id"]  # which leaves it to the architecture's default, 1
    (source / "config.json").write_text(json.dumps(said))
    generation = {"eos_token_id": [9, 59], "max_length": 20, "bos_token_id": 10}
    (source / "generation_config.json").write_text(json.dumps(generation))
    assert 10 not in KEPT  # nothing else names it
    write_config(cut_vocabulary(model, PLAN), source, folder, PLAN)
    written = json.loads((folder / "config.json").read_text())
    assert (written["vocab_size"], written["eos_token_id"], written["pad_token_id"]) == (len(KEPT), 4, 1)
    assert {key: written[key] for key in said.keys() - {"vocab_size", "eos_token_id", "pad_token_id"}} == {
        key: said[key] for key in said.keys() - {"vocab_size", "eos_token_id", "pad_token_id"}
    }
    assert json.loads((folder / "generation_config.json").read_text()) == {"eos_token_id": [4, 6], "max_length": 20}


def test_a_saved_plan_cuts_the_original_again(tmp_path: Path) -> None:
    assert read_vocabulary(tmp_path) is None
    save_vocabulary(PLAN, tmp_path)
    found = read_vocabulary(tmp_path)
    assert found == PLAN
    assert found is not None
    one, other = cut_vocabulary(build("bert"), PLAN), cut_vocabulary(build("bert"), found)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert (PLAN.renumber(59), PLAN.renumber(60), PLAN.renumber(-1)) == (6, 60, -1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": [1, 1]}, "do not ascend from 0 or more to below 60"),
        ({"kept": [1, 60]}, "do not ascend from 0 or more to below 60"),
        ({"kept": [-1]}, "do not ascend"),
        ({"kept": []}, "at least 1 item"),
        ({"schema": "edgekit.vocabulary/2"}, "Input should be 'edgekit.vocabulary/1'"),
    ],
)
def test_a_plan_that_is_not_valid_says_why(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "vocabulary.json").write_text(json.dumps(json.loads(PLAN.model_dump_json(by_alias=True)) | changes))
    with pytest.raises(ArtifactError, match="is no valid plan") as caught:
        read_vocabulary(tmp_path)
    assert message in caught.value.why
