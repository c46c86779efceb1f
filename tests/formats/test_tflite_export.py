from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tflites import INSTALLED, REASON

from edgekit.errors import HostError, ModelError, UsageError
from edgekit.formats import flatbuffer
from edgekit.formats.flatbuffer import load_model
from edgekit.formats.tflite import count_operators, weight_bytes
from edgekit.formats.tflite_export import export_component, short_name, sized
from edgekit.runtimes.litert import open_graph
from edgekit.tasks.base import ComponentSpec

needs_extra = pytest.mark.skipif(not INSTALLED, reason=REASON)


def largest_difference(made: Any, count: int, size: int) -> float:
    graph = open_graph(made.file, made.component, 1)
    return max(abs(graph.run(feeds)["logits"] - made.reference(feeds)).max() for feeds in made.batches(count, size))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("electra", "distilbert", "pruned", "vit", "deit")]


@pytest.mark.parametrize("name", ["bert", "roberta", *SLOW])
def test_encoder_answers_as_torch_and_needs_no_operator_that_old_runtimes_lack(tflites: Any, name: str) -> None:
    made = tflites[name]
    assert largest_difference(made, 5, 3) < 1e-5
    assert not {"GATHER_ND", "GATHER", "CUMSUM", "SHAPE"} & count_operators(made.file).keys()


@pytest.mark.parametrize("name", ["Residual", "Plain", pytest.param("Separable", marks=pytest.mark.slow)])
def test_convolutions_answer_as_torch(tflites: Any, name: str) -> None:
    assert largest_difference(tflites[name], 3, 3) < 1e-5


def test_batch_is_free_where_the_graph_computes_no_shape_and_one_elsewhere(tflites: Any) -> None:
    assert tflites["Residual"].component.signatures == {"serving_default": {}}
    assert tflites["Plain"].component.signatures == {"serving_default": {"batch": 1}}


def test_each_length_is_a_signature_on_shared_weights(tflites: Any) -> None:
    made = tflites["bert"]
    assert made.component.signatures == {
        "tokens_8": {"batch": 1, "sequence": 8},
        "tokens_16": {"batch": 1, "sequence": 16},
    }
    assert [spec.name for spec in made.component.inputs] == ["input_ids", "token_type_ids", "attention_mask"]
    assert {(spec.dtype, spec.shape) for spec in made.component.inputs} == {("int32", ("batch", "sequence"))}
    assert [(spec.name, spec.shape) for spec in made.component.outputs] == [("logits", ("batch", 2))]
    weights = sum(value.numel() * 4 for value in made.spec.module.parameters())
    assert weight_bytes(made.file)["float32"] <= weights * 1.02  # both lengths have rows of the position table


def test_tensors_are_named_as_the_modules_that_make_them(tflites: Any) -> None:
    graph = load_model(tflites["bert"].file).graphs[0]
    names = {graph.tensors[place].name for operator in graph.operators for place in operator.writes}
    assert {"tokens_8/classifier.bert.encoder.0.attention.self.query", "tokens_8/logits"} <= names


def test_the_same_model_gives_the_same_bytes_and_prints_nothing(
    tflites: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = tflites["Plain"]
    export_component(made.spec, tmp_path / "again.tflite")
    assert capfd.readouterr().out == ""
    assert (tmp_path / "again.tflite").read_bytes() == made.file.read_bytes()
    assert b"<locals>" not in made.file.read_bytes()


@pytest.mark.parametrize(
    ("lengths", "what", "why"),
    [
        ((8, 64), "texts of 64 tokens were asked for", "the model takes 1 to 32 tokens"),
        ((0,), "texts of 0 tokens were asked for", "the model takes 1 to 32 tokens"),
        ((), "texts of no tokens were asked for", "a TFLite file has at least one length"),
    ],
)
def test_lengths_that_the_model_does_not_take_are_refused(
    tflites: Any, tmp_path: Path, lengths: tuple[int, ...], what: str, why: str
) -> None:
    with pytest.raises(UsageError) as caught:
        export_component(tflites["bert"].spec, tmp_path / "model.tflite", lengths)
    assert caught.value.what == what
    assert why in caught.value.why


@needs_extra
def test_model_that_cannot_be_exported_is_an_error_with_the_reason(tmp_path: Path, torch_alone: Any) -> None:
    class Counting(torch_alone.nn.Module):
        def forward(self, images: Any) -> Any:
            return images[images > 0] if images.sum() > 0 else images

    spec = ComponentSpec(Counting(), {"images": torch_alone.randn(2, 3)}, {"images": {0: "batch"}}, ("logits",))
    with pytest.raises(ModelError) as caught:
        export_component(spec, tmp_path / "model.tflite")
    assert caught.value.what == "litert-torch cannot export this model to TFLite"
    assert caught.value.why
    assert not (tmp_path / "model.tflite").exists()


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flatbuffer, "version_of", lambda package: None)
    spec = ComponentSpec(None, {}, {}, ())  # type: ignore[arg-type]
    with pytest.raises(HostError) as caught:
        export_component(spec, tmp_path / "model.tflite")
    assert caught.value.what == (
        "TFLite needs litert-torch and ai-edge-quantizer and ai-edge-litert, which this environment lacks"
    )
    assert caught.value.hint == "Install it with: pip install 'edgekit[tflite]'."


def test_example_is_cut_and_repeated_to_size(torch_alone: Any) -> None:
    example = {"ids": torch_alone.arange(6).reshape(2, 3)}
    spec = ComponentSpec(None, example, {"ids": {0: "batch", 1: "sequence"}}, ())  # type: ignore[arg-type]
    assert sized(spec, {"batch": 1, "sequence": 5})["ids"].tolist() == [[0, 1, 2, 0, 1]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.Component/x.Classifier_module/x.BertModel_bert/torch.nn.modules.linear.Linear_dense;2", "bert.dense"),
        ("a.C/a.M_module/a.Norm_norm;;a.C/a.M_module/torch.nn.modules.conv.Conv2d_0;1", "0"),
        ("arith.constant3", "arith.constant3"),
        ("edgekit.formats.explicit.with_named_outputs.<locals>.Component;3", "model"),
    ],
)
def test_short_name_is_the_path_of_attributes(name: str, expected: str) -> None:
    assert short_name(name) == expected
