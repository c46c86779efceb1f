"""A gate of two TFLite files, with their answers, as one of two ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from records import SHORTLY
from tflites import INSTALLED, REASON

from edgekit.benching import bench
from edgekit.errors import UsageError

pytestmark = pytest.mark.skipif(not INSTALLED, reason=REASON)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, torch_alone: object) -> Path:
    """Two files of one size, of which the second answers at random; and what the first answers, as labels."""
    import torch

    from edgekit.formats.tflite_export import export_component
    from edgekit.tasks.base import ComponentSpec

    del torch_alone
    place = tmp_path_factory.mktemp("tflite")
    rows = np.random.default_rng(0).standard_normal((1200, 8), dtype=np.float32)
    for seed, name in enumerate(("old", "other")):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(8, 3).eval()
        spec = ComponentSpec(layer, {"input": torch.randn(2, 8)}, {"input": {0: "batch"}}, ("logits",))
        export_component(spec, place / f"{name}.tflite")
        if seed == 0:
            labels = layer(torch.from_numpy(rows)).argmax(-1).numpy()
            np.savez(place / "data.npz", x=rows, label=labels)
    return place


def test_answers_and_size_of_two_tflite_files_are_gated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.gate.protocol.COMPARED", SHORTLY)
    old, other, data = folder / "old.tflite", folder / "other.tflite", folder / "data.npz"
    same = bench(old, baseline=old, gate="size=0%,accuracy=0.5pp", data=data)
    assert (same.verdict, same.runtime.name, same.subject.format) == ("pass", "litert", "tflite")
    assert (same.accuracy.lost, same.accuracy.gained) == (0, 0)  # type: ignore[union-attr]
    worse = bench(other, baseline=old, gate="size=1%,accuracy=0.5pp", data=data)
    assert {one.name: one.verdict for one in worse.gated} == {"size": "pass", "accuracy": "regression"}
    latency = worse.metric("latency.p50")
    assert latency is not None
    assert latency.delta is not None


def test_a_tflite_file_is_no_baseline_of_an_onnx_file(folder: Path, tmp_path: Path) -> None:
    import foreign

    with pytest.raises(UsageError, match="cannot be measured beside each other") as raised:
        bench(foreign.conv_net(tmp_path / "new.onnx"), baseline=folder / "old.tflite")
    assert raised.value.why == "the model is onnx: model, and the baseline tflite: model"
