"""Two components and one state pass export, optimize, quantize, verify and bench: no stage knows what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import tiny
from end_to_end.made import pretend_device, write_csv
from end_to_end.recurrent import HIDDEN, STEPS, SYMBOLS, Spelling, original
from records import ALWAYS, SHORTLY
from safetensors.numpy import load_file

import edgekit
from edgekit.artifact import Artifact, State
from edgekit.errors import VerificationError
from edgekit.formats.onnx import load_graph
from edgekit.gate.protocol import FEWEST_INFERENCES, FEWEST_ROUNDS
from edgekit.measure.quality import Outputs, collect_outputs
from edgekit.progress import Silent
from edgekit.quantization.shadows import LayerError
from edgekit.runtimes import open_runner
from edgekit.runtimes.measuring import here
from edgekit.runtimes.torch import TorchRunner
from edgekit.sealing import seal
from edgekit.source import sha256_file
from edgekit.stages import STAGES
from edgekit.stages.base import Job, read_details
from edgekit.stages.quantize.makers import layer_errors_of
from edgekit.stages.quantize.settings import QuantizeSettings
from edgekit.tasks import TASKS
from edgekit.tasks.base import TaskOptions, Workload
from edgekit.tasks.data import Data
from edgekit.tasks.data_source import resolve_data
from edgekit.workshop import use_threads

PARTS = ("encoder", "decoder")
ROUND = State(output="next_hidden", input="hidden", initial=("batch", HIDDEN))


@dataclass
class Bench:
    """A task, its original, and stages that are run on it one by one."""

    root: Path
    task: Spelling
    source: Artifact
    data: Data
    target: edgekit.Target
    made: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def run(self, stage: str, artifact: Artifact, **settings: object) -> Artifact:
        """Run one stage as a recipe would."""
        return STAGES[stage].run(artifact, STAGES[stage].settings(**settings), self.job())

    def job(self) -> Job:
        """What a stage is handed."""
        work = self.root / f"work-{next(self.made)}"
        work.mkdir()
        return Job(
            task=self.task,
            target=self.target,
            workload=Workload(tokens=6),
            original=self.source,
            data=self.data,
            work=work,
            scratch=self.scratch,
            clock=here(1),
            outputs=self.outputs,
        )

    def layer_errors(self, parent: Artifact, quantized: Artifact) -> list[LayerError]:
        """How far the layers of a quantized artifact are from those of its parent."""
        settings = QuantizeSettings.model_validate(quantized.manifest.stages[-1].settings)
        return layer_errors_of(parent, settings, read_details(quantized), self.job())

    def scratch(self) -> Path:
        folder = self.root / f"scratch-{next(self.made)}"
        folder.mkdir()
        return folder

    def outputs(self, artifact: Artifact) -> Outputs:
        if artifact.format == "onnx":
            return collect_outputs(open_runner(artifact), self.task, self.data.evaluation, 1, Silent())
        runner = TorchRunner(self.task.components(self.task.load_model()))
        return collect_outputs(runner, self.task, self.data.evaluation, 1, Silent())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    use_threads(1)
    patch = pytest.MonkeyPatch()
    patch.setitem(TASKS, Spelling.name, Spelling)
    root = tmp_path_factory.mktemp("spelling")
    source = original(root / "original")
    task = Spelling(source.path, TaskOptions())
    # labelled by the original itself, so that it is right about every symbol
    examples = task.encode({"text": tiny.sentences(120)})
    runner = TorchRunner(task.components(task.load_model()))
    logits = collect_outputs(runner, task, examples, 1, Silent()).logits
    labels = [" ".join(map(str, row)) for row in logits.argmax(-1).tolist()]
    file = write_csv(root / "data.csv", {"text": tiny.sentences(120), "label": labels})
    yield Bench(root, task, source, Data(resolve_data(file), task, 0), edgekit.load_target("x86-64-vnni"))
    patch.undo()


@pytest.fixture(scope="module")
def exported(bench: Bench) -> Artifact:
    """Which rewrites are kept does not depend on the noise of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        pretend_device(patch)
        return bench.run("optimize", bench.run("export", bench.source), seconds=0.2)


def test_export_describes_both_components_and_the_state(exported: Artifact) -> None:
    parts = exported.manifest.components
    assert tuple(parts) == PARTS
    assert [(t.name, t.dtype, t.shape) for t in parts["encoder"].inputs] == [("ids", "int64", ("batch", "words"))]
    assert [(t.name, t.dtype, t.shape) for t in parts["decoder"].inputs] == [
        ("symbol", "int64", ("batch",)),
        ("memory", "float32", ("batch", HIDDEN)),
        ("hidden", "float32", ("batch", HIDDEN)),
    ]
    assert [(t.name, t.shape) for t in parts["decoder"].outputs] == [
        ("logits", ("batch", SYMBOLS)),
        ("next_hidden", ("batch", HIDDEN)),
    ]
    assert parts["encoder"].states == ()
    assert parts["decoder"].states == (ROUND,)
    assert [stage.stage for stage in exported.manifest.stages] == ["export", "optimize"]
    assert set(read_details(exported)) == set(PARTS)


def test_exported_components_answer_as_torch_does(bench: Bench, exported: Artifact) -> None:
    assert bench.outputs(bench.source).score(bench.task) == 1.0
    mine, torch = bench.outputs(exported), bench.outputs(bench.source)
    assert mine.logits.shape == (len(bench.data.evaluation), STEPS, SYMBOLS)
    assert np.abs(mine.logits - torch.logits).max() < 1e-4
    assert mine.score(bench.task) == 1.0


def integers(artifact: Artifact, component: str) -> int:
    """How many products of a component are computed in, or from, integers."""
    kinds = [node.op_type for node in load_graph(artifact.file(component)).graph]
    return kinds.count("MatMulInteger") + kinds.count("QuantizeLinear")


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_quantized_components_are_verified_with_golden_files_for_each_and_for_the_whole(
    method: str, bench: Bench, exported: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized = bench.run("quantize", exported, method=method, samples=70, tolerance=1.0)
    details = read_details(quantized)
    # two embedding tables, and the products project, inward, round, context and out
    assert details["layers"] == 7
    assert details["fallback_layers"] == []
    errors = bench.layer_errors(exported, quantized)
    assert "layer_errors" not in details  # only a report that is read has them
    assert len({name for name, _, _ in errors}) == 7
    assert all(0 < error < 0.1 for _, error, _ in errors)
    for name in PARTS:
        assert quantized.manifest.components[name].precision == "int8"
        assert integers(quantized, name) > 0
        assert quantized.file(name).stat().st_size < exported.file(name).stat().st_size / 2
    assert quantized.manifest.components["decoder"].states == (ROUND,)

    result = bench.run("verify", quantized, golden=3)
    quality = read_details(result)["quality"]
    assert isinstance(quality, dict)
    assert (quality["metric"], quality["before"], quality["n"]) == ("symbols", 1.0, 12)
    assert quality["cosine"] > 0.98  # type: ignore[operator]
    golden = result.path / "golden"
    assert {file.name for file in golden.iterdir()} == {
        "encoder.safetensors",
        "decoder.safetensors",
        "task.safetensors",
    }
    whole, calls = load_file(golden / "task.safetensors"), load_file(golden / "decoder.safetensors")
    assert whole["0/out/logits"].shape == (1, STEPS, SYMBOLS)
    assert not calls["0/in/hidden"].any()
    assert np.array_equal(calls["1/in/hidden"], calls["0/out/next_hidden"])
    assert np.array_equal(whole["0/out/logits"][:, 1], calls["1/out/logits"])

    seal(result.path)
    record = edgekit.verify(result.path)
    assert record.golden == {"encoder": 0.0, "decoder": 0.0, "task": 0.0}
    monkeypatch.setattr("edgekit.gate.protocol.ALONE", SHORTLY)
    measured = edgekit.bench(result.path, workload=Workload(tokens=6))
    for component in PARTS:
        found = {metric.name: metric for metric in measured.metrics if metric.component == component}
        assert found.keys() - {"energy"} == ALWAYS
        assert found["latency.p50"].value > 0  # type: ignore[operator]
        assert found["latency.p50"].n >= FEWEST_ROUNDS * FEWEST_INFERENCES
    (size,) = [metric.value for metric in measured.metrics if metric.name == "size"]
    assert size == sum(quantized.file(name).stat().st_size for name in PARTS)
    assert measured.subject.sha256 == sha256_file(result.path / "manifest.json")


def test_products_have_weights_in_int4_where_that_is_asked_for(bench: Bench, exported: Artifact) -> None:
    quantized = bench.run("quantize", exported, method="int4", tolerance=1.0)
    details = read_details(quantized)
    assert (details["layers"], details["fallback_layers"]) == (7, [])
    for name in PARTS:
        part = quantized.manifest.components[name]
        assert (part.precision, part.integers) == ("int8", "weights of 4 bits")  # two in a byte
        kinds = [node.op_type for node in load_graph(quantized.file(name)).graph]
        assert kinds.count("MatMulNBits") > 0
        assert kinds.count("MatMulInteger") == 0
    errors = bench.layer_errors(exported, quantized)
    assert sum(int4 is not None for _, _, int4 in errors) >= 5
    assert np.abs(bench.outputs(quantized).logits - bench.outputs(exported).logits).max() > 0
    assert cast("float", bench.outputs(quantized).score(bench.task)) > 0.8


def test_half_precision_keeps_float32_at_the_edges(bench: Bench, exported: Artifact) -> None:
    halved = bench.run("quantize", exported, method="fp16")
    for name in PARTS:
        part = halved.manifest.components[name]
        assert part.precision == "fp16"
        assert {t.dtype for t in part.outputs} == {"float32"}
    assert np.abs(bench.outputs(halved).logits - bench.outputs(exported).logits).max() < 0.05


def test_verify_names_the_component_whose_answers_changed(bench: Bench, exported: Artifact) -> None:
    result = bench.run("verify", exported)
    other = bench.run("quantize", exported, method="dynamic", tolerance=1.0)
    result.file("decoder").write_bytes(other.file("decoder").read_bytes())
    seal(result.path)
    with pytest.raises(VerificationError, match=r"decoder\.onnx: not what manifest\.json says"):
        edgekit.verify(result.path)


def test_calibration_sees_the_states_that_the_decoder_is_fed(bench: Bench, exported: Artifact) -> None:
    from edgekit.quantization.calibration import record_feeds

    fed = list(record_feeds(exported, bench.task, bench.data.train, list(range(40)), 1))
    assert [len(chunk["encoder"]) for chunk in fed] == [32, 8]
    assert [len(chunk["decoder"]) for chunk in fed] == [32 * STEPS, 8 * STEPS]
    assert np.abs(fed[0]["decoder"][1]["hidden"]).max() > 0
