from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflites import INSTALLED, REASON

from edgekit.errors import HostError, ModelError
from edgekit.formats import flatbuffer
from edgekit.formats.flatbuffer import load_model, pack, read_model, unpack

needs_extra = pytest.mark.skipif(not INSTALLED, reason=REASON)


def test_file_is_read_with_graphs_signatures_and_metadata(tflites: Any) -> None:
    model = load_model(tflites["bert"].file)
    assert list(model.signatures) == ["tokens_8", "tokens_16"]
    assert [len(graph.inputs) for graph in model.graphs] == [3, 3]
    assert model.graphs[1].tensors[model.signatures["tokens_16"].inputs["input_ids"]].shape == (1, 16)
    assert "min_runtime_version" in model.metadata
    assert model.size_bytes == tflites["bert"].file.stat().st_size


def test_file_without_signatures_is_entered_by_its_first_graph(tflites: Any) -> None:
    model = unpack(tflites["Plain"].file.read_bytes())
    model.signatureDefs = []
    found = read_model(pack(model), "plain")
    assert found.signatures == {}
    assert {key: (list(entry.inputs), list(entry.outputs)) for key, entry in found.entries.items()} == {
        "": (["images"], ["logits"])
    }


def test_scales_that_are_the_same_are_stored_once(tflites: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(tflites["Plain"].file.read_bytes())
    for tensor in model.subgraphs[0].tensors:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.ones(1000, np.float32)
    sizes = [len(pack(model))]
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.full(1000, number, np.float32)
    sizes.append(len(pack(model)))
    several = len(model.subgraphs[0].tensors)
    assert sizes[1] - sizes[0] == pytest.approx((several - 1) * 4000, rel=0.02)
    assert all(
        tensor.quantization.scale[0] == number for number, tensor in enumerate(unpack(pack(model)).subgraphs[0].tensors)
    )


@needs_extra
@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x08\x00\x00\x00ONNX" + b"\0" * 40])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_model(file)
    assert caught.value.what == "'model.tflite' is not a readable TFLite file"
    assert caught.value.why == "it does not have TFL3 in bytes 4 to 8"


@needs_extra
def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        load_model(tmp_path / "absent.tflite")


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_file_that_was_cut_short_is_refused(tflites: Any, share: float) -> None:
    content = tflites["Plain"].file.read_bytes()
    with pytest.raises(ModelError, match="the file was cut short or changed"):
        read_model(content[: int(len(content) * share)], "short")


def test_changed_bytes_give_a_model_or_the_one_error(tflites: Any) -> None:
    content = tflites["Residual"].file.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        changed = bytearray(content)
        for place in random.integers(8, len(changed), 30):
            changed[place] = random.integers(256)
        try:
            read_model(bytes(changed), "changed")
        except ModelError:
            refused += 1
    assert 0 < refused <= 60


def test_reading_needs_the_schema_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatbuffer, "version_of", lambda package: None)
    with pytest.raises(HostError) as caught:
        read_model(b"", "model")
    assert caught.value.what == "TFLite needs ai-edge-litert, which this environment lacks"
