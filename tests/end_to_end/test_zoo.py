"""Modules given as code pass every stage, whatever they are made of, and the result is what it says it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from end_to_end.made import row
from safetensors.torch import save_file
from torch import nn
from zoo import ZOO, example, make

import edgekit
from edgekit.description import Feeding
from edgekit.pruning.channels.cost import MacCounter
from edgekit.source import sha256_file

pytestmark = pytest.mark.usefixtures("device", "torch_alone")
FILE = Path(__file__).parents[1] / "zoo.py"
ROWS, CLASSES = 120, 5
SHORT = {
    "prune.ratio": "0.5",
    "prune.floor": "0.1",
    "prune.samples": "64",
    "distill.epochs": "1",
    "optimize.seconds": "0.2",
    "quantize.samples": "32",
    "quantize.tolerance": "1.0",
}
LEDGER = ["original", "prune", "distill", "export", "optimize", "quantize"]
# Layers that stay whole, where there are others than the head.
WHOLE = {"tagger": 3, "padded": 2, "shuffled": 2, "flipped": 2, "normed": 5}
FAST = ("residual", "tagger")
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ZOO]


@dataclass(frozen=True)
class Run:
    """A module of the zoo after the whole recipe."""

    name: str
    code: str
    weights: Path
    data: Path
    out: Path
    report: edgekit.Report

    @property
    def build(self) -> Any:
        return ZOO[self.name][0]

    def stage(self, name: str) -> Path:
        """The folder of a stage's artifact."""
        return self.out / "stages" / f"{LEDGER.index(name)}-{name}"


class Runs:
    """Runs by the name of their module, made when a test first asks for one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, Run] = {}

    def __getitem__(self, name: str) -> Run:
        if name not in self.made:
            folder = self.folder / name
            code, weights, data = f"{FILE}:{ZOO[name][0].__name__}", weights_of(name, folder), data_of(name, folder)
            report = edgekit.compress(
                code,
                weights=weights,
                data=data,
                target="x86-64-vnni",
                settings=SHORT,
                max_drop=1.0,
                jobs=1,
                keep_stages=True,
                output=folder / "out",
            )
            self.made[name] = Run(name, code, weights, data, folder / "out", report)
        return self.made[name]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("zoo"))


def weights_of(name: str, folder: Path) -> Path:
    """The seeded module's weights, as a trainer would leave them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(make(name).state_dict(), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def data_of(name: str, folder: Path) -> Path:
    """Images by class, or lines of numbers with a label; of a sequence with a label at each step."""
    from PIL import Image

    _, shape, dtype = ZOO[name]
    random = np.random.default_rng(0)
    if len(shape) == 3:
        for number in range(ROWS):
            file = folder / "images" / "train" / f"class{number % CLASSES}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (*shape[1:], 3), dtype=np.uint8)).save(file)
        return folder / "images"
    lines = []
    for number in range(ROWS):
        tokens = dtype == torch.int64
        values = random.integers(0, 30, shape) if tokens else random.standard_normal(shape)
        label: Any = random.integers(0, CLASSES, shape).tolist() if tokens else number % CLASSES
        lines.append(json.dumps({"input": values.tolist(), "label": label}))
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "data.jsonl"


def raw_input(run: Run) -> str:
    """Something that a user would give to ``predict``."""
    if run.data.is_dir():
        return str(run.data / "train" / "class3" / "3.png")
    return json.dumps(json.loads(run.data.read_text().splitlines()[3])["input"])


def answers(model: nn.Module, name: str) -> Any:
    with torch.no_grad():
        return model(**example(name)).numpy()


def session_of(folder: Path) -> Any:
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


def run_onnx(folder: Path, name: str) -> Any:
    """What an exported artifact gives for the module's example."""
    return session_of(folder).run(None, {key: value.numpy() for key, value in example(name).items()})[0]


def details(report: edgekit.Report, stage: str) -> Any:
    (found,) = [entry.details for entry in report.stages if entry.stage == stage]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_about_half_of_the_cost_goes_and_the_rest_is_named(name: str, runs: Runs) -> None:
    run = runs[name]
    assert [entry.stage for entry in run.report.ledger] == LEDGER
    found = details(run.report, "prune")
    whole, pruned = make(name), edgekit.load_pruned(run.stage("prune"), run.build)
    assert found["macs_before"] == MacCounter.of(whole, example(name)).total({})
    assert found["macs_after"] == MacCounter.of(pruned, example(name)).total({})
    assert 0.35 < found["macs_after"] / found["macs_before"] < 0.65
    norms = [layer for layer in pruned.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert found["recalibrated"] == len(norms)
    left_whole = {entry["layer"]: entry["whole"] for entry in found["kept"] if "whole" in entry}
    assert len(left_whole) == WHOLE.get(name, 1)
    assert all(left_whole.values())
    for entry in found["kept"]:
        if "whole" not in entry:
            layer: Any = pruned.get_submodule(entry["layer"])
            assert entry["channels"] == layer.weight.shape[1 if getattr(layer, "transposed", False) else 0]


@pytest.mark.parametrize("name", NAMES)
def test_the_artifact_holds_what_it_says(name: str, runs: Runs) -> None:
    run = runs[name]
    manifest, images = run.report.artifact.manifest, len(ZOO[name][1]) == 3
    assert manifest.task == ("image-classification" if images else "tensor-classification")
    assert manifest.source["kind"] == "module"
    assert manifest.source["name"] == f"zoo.py:{run.build.__name__}"
    assert manifest.labels == tuple(f"class{index}" if images else f"LABEL_{index}" for index in range(CLASSES))
    plan = json.loads((run.stage("prune") / "plan.json").read_text())
    assert (plan["kind"], plan["architecture"]) == ("channels", run.build.__name__)
    for stage in ("prune", "distill"):
        suffixes = {path.suffix for path in run.stage(stage).iterdir()}
        assert suffixes == {".json", ".safetensors"}
        assert sha256_file(run.stage(stage) / "plan.json") == sha256_file(run.stage("prune") / "plan.json")
    record = edgekit.verify(run.out)
    assert record.files == len((run.out / "SHA256SUMS").read_text().splitlines())
    assert record.golden == {"model": 0.0, "task": 0.0}


@pytest.mark.parametrize("name", NAMES)
def test_every_graph_runs_and_float_graphs_equal_torch(name: str, runs: Runs) -> None:
    run = runs[name]
    expected = answers(edgekit.load_pruned(run.stage("distill"), run.build), name)
    assert expected.shape == ((3, 10, CLASSES) if name == "tagger" else (3, CLASSES))
    assert np.ptp(expected) > 1e-3
    for stage in ("export", "optimize"):
        np.testing.assert_allclose(run_onnx(run.stage(stage), name), expected, rtol=1e-3, atol=1e-4)
    assert np.isfinite(run_onnx(run.stage("quantize"), name)).all()
    for folder in (run.stage("export"), run.stage("quantize"), run.out):
        session = session_of(folder)
        ((key, value),) = example(name).items()
        (given,), (output,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.shape[1:]) == (key, list(value.shape[1:]))
        assert given.type == ("tensor(int64)" if name == "tagger" else "tensor(float)")
        assert (output.name, output.type, output.shape[1:]) == ("logits", "tensor(float)", list(expected.shape[1:]))


@pytest.mark.parametrize(
    "name", ["residual", *[pytest.param(n, marks=pytest.mark.slow) for n in ("inception", "padded")]]
)
def test_convolutions_are_quantized_and_answers_stay_near(name: str, runs: Runs) -> None:
    run = runs[name]
    found = details(run.report, "quantize")
    assert found["scheme"]["method"] == "static"
    assert found["layers"] > 1
    assert found["fallback_layers"] == []
    assert run.report.artifact.manifest.components["model"].precision == "int8"
    assert row(run.report, "quantize").size_bytes < 0.7 * row(run.report, "export").size_bytes
    images = np.random.default_rng(3).random((8, *ZOO[name][1]), dtype=np.float32)  # as bright as those of the data
    before, after = (session_of(run.stage(stage)).run(None, {"images": images})[0] for stage in ("export", "quantize"))
    difference = np.abs(before - after).max() / np.abs(before).max()
    assert 0 < difference < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_answers_are_those_of_the_report(name: str, runs: Runs) -> None:
    run = runs[name]
    quality = run.report.quality
    assert quality is not None
    assert (quality.metric, quality.n) == ("accuracy", ROWS // 10)
    scored = edgekit.evaluate(run.out, run.data, threads=1)
    assert scored.metrics[0].value == run.report.metric == quality.after
    original = edgekit.evaluate(run.code, run.data, weights=run.weights, threads=1)
    assert original.metrics[0].value == quality.before == run.report.ledger[0].metric
    predictor = edgekit.load(run.out)
    answer = predictor.predict(raw_input(run))
    if name == "tagger":
        assert len(answer) == 10
        assert {label for label, _ in answer} <= set(predictor.labels)
    else:
        assert sorted(label for label, _ in answer) == list(predictor.labels)
        assert sum(score for _, score in answer) == pytest.approx(1.0, abs=1e-5)
        assert [score for _, score in answer] == sorted((score for _, score in answer), reverse=True)
    assert predictor.predict([raw_input(run)]) == [answer]


SCRIPT = """
import sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
import edgekit

for line in Path(sys.argv[1]).read_text().splitlines():
    folder, code, feeds, answer = line.split("|")
    model = edgekit.load_pruned(folder, code)
    with np.load(feeds) as stored, torch.no_grad():
        outputs = model(**{name: torch.from_numpy(stored[name]) for name in stored.files})
    np.save(answer, outputs.numpy())
    print(sum(parameter.numel() for parameter in model.parameters()), model.training)
"""


@pytest.mark.parametrize(
    "names", [FAST, pytest.param(tuple(name for name in ZOO if name not in FAST), marks=pytest.mark.slow)]
)
def test_a_fresh_process_gives_equal_outputs(names: tuple[str, ...], runs: Runs, tmp_path: Path) -> None:
    lines, expected = [], []
    for name in names:
        feeds = tmp_path / f"{name}.npz"
        np.savez(feeds, **{key: value.numpy() for key, value in example(name).items()})  # type: ignore[arg-type]  # arrays by name
        for stage in ("prune", "distill"):
            folder, answer = runs[name].stage(stage), tmp_path / f"{name}-{stage}.npy"  # not beside what is sealed
            model = edgekit.load_pruned(folder, runs[name].build)
            expected.append((answer, answers(model, name), sum(p.numel() for p in model.parameters())))
            lines.append(f"{folder}|{runs[name].code}|{feeds}|{answer}")
    (tmp_path / "folders.txt").write_text("\n".join(lines))
    command = [sys.executable, "-P", "-c", SCRIPT, str(tmp_path / "folders.txt")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=dict(os.environ), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for (file, outputs, count), line in zip(expected, done.stdout.splitlines(), strict=True):
        assert line == f"{count} False"
        assert np.array_equal(np.load(file), outputs)
    whole = sum(parameter.numel() for parameter in make(names[0]).parameters())
    assert expected[0][2] < 0.8 * whole


@pytest.mark.slow
def test_pruning_twice_is_one_plan(tmp_path: Path) -> None:
    block = '[[stages]]\nstage = "prune"\nratio = 0.3\nsamples = 64\n\n[[stages]]\nstage = "distill"\nepochs = 1.0\n\n'
    (tmp_path / "twice.toml").write_text(
        f'schema = "edgekit.recipe/1"\nname = "twice"\n\n{block}{block}'
        '[[stages]]\nstage = "export"\n\n[[stages]]\nstage = "verify"\n'
    )
    report = edgekit.compress(
        f"{FILE}:Separable",
        weights=weights_of("separable", tmp_path),
        data=data_of("separable", tmp_path),
        target="x86-64-vnni",
        recipe=tmp_path / "twice.toml",
        max_drop=1.0,
        jobs=1,
        keep_stages=True,
        output=tmp_path / "out",
    )
    first, second = (entry.details for entry in report.stages if entry.stage == "prune")
    assert second["macs_before"] == first["macs_after"]
    assert 0.4 < second["macs_after"] / first["macs_before"] < 0.6  # type: ignore[operator]  # numbers
    folders = sorted((tmp_path / "out" / "stages").iterdir())
    assert [folder.name for folder in folders] == ["1-prune", "2-distill", "3-prune", "4-distill", "5-export"]
    last = edgekit.load_pruned(folders[3], f"{FILE}:Separable")
    assert MacCounter.of(last, example("separable")).total({}) == second["macs_after"]
    np.testing.assert_allclose(run_onnx(folders[4], "separable"), answers(last, "separable"), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "given"), [("residual", "1x3x16x16"), ("tagger", "1x10:int64")])
def test_without_data_the_rest_is_done_and_the_notes_say_what_is_left_out(
    name: str, given: str, tmp_path: Path
) -> None:
    report = edgekit.compress(
        f"{FILE}:{ZOO[name][0].__name__}",
        weights=weights_of(name, tmp_path),
        input=given,
        target="x86-64-vnni",
        settings={"optimize.seconds": "0.2"},
        jobs=1,
        keep_stages=True,
        output=tmp_path / "out",
    )
    assert set(report.notes) >= {
        "prune: left out, since it needs data (--data)",
        "distill: left out, since it needs data (--data)",
        "the metric was not measured, since there is no data",
    }
    assert [entry.stage for entry in report.ledger] == ["original", "export", "optimize", "quantize"]
    assert (report.quality, report.metric, report.data) == (None, None, {})
    (exported,) = (tmp_path / "out" / "stages").glob("*-export")
    np.testing.assert_allclose(run_onnx(exported, name), answers(make(name), name), rtol=1e-3, atol=1e-4)
    assert edgekit.verify(tmp_path / "out").golden == {"model": 0.0, "task": 0.0}


def test_pruning_by_magnitude_needs_no_data(tmp_path: Path) -> None:
    (tmp_path / "prune.toml").write_text(
        'schema = "edgekit.recipe/1"\nname = "prune"\n\n[[stages]]\nstage = "prune"\nratio = 0.4\n'
        'importance = "magnitude"\n\n[[stages]]\nstage = "export"\n\n[[stages]]\nstage = "verify"\n'
    )
    report = edgekit.compress(
        make("perceptron"),
        input="1x12",
        target="x86-64-vnni",
        recipe=tmp_path / "prune.toml",
        jobs=1,
        output=tmp_path / "out",
    )
    found = details(report, "prune")
    assert 0.5 < found["macs_after"] / found["macs_before"] < 0.7
    assert "recalibrated" not in found
    assert report.notes == ("the metric was not measured, since there is no data",)


def test_an_instance_a_class_and_a_function_are_compressed_from_python(tmp_path: Path) -> None:
    given: Feeding = {"input": "1x12"}
    model = make("perceptron")
    ways: dict[str, Any] = {"instance": model, "class": type(model), "function": lambda: make("perceptron")}
    for way, source in ways.items():
        out = tmp_path / way
        weights: Feeding = {"weights": weights_of("perceptron", tmp_path)} if way == "class" else {}
        edgekit.compress(source, **given, **weights, target="x86-64-vnni", recipe="export", jobs=1, output=out)
        np.testing.assert_allclose(run_onnx(out, "perceptron"), answers(model, "perceptron"), rtol=1e-4, atol=1e-5)
        ((label, score), *_) = edgekit.load(source, **given, **weights).predict(json.dumps([0.5] * 12))
        ((exported_label, exported_score), *_) = edgekit.load(out).predict(json.dumps([0.5] * 12))
        assert label == exported_label
        assert score == pytest.approx(exported_score, abs=1e-5)


def test_the_same_code_and_weights_are_taken_from_the_cache_and_others_are_not(tmp_path: Path) -> None:
    code, weights = tmp_path / "net.py", tmp_path / "weights.safetensors"
    code.write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))\n"
    )

    def compressed() -> edgekit.Report:
        return edgekit.compress(
            f"{code}:build",
            weights=weights,
            input="1x4",
            target="x86-64-vnni",
            recipe="export",
            jobs=1,
            output=tmp_path / "out",
        )

    tensors = {
        "0.weight": torch.ones(8, 4),
        "0.bias": torch.zeros(8),
        "2.weight": torch.ones(3, 8),
        "2.bias": torch.zeros(3),
    }
    save_file(tensors, weights)
    assert [compressed().cached for _ in range(2)] == [False, True]
    code.write_text(code.read_text().replace("ReLU", "Tanh"))
    assert not compressed().cached
    save_file(tensors | {"2.bias": torch.ones(3)}, weights)
    assert not compressed().cached
    assert session_of(tmp_path / "out").run(None, {"input": np.zeros((1, 4), np.float32)})[0].tolist() == [[1, 1, 1]]


def test_a_pruned_module_needs_its_code(runs: Runs) -> None:
    run = runs["tagger"]
    folder = run.stage("distill")
    with pytest.raises(edgekit.EdgekitError) as caught:
        edgekit.load_pruned(folder)
    assert str(caught.value).startswith("the module was built by zoo.py:Tagger, and no code runs unless you name it\n")
    assert caught.value.hint == "Name it: edgekit.load_pruned(PATH, build='path/to/zoo.py:Tagger')."
    with pytest.raises(edgekit.EdgekitError, match=r"^the plan is for Tagger\nthe module is Grouped$"):
        edgekit.load_pruned(folder, f"{FILE}:Grouped")
    with pytest.raises(edgekit.EdgekitError, match=r"^zoo.py:Tagger gives a NoneType\n"):
        edgekit.load_pruned(folder, lambda: None)  # type: ignore[arg-type,return-value]  # what a user may get wrong
    with pytest.raises(edgekit.EdgekitError, match="is an artifact of format 'onnx'"):
        edgekit.load_pruned(run.out, run.build)


def test_a_module_of_which_nothing_can_go_is_said_to_be_so(tmp_path: Path) -> None:
    data = data_of("perceptron", tmp_path)
    with pytest.raises(edgekit.EdgekitError) as caught:
        edgekit.compress(nn.Linear(12, CLASSES), data=data, target="x86-64-vnni", jobs=1, output=tmp_path / "out")
    assert caught.value.what == "no channel of Linear can be pruned"
    assert caught.value.hint == "Use a recipe without pruning: --recipe quantize."


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (f"{FILE}:Residul", {}, "there is no function in "),
        (f"{FILE}:Residual", {}, "it is not known what the module takes\n"),
        (f"{FILE}:Residual", {"input": "1x4x16x16"}, "zoo.py:Residual does not run on an input of 2x4x16x16 float32\n"),
        (
            f"{FILE}:Tagger",
            {"input": "1x10:int64", "mean": (0.5,)},
            "--mean, --std, --layout and --preprocess are for images",
        ),
        ("folder", {"input": "1x10"}, "--input was given for 'folder', which is neither code nor an .onnx file\n"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    source: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(edgekit.EdgekitError) as caught:
        edgekit.compress(source, **options, target="x86-64-vnni", output=tmp_path / "out")
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "out").exists()
