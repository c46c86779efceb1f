from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from bundle.bundles import FAMILIES, commands_of, flip, run, shorten
from graphs import proto
from PIL import Image

import edgekit
from edgekit.artifact import Artifact
from edgekit.bundle.reference.model import open_model

Bundles = Callable[[str, str], Path]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_test_passes_in_a_process_without_edgekit(copied: Bundles, family: str) -> None:
    code = (
        "import sys; from edgekit_model import self_test; found = self_test('bundle');"
        " assert not [name for name in sys.modules if name.split('.')[0] in ('edgekit', 'torch', 'transformers')];"
        " print(found)"
    )
    done = run(sys.executable, "-c", code, folder=copied("python", family))
    assert done.stdout == "[]\n", done.stderr


def test_names_in_a_graph_are_not_told_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    unused = "agraph (float[n] x) => (float[n] y) <float[1] unused = {1}> { y = Abs(x) }"
    model = proto(unused)
    model.graph.initializer[0].name = "\x1b[2Junused"  # onnxruntime warns of it by its name
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    described = {"model": {"forms": [{"format": "onnx", "file": "net.onnx"}]}, "answer": {"output": "y"}}
    run_ = open_model(tmp_path, described, 1)
    assert run_({"x": np.array([-1.0], np.float32)}).tolist() == [1.0]
    assert capfd.readouterr().err == ""


def test_texts_get_the_labels_that_edgekit_gives_them(artifacts: Callable[[str], Artifact], copied: Bundles) -> None:
    texts = tiny.sentences(3, seed=5)
    expected = [answer[0] for answer in edgekit.load(artifacts("bert").path).predict(texts)]
    done = run(sys.executable, "-m", "edgekit_model", "bundle", *texts, folder=copied("python", "bert"))
    assert done.stdout.splitlines() == [f"{label}\t{score:.4f}" for label, score in expected]


@pytest.mark.parametrize("broken", ["tokenizer/compiled.json", "model/model.onnx", "labels.txt"])
def test_the_self_test_names_what_is_damaged(copied: Callable[[str, str], Path], broken: str) -> None:
    folder = copied("python", "bert")
    (shorten if broken == "labels.txt" else flip)(folder / "bundle" / broken)
    done = run(sys.executable, "-m", "edgekit_model", "bundle", folder=folder)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{broken}: ")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_readme_leads_from_nothing_to_a_prediction(copied: Callable[[str, str], Path], family: str) -> None:
    folder = copied("python", family)
    commands = commands_of(folder / "README.md")
    assert len(commands) <= 10
    if family == "vit":
        Image.new("RGB", (20, 30), (200, 30, 90)).save(folder / "photo.jpg")  # the README's example
    printed = []
    for command in commands:
        done = run("sh", "-c", command, folder=folder)
        assert done.returncode == 0, (command, done.stderr)
        printed.append(done.stdout)
    assert printed[-2] == "self-test passed\n"
    label, _, score = printed[-1].strip().partition("\t")
    assert label in (folder / "bundle/labels.txt").read_text(encoding="utf-8").split("\n")
    assert 0 < float(score) <= 1
