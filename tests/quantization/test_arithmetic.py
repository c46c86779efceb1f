"""Saturating sums: against their definition in numpy, and against onnxruntime's own kernels on an emulated Haswell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from integers import LAYERS, NAMES, PRODUCTS, Case, Layer, make_case, matmul_integer, surrounded, wide_weights, window
from onnx import TensorProto, helper
from tiny import manifest

from edgekit.artifact import Artifact
from edgekit.cache import Cache
from edgekit.devices.emulated import EmulatedDevice
from edgekit.devices.emulation.root import why_not
from edgekit.formats.foreign import NEEDED_OPSET
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.progress import Silent
from edgekit.quantization.arithmetic import risky_pairs, saturate, saturating_sum, widen
from edgekit.quantization.saturating import ExactRunner, SaturatingRunner
from edgekit.runtimes.measuring import Place, Subject, run_calls
from edgekit.runtimes.ort import fuse


def test_a_pair_of_products_is_cut_at_16_bits() -> None:
    bytes_ = np.array([[255, 255, 255, 255], [255, 0, 0, 255], [1, 2, 3, 4]], np.uint8)
    rows = np.array([[127, -128], [127, -128], [127, -128], [-127, 127]], np.int8)
    assert saturating_sum(bytes_, rows).tolist() == [
        [32767 + 0, -32768 + 255 * (-128 + 127)],
        [255 * 127 - 255 * 127, 255 * -128 + 255 * 127],
        [127 * (1 + 2 + 3 - 4), -128 * (1 + 2 + 3) + 127 * 4],
    ]


@pytest.mark.parametrize(
    ("pair", "risky"),
    [((64, 64), False), ((65, 64), True), ((-64, -64), False), ((-64, -65), True), ((127, -128), False), ((127, 2), 1)],
)
def test_pairs_that_can_leave_16_bits_are_risky(pair: tuple[int, int], risky: bool) -> None:
    found = risky_pairs(np.array(pair, np.int8)[:, None])
    assert (found is not None) == bool(risky)
    ends = np.array([[a, b] for a in (0, 255) for b in (0, 255)], np.uint8)
    exact = ends.astype(int) @ np.array(pair)
    assert (saturating_sum(ends, np.array(pair, np.int8)[:, None])[:, 0] != exact).any() == bool(risky)


def test_no_weights_of_7_bits_are_risky() -> None:
    rows = np.random.default_rng(0).integers(-64, 65, (401, 30)).astype(np.int8)
    assert risky_pairs(rows) is None


def test_risky_pairs_are_named_by_column_and_padded_with_nothing() -> None:
    rows = np.zeros((7, 3), np.int8)
    rows[2:4, 0] = rows[4:6, 0] = 100
    rows[6, 1] = 127  # alone, as its neighbour is beyond the end
    rows[0:2, 2] = -100
    found = risky_pairs(rows)
    assert found is not None
    assert found.first[0].tolist() == [2, 4]
    assert found.second[0].tolist() == [3, 5]
    assert found.weights[:, 0].tolist() == [[100, 100], [100, 100]]
    assert found.weights[:, 1].tolist() == [[0, 0], [0, 0]]
    assert sorted(found.weights[0, 2].tolist()) == [-100, 0]
    assert found.second.max() < len(rows)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_of_integers_is_its_definition(name: str, tmp_path: Path) -> None:
    case = make_case(name, tmp_path)
    shape, rows = PRODUCTS[name]
    weight = wide_weights(shape)
    runner = SaturatingRunner(case.artifact)
    hits = 0
    for call in case.calls:
        exact = call["x"].astype(int) @ weight.astype(int)
        expected = saturating_sum(call["x"], weight)
        hits += int((cut := _cuts(call["x"], weight)).sum())
        given = runner.run("model", call)
        assert list(given) == ["y"]
        assert (given["y"].dtype, given["y"].shape) == (np.int32, (rows, shape[1]))
        assert np.array_equal(given["y"], expected - 77 * weight.astype(int).sum(0))
        assert (expected != exact).sum() <= cut.sum()
    saturated = runner.saturated
    assert saturated.unknown == ()
    assert [(one.layer, one.saturated) for one in saturated.layers] == ([("model/product", hits)] if hits else [])
    if name == "blocks":
        assert saturated.layers[0].share > 0.9
        assert saturated.layers[0].sums == 3 * rows * shape[1]


def _cuts(bytes_: Any, weight: Any) -> Any:
    """Which sums have a pair that is cut: [rows, columns]."""
    pairs = np.pad(weight.astype(int), ((0, len(weight) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    left = np.pad(bytes_.astype(int), ((0, 0), (0, len(weight) % 2))).reshape(len(bytes_), -1, 2)
    sums = np.einsum("mpi,pin->mpn", left, pairs)
    return ((sums > 32767) | (sums < -32768)).any(axis=1)


@pytest.mark.parametrize(
    ("channels", "groups", "activations"), [(3, 1, np.uint8), (4, 2, np.uint8), (5, 1, np.int8), (1, 4, np.uint8)]
)
def test_a_convolution_is_its_definition(channels: int, groups: int, activations: Any, tmp_path: Path) -> None:
    columns = 8
    shape = (columns, channels, 3, 3)
    layer = Layer(shape, (5, 6), activations, window(3, group=groups))
    case = surrounded(tmp_path, "Conv", layer)
    weight, constants = wide_weights(shape), _constants(case)
    lowest, zero = np.iinfo(activations).min, int(constants["zx"])
    for call in case.calls:
        steps = np.clip(np.rint(call["x"] / constants["sx"]) + zero, lowest, lowest + 255).astype(int) - lowest
        bytes_ = np.pad(steps, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=zero - lowest).astype(np.uint8)
        expected = np.empty((2, columns, 5, 6), int)
        for group in range(groups):
            inside = bytes_[:, group * channels : (group + 1) * channels]
            own = slice(group * columns // groups, (group + 1) * columns // groups)
            places = [[inside[:, :, i : i + 3, j : j + 3] for j in range(6)] for i in range(5)]
            seen = np.array(places).transpose(2, 0, 1, 4, 5, 3).reshape(2, 5, 6, -1)  # places first, channels last
            rows = weight[own].transpose(2, 3, 1, 0).reshape(-1, columns // groups)
            sums = saturating_sum(seen, rows) - (zero - lowest) * rows.astype(int).sum(0)
            expected[:, own] = sums.transpose(0, 3, 1, 2)
        expected += constants["b"][:, None, None]
        scale = (constants["sx"] * constants["sw"] / constants["sy"]).astype(np.float32)[:, None, None]
        levels = np.clip(np.rint(expected.astype(np.float32) * scale) + int(constants["zy"]), lowest, lowest + 255)
        given = SaturatingRunner(case.artifact).run("model", call)["y"]
        assert np.array_equal(given, (levels - int(constants["zy"])).astype(np.float32) * constants["sy"])


def _constants(case: Case) -> dict[str, Any]:
    values = load_graph(case.artifact.file()).graph.initializers.items()
    return {name: value.const_value.numpy() for name, value in values if value.const_value is not None}


def test_depthwise_convolutions_and_unsigned_weights_are_left_as_they_are(tmp_path: Path) -> None:
    depthwise = surrounded(tmp_path / "a", "Conv", Layer((16, 1, 3, 3), (9, 9), attributes=window(3, group=16)))
    runner = SaturatingRunner(depthwise.artifact)
    runner.run("model", depthwise.calls[0])
    assert (runner.saturated.layers, runner.saturated.unknown) == ((), ())
    case = matmul_integer(tmp_path / "b", (8, 4), 2)
    model = load_graph(case.artifact.file())
    assert saturate(model).layers == ("product_quant",)
    assert [str(value.name) for value in model.graph.outputs] == ["y", "saturated_0"]


def test_a_product_whose_weight_is_computed_is_named_as_unknown(tmp_path: Path) -> None:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, [4, 8]),
        helper.make_tensor_value_info("w", TensorProto.INT8, [8, 4]),
        helper.make_tensor_value_info("y", TensorProto.INT32, [4, 4]),
    ]
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], ["y"], name="both")]
    graph = helper.make_graph(nodes, "g", ends[:2], ends[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    made = manifest()
    part = made.components["model"].model_copy(update={"files": ("m.onnx",)})
    runner = SaturatingRunner(Artifact(tmp_path, made.model_copy(update={"components": {"model": part}})))
    assert runner.saturated.unknown == ("model/both",)


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_runs_and_saturates(name: str, tmp_path: Path) -> None:
    case = make_case(name, tmp_path)
    runner = SaturatingRunner(case.artifact)
    for call in case.calls:
        (given,) = runner.run("model", call).values()
        assert given.dtype == np.float32
    (seen,) = runner.saturated.layers
    assert seen.layer == "model/layer"
    assert 0 < seen.saturated <= seen.sums == len(case.calls) * given.size


@pytest.mark.parametrize("name", PRODUCTS)
def test_it_is_the_same_in_the_oldest_operator_set(name: str, tmp_path: Path) -> None:
    case, old = make_case(name, tmp_path / "new"), make_case(name, tmp_path / "old")
    model = onnx.load(old.artifact.file())
    model.opset_import[0].version = NEEDED_OPSET
    onnx.save(model, old.artifact.file())
    runner, expected = SaturatingRunner(old.artifact), SaturatingRunner(case.artifact)
    for call in case.calls:
        assert np.array_equal(runner.run("model", call)["y"], expected.run("model", call)["y"])
    assert runner.saturated == expected.saturated


@pytest.mark.parametrize("name", PRODUCTS)
def test_an_exact_product_of_integers_is_exact(name: str, tmp_path: Path) -> None:
    case = make_case(name, tmp_path)
    weight = wide_weights(PRODUCTS[name][0]).astype(int)
    runner = ExactRunner(case.artifact)
    for call in case.calls:
        given = runner.run("model", call)["y"]
        assert given.dtype == np.int32
        assert np.array_equal(given, (call["x"].astype(int) - 77) @ weight)
    assert (runner.saturated.layers, runner.saturated.unknown) == ((), ())


@pytest.mark.parametrize("name", LAYERS)
def test_a_widened_graph_has_no_product_left_that_can_saturate(name: str, tmp_path: Path) -> None:
    case = make_case(name, tmp_path)
    fuse(case.artifact.file(), tmp_path / "fused.onnx")
    model = load_graph(tmp_path / "fused.onnx")
    ends = [value.name for value in model.graph.outputs]
    assert widen(model).layers == ("layer",)
    assert [value.name for value in model.graph.outputs] == ends  # nothing is counted
    assert (saturate(model).layers, saturate(model).unknown) == ((), ())
    exact, cut = ExactRunner(case.artifact), SaturatingRunner(case.artifact)
    differences = []
    for call in case.calls:
        (wide,), (saturated,) = (runner.run("model", call).values() for runner in (exact, cut))
        differences.append(np.abs(wide - saturated).max())
    assert max(differences) > 0.1


@pytest.fixture(scope="module")
def haswell(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An emulated processor without VNNI; skips where this machine cannot have it."""
    reason = why_not("x86-64")
    if reason is not None:
        pytest.skip(reason)
    device = EmulatedDevice("haswell", Cache(tmp_path_factory.mktemp("emulators")))
    device.prepare(Silent())
    return Place(device)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_simulation_is_the_processors_own_arithmetic_to_the_bit(name: str, haswell: Place, tmp_path: Path) -> None:
    case = make_case(name, tmp_path)
    runner = SaturatingRunner(case.artifact)
    there = run_calls(Subject(case.artifact.file(), case.calls[0]), case.calls, haswell).outputs["subject"]
    for call, packed in zip(case.calls, there, strict=True):
        for output, mine in runner.run("model", call).items():
            assert np.array_equal(mine, packed[output].array()), output


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_widened_graph_answers_on_that_processor_as_on_any_other(name: str, haswell: Place, tmp_path: Path) -> None:
    case = make_case(name, tmp_path)
    fuse(case.artifact.file(), tmp_path / "fused.onnx")
    model = load_graph(tmp_path / "fused.onnx")
    widen(model)
    save_graph(model, tmp_path / "wide.onnx")
    there = run_calls(Subject(tmp_path / "wide.onnx", case.calls[0]), case.calls, haswell).outputs["subject"]
    runner = ExactRunner(case.artifact)
    for call, packed in zip(case.calls, there, strict=True):
        for output, mine in runner.run("model", call).items():
            assert np.array_equal(mine, packed[output].array()), output
