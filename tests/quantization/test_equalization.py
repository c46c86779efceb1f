from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import random_array, values_of, with_weights
from tiny import manifest

from edgekit.artifact import Artifact
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.quantization.equalization import equalize, factors, find_pairs
from edgekit.quantization.schemes import Scheme, WeightedNode, weighted_nodes
from edgekit.quantization.shadows import LayerError, Rounding, layer_errors

STATIC = Scheme(
    method="static",
    activations="u8",
    weights="s8",
    per_channel=True,
    reduce_range=False,
    embeddings=False,
    convolutions=True,
)
# A chain of a convolution, one of two groups, and one behind a pool; the last is read twice, and so is in no pair.
CHAIN = """g (float[1, 16, 8, 8] x) => (float[1, 8, 4, 4] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
  r = Relu (a)
  b = Conv <pads = [1, 1, 1, 1], group = 2> (r, w1, b1)
  s = Relu (b)
  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (s)
  c = Conv (p, w2)
  t = Relu (c)
  d = Conv <pads = [1, 1, 1, 1]> (t, w3)
  u = Conv <pads = [1, 1, 1, 1]> (t, w4)
  y = Add (d, u)
}"""
# Some channels between the convolutions are a hundred times as large as the others.
WIDE = np.ones(32, np.float32)
WIDE[[1, 20, 30]] = 100


def weights() -> dict[str, Any]:
    w1 = random_array(32, 16, 3, 3, seed=2)
    w1[:16] /= WIDE[:16, None, None]
    w1[16:] /= WIDE[16:, None, None]
    return {
        "w0": random_array(32, 16, 3, 3, seed=1) * WIDE[:, None, None, None],
        "b0": random_array(32, seed=3) * WIDE,
        "w1": w1,
        "b1": random_array(32, seed=4),
        "w2": random_array(48, 32, 1, 1, seed=5),
        "w3": random_array(8, 48, 3, 3, seed=6),
        "w4": random_array(8, 48, 3, 3, seed=7),
    }


FEEDS = [{"x": random_array(1, 16, 8, 8, seed=seed)} for seed in range(10, 14)]
NAMES = {"Conv_0": "w0", "Conv_2": "w1", "Conv_5": "w2", "Conv_7": "w3", "Conv_8": "w4"}


def chain(folder: Path, text: str = CHAIN) -> tuple[Artifact, list[WeightedNode]]:
    folder.mkdir()
    onnx.save(with_weights(text, **weights()), folder / "model.onnx")
    model = load_graph(folder / "model.onnx")
    nodes = weighted_nodes(model, embeddings=False)
    for index, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type}_{index}"
    save_graph(model, folder / "model.onnx")
    return Artifact(folder, manifest()), nodes


def errors_of(folder: Path, artifact: Artifact, nodes: list[WeightedNode]) -> dict[str, LayerError]:
    inputs = ("x", "r", "p", "t")
    values = dict(zip(inputs[1:], values_of(artifact, FEEDS, *inputs[1:]), strict=True)) | {
        "x": np.concatenate([feeds["x"] for feeds in FEEDS])
    }
    ranges = {name: (float(value.min()), float(value.max())) for name, value in values.items()}
    folder.mkdir()
    rounding = Rounding(STATIC, {"model": ranges})
    fed = [{"model": FEEDS}]
    found = layer_errors(artifact, {"model": nodes}, rounding, fed, scratch=lambda: folder, threads=1)
    return {NAMES[one.name.removeprefix("model/")]: one for one in found}


def test_channels_that_static_int8_would_lose_are_brought_back(tmp_path: Path) -> None:
    artifact, nodes = chain(tmp_path / "float")
    (tmp_path / "equal").mkdir()
    equal = equalize(artifact, tmp_path / "equal")
    assert equal.pairs == [("model/Conv_0", "model/Conv_2"), ("model/Conv_2", "model/Conv_5")]
    before = errors_of(tmp_path / "before", artifact, nodes)
    after = errors_of(tmp_path / "after", equal.artifact, nodes)
    assert before["w1"].int8 > 0.05
    assert after["w1"].int8 < 0.2 * before["w1"].int8
    assert all(after[name].int8 < 1.5 * before[name].int8 for name in NAMES.values())


def test_answers_are_the_same_up_to_rounding(tmp_path: Path) -> None:
    artifact, _ = chain(tmp_path / "float")
    (tmp_path / "equal").mkdir()
    equal = equalize(artifact, tmp_path / "equal").artifact
    (expected,), (answers,) = values_of(artifact, FEEDS, "y"), values_of(equal, FEEDS, "y")
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))
    assert equal.file().stat().st_size < artifact.file().stat().st_size * 1.02


def test_both_sides_of_each_channel_come_to_one_range(tmp_path: Path) -> None:
    artifact, _ = chain(tmp_path / "float")
    (tmp_path / "equal").mkdir()
    model = onnx.load(equalize(artifact, tmp_path / "equal").artifact.file())
    held = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    w0, w1, w2 = (held[f"{name}_equalized_1"] for name in ("Conv_0", "Conv_2", "Conv_5"))
    for first, second, groups in ((w0, w1, 2), (w1, w2, 1)):
        # a round halves what a chain of three is off by, until nothing moves by more than a thousandth
        np.testing.assert_allclose(factors(first, second, groups), 1, atol=2e-3)
    np.testing.assert_array_equal(held["w3"], weights()["w3"])  # in no pair


def test_factors_are_the_root_of_what_the_ranges_are_apart() -> None:
    first = np.array([[4.0, -8.0], [1.0, 0.5], [0.0, 0.0], [3.0, 3.0]])
    second = np.array([[[0.5], [-1.0]], [[-2.0], [0.25]], [[1.0], [0.0]], [[0.0], [0.0]]])
    # of two groups, the first two rows read channels 0 and 1, the others 2 and 3; zeros are left alone
    np.testing.assert_allclose(factors(first, second, 2), [2.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("r = Relu (a)", "r = Sigmoid (a)"),  # carries no factor
        ("r = Relu (a)", "r = Clip (a, zero, six)"),  # nor does a bounded ReLU
        ("float[1, 8, 4, 4] y)", "float[1, 8, 4, 4] y, float[1, 32, 8, 8] r)"),  # its values are asked for
    ],
)
def test_only_what_carries_a_factor_is_between_a_pair(tmp_path: Path, old: str, new: str) -> None:
    text = CHAIN.replace(old, new).replace(
        "g (float[1, 16, 8, 8] x)", "g (float[1, 16, 8, 8] x, float zero, float six)"
    )
    artifact, _ = chain(tmp_path / "float", text)
    pairs = [(pair.first.name, pair.second.name) for pair in find_pairs(load_graph(artifact.file()))]
    assert pairs == [("Conv_2", "Conv_5")]
