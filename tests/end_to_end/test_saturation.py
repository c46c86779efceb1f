"""A model made to saturate: edgekit sees the loss that this machine does not have, and chooses other weights."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end.made import row
from fake_devices import Emulator

import edgekit
from edgekit.artifact import Artifact
from edgekit.environment import host
from edgekit.formats.graph import constant
from edgekit.formats.onnx import load_graph
from edgekit.quantization.makers import Maker, Selection
from edgekit.quantization.saturating import ExactRunner
from edgekit.quantization.schemes import Scheme
from edgekit.quantization.widths import MIXED, SEVEN, UNSIGNED
from edgekit.stages import quantize

MODEL = Path(__file__).parents[2] / "benchmarks" / "models" / "saturating.py"
FORCED = {"quantize.scheme": "u8s8", "quantize.reduce_range": "never"}
ALONE = {"quantize.fallback": "false"}
HASWELL = host().model_copy(update={"architecture": "x86_64", "features": ("avx2", "fma")})
VNNI = host().model_copy(update={"architecture": "x86_64", "features": ("avx2", "avx512_vnni", "fma")})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from datasets import Dataset

    spec = importlib.util.spec_from_file_location("saturating", MODEL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["saturating"] = module
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("samples")
    for seed, (name, count) in enumerate((("train", 96), ("validation", 200))):
        Dataset.from_dict(module.samples(count, seed)).to_parquet(folder / f"{name}.parquet")
    return folder


def run(out: Path, target: str, settings: Mapping[str, str], data: Path | None, **options: Any) -> edgekit.Report:
    return edgekit.compress(
        f"{MODEL}:saturating",
        data=data,
        target=target,
        recipe="quantize",
        settings=dict(settings),
        output=out,
        jobs=1,
        **{"max_drop": 1.0} | options,
    )


def weights(report: edgekit.Report) -> dict[str, Any]:
    (found,) = [stage.details["weights"] for stage in report.stages if stage.stage == "quantize"]
    return found  # type: ignore[return-value]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_8_bits_lose_on_the_target_that_saturates_and_on_no_other(method: str, data: Path, tmp_path: Path) -> None:
    settings = FORCED | ALONE | {"quantize.method": method}
    saturating = run(tmp_path / "a", "x86-64", settings, data)
    wide = run(tmp_path / "b", "x86-64-vnni", settings, data)
    assert saturating.quality is not None
    assert saturating.quality.drop > 0.5
    assert [one.layer for one in saturating.saturation] == ["model/node_linear"]
    assert saturating.saturation[0].share > 0.9
    assert any(
        note.startswith("sums of 1 layer saturate on x86-64, most in model/node_linear") for note in saturating.notes
    )
    assert weights(saturating)["reason"].startswith("8 bits, as was asked for; with 8 bits, sums of 1 layer saturate")
    assert wide.saturation == ()
    assert weights(wide) is None
    assert saturating.artifact.file().read_bytes() == wide.artifact.file().read_bytes()
    assert wide.quality is not None
    assert wide.quality.drop <= 0.01


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_left_alone_weights_have_7_bits_there_and_nothing_is_lost(method: str, data: Path, tmp_path: Path) -> None:
    report = run(tmp_path / "out", "x86-64", {"quantize.method": method}, data, max_drop=0.01)
    assert row(report, "quantize").kept
    assert report.quality is not None
    assert report.quality.drop <= 0.01
    assert report.saturation == ()
    found = weights(report)
    assert (found["chosen"], found["samples"]) == ("7 bits", 64)
    (seen,) = found["saturated_at_8_bits"]
    assert (seen["layer"], seen["sums"]) == ("model/node_linear", 64 * 1024)
    assert f"weights: {found['reason']}" in report.notes
    assert found["reason"].startswith(
        "7 bits: with 8 bits, sums of 1 layer saturate on 64 samples, most in model/node_"
    )
    assert report.artifact.manifest.components["model"].integers == "u8s8, weights of 7 bits"


@pytest.mark.usefixtures("device")
def test_8_bits_that_were_asked_for_break_the_limit_or_leave_the_layer_in_float(data: Path, tmp_path: Path) -> None:
    undone = row(run(tmp_path / "a", "x86-64", FORCED | ALONE, data, max_drop=0.01), "quantize")
    assert not undone.kept
    assert undone.reason.startswith("loses 8")
    kept = run(tmp_path / "b", "x86-64", FORCED, data)
    details = next(stage.details for stage in kept.stages if stage.stage == "quantize")
    assert details["fallback_layers"] == ["model/node_linear"]
    assert kept.quality is not None
    assert kept.quality.drop == 0.0


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(
    ("too_much", "chosen", "integers"),
    [
        ({SEVEN}, MIXED, "u8s8, weights of 7 bits, of 8 in some layers"),
        ({SEVEN, MIXED}, UNSIGNED, "u8u8"),
        ({SEVEN, MIXED, UNSIGNED}, SEVEN, "u8s8, weights of 7 bits"),
    ],
)
def test_where_7_bits_lose_too_much_others_are_tried(
    too_much: set[str], chosen: str, integers: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Selection.drop

    def drop(self: Selection, maker: Maker, fallbacks: Sequence[str] = ()) -> float:
        assert isinstance(maker.scheme, Scheme)
        name = MIXED if maker.scheme.full_range else SEVEN if maker.scheme.reduce_range else UNSIGNED
        return measured(self, maker, fallbacks) + (0.2 if name in too_much else 0.0)

    monkeypatch.setattr(Selection, "drop", drop)
    report = run(tmp_path / "out", "x86-64", ALONE, data, max_drop=0.01, seed=len(too_much))
    found = weights(report)
    assert found["chosen"] == chosen
    assert [name for name, _ in found["losses"]] == [SEVEN, MIXED, UNSIGNED][: len(too_much) + 1]
    assert report.artifact.manifest.components["model"].integers == integers
    assert report.quality is not None
    assert report.quality.drop <= 0.01
    assert report.saturation == ()
    products = [node for node in load_graph(report.artifact.file()).graph if node.op_type == "MatMulInteger"]
    arrays = [constant(node.inputs[1]) for node in products]
    largest = [int(np.abs(array.astype(int)).max()) for array in arrays if array is not None]
    assert largest == {MIXED: [64, 127], UNSIGNED: [255, 255], SEVEN: [64, 64]}[chosen]


@pytest.mark.usefixtures("device")
def test_without_data_weights_have_7_bits(tmp_path: Path) -> None:
    report = run(tmp_path / "out", "x86-64", {}, None, input="1x1024")
    found = weights(report)
    assert (found["chosen"], found["samples"], found["saturated_at_8_bits"]) == ("7 bits", 0, None)
    assert found["reason"].startswith("7 bits, which cannot saturate")


@pytest.mark.usefixtures("device")
def test_a_machine_with_wider_sums_says_that_it_stands_in(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("request", "devices"):
        monkeypatch.setattr(f"edgekit.{module}.host", lambda: VNNI)
    notes = run(tmp_path / "a", "x86-64", {}, data).notes
    assert [
        note for note in notes if "simulated; `edgekit targets setup x86-64` makes an emulator to confirm it" in note
    ], notes
    emulator = Emulator("haswell, emulated")
    monkeypatch.setattr("edgekit.request.ready_emulators", lambda target: (emulator,))
    beside = run(tmp_path / "b", "x86-64", {}, data)
    assert any("simulated; also run on haswell, emulated" in note for note in beside.notes)
    (check,) = beside.devices
    assert (check.device, check.n, check.agree) == ("haswell, emulated", 64, 64)
    assert emulator.asked == ["outputs", "outputs"]  # one sample to see what it takes, then all
    assert beside.counts_after == ()
    assert "timed on a processor with VNNI, which multiplies INT8 faster than x86-64 has to" in notes


@pytest.mark.usefixtures("device")
def test_a_machine_whose_own_sums_saturate_judges_other_targets_with_exact_ones(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.quantization.saturating.host", lambda: HASWELL)
    opened: list[str] = []
    exact = ExactRunner.__init__

    def init(self: ExactRunner, artifact: Artifact, threads: int = 1) -> None:
        opened.append(artifact.manifest.components["model"].precision)
        exact(self, artifact, threads)

    monkeypatch.setattr(ExactRunner, "__init__", init)
    report = run(tmp_path / "out", "x86-64-vnni", FORCED, data)
    assert opened.count("int8") == 2  # on the selection split, and on the evaluation split
    assert report.saturation == ()
    assert report.quality is not None
    assert report.quality.drop <= 0.01
    assert (
        "answers are exact, as on x86-64-vnni; this machine's own INT8 sums saturate and were not used" in report.notes
    )


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("width", "chosen"), [("auto", "7 bits"), ("never", "8 bits")])
def test_what_saturates_is_told_of_neural_compressor_too(
    width: str, chosen: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its part is played by the other engine, whose graphs are of the same kind."""
    monkeypatch.setattr(quantize, "theirs", quantize.ours)
    monkeypatch.setattr("edgekit.quantization.neural_compressor.require", lambda: None)
    measured = Selection.drop
    monkeypatch.setattr(Selection, "drop", lambda *given: measured(*given) + 0.2)
    settings = ALONE | {"quantize.engine": "neural-compressor", "quantize.reduce_range": width}
    found = weights(run(tmp_path / "out", "x86-64", settings, data))
    assert found["chosen"] == chosen
    assert [one["layer"] for one in found["saturated_at_8_bits"]] == ["model/node_linear"]
    assert [name for name, _ in found["losses"]] == (["7 bits"] if width == "auto" else [])  # no other width is tried
    assert "with 8 bits, sums of 1 layer saturate on 64 samples" in found["reason"]
