from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from edgekit.artifact import Artifact, write_artifact
from edgekit.bundle.build import make_bundle
from edgekit.bundle.reference.model import Model
from edgekit.bundle.schema import SelfTest
from edgekit.bundle.selftest import TABBED
from edgekit.errors import ArtifactError

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


def of_ids(values: object, key: str = "0/in/input_ids") -> bytes:
    return save({key: np.asarray(values)})


@pytest.mark.parametrize(
    ("family", "content"),
    [
        ("wordpiece", b"x"),
        ("wordpiece", of_ids([[1]], "x")),
        ("wordpiece", of_ids([[1]], "many/in/input_ids")),
        ("wordpiece", of_ids([[1]], "0/in/words")),
        ("wordpiece", of_ids([[-1]])),
        ("wordpiece", of_ids([[0.5]])),
        ("wordpiece", of_ids(1)),
        ("vit", of_ids(np.zeros((1, 1, 4, 4), np.float32), "0/in/pixel_values")),
        ("vit", of_ids(np.zeros((0, 1, 8, 8), np.float32), "0/in/pixel_values")),
        ("vit", of_ids(np.zeros((1, 7, 8, 8), np.float32), "0/in/pixel_values")),
    ],
)
def test_golden_samples_of_another_model_are_refused(
    artifacts: Callable[[str], Artifact], tmp_path: Path, family: str, content: bytes
) -> None:
    copy = Path(shutil.copytree(artifacts(family).path, tmp_path / "artifact"))
    (copy / "golden" / "task.safetensors").write_bytes(content)
    write_artifact(copy, artifacts(family).manifest)
    with pytest.raises(ArtifactError, match="holds no samples of this model") as caught:
        make_bundle(copy, "python", tmp_path / "out")
    assert (caught.value.id, caught.value.exit_code) == ("artifact.invalid-file", 4)


def test_an_image_model_takes_no_second_text(bundles: Bundles) -> None:
    model = Model.load(bundles("python", "vit") / "bundle")
    with pytest.raises(ValueError, match="the model takes images, and was given a text"):
        model.predict(np.zeros((8, 8, 1), np.uint8), "a text")
