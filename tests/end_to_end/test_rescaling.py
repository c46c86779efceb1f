"""SmoothQuant, equalization and layers in float as the stage quantize has them, with outliers that INT8 cannot bear."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import tiny
from end_to_end.made import write_csv

import edgekit
from edgekit.artifact import Artifact
from edgekit.errors import UsageError
from edgekit.measure.quality import Outputs, collect_outputs
from edgekit.progress import Silent
from edgekit.quantization.schemes import LINEAR_KINDS, name_nodes
from edgekit.runtimes import open_runner
from edgekit.stages import STAGES
from edgekit.stages.base import Goal, Job, read_details
from edgekit.stages.quantize.makers import layer_errors_of
from edgekit.stages.quantize.settings import QuantizeSettings, check, needs_data
from edgekit.tasks.base import Task, Workload
from edgekit.tasks.data import Data
from edgekit.tasks.data_source import resolve_data

# As much larger as some channels of what a norm gives are planted, and which.
TIMES, CHANNELS = 100.0, [2, 11, 23]


@dataclass
class Bench:
    """A graph, its task, and data that is labelled by it."""

    root: Path
    task: Task
    artifact: Artifact
    data: Data
    made: Iterator[int] = field(default_factory=lambda: iter(range(100)))

    def job(self) -> Job:
        return Job(
            task=self.task,
            target=edgekit.load_target("x86-64-vnni"),
            workload=Workload(tokens=6),
            original=self.artifact,
            data=self.data,
            work=self.scratch(),
            scratch=self.scratch,
            outputs=self.outputs,
        )

    def scratch(self) -> Path:
        folder = self.root / f"scratch-{next(self.made)}"
        folder.mkdir()
        return folder

    def outputs(self, artifact: Artifact) -> Outputs:
        return collect_outputs(open_runner(artifact), self.task, self.data.selection, 1, Silent())

    def quantize(self, **settings: Any) -> Artifact:
        asked = QuantizeSettings(method="static", tolerance=1.0, samples=40, **settings)
        return STAGES["quantize"].run(self.artifact, asked, self.job())

    def moved(self, quantized: Artifact) -> dict[str, float]:
        """How far INT8 moves each layer."""
        settings = QuantizeSettings.model_validate(quantized.manifest.stages[-1].settings)
        found = layer_errors_of(self.artifact, settings, read_details(quantized), self.job())
        return {one.name: one.int8 for one in found}

    def apart(self, quantized: Artifact) -> float:
        """Distance of the answers over their size."""
        found, wanted = self.outputs(quantized).logits, self.outputs(self.artifact).logits
        return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def planted(artifact: Artifact, folder: Path) -> Artifact:
    """The same answers, with some channels behind each norm much larger than the others."""
    named = name_nodes(artifact, folder)  # which may be the artifact itself, and others share that
    model = onnx.load(named.file())
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    times = np.ones(tiny.HIDDEN, np.float32)
    times[CHANNELS] = TIMES
    nodes = list(model.graph.node)
    for norm in [node for node in nodes if node.op_type == "LayerNormalization"]:
        value = norm.output[0]
        readers = [node for node in nodes if value in node.input]
        products = [node for node in readers if node.op_type in LINEAR_KINDS and node.input[1] in arrays]
        arrays |= {name: arrays[name] * times for name in norm.input[1:]}
        for node in products:
            rows = any(one.name == "transB" and one.i for one in node.attribute)
            arrays[node.input[1]] = arrays[node.input[1]] / (times if rows else times[:, None])
        for node in readers:
            if node not in products:
                node.input[list(node.input).index(value)] = f"{value}_small"
        arrays["smaller"] = 1 / times
        small = onnx.helper.make_node("Mul", [value, "smaller"], [f"{value}_small"], f"{value}_small")
        nodes.insert(nodes.index(norm) + 1, small)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(model, folder / named.file().name)
    return Artifact(folder, named.manifest)


@pytest.fixture(scope="module")
def bench(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    task, plain = exported["bert"]
    root = tmp_path_factory.mktemp("planted")
    (root / "graph").mkdir()
    artifact = planted(plain, root / "graph")
    texts = tiny.sentences(120)
    logits = collect_outputs(open_runner(plain), task, task.encode({"text": texts}), 1, Silent()).logits
    file = write_csv(root / "data.csv", {"text": texts, "label": logits.argmax(-1).tolist()})
    return Bench(root, task, artifact, Data(resolve_data(file), task, 0))


def test_static_int8_loses_what_smoothing_brings_back(bench: Bench) -> None:
    plain, smooth = bench.quantize(), bench.quantize(smooth=0.5)
    assert bench.apart(plain) > 0.3
    assert bench.apart(smooth) < 0.2 * bench.apart(plain)
    told = cast("dict[str, list[str]]", read_details(smooth)["smoothed"])
    assert "smoothed" not in read_details(plain)
    before, after = bench.moved(plain), bench.moved(smooth)
    assert before.keys() == after.keys()
    # of each block query, key, value and the way up; what reads the attention and the activation has no norm before it
    assert len(told["layers"]) >= 4 * tiny.LAYERS
    assert len(told["left"]) >= 2 * tiny.LAYERS
    assert all(after[name] < 0.2 * before[name] for name in told["layers"])
    assert np.median([before[name] for name in told["layers"]]) > 0.1


def test_smoothed_graphs_repeat_to_the_byte(bench: Bench) -> None:
    one, other = bench.quantize(smooth=0.7), bench.quantize(smooth=0.7)
    assert one.file().read_bytes() == other.file().read_bytes()


def test_what_can_be_equalized_is_told_even_where_it_is_nothing(bench: Bench) -> None:
    assert read_details(bench.quantize(equalize=True))["equalized"] == []


def test_the_layers_that_are_moved_most_stay_float_as_many_as_were_asked_for(bench: Bench) -> None:
    plain = bench.quantize()
    moved = bench.moved(plain)
    spared = [bench.quantize(float_share=share) for share in (0.25, 1.0)]
    few, all_ = (cast("list[str]", read_details(one)["spared"]) for one in spared)
    assert len(few) == round(0.25 * len(all_)) > 0
    assert min(moved[name] for name in few) >= max(moved[name] for name in all_ if name not in few)
    assert "spared" not in read_details(plain)
    for one, names in zip((plain, *spared), ([], few, all_), strict=True):
        told = read_details(one)
        assert (told["layers"], sorted(cast("dict[str, str]", told["float_layers"]))) == (
            read_details(plain)["layers"],
            sorted(names),
        )
    apart = [bench.apart(one) for one in (plain, *spared)]
    assert apart == sorted(apart, reverse=True)
    assert apart[2] < 0.2 * apart[0]  # tables are INT8 still
    sizes = [one.size_bytes for one in (plain, *spared)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


@pytest.mark.parametrize(
    ("settings", "format_", "told"),
    [
        (
            {"float_share": 0.5, "method": "int4"},
            "onnx",
            "quantize.float_share=0.5 cannot go with quantize.method=int4",
        ),
        (
            {"float_share": 0.5, "engine": "both"},
            "onnx",
            "quantize.float_share=0.5 cannot go with quantize.engine=both",
        ),
        ({"float_share": 0.5}, "tflite", "quantize.float_share=0.5 cannot go with the format tflite"),
        ({"smooth": 0.5, "method": "int4"}, "onnx", "quantize.smooth=0.5 cannot go with quantize.method=int4"),
        ({"equalize": True, "method": "fp16"}, "onnx", "quantize.equalize=true cannot go with quantize.method=fp16"),
        ({"smooth": 0.5, "engine": "both"}, "onnx", "quantize.smooth=0.5 cannot go with quantize.engine=both"),
        ({"smooth": 0.5}, "tflite", "quantize.smooth=0.5 cannot go with the format tflite"),
        ({"equalize": True}, "tflite", "quantize.equalize=true cannot go with the format tflite"),
    ],
)
def test_only_onnxruntimes_int8_is_prepared_so(settings: dict[str, Any], format_: Any, told: str) -> None:
    goal = Goal(edgekit.load_target("arm64"), format_, "onnxruntime" if format_ == "onnx" else "litert")
    check(QuantizeSettings(), goal)
    with pytest.raises(UsageError, match=told) as refused:
        check(QuantizeSettings(**settings), goal)
    assert refused.value.id == "usage.settings-conflict"


def test_activations_are_smoothed_by_data() -> None:
    goal = Goal(edgekit.load_target("x86-64-vnni"), "onnx", "onnxruntime")
    assert needs_data(QuantizeSettings(smooth=0.5), goal)
    assert needs_data(QuantizeSettings(float_share=0.5), goal)
    assert not needs_data(QuantizeSettings(), goal)
