from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import random_array, with_weights
from tiny import Exported, batches

from edgekit.formats.onnx import load_graph, save_graph
from edgekit.int4 import PRODUCT_BLOCK
from edgekit.quantization.blocks import quantize_blocks
from edgekit.quantization.schemes import LINEAR_KINDS, Scheme, name_nodes, weighted_nodes
from edgekit.quantization.shadows import LayerError, Rounding, Shadows, layer_errors, round_weights

DYNAMIC = Scheme(
    method="dynamic", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True
)
STATIC = DYNAMIC.model_copy(update={"method": "static"})
# A table of words, a product, and a layer with rows for columns: all that is quantized in an encoder.
TEXT = """g (int64[n] i) => (float[n, 40] y) {
  x = Gather <axis = 0> (table, i)
  h = MatMul (x, w)
  y = Gemm <transB = 1> (h, v, b)
}"""
WEIGHTS = {
    "table": random_array(50, 64),
    "w": random_array(64, 48, seed=1) * np.linspace(0.1, 3, 48, dtype=np.float32),
    "v": random_array(40, 48, seed=2),
    "b": random_array(40, seed=3),
}
TOKENS = np.array([3, 1, 4, 15, 9, 2], np.int64)


def eight_bits(values: Any, low: float, high: float) -> Any:
    """Rounded to u8 between two numbers."""
    scale = np.float32((high - low) / 255)
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale


def four_bits(rows: Any, block: int) -> Any:
    """Rounded to INT4 in blocks of a row."""
    inner = rows.shape[1]
    packed, scales = quantize_blocks(np.pad(rows, ((0, 0), (0, -inner % block))), block)
    steps = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(rows), -1).astype(np.float32) - 8
    return (steps * np.repeat(scales, block, axis=1))[:, :inner]


def share(found: Any, wanted: Any) -> float:
    return float(np.sqrt(((found - wanted) ** 2).sum() / (wanted**2).sum()))


def errors_of(folder: Path, scheme: Scheme, ranges: dict[str, tuple[float, float]]) -> dict[str, LayerError]:
    file = folder / "model.onnx"
    onnx.save(with_weights(TEXT, **WEIGHTS), file)
    model = load_graph(file)
    for node, name in zip(model.graph, ("table", "product", "gemm"), strict=True):
        node.name = name
    save_graph(model, file)
    nodes = weighted_nodes(load_graph(file), embeddings=True)
    made = folder / "shadows"
    made.mkdir()
    shadows = Shadows(file, nodes, (scheme, ranges), made, 1)
    shadows.run({"i": TOKENS[:2]})
    shadows.run({"i": TOKENS[2:]})
    return {one.name: one for one in shadows.errors()}


def test_errors_are_those_of_each_layer_rounded_by_itself(tmp_path: Path) -> None:
    x = WEIGHTS["table"][TOKENS]
    h = x @ WEIGHTS["w"]
    y = h @ WEIGHTS["v"].T + WEIGHTS["b"]
    found = errors_of(tmp_path, STATIC, {"x": (-5.0, 4.5), "h": (-100.0, 110.0)})
    steps, scale = round_weights(WEIGHTS["table"], None, STATIC.model_copy(update={"weights": "u8"}), "table")
    assert (steps.dtype, scale.shape) == (np.int16, (1, 1))
    assert found["table"].int8 == pytest.approx(share((steps * scale)[TOKENS], x), rel=1e-3)
    steps, scale = round_weights(WEIGHTS["w"], 1, STATIC, "product")
    assert scale.shape == (1, 48)
    rounded = eight_bits(x, -5.0, 4.5) @ (steps * scale)
    assert found["product"].int8 == pytest.approx(share(rounded, h), rel=1e-3)
    steps, scale = round_weights(WEIGHTS["v"], 0, STATIC, "gemm")
    rounded = eight_bits(h, -100.0, 110.0) @ (steps * scale).T + WEIGHTS["b"]
    assert found["gemm"].int8 == pytest.approx(share(rounded, y), rel=1e-3)
    # the operator rounds activations to 8 bits too, which is little beside 4 bits of weights
    four = {
        "table": share(four_bits(WEIGHTS["table"], 128)[TOKENS], x),
        "product": share(x @ four_bits(WEIGHTS["w"].T, PRODUCT_BLOCK).T, h),
        "gemm": share(h @ four_bits(WEIGHTS["v"], PRODUCT_BLOCK).T + WEIGHTS["b"], y),
    }
    assert {name: one.int4 for name, one in found.items()} == pytest.approx(four, rel=0.05)
    assert min((one.int4 or 0) / one.int8 for one in found.values()) > 4


def test_activations_that_are_scaled_as_they_come_lose_less_than_in_a_wide_range(tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    (tmp_path / "dynamic").mkdir()
    wide = errors_of(tmp_path / "wide", STATIC, {"x": (-30.0, 30.0), "h": (-600.0, 600.0)})
    dynamic = errors_of(tmp_path / "dynamic", DYNAMIC, {})
    for name in ("product", "gemm"):
        assert dynamic[name].int8 < wide[name].int8 / 5
        assert dynamic[name].int4 == wide[name].int4
    assert dynamic["table"] == wide["table"]


@pytest.mark.parametrize(
    ("changes", "name", "last"),
    [({}, "a", 127), ({"reduce_range": True}, "a", 64), ({"reduce_range": True, "full_range": ("a",)}, "a", 127)],
)
def test_weights_have_the_bits_of_their_layer(changes: dict[str, Any], name: str, last: int) -> None:
    steps, _ = round_weights(WEIGHTS["w"], 1, DYNAMIC.model_copy(update=changes), name)
    assert abs(steps).max() == last


def test_unsigned_weights_use_all_steps_between_their_ends() -> None:
    weights = np.array([[-1.0, 0.0, 3.0], [0.0, 1.0, -5.0]], np.float32)
    steps, scale = round_weights(weights, 0, DYNAMIC.model_copy(update={"weights": "u8"}), "a")
    assert steps.max(axis=1) - steps.min(axis=1) == pytest.approx([255, 255], abs=1)
    np.testing.assert_allclose(steps * scale, weights, atol=float(scale.max()) / 2)
    steps, scale = round_weights(weights, 0, DYNAMIC.model_copy(update={"per_channel": False}), "a")
    assert scale.shape == (1, 1)


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_every_layer_of_a_graph_has_its_error_the_largest_first(
    exported: Exported, tmp_path: Path, family: str
) -> None:
    task, artifact = exported[family]
    (tmp_path / "named").mkdir()
    prepared = name_nodes(artifact, tmp_path / "named")
    nodes = {"model": weighted_nodes(load_graph(prepared.file("model")), embeddings=True)}
    folders = iter([tmp_path / "shadows"])

    def scratch() -> Path:
        folder = next(folders)
        folder.mkdir()
        return folder

    names = {value.name for value in load_graph(prepared.file("model")).graph.inputs}
    fed = [{"model": [{key: value for key, value in batch.items() if key in names}]} for batch in batches(task, 16)]
    found = layer_errors(prepared, nodes, Rounding(DYNAMIC, {}), fed, scratch=scratch, threads=1)
    assert sorted(one.name for one in found) == sorted(f"model/{node.name}" for node in nodes["model"])
    errors = [one.int8 for one in found]
    assert errors == sorted(errors, reverse=True)
    assert all(0 < error < 0.1 for error in errors)
    small = {f"model/{node.name}" for node in nodes["model"] if node.kind in LINEAR_KINDS or node.narrows}
    assert {one.name for one in found if one.int4 is not None} == small
