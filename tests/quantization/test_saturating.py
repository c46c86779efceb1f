from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from integers import dynamic, make_case, wide_weights
from tiny import Exported, batches

from edgekit.environment import Host, host
from edgekit.quantization.saturating import ExactRunner, SaturatingRunner, arithmetic_on, open_as_on
from edgekit.runtimes.ort import OnnxRunner
from edgekit.target import load_target

HERE = host()
HASWELL = HERE.model_copy(update={"architecture": "x86_64", "features": ("avx2", "fma")})
VNNI = HERE.model_copy(update={"architecture": "x86_64", "features": ("avx2", "avx512_vnni", "fma")})


def test_a_graph_in_float_answers_as_ever_and_counts_nothing(exported: Exported) -> None:
    task, artifact = exported["bert"]
    runner = SaturatingRunner(artifact)
    for batch in batches(task, 8):
        assert np.allclose(task.forward(runner, batch), task.forward(OnnxRunner(artifact), batch), atol=1e-6)
    assert (runner.saturated.layers, runner.saturated.unknown) == ((), ())


def test_counts_add_up_over_calls(tmp_path: Path) -> None:
    case = make_case("blocks", tmp_path)
    runner = SaturatingRunner(case.artifact)
    sums = []
    for call in (*case.calls, *case.calls):
        runner.run("model", call)
        sums.append(runner.saturated.layers[0])
    assert [one.sums for one in sums] == [sums[0].sums * (index + 1) for index in range(6)]
    assert sums[5].saturated == 2 * sums[2].saturated > 0


def test_components_are_counted_apart(tmp_path: Path) -> None:
    case = dynamic(tmp_path, (64, 16), 3)
    part = case.artifact.manifest.components["model"]
    both = case.artifact.manifest.model_copy(update={"components": {"encoder": part, "decoder": part}})
    runner = SaturatingRunner(replace(case.artifact, manifest=both))
    runner.run("decoder", case.calls[0])
    assert [one.layer for one in runner.saturated.layers] == ["decoder/product"]
    runner.run("encoder", case.calls[1])
    assert {one.layer for one in runner.saturated.layers} == {"encoder/product", "decoder/product"}


@pytest.mark.parametrize(
    ("here", "target", "original", "expected"),
    [
        (VNNI, "x86-64", False, "saturating"),
        (VNNI, "x86-64", True, "here"),
        (VNNI, "x86-64-vnni", False, "here"),
        (VNNI, "arm64", False, "here"),
        (HASWELL, "x86-64", False, "saturating"),
        (HASWELL, "x86-64", True, "exact"),
        (HASWELL, "x86-64-vnni", False, "exact"),
        (HASWELL, "arm64", False, "exact"),
    ],
)
def test_sums_are_the_targets_whatever_this_machines_are(
    here: Host, target: str, original: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.quantization.saturating.host", lambda: here)
    assert arithmetic_on(load_target(target), "onnx", original=original) == expected
    assert arithmetic_on(load_target(target), "tflite", original=original) == "here"


@pytest.mark.parametrize(
    ("here", "target", "kind"),
    [
        (VNNI, "x86-64", SaturatingRunner),
        (VNNI, "arm64", OnnxRunner),
        (HASWELL, "x86-64", SaturatingRunner),
        (HASWELL, "x86-64-vnni", ExactRunner),
        (HASWELL, "arm64", ExactRunner),
    ],
)
def test_a_runner_has_the_arithmetic_of_the_target(
    here: Host, target: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.quantization.saturating.host", lambda: here)
    case = make_case("blocks", tmp_path)
    runner = open_as_on(case.artifact, load_target(target))
    assert type(runner) is kind
    given = runner.run("model", case.calls[0])["y"]
    weight = wide_weights((384, 96)).astype(int)
    exact = (case.calls[0]["x"].astype(int) - 77) @ weight
    if kind is SaturatingRunner:
        assert np.abs(given - exact).max() > 1000
    elif kind is ExactRunner or not HERE.saturates:
        assert np.array_equal(given, exact)
