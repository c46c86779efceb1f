"""The model in the format that a platform runs: as the artifact has it, or in ONNX Runtime's own format."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, cast

from edgekit.artifact import WHOLE, Artifact
from edgekit.bundle import ort_form
from edgekit.bundle.schema import Form
from edgekit.confinement import death, lacks_memory, limits_for, out_of_memory, out_of_time, run
from edgekit.errors import ModelError, UsageError

FOLDER = "model"
OPERATORS = "required_operators.config"
FormName = Literal["onnx", "ort", "tflite"]
Serves = Literal["any", "arm", "amd64"]
X86_64 = "x86_64"  # as targets name it
TFLITE_PLATFORMS = ("android", "c", "python")
TFLITE_HINT = (
    f"The code of this platform runs ONNX Runtime. A .tflite goes into a bundle for"
    f" {', '.join(TFLITE_PLATFORMS[:-1])} or {TFLITE_PLATFORMS[-1]}; for this platform compress with `--format onnx`."
)


def choose_form(artifact: Artifact, offered: tuple[FormName, ...], wanted: str | None) -> FormName:
    """The form that a bundle gets: the wanted one, else the first that the platform offers for such an artifact.

    Raises:
        UsageError: the platform has no such form, or the artifact cannot take it.
    """
    possible = [form for form in offered if ("tflite" if form == "tflite" else "onnx") == artifact.format]
    found = next((form for form in possible if wanted in (None, form)), None)
    if found is None:
        given = f"--form {wanted}" if wanted is not None else f"the artifact's format {artifact.format!r}"
        raise UsageError(
            f"{given} does not go with this bundle",
            id="usage.bundle-form",
            why=f"for this platform and artifact: {', '.join(possible) or 'none'}; the platform takes"
            f" {', '.join(offered)}",
            hint=TFLITE_HINT if artifact.format == "tflite" and not possible else "",
        )
    return found


def served(platform: str | None, architecture: str | None) -> Serves:
    """The processors that a platform's .ort is made for.

    Args:
        platform: what the platform says: phones have Arm, WebAssembly is none in particular; None where it runs on any.
        architecture: of the artifact's target, where it has one; it decides where the platform does not.
    """
    if platform is not None:
        return cast("Serves", platform)
    return "amd64" if architecture in (None, X86_64) else "arm"


def write_form(artifact: Artifact, form: FormName, serves: Serves, content: Path) -> Form:
    """Write the model below ``content``.

    Args:
        artifact: with one component.
        form: onnx and tflite as they are; ort made from onnx, with the list of operators for a reduced build.
        serves: the processors that an ort file is fused for.
        content: folder of ``bundle.json``.

    Raises:
        ModelError: ONNX Runtime does not convert the model, or crashes on it.
        ResourceLimitError: it takes more time or memory for that than it may.
    """
    folder = content / FOLDER
    folder.mkdir()
    component = artifact.manifest.components[WHOLE]
    if form == "ort":
        return _write_ort(artifact.file(), serves, folder)
    for name in component.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path / name, folder / name)
    return Form(file=f"{FOLDER}/{component.files[0]}", format=form, serves="any")


def _write_ort(graph: Path, serves: Serves, folder: Path) -> Form:
    """Convert with onnxruntime's own tool, in a process of its own (``ort_form.py``)."""
    limits = limits_for(graph.stat().st_size, once=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-P", ort_form.__file__, str(graph), scratch, "arm" if serves == "arm" else "any"]
        try:
            done = run(command, limits)
        except subprocess.TimeoutExpired as error:
            raise out_of_time(repr(graph.name), limits) from error
        died = death(repr(graph.name), done.returncode, done.stderr, limits)
        if died is not None:
            raise died
        refused = f"it ended with {done.returncode}"
        if done.returncode == 0:
            refused = str(json.loads(done.stdout.rpartition("\n")[2])["refused"])  # native code may print before it
        if lacks_memory(refused):
            raise out_of_memory(repr(graph.name), limits, refused)
        if refused:
            raise ModelError(f"onnxruntime does not convert {graph.name!r}", id="model.does-not-load", why=refused)
        (made,) = Path(scratch).glob("*.ort")
        (operators,) = Path(scratch).glob("*.config")
        shutil.copyfile(made, folder / "model.ort")
        lines = operators.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if not line.startswith("#")]  # a comment names the folder it was made in
        (folder / OPERATORS).write_text("\n".join(kept) + "\n", encoding="utf-8")
    return Form(file=f"{FOLDER}/model.ort", format="ort", serves=serves)
