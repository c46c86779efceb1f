"""Every hostile file is refused with a documented exit code, runs nothing of its own, and leaves no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile.corpus import CANARY, CASES, PICKLE, Attack
from tflites import INSTALLED, REASON
from tokenizers import Tokenizer

from edgekit.artifact import open_artifact
from edgekit.bundle.tokenizer import compile_tokenizer
from edgekit.checkpoint import load_checkpoint
from edgekit.cli import main
from edgekit.cli.failures import describe
from edgekit.error_catalogue import load_catalogue
from edgekit.formats.flatbuffer import load_model
from edgekit.formats.foreign import resolve_graph
from edgekit.formats.tensors import read_tensors
from edgekit.source import resolve_source
from edgekit.tasks.arrays import read_arrays
from edgekit.tasks.data_source import resolve_data
from edgekit.tasks.pixels import decode

READERS: dict[str, Callable[[Path], Any]] = {
    "arrays": read_arrays,
    "artifact": open_artifact,
    "data": resolve_data,
    "graph": lambda file: resolve_graph(file, {}, None, images=False),
    "image": lambda file: decode(file, 3),
    "source": resolve_source,
    "tensors": lambda file: read_tensors([file]),
    "tflite": load_model,
    "tokenizer": lambda file: compile_tokenizer(Tokenizer.from_file(str(file)), 64, 0),
    "weights": load_checkpoint,
}
# Through the command line as a program, whatever way a case names: a pickle, a graph, a recipe, an artifact.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "pickle-in-a-model-folder": (),
    "recipe-of-deep-lists": (),
    "graph-of-noise": ("inspect",),
    "artifact-that-names-a-file-above": ("inspect",),
    "safetensors-that-is-empty": (),
}


def refusal(attack: Attack) -> tuple[int, str, str]:
    """Exit code, id and text of what an attack ends in."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # which one is what the test looks at
        READERS[attack.way](Path(attack.given[0]))
    told = describe(caught.value)
    return told.exit_code, told.id, f"{told.what}\n{told.why}"


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("tflite") and not INSTALLED:
        pytest.skip(REASON)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_MODEL_SECONDS", "600")
    if name == "graph-without-an-end":
        monkeypatch.setenv("EDGEKIT_MODEL_SECONDS", "6")
    attack = CASES[name](tmp_path / "given" / "files")
    if attack.way == "cli":
        code, id_ = main(attack.given), None
        told = capfd.readouterr().err
        assert told.startswith("error[")
    else:
        code, id_, told = refusal(attack)
        assert id_ in load_catalogue()
    assert code == attack.code, told
    assert "Traceback" not in told
    assert "\x1b[2J" not in told
    assert not list(tmp_path.rglob(CANARY))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_refuses_it_likewise(name: str, tmp_path: Path) -> None:
    attack = CASES[name](tmp_path / "given" / "files")
    words = attack.given if attack.way == "cli" else (*PROGRAMS[name], *attack.given)
    if name.startswith("safetensors"):
        words = ("inspect", str(Path(attack.given[0]).parent))
        (tmp_path / "given" / "files" / "config.json").write_text("{}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *words],
        cwd=tmp_path,
        env=os.environ | {"EDGEKIT_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == attack.code, done.stderr
    assert done.stderr.startswith("error[")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / CANARY).exists()


def test_the_canary_sings_where_it_is_let_out(tmp_path: Path) -> None:
    """Else that nobody heard it would mean nothing."""
    script = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, input=PICKLE, check=True)
    assert (tmp_path / CANARY).exists()


def test_there_are_as_many_as_promised() -> None:
    assert len(CASES) >= 60
    page = Path(__file__).parents[2] / "docs" / "security.md"
    assert f"makes {len(CASES)} hostile files" in page.read_text(encoding="utf-8")
    assert sum(name.startswith("pickle-") for name in CASES) >= 5
    assert sum(name.startswith("external-data-") for name in CASES) >= 6
