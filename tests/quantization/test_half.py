"""FP16 and its range, by ONNX's reference evaluator: it computes FP16 as FP16, and so overflows as a GPU does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import random_array, with_weights
from onnx.reference import ReferenceEvaluator
from tiny import Exported, batches

from edgekit.artifact import Artifact
from edgekit.errors import ModelError
from edgekit.formats.onnx import load_graph, precision_of
from edgekit.quantization.half import HEADROOM, LARGEST, Watch, find_overflows, halve_graph, holders
from edgekit.runtimes.ort import open_session

# The first product is up to a million, which the division takes back; from there on all is small.
WIDE = """agraph (float[N, 4] x) => (float[N, 4] y) {
    [first] big = MatMul(x, w)
    [second] held = Relu(big)
    [third] small = Div(held, k)
    [fourth] last = MatMul(small, v)
    [fifth] y = Softmax(last)
}"""
WEIGHTS = {"w": np.abs(random_array(4, 8)) * 3e4, "k": np.array([1e5], np.float32), "v": random_array(8, 4, seed=1)}
FEEDS = {"x": np.abs(random_array(2, 4, seed=2)) * 3}


def wide(folder: Path, text: str = WIDE, **weights: Any) -> Path:
    onnx.save(with_weights(text, **(weights or WEIGHTS)), folder / "wide.onnx")
    return folder / "wide.onnx"


def watched(graph: Path, folder: Path, *feeds: dict[str, Any]) -> dict[str, float]:
    (folder / "watch").mkdir(exist_ok=True)
    watch = Watch(graph, folder / "watch", 1)
    for one in feeds:
        watch.run(one)
    return watch.overflows()


def evaluate(file: Path, feeds: dict[str, Any]) -> Any:
    """The first output; overflows are what is looked for, and no reason to warn."""
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(onnx.load(file)).run(None, feeds)[0]


def test_nodes_that_touch_what_is_too_large_are_found(tmp_path: Path) -> None:
    found = watched(wide(tmp_path), tmp_path, FEEDS)
    assert list(found) == ["first", "second", "third"]
    assert found["first"] == pytest.approx(float((FEEDS["x"] @ WEIGHTS["w"]).max()))


@pytest.mark.parametrize(("largest", "found"), [(0.9, []), (1.1, ["node"])])
def test_half_of_the_range_is_kept_for_inputs_that_were_not_seen(
    largest: float, found: list[str], tmp_path: Path
) -> None:
    graph = wide(tmp_path, "agraph (float[1] x) => (float[1] y) { [node] y = Identity(x) }", unread=np.zeros(1))
    size = np.float32(largest * LARGEST / HEADROOM)
    assert list(watched(graph, tmp_path, {"x": np.array([1], np.float32)}, {"x": -size[None]})) == found


def test_masks_are_no_overflow(tmp_path: Path) -> None:
    text = """agraph (float[4] x, bool[4] keep) => (float[4] y) {
        [where] masked = Where(keep, x, lowest)
        [softmax] y = Softmax<axis = 0>(masked)
    }"""
    for lowest in (-np.inf, np.finfo(np.float32).min):
        graph = wide(tmp_path, text, lowest=np.array([lowest], np.float32))
        feeds = {"x": random_array(4), "keep": np.array([True, True, False, False])}
        assert watched(graph, tmp_path, feeds) == {}
        halve_graph(graph, tmp_path / "half.onnx", [])
        got = evaluate(tmp_path / "half.onnx", feeds)
        np.testing.assert_allclose(got, evaluate(graph, feeds), atol=1e-3)


def test_without_keeping_the_model_answers_no_numbers(tmp_path: Path) -> None:
    halve_graph(wide(tmp_path), tmp_path / "half.onnx", [])
    assert np.isnan(evaluate(tmp_path / "half.onnx", FEEDS)).all()


def test_what_overflows_stays_float32_and_the_answers_too(tmp_path: Path) -> None:
    graph = wide(tmp_path)
    halve_graph(graph, tmp_path / "half.onnx", list(watched(graph, tmp_path, FEEDS)))
    model = onnx.load(tmp_path / "half.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Relu", "Div", "Cast", "MatMul", "Softmax", "Cast"]
    types = {one.name: one.data_type for one in model.graph.initializer}
    assert types == {"w": onnx.TensorProto.FLOAT, "k": onnx.TensorProto.FLOAT, "v": onnx.TensorProto.FLOAT16}
    expected = evaluate(graph, FEEDS)
    np.testing.assert_allclose(evaluate(tmp_path / "half.onnx", FEEDS), expected, atol=2e-3)
    got = open_session(tmp_path / "half.onnx", 1).run(None, FEEDS)[0]
    np.testing.assert_allclose(got, expected, atol=2e-3)
    assert got.dtype == np.float32


# What the branch computes is up to a million, and nobody outside sees it; it reads an input, a value and two weights.
BRANCH = """agraph (float[N, 4] x, bool which) => (float[N, 4] y) {
    [before] near = Relu(x)
    [choice] chosen = If (which) <
        then_branch = one () => (float[N, 4] a) {
            [big] p = MatMul(near, w)
            [back] q = Div(p, k)
            [down] r = MatMul(q, v)
            [plus] a = Add(r, x)
        },
        else_branch = other () => (float[N, 4] b) { [same] b = Identity(near) }
    >
    [again] wide = MatMul(chosen, w)
    [small] little = Div(wide, k)
    [after] scores = MatMul(little, v)
    [last] y = Softmax(scores)
}"""


def test_branches_stay_float32_with_all_that_they_hold(tmp_path: Path) -> None:
    weights = WEIGHTS | {"k": np.array([3e4], np.float32)}
    graph = wide(tmp_path, BRANCH, **weights)
    feeds = [FEEDS | {"which": np.array(which)} for which in (True, False)]
    found = watched(graph, tmp_path, *feeds)
    assert list(found) == ["again", "small"]
    assert holders(load_graph(graph)) == ["choice"]
    halve_graph(graph, tmp_path / "half.onnx", list(found))
    model = onnx.load(tmp_path / "half.onnx")
    onnx.checker.check_model(model, full_check=True)
    types = {one.name: one.data_type for one in model.graph.initializer}
    assert types == {"w": onnx.TensorProto.FLOAT, "k": onnx.TensorProto.FLOAT, "v": onnx.TensorProto.FLOAT16}
    (choice,) = (node for node in model.graph.node if node.op_type == "If")
    inner = [node.op_type for node in choice.attribute[0].g.node]
    assert "Cast" not in inner
    session = open_session(tmp_path / "half.onnx", 1)
    for one in feeds:
        expected = evaluate(graph, one)
        np.testing.assert_allclose(evaluate(tmp_path / "half.onnx", one), expected, atol=5e-3)
        got = session.run(None, one)[0]
        np.testing.assert_allclose(got, expected, atol=5e-3)


def test_large_inputs_and_outputs_pass_by_fp16(tmp_path: Path) -> None:
    text = """agraph (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) {
        [down] small = Mul(x, tiny)
        [norm] z = Softmax(small)
        [up] y = Div(z, tiny)
    }"""
    graph = wide(tmp_path, text, tiny=np.array([1e-6], np.float32))
    feeds = {"x": FEEDS["x"] * 1e6}
    assert set(watched(graph, tmp_path, feeds)) == {"down", "up"}
    halve_graph(graph, tmp_path / "half.onnx", ["down", "up"])
    onnx.checker.check_model(onnx.load(tmp_path / "half.onnx"), full_check=True)
    got = open_session(tmp_path / "half.onnx", 1).run(None, feeds)
    for mine, theirs in zip(got, open_session(graph, 1).run(None, feeds), strict=True):
        assert np.isfinite(mine).all()
        np.testing.assert_allclose(mine, theirs, rtol=3e-3)
    np.testing.assert_allclose(evaluate(tmp_path / "half.onnx", feeds), got[0], rtol=3e-3)


def test_a_graph_that_the_converter_refuses_is_the_models_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("such a graph is not taken\nand more")

    monkeypatch.setattr("onnxruntime.transformers.float16.convert_float_to_float16", refuse)
    with pytest.raises(ModelError, match=r"converter to FP16 does not take the graph\nsuch a graph is not taken$"):
        halve_graph(wide(tmp_path), tmp_path / "half.onnx", [])


@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize("factor", [1.0, 3e5])
def test_encoders_answer_as_before(exported: Exported, tmp_path: Path, family: str, factor: float) -> None:
    """Also where the projections into the residual stream give what FP16 does not hold."""
    task, artifact = exported[family]
    proto = onnx.load(artifact.file())
    enlarged = [node for node in proto.graph.node if node.op_type == "LayerNormalization"][1]
    (stored,) = (one for one in proto.graph.initializer if one.name == enlarged.input[1])
    array = onnx.numpy_helper.to_array(stored) * np.float32(factor)
    enlarged.input[1] = "enlarged"  # one of its own: some exporters let equal weights share theirs
    proto.graph.initializer.append(onnx.numpy_helper.from_array(array, "enlarged"))
    onnx.save(proto, tmp_path / artifact.file().name)
    changed = dataclasses.replace(artifact, path=tmp_path)
    feeds = [{name: values for name, values in batch.items() if name != "labels"} for batch in batches(task, 16)]
    found = find_overflows(changed, [{"model": feeds}], lambda: _made(tmp_path / "scratch"), 1)["model"]
    assert bool(found) == (factor > 1)
    halve_graph(changed.file(), tmp_path / "half.onnx", list(found))
    assert precision_of(load_graph(tmp_path / "half.onnx")) == "fp16"
    if factor == 1:
        assert (tmp_path / "half.onnx").stat().st_size < 0.75 * artifact.size_bytes
    before, after = open_session(changed.file(), 1), open_session(tmp_path / "half.onnx", 1)
    for one in feeds:
        mine, theirs = after.run(None, one)[0], before.run(None, one)[0]
        assert mine.dtype == np.float32
        assert np.abs(mine - theirs).max() < 0.03 * np.abs(theirs).max()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_an_artifact_is_only_read(exported: Exported) -> None:
    artifact: Artifact = exported["bert"][1]
    assert precision_of(load_graph(artifact.file())) == "fp32"


def test_weights_beside_the_graph_become_fp16_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"w": random_array(64, 256), "k": np.array([1.0], np.float32), "v": random_array(256, 4, seed=1)}
    model, (source, made) = with_weights(WIDE.replace("4] x", "64] x"), **weights), (tmp_path / "a", tmp_path / "b")
    source.mkdir()
    made.mkdir()
    beside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(model, source / "model.onnx", **beside)
    monkeypatch.setattr("edgekit.formats.onnx.INLINE_LIMIT_BYTES", 1024)  # as if what is left were more than 2 GB
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    halve_graph(source / "model.onnx", made / "half.onnx", [])
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before  # nothing was written beside it
    assert sorted(file.name for file in made.iterdir()) == ["half.onnx", "half.onnx.data"]
    feeds = {"x": random_array(2, 64, seed=2)}
    expected = open_session(source / "model.onnx", 1).run(None, feeds)[0]
    np.testing.assert_allclose(open_session(made / "half.onnx", 1).run(None, feeds)[0], expected, atol=2e-3)
