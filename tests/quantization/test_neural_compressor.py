from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import LAYERS, build, examples_for, save, task_for

from edgekit.errors import HostError
from edgekit.formats.graph import constant, producer, tidy
from edgekit.formats.onnx import count_operators, load_graph, precision_of, save_graph
from edgekit.optimization import REWRITES
from edgekit.progress import Silent
from edgekit.quantization import neural_compressor
from edgekit.quantization.neural_compressor import (
    Calibration,
    fold,
    mark,
    marked_nodes,
    quantize_weight,
    require,
)
from edgekit.quantization.schemes import Scheme
from edgekit.runtimes.ort import open_session

U8S8 = Scheme(method="static", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True)
STEP, ZERO = np.float32(0.05), np.uint8(128)
# Warnings at import that are neither edgekit's nor a test's.
QUIET = pytest.mark.filterwarnings("ignore")


def weights(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def marked_graph(file: Path) -> Path:
    """x [2, 4, 8] marked, then a product, a slice of the mark's first token with a product, and a Gemm with bias."""
    arrays = {
        "step": STEP,
        "zero": ZERO,
        "w1": weights(8, 6),
        "w2": weights(8, 5),
        "w3": weights(3, 8),
        "b3": weights(3),
        "start": np.array([0]),
        "end": np.array([1]),
        "axis": np.array([1]),
        "flat": np.array([-1, 8]),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        helper.make_node("MatMul", ["d", "w1"], ["y1"], name="first"),
        helper.make_node("Slice", ["d", "start", "end", "axis"], ["s"]),
        helper.make_node("MatMul", ["s", "w2"], ["y2"], name="second"),
        helper.make_node("Reshape", ["x", "flat"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "step", "zero"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "step", "zero"], ["rd"]),
        helper.make_node("Gemm", ["rd", "w3", "b3"], ["y3"], name="third", transB=1),
        helper.make_node("MatMul", ["x", "w1"], ["y4"], name="unmarked"),
    ]
    graph = helper.make_graph(
        nodes,
        "marked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 8])],
        [helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, None) for index in range(1, 5)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), file)
    return file


def run(file: Path, x: Any) -> list[Any]:
    return list(open_session(file, 1).run(None, {"x": x}))


@pytest.mark.parametrize(
    ("bits", "expected", "scale"),
    [(8, [[127, -64], [-127, 127]], [2 / 127.5, 1 / 127.5]), (7, [[64, -32], [-64, 64]], [2 / 64, 1 / 64])],
)
def test_a_weight_has_a_scale_for_each_channel(bits: int, expected: list[list[int]], scale: list[float]) -> None:
    weight = np.array([[2.0, -0.5], [-2.0, 1.0]], np.float32)
    integers, scales = quantize_weight(weight, 1, bits=bits)
    assert integers.dtype == np.int8
    assert np.abs(integers - np.array(expected)).max() <= 1  # 127.5 may round either way
    assert scales == pytest.approx(scale)
    one, single = quantize_weight(weight, None, bits=bits)
    assert (one.shape, single.shape) == ((2, 2), ())
    assert float(single) == pytest.approx(scale[0])


def test_a_channel_of_zeros_stays_zero() -> None:
    integers, scales = quantize_weight(np.zeros((4, 2), np.float32), 1, bits=8)
    assert not integers.any()
    assert (scales > 0).all()


def test_marks_behind_slices_count_and_unmarked_products_do_not(tmp_path: Path) -> None:
    model = load_graph(marked_graph(tmp_path / "marked.onnx"))
    assert [node.name for node in marked_nodes(model)] == ["first", "second", "third"]
    second = next(node for node in model.graph if node.name == "second")
    mark_of = producer(second.inputs[0], "DequantizeLinear")
    assert mark_of is not None
    behind = producer(mark_of.inputs[0], "QuantizeLinear")
    assert behind is not None
    assert producer(behind.inputs[0], "Slice") is not None


def test_folded_weights_are_int8_and_answers_stay(tmp_path: Path) -> None:
    source, folded = marked_graph(tmp_path / "marked.onnx"), tmp_path / "folded.onnx"
    fold(source, folded, U8S8, ["first", "second", "third"])
    model = load_graph(folded)
    kinds = {str(name): str(value.dtype) for name, value in model.graph.initializers.items()}
    assert [kinds[f"w{index}_int8"] for index in (1, 2, 3)] == ["INT8"] * 3
    assert kinds["third_bias_int32"] == "INT32"
    assert kinds["w1"] == "FLOAT"  # the unmarked product reads it
    assert {"w2", "w3", "b3"}.isdisjoint(kinds)
    x = np.clip(weights(2, 4, 8), -6, 6)
    for mine, reference in zip(run(folded, x), run(source, x), strict=True):
        # each of 8 products is off by half a step of the weight, at most max|w| / 255
        assert np.abs(mine - reference).max() <= 8 * np.abs(x).max() * 4 / 255
        assert mine.shape == reference.shape


def test_nodes_that_fall_back_lose_their_marks(tmp_path: Path) -> None:
    source, folded = marked_graph(tmp_path / "marked.onnx"), tmp_path / "folded.onnx"
    fold(source, folded, U8S8, [])
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(count_operators(load_graph(folded)))
    x = weights(2, 4, 8)
    first, _, _, unmarked = run(folded, x)
    assert np.array_equal(first, unmarked)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neural_compressor, "version_of", lambda package: None)
    with pytest.raises(HostError) as caught:
        require()
    assert caught.value.id == "environment.no-package"
    assert caught.value.what == ("quantize.engine needs neural-compressor and torchao, which this environment lacks")
    assert caught.value.hint.startswith("Install it with: pip install 'edgekit[inc]'.")


@pytest.fixture(scope="module")
def extra() -> Any:
    """The extra, loaded, so that what its import says is said here."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("neural_compressor.torch.quantization", reason="needs the extra: edgekit[inc]")


def marked(family: str, folder: Path) -> tuple[Any, Any, Path]:
    """A random model as neural-compressor marks it."""
    task = task_for(save(build(family), folder / "model"))
    specs = task.components(task.load_model())
    (folder / "marked").mkdir()
    found = Calibration(task, examples_for(task, 16), range(16), Silent())
    return task, specs, mark(specs, found, U8S8, 23, folder / "marked")["model"]


@QUIET
@pytest.mark.usefixtures("extra", "torch_alone")
@pytest.mark.parametrize("family", ["bert", "vit"])
def test_a_marked_graph_folds_into_integers_and_answers_alike(family: str, tmp_path: Path) -> None:
    from edgekit.runtimes.torch import TorchRunner

    task, specs, file = marked(family, tmp_path)
    model = load_graph(file)
    names = [str(node.name) for node in marked_nodes(model)]
    # queries, keys, values, output and two of the feed-forward block in each layer; then the classifier, and a pooler
    # of BERT or the patches' convolution of a ViT
    assert len(names) == 6 * LAYERS + 2
    fold(file, tmp_path / "folded.onnx", U8S8, names)
    folded = load_graph(tmp_path / "folded.onnx")
    assert precision_of(folded) == "int8"
    session = open_session(tmp_path / "folded.onnx", 1)
    batch = examples_for(task, 16, seed=1).batch(range(8))
    feeds = {name: values for name, values in batch.items() if name != "labels"}
    mine = session.run(None, feeds)[0]
    reference = TorchRunner(specs).run("model", feeds)["logits"]
    cosine = (mine * reference).sum() / np.linalg.norm(mine) / np.linalg.norm(reference)
    assert cosine > 0.99


@QUIET
@pytest.mark.usefixtures("extra", "torch_alone")
def test_weights_are_those_of_neural_compressor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neural_compressor, "_float_weights", lambda graph: None)
    monkeypatch.setattr(neural_compressor, "_share_marks", lambda graph: None)
    _, _, file = marked("bert", tmp_path)
    compared = 0
    for node in load_graph(file).graph:
        weight = constant(node.inputs[0]) if node.op_type == "QuantizeLinear" else None
        if weight is None or weight.ndim != 2:
            continue
        scale, zero = constant(node.inputs[1]), constant(node.inputs[2])
        assert scale is not None
        assert zero is not None
        assert not zero.any()
        _, ours = quantize_weight(weight, 0, bits=8)
        assert ours == pytest.approx(scale, rel=1e-6)
        compared += 1
    assert compared == 6 * LAYERS + 2


@QUIET
@pytest.mark.slow
@pytest.mark.usefixtures("extra", "torch_alone")
def test_marks_let_every_rewrite_apply_and_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _, _, file = marked("bert", tmp_path / name)
        model = load_graph(file)
        assert REWRITES["first_token"].apply(model.graph) > 0
        assert REWRITES["attention"].apply(model.graph) == LAYERS
        assert REWRITES["packed"].apply(model.graph) == LAYERS
        tidy(model)
        save_graph(model, file)
        names = [str(node.name) for node in marked_nodes(load_graph(file))]
        assert len(names) == 4 * LAYERS + 2 + 1  # packed products; queries apart in the layer of the first token
        fold(file, tmp_path / f"{name}.onnx", U8S8, names)
        files.append((tmp_path / f"{name}.onnx").read_bytes())
    assert files[0] == files[1]
