"""Where ONNX Runtime converts a graph of a stranger: in a process without secrets, whose end is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import manifest

from edgekit.artifact import WHOLE, Artifact, Component
from edgekit.bundle import ort_form
from edgekit.bundle.forms import write_form
from edgekit.errors import EdgekitError, ModelError, ResourceLimitError


def converted(folder: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the form ort of a file, by a program in the place of the one that converts it."""
    (folder / "model.onnx").touch()
    (folder / "program.py").write_text(f"import json, os, signal, time\n{program}\n", encoding="utf-8")
    monkeypatch.setattr(ort_form, "__file__", str(folder / "program.py"))
    part = Component(files=("model.onnx",), inputs=(), outputs=())
    (folder / "content").mkdir()
    write_form(Artifact(folder, manifest(components={WHOLE: part})), "ort", "any", folder / "content")


def test_what_converts_a_graph_sees_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("TZ", "UTC")
    program = "print('a line of native code'); print(end=json.dumps({'refused': ' '.join(sorted(os.environ))}))"
    with pytest.raises(ModelError, match="onnxruntime does not convert 'model") as caught:
        converted(tmp_path, program, monkeypatch)
    assert caught.value.id == "model.does-not-load"
    seen = caught.value.why.split()
    assert "TZ" in seen
    assert "HF_TOKEN" not in seen


@pytest.mark.parametrize(
    ("program", "kind", "id_"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", ModelError, "model.crashes"),
        ("time.sleep(600)", ResourceLimitError, "resource-limit.model-time"),
        ("bytearray(2 * 1024**3)", ResourceLimitError, "resource-limit.model-memory"),
        ("print(end=json.dumps({'refused': 'bad allocation'}))", ResourceLimitError, "resource-limit.model-memory"),
        ("raise SystemExit(3)", ModelError, "model.does-not-load"),
    ],
)
def test_the_end_of_what_converts_a_graph_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, kind: type[EdgekitError], id_: str
) -> None:
    monkeypatch.setenv("EDGEKIT_MODEL_SECONDS", "2" if "sleep" in program else "600")
    monkeypatch.setenv("EDGEKIT_MODEL_MB", "1000")
    with pytest.raises(kind) as caught:
        converted(tmp_path, program, monkeypatch)
    assert caught.value.id == id_
