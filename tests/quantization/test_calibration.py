from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from tiny import LAYERS, Exported, examples_for

from edgekit.formats.onnx import count_operators, load_graph, precision_of
from edgekit.progress import Silent
from edgekit.quantization import calibration
from edgekit.quantization.calibration import CHUNK, calibrate, record_feeds
from edgekit.quantization.schemes import LINEAR_KINDS, Scheme, quantize_graph, weighted_nodes
from edgekit.runtimes.ort import OnnxRunner, open_session

COUNT = 80
Ranges = dict[str, tuple[float, float]]


class Notes:
    """What the log is told; stops the run as a signal would, behind a number of samples."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.events: list[tuple[str, int]] = []

    def __call__(self, event: str, **values: Any) -> None:
        self.events.append((event, values["sample"]))
        if event.endswith("checkpoint") and values["sample"] == self.kill_at:
            raise KeyboardInterrupt


def run(exported: Exported, family: str, folder: Path, notes: Notes | None = None, count: int = COUNT) -> Path:
    task, artifact = exported[family]
    folder.mkdir(exist_ok=True)
    files = calibrate(
        artifact,
        task,
        examples_for(task, COUNT),
        list(range(count)),
        folder,
        kinds=LINEAR_KINDS,
        threads=1,
        progress=Silent(),
        note=notes or Notes(),
    )
    assert list(files) == ["model"]
    return files["model"]


def read(file: Path) -> Ranges:
    from onnxruntime.quantization.calibrate import load_tensors_data

    data = load_tensors_data(file)
    return {name: tuple(float(np.ravel(v)[0]) for v in value.range_value) for name, value in data.items()}  # type: ignore[misc]


def observed(exported: Exported, family: str, names: list[str], count: int = COUNT) -> Ranges:
    """Least and largest value of activations over the samples, one by one, by numpy."""
    task, artifact = exported[family]
    model = onnx.load(artifact.file())
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    examples = examples_for(task, COUNT)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for index in range(count):
        feeds = {name: values for name, values in examples.batch([index]).items() if name != "labels"}
        for name, values in zip(names, session.run(None, feeds), strict=True):
            found[name].append((values.min(), values.max()))
    return {name: (min(low for low, _ in v), max(high for _, high in v)) for name, v in found.items()}


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_ranges_are_the_least_and_largest_values(exported: Exported, tmp_path: Path, family: str) -> None:
    ranges = read(run(exported, family, tmp_path))
    assert len(ranges) >= 5 * LAYERS
    expected = observed(exported, family, list(ranges))
    for name, (low, high) in ranges.items():
        assert (low, high) == pytest.approx(expected[name], rel=1e-4, abs=1e-5), name


def test_every_product_has_a_range_for_what_it_reads_and_gives(exported: Exported, tmp_path: Path) -> None:
    ranges = read(run(exported, "bert", tmp_path))
    graph = onnx.load(exported["bert"][1].file()).graph
    weights = {item.name for item in graph.initializer}
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            assert {name for name in (node.input[0], node.output[0]) if name not in weights} <= set(ranges)


@pytest.mark.parametrize("kill_at", [CHUNK, 2 * CHUNK])
def test_a_run_that_was_killed_goes_on_behind_its_last_chunk(exported: Exported, tmp_path: Path, kill_at: int) -> None:
    whole = run(exported, "bert", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(exported, "bert", tmp_path / "cut", Notes(kill_at))
    notes = Notes()
    resumed = run(exported, "bert", tmp_path / "cut", notes)
    assert notes.events[0] == ("calibration.start", kill_at)
    assert notes.events[-1] == ("calibration.checkpoint", COUNT)
    assert read(resumed) == read(whole)
    assert resumed.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("damage", [b"{", None])
def test_damaged_ranges_are_computed_again(exported: Exported, tmp_path: Path, damage: bytes | None) -> None:
    whole = run(exported, "bert", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(exported, "bert", tmp_path / "cut", Notes(2 * CHUNK))
    (file,) = (tmp_path / "cut").glob("samples-*/ranges-model.json")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content if damage is None else damage)
    notes = Notes()
    assert run(exported, "bert", tmp_path / "cut", notes).read_bytes() == whole.read_bytes()
    assert notes.events[0] == ("calibration.start", 0)
    assert [path.name for path in (tmp_path / "cut").glob("samples-*")] == [f"samples-{COUNT:08d}"]


def test_a_run_that_was_done_computes_nothing_again(exported: Exported, tmp_path: Path) -> None:
    first = run(exported, "bert", tmp_path).read_bytes()
    notes = Notes()
    assert run(exported, "bert", tmp_path, notes).read_bytes() == first
    assert notes.events == [("calibration.start", COUNT)]


def test_no_more_than_a_chunk_is_held(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, artifact = exported["bert"]
    chunks = [len(fed["model"]) for fed in record_feeds(artifact, task, examples_for(task, COUNT), range(COUNT), 1)]
    assert chunks == [32, 32, 16]
    held: list[int] = []
    merge = calibration._merge

    def watched(calibrator: Any, feeds: Any, file: Path) -> None:
        merge(calibrator, feeds, file)
        held.append(len(calibrator.intermediate_outputs))

    monkeypatch.setattr(calibration, "_merge", watched)
    run(exported, "bert", tmp_path)
    assert held == [0, 0, 0]


class Counted:
    """Examples that know how many of the arrays they gave are still held somewhere."""

    def __init__(self, examples: Any) -> None:
        self._examples = examples
        self._given: list[weakref.ref[Any]] = []
        self.most = 0

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, indices: Any) -> Any:
        made = self._examples.batch(indices)
        self._given.append(weakref.ref(made["input_ids"]))
        self.most = max(self.most, sum(one() is not None for one in self._given))
        return made


def test_a_chunk_is_let_go_before_the_next_is_recorded(exported: Exported, tmp_path: Path) -> None:
    task, artifact = exported["bert"]
    examples = Counted(examples_for(task, COUNT))
    calibrate(
        artifact,
        task,
        examples,  # type: ignore[arg-type]  # it has what is used of it
        range(COUNT),
        tmp_path,
        kinds=LINEAR_KINDS,
        threads=1,
        progress=Silent(),
        note=Notes(),
    )
    assert CHUNK <= examples.most <= CHUNK + 1


def test_one_session_serves_all_chunks(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    task, artifact = exported["bert"]
    opened: list[Any] = []

    def opening(*given: Any) -> Any:
        opened.append(given)
        return OnnxRunner(*given)

    monkeypatch.setattr(calibration, "OnnxRunner", opening)
    chunks = list(record_feeds(artifact, task, examples_for(task, COUNT), range(COUNT), 1))
    assert (len(chunks), len(opened)) == (3, 1)


def test_samples_go_through_at_their_own_length(exported: Exported) -> None:
    task, artifact = exported["bert"]
    examples = examples_for(task, 20)
    (fed,) = record_feeds(artifact, task, examples, range(20), 1)
    assert [feeds["input_ids"].shape for feeds in fed["model"]] == [(1, examples.length(i)) for i in range(20)]
    assert all(feeds["attention_mask"].all() for feeds in fed["model"])
    assert len({feeds["input_ids"].shape for feeds in fed["model"]}) > 3


def test_nothing_is_written_beside_an_artifact_which_others_may_read(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inferred, infer = list[Path](), onnx.shape_inference.infer_shapes_path

    def noted(source: str, destination: str) -> None:
        inferred.append(Path(destination).parent)
        infer(source, destination)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes_path", noted)
    _, artifact = exported["bert"]
    ranges = run(exported, "bert", tmp_path / "work", count=8)
    scheme = Scheme(
        method="static", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True
    )
    nodes = [node.name for node in weighted_nodes(load_graph(artifact.file()), embeddings=True)]
    quantize_graph(artifact.file(), tmp_path / "model.onnx", scheme, nodes, ranges)
    assert {folder.parent for folder in inferred} == {tmp_path / "work", tmp_path}
    assert not any(folder.exists() for folder in inferred)


@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize(("activations", "zero"), [("u8", None), ("s8", 0)])
def test_static_int8_scales_by_the_ranges(
    exported: Exported, tmp_path: Path, family: str, activations: Any, zero: int | None
) -> None:
    task, artifact = exported[family]
    ranges = run(exported, family, tmp_path)
    scheme = Scheme(
        method="static", activations=activations, weights="s8", per_channel=True, reduce_range=False, embeddings=True
    )
    nodes = [node.name for node in weighted_nodes(load_graph(artifact.file()), embeddings=True)]
    quantize_graph(artifact.file(), tmp_path / "model.onnx", scheme, nodes, ranges)
    model = load_graph(tmp_path / "model.onnx")
    operators = count_operators(model)
    assert operators["QuantizeLinear"] >= 4 * LAYERS
    assert operators["DequantizeLinear"] > operators["QuantizeLinear"]
    assert "DynamicQuantizeLinear" not in operators
    assert precision_of(model) == "int8"
    constants = {item.name: item for item in onnx.load(tmp_path / "model.onnx").graph.initializer}
    for name, (low, high) in read(ranges).items():
        if f"{name}_scale" in constants:
            scale = float(np.ravel(onnx.numpy_helper.to_array(constants[f"{name}_scale"]))[0])
            point = int(np.ravel(onnx.numpy_helper.to_array(constants[f"{name}_zero_point"]))[0])
            least, most = min(low, 0.0), max(high, 0.0)
            span = most - least if activations == "u8" else 2 * max(-least, most)
            assert scale == pytest.approx(span / 255, rel=0.01)
            assert zero is None or point == zero
    before, after = open_session(artifact.file(), 1), open_session(tmp_path / "model.onnx", 1)
    (feeds,) = [{name: values for name, values in examples_for(task, 8).batch(range(8)).items() if name != "labels"}]
    mine, theirs = after.run(None, feeds)[0], before.run(None, feeds)[0]
    assert np.abs(mine - theirs).max() < 0.3 * np.abs(theirs).max()
    assert not np.array_equal(mine, theirs)
