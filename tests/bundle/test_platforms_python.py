from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from bundle.bundles import FAMILIES, flip, run, shorten

import edgekit
from edgekit.artifact import Artifact

Bundles = Callable[[str, str], Path]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_test_passes_in_a_process_without_edgekit(bundles: Bundles, family: str) -> None:
    code = (
        "import sys; from edgekit_model import self_test; found = self_test('bundle');"
        " assert not [name for name in sys.modules if name.split('.')[0] in ('edgekit', 'torch', 'transformers')];"
        " print(found)"
    )
    done = run(sys.executable, "-c", code, folder=bundles("python", family))
    assert done.stdout == "[]\n", done.stderr


def test_texts_get_the_labels_that_edgekit_gives_them(artifacts: Callable[[str], Artifact], bundles: Bundles) -> None:
    texts = tiny.sentences(3, seed=5)
    expected = [answer[0] for answer in edgekit.load(artifacts("bert").path).predict(texts)]
    done = run(sys.executable, "-m", "edgekit_model", "bundle", *texts, folder=bundles("python", "bert"))
    assert done.stdout.splitlines() == [f"{label}\t{score:.4f}" for label, score in expected]


@pytest.mark.parametrize("broken", ["tokenizer/compiled.json", "model/model.onnx", "labels.txt"])
def test_the_self_test_names_what_is_damaged(copied: Callable[[str, str], Path], broken: str) -> None:
    folder = copied("python", "bert")
    (shorten if broken == "labels.txt" else flip)(folder / "bundle" / broken)
    done = run(sys.executable, "-m", "edgekit_model", "bundle", folder=folder)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{broken}: ")
