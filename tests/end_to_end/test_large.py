"""A graph whose weights are too large for one message keeps them in a file beside it, through every stage.

The bound is lowered, so that a tiny model is large.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from end_to_end.made import WORKLOAD, model_folder, text_data

import edgekit
from edgekit.artifact import open_artifact
from edgekit.errors import VerificationError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("device")]


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_weights_beside_the_graph_are_written_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("edgekit.formats.onnx.INLINE_LIMIT_BYTES", 10_000)
    out = tmp_path / "out"
    edgekit.compress(
        model_folder("bert", tmp_path / "model", layers=2),
        data=text_data(tmp_path, 60),
        target="x86-64-vnni",
        recipe="quantize",
        settings={"optimize.seconds": "0.2", "quantize.tolerance": "1.0", "quantize.method": method},
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=out,
    )
    edgekit.verify(out)
    weights = out / "model.onnx.data"
    assert weights.stat().st_mode & 0o777 == 0o644  # onnx itself writes 0600
    manifest = open_artifact(out).manifest
    assert manifest.components["model"].files == ("model.onnx", weights.name)
    assert weights.name in manifest.files
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(VerificationError, match=r"model\.onnx\.data: changed"):
        edgekit.verify(out)
