from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import manifest

from edgekit.artifact import WHOLE, Artifact
from edgekit.environment import version_of
from edgekit.errors import ModelError, UnknownNameError, UsageError
from edgekit.formats.flatbuffer import Graph, Model, Operator, Tensor, load_model
from edgekit.formats.tflite import axes_of, describe_component, hybrid_layers, weight_bytes
from edgekit.formats.tflite_export import export_component
from edgekit.quantization.litert import (
    LiteRTScheme,
    Quantized,
    is_convolutional,
    left_in_float,
    quantize_model,
    resolve_method,
    true_ranges,
    weighted_layers,
)
from edgekit.quantization.makers import Maker
from edgekit.quantization.schemes import WeightedNode
from edgekit.runtimes.litert import open_graph
from edgekit.target import load_target
from edgekit.tasks.base import ComponentSpec

ARMV7 = load_target("armv7")
METHODS = ("fp16", "dynamic", "weight-only", "static")
QUERY = "classifier.bert.encoder.0.attention.self.query"


def quantized(made: Any, folder: Path, **scheme: Any) -> tuple[Path, Quantized]:
    file = folder / "quantized.tflite"
    found = made.ranges() if scheme["method"] == "static" else None
    return file, quantize_model(made.file, file, LiteRTScheme(**scheme), found)


def difference(made: Any, file: Path) -> float:
    """The largest difference to torch, in units of the largest answer."""
    graph = open_graph(file, describe_component(file, axes_of(made.component)), 1)
    pairs = [(graph.run(feeds)["logits"], made.reference(feeds)) for feeds in made.batches(8, 1)]
    return float(
        max(abs(mine - theirs).max() for mine, theirs in pairs) / max(abs(theirs).max() for _, theirs in pairs)
    )


@pytest.mark.parametrize(("method", "allowed"), list(zip(METHODS, (0.002, 0.1, 0.05, 0.1), strict=True)))
@pytest.mark.parametrize("name", ["bert", "Residual"])
def test_every_layer_is_quantized_and_answers_stay_near(
    tflites: Any, tmp_path: Path, name: str, method: str, allowed: float
) -> None:
    file, found = quantized(tflites[name], tmp_path, method=method)
    assert found.layers == tuple(layer.name for layer in weighted_layers(tflites[name].file))
    assert found.left == {}
    assert difference(tflites[name], file) < allowed
    small = weight_bytes(file)["float16" if method == "fp16" else "int8"]
    weights = sum(layer.elements for layer in weighted_layers(tflites[name].file))
    assert small == weights * (2 if method == "fp16" else 1)


def test_static_leaves_nothing_between_convolutions_in_float(tflites: Any, tmp_path: Path) -> None:
    file, found = quantized(tflites["Residual"], tmp_path, method="static")
    assert found.float_operators == {}
    component = describe_component(file, axes_of(tflites["Residual"].component))
    assert (component.inputs[0].dtype, component.outputs[0].dtype) == ("float32", "float32")


def test_static_leaves_attention_in_float(tflites: Any, tmp_path: Path) -> None:
    _, found = quantized(tflites["bert"], tmp_path, method="static")
    assert {"SOFTMAX", "BATCH_MATMUL"} <= found.float_operators.keys()
    assert "FULLY_CONNECTED" not in found.float_operators


@pytest.mark.parametrize(("method", "hybrid"), [("dynamic", True), ("weight-only", False), ("fp16", False)])
def test_only_dynamic_multiplies_small_weights_with_floats(
    tflites: Any, tmp_path: Path, method: str, hybrid: bool
) -> None:
    file, _ = quantized(tflites["bert"], tmp_path, method=method)
    assert bool(hybrid_layers(load_model(file))) is hybrid


def test_a_runtime_that_computes_no_hybrid_layers_gets_none(tflites: Any, tmp_path: Path) -> None:
    file, found = quantized(tflites["bert"], tmp_path, method="static")
    assert hybrid_layers(load_model(file))  # its embeddings, which LiteRT scales as they are read
    file, other = quantized(tflites["bert"], tmp_path, method="static", hybrid=False)
    assert hybrid_layers(load_model(file)) == []
    assert other.layers == found.layers
    assert difference(tflites["bert"], file) < 0.1


@pytest.mark.parametrize(
    ("method", "litert", "other"),
    [
        ("auto", "dynamic", "weight-only"),
        ("static", "static", "static"),
        ("weight-only", "weight-only", "weight-only"),
        ("fp16", "fp16", "fp16"),
    ],
)
def test_each_runtime_gets_a_method_that_it_computes_rightly(method: str, litert: str, other: str) -> None:
    assert tuple(resolve_method(method, ARMV7, runtime) for runtime in ("litert", "tflite-runtime")) == (litert, other)


def test_calibration_holds_no_samples(tflites: Any) -> None:
    made, given, most = tflites["bert"], [], 0

    def samples() -> Iterator[Any]:
        nonlocal most
        for batch in made.batches(12, 1):
            copies = {name: values.copy() for name, values in batch.items()}
            given.append(weakref.ref(copies["input_ids"]))
            most = max(most, sum(one() is not None for one in given))
            yield copies

    found = true_ranges(made.artifact(), made.task, samples(), 1)
    assert len(given) == 12
    assert most <= 2  # the last one and the next
    low, high = found["model"][QUERY]
    assert low < high


def test_dynamic_is_refused_for_tflite_runtime() -> None:
    assert resolve_method("dynamic", ARMV7, "litert") == "dynamic"
    with pytest.raises(UsageError, match=r"method=dynamic cannot go with the runtime tflite-runtime") as caught:
        resolve_method("dynamic", ARMV7, "tflite-runtime")
    assert caught.value.why == "its methods: fp16, weight-only, static"
    assert caught.value.hint == "Leave the method to auto. Use --set quantize.method=fp16 or weight-only or static."
    eight = ARMV7.model_copy(update={"precisions": ("fp32", "int8")})
    with pytest.raises(UsageError) as caught:
        resolve_method("dynamic", eight, "tflite-runtime")
    assert caught.value.hint == "Leave the method to auto. Use --set quantize.method=weight-only or static."


def test_kept_layers_stay_float_in_every_signature_and_are_named(tflites: Any, tmp_path: Path) -> None:
    file, found = quantized(tflites["bert"], tmp_path, method="dynamic", keep=(QUERY,))
    assert found.left == {QUERY: "kept float as asked"}
    assert QUERY not in found.layers
    assert found.float_operators["FULLY_CONNECTED"] == 1
    names = hybrid_layers(load_model(file))
    assert QUERY not in names
    assert names.count(QUERY.replace("query", "key")) == 2


def test_embeddings_stay_float_when_they_are_not_asked_for(tflites: Any, tmp_path: Path) -> None:
    _, found = quantized(tflites["bert"], tmp_path, method="dynamic", embeddings=False)
    assert set(found.left.values()) == {"embeddings were not asked for"}
    assert len(found.left) == 2


class Unsupported(torch.nn.Module):
    """A layer that ai-edge-quantizer has no kernel for, and one that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.volume = torch.nn.Conv3d(3, 8, 3, padding=1)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.volume(images.unsqueeze(2)).mean((2, 3, 4)))


@pytest.fixture(scope="module")
def unsupported(tflites: Any) -> tuple[Path, Any]:
    file = tflites.folder / "unsupported.tflite"
    spec = ComponentSpec(Unsupported().eval(), {"images": torch.zeros(1, 3, 8, 8)}, {"images": {0: "batch"}}, ("out",))
    export_component(spec, file)
    return file, describe_component(file, spec.axes)


@pytest.mark.parametrize("method", ["dynamic", "weight-only", "fp16"])
def test_layer_without_a_kernel_is_named_with_the_reason(unsupported: Any, tmp_path: Path, method: Any) -> None:
    file, _ = unsupported
    found = quantize_model(file, tmp_path / "model.tflite", LiteRTScheme(method=method))
    ((name, reason),) = found.left.items()
    assert name.startswith("volume")
    assert reason == f"ai-edge-quantizer {version_of('ai-edge-quantizer')} has no {method} CONV_3D"
    assert found.layers == ("out",)


def test_census_counts_the_layers_of_the_written_file(unsupported: Any, tmp_path: Path) -> None:
    file, component = unsupported

    def write(scheme: Any, _: str, made: Path, chosen: Any) -> None:
        quantize_model(file, made, scheme.model_copy(update={"keep": () if "out" in chosen else ("out",)}))

    artifact = Artifact(file.parent, manifest(format="tflite", components={WHOLE: component}))
    nodes = {WHOLE: weighted_layers(file)}
    maker = Maker(artifact, LiteRTScheme(method="dynamic"), nodes, write, lambda: tmp_path, lambda *_: None)  # type: ignore[arg-type, return-value]
    for fallbacks in ([], [f"{WHOLE}/out"]):
        layers, left = maker.census(maker.make(fallbacks), fallbacks)
        assert layers == 2
        assert [name.partition(":")[0] for name in left] == [f"{WHOLE}/volume"]  # a fall-back is told elsewhere


def test_reasons_that_are_known_and_that_are_not() -> None:
    def model(*layers: tuple[str, int]) -> Model:
        tensors = [Tensor("in", "float32", (1, 8), 0, 0)]
        operators = []
        for index, (kind, buffer) in enumerate(layers):
            weight = len(tensors)
            tensors += [Tensor("w", "float32", (8, 8), buffer, 256), Tensor(f"y{index}", "float32", (1, 8), 0, 0)]
            operators.append(Operator(kind, (0, weight), (weight + 1,)))
        return Model((Graph(tuple(tensors), tuple(operators), (0,), ()),), {}, {}, 0)

    kinds = [("FULLY_CONNECTED", 1), ("FULLY_CONNECTED", 2), ("GATHER", 2), ("EMBEDDING_LOOKUP", 3), ("ADD", 4)]
    both = model(*kinds)
    found = left_in_float(both, both, LiteRTScheme(method="dynamic", embeddings=False))
    quantizer = f"ai-edge-quantizer {version_of('ai-edge-quantizer')}"
    assert found == {
        "y0": f"{quantizer} left this FULLY_CONNECTED as it was, and does not say why",
        "y1": "their weights are those of y2 too",
        "y2": "their weights are those of y1 too",
        "y3": "embeddings were not asked for",
    }


def test_the_same_file_gives_the_same_bytes_and_prints_nothing(
    tflites: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, _ = quantized(tflites["Residual"], tmp_path, method="static")
    content = first.read_bytes()
    second, _ = quantized(tflites["Residual"], tmp_path, method="static")
    assert second.read_bytes() == content
    assert capfd.readouterr().out == ""


def test_ranges_are_the_true_least_and_largest_of_all_samples(tflites: Any) -> None:
    made = tflites["Residual"]
    batches = made.batches(8, 1)
    low, high = made.ranges()["images"]
    assert low == min(batch["images"].min() for batch in batches)
    assert high == max(batch["images"].max() for batch in batches)
    answers = np.concatenate([made.reference(batch) for batch in batches])
    assert made.ranges()["logits"] == pytest.approx((answers.min(), answers.max()), abs=1e-5)


def test_layers_have_one_range_in_all_signatures(tflites: Any) -> None:
    made = tflites["bert"]
    assert {made.file.name for _ in made.batches(8, 1)}
    assert not any("tokens_" in name for name in made.ranges())


def test_unknown_layer_is_named_with_the_nearest(tflites: Any, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        quantized(tflites["bert"], tmp_path, method="dynamic", keep=(f"{QUERY}s",))
    assert caught.value.what == f"there is no layer '{QUERY}s'"
    assert QUERY in caught.value.hint


def test_static_without_ranges_is_refused(tflites: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="static quantization needs ranges of activations"):
        quantize_model(tflites["bert"].file, tmp_path / "q.tflite", LiteRTScheme(method="static"))


def test_what_the_quantizer_cannot_take_is_an_error(tflites: Any, tmp_path: Path) -> None:
    file = tmp_path / "half.tflite"
    quantize_model(tflites["Residual"].file, file, LiteRTScheme(method="fp16"))
    short = {"images": (0.0, 1.0)}  # every other activation has no range
    with pytest.raises(ModelError) as caught:
        quantize_model(tflites["Residual"].file, tmp_path / "q.tflite", LiteRTScheme(method="static"), short)
    assert caught.value.what.startswith("ai-edge-quantizer 0.")
    assert caught.value.hint == "Use --set quantize.method=dynamic or weight-only or fp16."
    scheme = LiteRTScheme(method="static", hybrid=False)
    with pytest.raises(ModelError) as caught:
        quantize_model(tflites["Residual"].file, tmp_path / "q.tflite", scheme, short)
    assert caught.value.hint == "Use --set quantize.method=fp16 or weight-only."
    assert not (tmp_path / "q.tflite").exists()


def test_layers_are_listed_once_with_their_elements(tflites: Any) -> None:
    layers = weighted_layers(tflites["bert"].file)
    assert WeightedNode(QUERY, "FULLY_CONNECTED", 32 * 32) in layers
    assert len({layer.name for layer in layers}) == len(layers) == 6 + 2 + 2


@pytest.mark.parametrize(("name", "expected"), [("bert", False), ("Residual", True)])
def test_graph_is_convolutional_by_its_weights(tflites: Any, name: str, expected: bool) -> None:
    assert is_convolutional(weighted_layers(tflites[name].file)) is expected
