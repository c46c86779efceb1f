from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflites import INSTALLED, REASON
from tiny import manifest

from edgekit.artifact import WHOLE, Artifact, Component
from edgekit.errors import ModelError, UsageError
from edgekit.formats.flatbuffer import pack, unpack
from edgekit.formats.tflite import describe_component
from edgekit.runtimes.litert import LiteRTRunner, open_graph


def test_texts_of_any_length_and_number_answer_as_torch(tflites: Any) -> None:
    made = tflites["bert"]
    runner = LiteRTRunner(made.artifact())
    for feeds in made.batches(9, 4):
        found = runner.run(WHOLE, feeds)["logits"]
        assert found.shape == (len(feeds["input_ids"]), 2)
        assert abs(found - made.reference(feeds)).max() < 1e-5


def test_text_that_fits_exactly_needs_no_padding(tflites: Any) -> None:
    made = tflites["bert"]
    ids = np.arange(5, 21).reshape(1, 16)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    assert abs(LiteRTRunner(made.artifact()).run(WHOLE, feeds)["logits"] - made.reference(feeds)).max() < 1e-5


def test_text_that_fits_nowhere_is_refused_with_the_lengths(tflites: Any) -> None:
    ids = np.ones((1, 17), np.int64)
    with pytest.raises(UsageError) as caught:
        LiteRTRunner(tflites["bert"].artifact()).run(
            WHOLE, {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}
        )
    assert caught.value.what == "a sample is larger than every signature of the TFLite file"
    assert caught.value.why == "sequence 17 was given, the graph takes up to sequence 16"


@pytest.mark.parametrize("name", ["Residual", "Plain"])
def test_several_images_go_at_once_or_one_by_one(tflites: Any, name: str) -> None:
    made = tflites[name]
    (feeds,) = made.batches(5, 5)
    found = LiteRTRunner(made.artifact(), threads=2).run(WHOLE, feeds)["logits"]
    assert found.shape == (5, 5)
    assert abs(found - made.reference(feeds)).max() < 1e-5


def test_file_without_signatures_runs_by_the_names_of_its_tensors(tflites: Any, tmp_path: Path) -> None:
    made = tflites["Residual"]
    model = unpack(made.file.read_bytes())
    model.signatureDefs = []
    file = tmp_path / "plain.tflite"
    file.write_bytes(pack(model))
    component = describe_component(file)
    assert component.signatures == {}
    (feeds,) = made.batches(3, 3)
    found = open_graph(file, component, 1).run(feeds)["logits"]
    assert abs(found - made.reference(feeds)).max() < 1e-5


def test_inputs_that_are_not_the_components_are_named(tflites: Any) -> None:
    with pytest.raises(ModelError) as caught:
        LiteRTRunner(tflites["Plain"].artifact()).run(WHOLE, {"pixels": np.zeros((1, 3, 16, 16), np.float32)})
    assert caught.value.why == "inputs ['pixels'] were given, the graph takes ['images']"


@pytest.mark.skipif(not INSTALLED, reason=REASON)
def test_damaged_file_is_refused_before_the_runtime_reads_it(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 30)
    parts = {WHOLE: Component(files=("model.tflite",), inputs=(), outputs=())}
    with pytest.raises(ModelError, match=r"'model\.tflite' is not a readable TFLite file"):
        LiteRTRunner(Artifact(tmp_path, manifest(format="tflite", components=parts)))


def test_operator_that_the_runtime_lacks_is_its_own_reason(tflites: Any, tmp_path: Path) -> None:
    made = tflites["Plain"]
    model = unpack(made.file.read_bytes())
    code = model.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"NotHere"
    file = tmp_path / "custom.tflite"
    file.write_bytes(pack(model))
    with pytest.raises(ModelError) as caught:
        open_graph(file, made.component, 1)
    assert caught.value.what.startswith("LiteRT 2.")
    assert caught.value.why == "Encountered unresolved custom op: NotHere."
