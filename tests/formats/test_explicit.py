from __future__ import annotations

from typing import Any

import pytest
from tiny import build

from edgekit.environment import version_of
from edgekit.formats.explicit import NOT_THERE, explicit_inputs, first_position

needs_five = pytest.mark.skipif(
    str(version_of("transformers")).startswith("4."), reason="transformers 4 takes no mask of four dimensions"
)


@pytest.mark.parametrize(("family", "expected"), [("bert", 0), ("electra", 0), ("distilbert", 0), ("roberta", 1)])
def test_first_position_lies_behind_the_padding_index_where_the_family_has_it_so(
    torch_alone: Any, family: str, expected: int
) -> None:
    assert first_position(build(family, layers=1)) == expected  # the tiny models pad with 0


@needs_five
@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_encoder_answers_the_same_with_mask_and_positions_handed_over(torch_alone: Any, family: str) -> None:
    model = build(family, layers=2)
    ids = torch_alone.arange(5, 21).reshape(2, 8)
    mask = torch_alone.ones_like(ids)
    ids[1, 5:] = mask[1, 5:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    with torch_alone.no_grad():
        plain = model(**inputs).logits
        with explicit_inputs(model, inputs):
            explicit = model(**inputs).logits
        after = model(**inputs).logits
    assert abs(plain - explicit).max() < 1e-6
    assert torch_alone.equal(plain, after)  # nothing stays behind


def test_token_that_is_not_there_weighs_nothing(torch_alone: Any) -> None:
    scores = torch_alone.tensor([3.0, 50.0 + NOT_THERE])
    assert scores.softmax(0)[1] == 0


def test_other_modules_are_left_alone(torch_alone: Any) -> None:
    module = torch_alone.nn.Linear(2, 2)
    with explicit_inputs(module, {"x": torch_alone.zeros(1, 2)}):
        assert not module._forward_pre_hooks
