"""LiteRT as what runs a bundle: .tflite artifacts for Python, and what other platforms say of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from bundle.bundles import artifact_of, run
from tflites import INSTALLED, REASON

from edgekit.artifact import Artifact
from edgekit.bundle.build import make_bundle
from edgekit.bundle.check import check_bundle
from edgekit.bundle.forms import TFLITE_PLATFORMS, choose_form
from edgekit.bundle.platforms import PLATFORMS
from edgekit.bundle.reference import Model
from edgekit.errors import UsageError

needs_litert = pytest.mark.skipif(not INSTALLED, reason=REASON)


@needs_litert
@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "vit"])
def test_the_self_test_runs_in_litert_with_every_label(family: str, tflites: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = make_bundle(artifact_of(tflites, family, tmp_path / "artifact").path, "python", out)
    assert record.form == "tflite"
    assert check_bundle(out).problems == ()
    assert "ai-edge-litert" in (out / "requirements.txt").read_text(encoding="utf-8")
    code = (
        "import sys; from edgekit_model import self_test; found = self_test('bundle');"
        " assert 'ai_edge_litert' in sys.modules and 'onnxruntime' not in sys.modules; print(found)"
    )
    done = run(sys.executable, "-c", code, folder=out)
    assert done.stdout == "[]\n", done.stderr
    cases = json.loads((out / "bundle/selftest/selftest.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= 8
    assert sum(case["label"] is not None for case in cases) >= 4


@needs_litert
@pytest.mark.slow
def test_a_text_is_cut_to_the_largest_entry_point(tflites: Any, tmp_path: Path) -> None:
    make_bundle(artifact_of(tflites, "bert", tmp_path / "artifact").path, "python", tmp_path / "out")
    said = json.loads((tmp_path / "out/bundle/bundle.json").read_text(encoding="utf-8"))
    assert said["preprocessing"]["max_length"] == max(
        sizes["sequence"] for sizes in said["model"]["signatures"].values()
    )
    model = Model.load(tmp_path / "out/bundle")
    assert len(model.predict(" ".join(tiny.sentences(20)))) == len(model.labels)


@pytest.mark.parametrize("platform", [name for name, one in PLATFORMS.items() if "tflite" not in one.forms])
def test_a_platform_that_runs_no_tflite_says_which_one_does(platform: str, tmp_path: Path) -> None:
    artifact = Artifact(tmp_path, tiny.manifest(format="tflite"))
    with pytest.raises(UsageError, match="the artifact's format 'tflite' does not go with this bundle") as caught:
        choose_form(artifact, PLATFORMS[platform].forms, None)
    assert caught.value.hint == (
        "The code of this platform runs ONNX Runtime. A .tflite goes into a bundle for android, c or python; for"
        " this platform compress with `--format onnx`."
    )


def test_the_hint_names_the_platforms_that_run_tflite() -> None:
    assert sorted(name for name, one in PLATFORMS.items() if "tflite" in one.forms) == list(TFLITE_PLATFORMS)
