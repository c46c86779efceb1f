from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle.reference.model import Model
from edgekit.bundle.schema import SelfTest
from edgekit.bundle.selftest import TABBED

Bundles = Callable[[str, str], Path]
MAX_LENGTH = 32  # of the tiny tokenizers


def test_a_text_model_is_asked_for_a_tab_a_pair_and_pairs_that_are_cut(bundles: Bundles) -> None:
    content = bundles("python", "wordpiece") / "bundle"
    cases = SelfTest.model_validate_json((content / "selftest/selftest.json").read_bytes()).cases
    (tabbed,) = [case for case in cases if case.text == TABBED]
    assert tabbed.pair is None
    pairs = [case for case in cases if case.pair is not None]
    assert len(pairs) == 3
    assert [case.inputs["input_ids"].shape for case in pairs[1:]] == [(1, MAX_LENGTH)] * 2
    for case in pairs:
        segments = np.fromfile(content / case.inputs["token_type_ids"].file, "<i8")
        assert set(segments) == {0, 1}


def test_a_pair_is_two_arguments_and_a_tab_is_a_character(bundles: Bundles) -> None:
    model = Model.load(bundles("python", "wordpiece") / "bundle")
    one, other = "a quiet film", "too long"
    pair = model.prepare(one, other)
    assert pair["token_type_ids"].max() == 1
    tabbed = model.prepare(f"{one}\t{other}")
    assert tabbed["token_type_ids"].max() == 0
    assert tabbed["input_ids"].tolist() == model.prepare(f"{one} {other}")["input_ids"].tolist()
    assert model.predict(one, other) != model.predict(f"{one}\t{other}")


def test_an_image_model_takes_no_second_text(bundles: Bundles) -> None:
    model = Model.load(bundles("python", "vit") / "bundle")
    with pytest.raises(ValueError, match="the model takes images, and was given a text"):
        model.predict(np.zeros((8, 8, 1), np.uint8), "a text")
