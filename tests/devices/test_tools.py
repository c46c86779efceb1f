"""What the tools are told and what they print: texts as they stand in their sources and as others published them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.devices.tools import TOOLS, Call, UnreadableError
from edgekit.errors import ModelError
from edgekit.formats.flatbuffer import Graph, Model, Signature, Tensor
from edgekit.runtimes.litert import open_graph
from edgekit.target import RuntimeSpec

PERF, BENCH = TOOLS["onnxruntime"], TOOLS["litert"]
# The same session as it was printed until 2025, and since.
PERF_PRINTED = """Setting intra_op_num_threads to 1
Session creation time cost: 0.217932 s
First inference time cost: 196 ms
Total inference time cost: 0.49481 s
Total inference requests: 3
Average inference time cost{total}: 98.961997 ms
Total inference run time: 0.494854 s
Number of inferences per second: 10.104
Avg CPU usage: 11 %
Peak working set size: 271122432 bytes
"""
PERF_ROWS = "0,0.101519,271122432,11,0\n0,0.0958204,271122432,11,1\n0,9.95086e-05,271122432,11,2\n"
BENCH_PRINTED = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [0/model.tflite]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 3.57776
INFO: Initialized session in 3.337ms.
INFO: Running benchmark for at least 5 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=5 first=81913 curr=55502 min=55502 max=81913 avg=58984.7 std=8115 p5=55502 median=56003 p95=81913

INFO: Running benchmark for at least 2 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: {counts}

INFO: Inference timings in us: Init: 3337, First inference: 81913, Warmup (avg): 58984.7, Inference (avg): {mean}
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual
INFO: Memory footprint delta from the start of the tool (MB): init=2.43359 overall=8.67578
"""
TWO = "count=2 first=56576 curr=56299 min=56299 max=56576 avg=56437.5 std=138"
MEMORY = "INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.25\n"


def call(count: int = 2, *, memory: bool = False, inputs: tuple[str, ...] = ()) -> Call:
    return Call("0/model.tflite", inputs, 1, count, 1, memory)


def test_every_runtime_has_its_tool() -> None:
    names = RuntimeSpec.model_fields["name"].annotation
    assert set(getattr(names, "__args__", ())) <= TOOLS.keys()


@pytest.mark.parametrize("total", ["", " total"])
def test_perf_test_gives_each_inference(total: str) -> None:
    found = PERF.read(PERF_PRINTED.format(total=total), PERF_ROWS, call())
    assert found.samples_ms == pytest.approx([95.8204, 0.0995086])
    assert (found.load_ms, found.peak_memory_bytes) == (pytest.approx(217.932), 271122432)


@pytest.mark.parametrize(
    ("printed", "rows"),
    [
        (PERF_PRINTED.replace("Session creation time cost", "Session time"), PERF_ROWS),
        (PERF_PRINTED, ""),
        (PERF_PRINTED, PERF_ROWS.replace(",11,2", ",11,3")),
        (PERF_PRINTED, PERF_ROWS + "0,0.1,271122432,11,3\n"),
        (PERF_PRINTED, PERF_ROWS + "P50 Latency: 0.09 s\n"),
        (PERF_PRINTED, PERF_ROWS.replace("0.101519", "nan")),
    ],
)
def test_what_perf_test_does_not_print_is_not_read(printed: str, rows: str) -> None:
    with pytest.raises(UnreadableError):
        PERF.read(printed, rows, call())


def test_perf_test_is_given_the_inputs_in_every_folder_beside_the_graph(tmp_path: Path) -> None:
    feeds = {"ids": np.arange(6, dtype=np.int64).reshape(2, 3), "mask": np.ones((2, 3), np.float16)}
    for name, folders in (("plain", []), ("weights", ["data", "more"])):
        graph = tmp_path / name / "m.onnx"
        graph.parent.mkdir()
        for folder in folders:
            (graph.parent / folder).mkdir()
        assert PERF.lay_out(graph, feeds) == ()
        assert sorted(path.name for path in graph.parent.iterdir()) == (folders or ["test_data_set_0"])
        for folder in folders or ["test_data_set_0"]:
            files = [graph.parent / folder / f"input_{number}.pb" for number in (0, 1)]
            tensors = [onnx.TensorProto.FromString(file.read_bytes()) for file in files]
            assert [tensor.name for tensor in tensors] == ["ids", "mask"]
            for tensor, values in zip(tensors, feeds.values(), strict=True):
                np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), values)


def test_benchmark_model_gives_its_first_and_its_last_inference() -> None:
    found = BENCH.read(BENCH_PRINTED.format(counts=TWO, mean="56437.5"), "", call())
    assert (found.load_ms, found.samples_ms, found.peak_memory_bytes) == (3.337, [56.576, 56.299], 0)
    alike = BENCH.read(BENCH_PRINTED.format(counts="count=2 curr=193(all same)", mean="193"), "", call())
    assert alike.samples_ms == [0.193, 0.193]
    one = BENCH.read(BENCH_PRINTED.format(counts="count=1 curr=56299", mean="56299") + MEMORY, "", call(1, memory=True))
    assert (one.samples_ms, one.peak_memory_bytes) == ([56.299], int(93.25 * 1024 * 1024))


@pytest.mark.parametrize(
    ("counts", "mean", "asked"),
    [
        (TWO, "56437.5", call(1)),
        (TWO.replace("count=2", "count=3"), "56437.5", call()),
        (TWO, "57000", call()),
        ("no line of counts", "56437.5", call()),
        (TWO, "unknown", call()),
        ("count=1 curr=56299", "56299", call(1, memory=True)),
    ],
)
def test_what_benchmark_model_does_not_print_is_not_read(counts: str, mean: str, asked: Call) -> None:
    with pytest.raises(UnreadableError):
        BENCH.read(BENCH_PRINTED.format(counts=counts, mean=mean), "", asked)


def test_benchmark_model_is_asked_for_so_many_inferences() -> None:
    words = BENCH.arguments(call(memory=True, inputs=("--input_layer=input_0",)), "result")
    assert words == [
        "--graph=0/model.tflite",
        "--num_threads=1",
        "--warmup_runs=1",
        "--warmup_min_secs=0",
        "--num_runs=2",
        "--min_secs=0",
        "--report_peak_memory_footprint=true",
        "--input_layer=input_0",
    ]
    assert not any("memory" in word for word in BENCH.arguments(call(), "result"))
    assert (BENCH.most, PERF.most) == (2, None)


def model(*lengths: int, dtype: str = "int32") -> Model:
    """A file with a signature for each length, whose graphs take the mask first and the ids second."""
    graphs = tuple(
        Graph((Tensor("mask", "float32", (1, size), 0, 0), Tensor("ids", dtype, (1, size), 0, 0)), (), (0, 1), ())
        for size in lengths
    )
    signatures = {f"length_{size}": Signature(n, {"ids": 1, "mask": 0}, {}) for n, size in enumerate(lengths)}
    return Model(graphs, signatures, {}, 0)


def feeds(size: int, dtype: type = np.int64) -> dict[str, np.ndarray]:
    return {"ids": np.arange(1, size + 1, dtype=dtype)[None], "mask": np.ones((1, size), np.float32)}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    (tmp_path / "0").mkdir()
    return tmp_path / "0" / "model.tflite"


def test_benchmark_model_runs_the_smallest_signature_that_fits(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.devices.tools.load_model", lambda file: model(128, 32, 64))
    assert BENCH.lay_out(graph, feeds(40)) == (
        "--input_layer=input_0,input_1",
        "--input_layer_shape=1,64:1,64",
        "--input_layer_value_files=input_0:0/input_0.bin,input_1:0/input_1.bin",
        "--signature_to_run_for=length_64",
    )
    ids = np.frombuffer((graph.parent / "input_1.bin").read_bytes(), np.int32)
    np.testing.assert_array_equal(ids, [*range(1, 41), *[0] * 24])
    assert np.frombuffer((graph.parent / "input_0.bin").read_bytes(), np.float32).sum() == 40
    with pytest.raises(ModelError, match=r"does not take the inputs\nids \[1, 129\], mask \[1, 129\]"):
        BENCH.lay_out(graph, feeds(129))


def test_benchmark_model_draws_the_integers_that_floats_would_be_quantized_to(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.devices.tools.load_model", lambda file: model(-1, dtype="int8"))
    assert BENCH.lay_out(graph, feeds(8, np.float32)) == (
        "--input_layer=input_0,input_1",
        "--input_layer_shape=1,8:1,8",
        "--input_layer_value_files=input_0:0/input_0.bin",
    )
    assert not (graph.parent / "input_1.bin").exists()


def test_what_benchmark_model_is_fed_gives_the_runners_own_answer(tflites: Any, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    made = tflites["bert"]
    (feeds,) = made.batches(1, 1)
    place = tmp_path / "0"
    place.mkdir()
    graph = place / "model.tflite"
    graph.write_bytes(made.file.read_bytes())
    words = dict(word.removeprefix("--").split("=", 1) for word in TOOLS["litert"].lay_out(graph, feeds))
    shapes = [tuple(map(int, shape.split(","))) for shape in words["input_layer_shape"].split(":")]
    files = dict(pair.split(":") for pair in words["input_layer_value_files"].split(","))
    interpreter = Interpreter(model_path=str(graph))
    runner = interpreter.get_signature_runner(words["signature_to_run_for"])
    by_index = sorted(runner.get_input_details().items(), key=lambda item: order(graph, words, item[1]["index"]))
    given = {}
    for (name, detail), shape, layer in zip(by_index, shapes, words["input_layer"].split(","), strict=True):
        assert tuple(detail["shape"]) == shape
        content = (tmp_path / files[layer]).read_bytes()
        given[name] = np.frombuffer(content, detail["dtype"]).reshape(shape)
    logits = runner(**given)["logits"]
    expected = open_graph(made.file, made.component, 1).run(feeds)["logits"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def order(graph: Path, words: dict[str, str], index: int) -> int:
    """Place of a tensor among the inputs of the signature's graph: the order that benchmark_model goes by."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph.read_bytes()))
    (entry,) = [one for one in model.signatureDefs if one.signatureKey.decode() == words["signature_to_run_for"]]
    return list(model.subgraphs[entry.subgraphIndex].inputs).index(index)
