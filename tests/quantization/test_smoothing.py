from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import random_array, values_of, with_weights
from tiny import manifest

from edgekit.artifact import Artifact
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.quantization.schemes import Scheme, WeightedNode, weighted_nodes
from edgekit.quantization.shadows import LayerError, Rounding, layer_errors
from edgekit.quantization.smoothing import Smoothed, factors, find_sites, smooth

STATIC = Scheme(method="static", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=False)
# A post-norm block: two products and the residual read one norm, and a third product has none before it.
BLOCK = """g (float[n, 64] x) => (float[n, 40] y) {
  a = LayerNormalization <axis = -1, epsilon = 1e-5> (x, scale, bias)
  q = MatMul (a, w)
  k = Gemm <transB = 1> (a, v, c)
  both = Mul (q, k)
  up = Gelu (both)
  down = MatMul (up, u)
  sum = Add (down, a)
  y = MatMul (sum, o)
}"""
# Three channels are fifty times as large as the others, and what reads them is as much smaller.
OUTLIERS = np.ones(64, np.float32)
OUTLIERS[[3, 17, 40]] = 50
WEIGHTS = {
    "scale": OUTLIERS,
    "bias": random_array(64, seed=1) * 0.1 * OUTLIERS,
    "w": random_array(64, 64, seed=2) / OUTLIERS[:, None],
    "v": random_array(64, 64, seed=3) / OUTLIERS,
    "c": random_array(64, seed=4),
    "u": random_array(64, 64, seed=5) * 0.1,
    "o": random_array(64, 40, seed=6) / OUTLIERS[:, None],
}
FEEDS = [{"x": random_array(8, 64, seed=seed)} for seed in range(10, 14)]
NAMES = {"MatMul_1": "w", "Gemm_2": "v", "MatMul_5": "u", "MatMul_7": "o"}


def block(folder: Path) -> tuple[Artifact, dict[str, list[WeightedNode]]]:
    """The block as an artifact with named nodes, and those that can be quantized."""
    folder.mkdir()
    onnx.save(with_weights(BLOCK, **WEIGHTS), folder / "model.onnx")
    model = load_graph(folder / "model.onnx")
    nodes = weighted_nodes(model, embeddings=True)
    save_graph(model, folder / "model.onnx")
    assert [node.name for node in nodes] == list(NAMES)
    return Artifact(folder, manifest()), {"model": nodes}


def smoothed(folder: Path, alpha: float = 0.5) -> tuple[Artifact, dict[str, list[WeightedNode]], Smoothed]:
    artifact, nodes = block(folder / "float")
    (folder / "smooth").mkdir()
    found = smooth(artifact, nodes, alpha, [{"model": FEEDS}], folder=folder / "smooth", threads=1)
    return artifact, nodes, found


def errors_of(folder: Path, artifact: Artifact, nodes: dict[str, list[WeightedNode]]) -> dict[str, LayerError]:
    """How far static INT8 moves each layer, by the weight that it had, ranges being those of the feeds."""
    inputs = {"a", "up", "sum"}
    values = dict(zip(sorted(inputs), values_of(artifact, FEEDS, *sorted(inputs)), strict=True))
    ranges = {name: (float(value.min()), float(value.max())) for name, value in values.items()}
    folders = scratch(folder)
    found = layer_errors(
        artifact,
        nodes,
        Rounding(STATIC, {"model": ranges}),
        [{"model": FEEDS}],
        scratch=lambda: next(folders),
        threads=1,
    )
    return {NAMES[one.name.removeprefix("model/")]: one for one in found}


def scratch(folder: Path) -> Iterator[Path]:
    for number in range(9):
        made = folder / f"scratch-{number}"
        if not made.exists():
            made.mkdir()
            yield made


def test_outliers_that_cost_static_int8_most_of_a_layer_are_smoothed_away(tmp_path: Path) -> None:
    artifact, nodes, found = smoothed(tmp_path)
    before, after = errors_of(tmp_path, artifact, nodes), errors_of(tmp_path, found.artifact, nodes)
    for name in ("w", "v"):  # the norm's products
        assert before[name].int8 > 0.1
        assert after[name].int8 < 0.1 * before[name].int8
    assert after["u"].int8 == pytest.approx(before["u"].int8, rel=0.05)
    assert (found.layers, found.left) == (
        ["model/MatMul_1", "model/Gemm_2"],
        ["model/MatMul_5", "model/MatMul_7"],  # what reads the sum has no norm before it
    )


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.85])
def test_answers_are_the_same_up_to_rounding(tmp_path: Path, alpha: float) -> None:
    artifact, _, found = smoothed(tmp_path, alpha)
    assert [path.name for path in found.artifact.path.iterdir()] == ["model.onnx"]
    (expected,), (answers,) = values_of(artifact, FEEDS, "y"), values_of(found.artifact, FEEDS, "y")
    np.testing.assert_allclose(answers, expected, rtol=2e-4, atol=2e-4 * float(np.abs(expected).max()))
    (old,), (new,) = values_of(artifact, FEEDS, "a"), values_of(found.artifact, FEEDS, "a")
    largest = [np.abs(values).max(axis=0) for values in (old, new)]
    assert largest[1].max() / np.median(largest[1]) < largest[0].max() / np.median(largest[0])
    # the old weights are gone, so that the file has not grown by them
    assert found.artifact.file().stat().st_size < artifact.file().stat().st_size * 1.05


def test_factors_are_those_of_the_paper(tmp_path: Path) -> None:
    artifact, _ = block(tmp_path / "float")
    model = load_graph(artifact.file())
    (site,) = find_sites(model, list(NAMES))
    assert [node.op_type for node in site.products] == ["MatMul", "Gemm"]
    largest = np.abs(values_of(artifact, FEEDS, "a")[0]).max(axis=0)
    weights = np.maximum(np.abs(WEIGHTS["w"]).max(axis=1), np.abs(WEIGHTS["v"]).max(axis=0))
    for alpha in (0.3, 0.5):
        expected = largest**alpha / weights ** (1 - alpha)
        np.testing.assert_allclose(factors(largest, site.products, alpha), expected, rtol=1e-5)
    # with one half of it, activations and weights come to the same range
    by = factors(largest, site.products, 0.5)
    np.testing.assert_allclose(largest / by, weights * by, rtol=1e-5)
    largest[5] = 0  # a channel that was never seen may come: it is left as it is
    assert factors(largest, site.products, 0.5)[5] == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("=> (float[n, 40] y)", "=> (float[n, 40] y, float[n, 64] a)"),  # its values are asked for
        ("(x, scale, bias)", "(x, x2, bias)"),  # no constant scale
    ],
)
def test_a_norm_that_cannot_be_divided_is_left(tmp_path: Path, old: str, new: str) -> None:
    text = BLOCK.replace(old, new).replace("g (float[n, 64] x)", "g (float[n, 64] x, float[64] x2)")
    onnx.save(with_weights(text, **WEIGHTS), tmp_path / "model.onnx")
    model = load_graph(tmp_path / "model.onnx")
    names = [node.name for node in weighted_nodes(model, embeddings=False)]
    assert find_sites(model, names) == []


def test_a_component_without_norms_stays_as_it_is(tmp_path: Path) -> None:
    text = "g (float[n, 64] x) => (float[n, 64] y) { y = MatMul (x, w) }"
    onnx.save(with_weights(text, w=WEIGHTS["w"]), tmp_path / "model.onnx")
    model = load_graph(tmp_path / "model.onnx")
    nodes = weighted_nodes(model, embeddings=False)
    save_graph(model, tmp_path / "model.onnx")
    (tmp_path / "smooth").mkdir()
    artifact = Artifact(tmp_path, manifest())
    found = smooth(artifact, {"model": nodes}, 0.5, [{"model": FEEDS}], folder=tmp_path / "smooth", threads=1)
    assert (found.layers, found.left) == ([], ["model/MatMul_0"])
    assert found.artifact.file().read_bytes() == (tmp_path / "model.onnx").read_bytes()
