"""A run that measures over ssh: the same artifact as one that measures here, and the same answers there."""

from __future__ import annotations

from pathlib import Path

import pytest
from end_to_end.made import WORKLOAD, image_parquet, model_folder
from sshd import needs_sshd, sshd

import edgekit


@needs_sshd
def test_a_run_over_ssh_measures_there_and_answers_alike(tmp_path: Path) -> None:
    options = {
        "data": image_parquet(tmp_path / "data", 80),
        "recipe": "quantize",
        "settings": {"quantize.tolerance": "1.0"},
        "max_drop": 1.0,
        "workload": WORKLOAD,
        "jobs": 1,
    }
    model = model_folder("vit", tmp_path / "model", layers=1, intermediate_size=512)
    with sshd(tmp_path / "ssh") as server:
        there = edgekit.compress(model, **options, device=server.address, output=tmp_path / "there")
    here = edgekit.compress(model, **options, device="local", output=tmp_path / "here")
    assert there.measured
    assert there.latency_ms.p50 is not None
    assert there.metric == here.metric
    (check,) = there.devices
    assert check.device.endswith(", over ssh")
    assert (check.n, check.agree, check.here) == (20, 20, check.there)
    assert here.devices == ()
    assert here.timed_on is None
    assert there.timed_on is not None
    assert there.timed_on.device == check.device
    assert there.timed_on.facts["machine"] == here.host.architecture
    assert there.runtime == check.runtime == here.runtime
    assert check.device in (tmp_path / "there" / "README.md").read_text()
    text = (tmp_path / "there" / "report.json").read_text() + (tmp_path / "there" / "report.html").read_text()
    assert "loopback" not in text
    with pytest.raises(edgekit.EdgekitError, match="loopback cannot be used over ssh"):
        edgekit.compress(model, **options, seed=1, device=server.address, output=tmp_path / "gone")
