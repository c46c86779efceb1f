"""What is damaged: of each format the right files, made here, and the commands that open them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# What is scored where a module is given as code; its weights are what `pt` damages.
NET = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Linear(2, 3)
"""
EVALUATED = ("eval", "{}/net.py:net", "--input", "1x2")
TENSORS = ("predict", "{file}", "{}/x.npz", "--task", "tensors")


class Kind(NamedTuple):
    """What is mutated, and how it is opened.

    Attributes:
        files: of the right folder, those that one mutant each changes one of.
        commands: the words of each way to open the folder; ``{}`` is the folder, ``{file}`` the mutated file.
        weights: how often each is taken by the forked children.
        text: whether it is mutated as text as well.
        sealed: whether sums are made anew behind most mutants, so that more than the sums is looked at.
    """

    files: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    weights: tuple[int, ...]
    text: bool = False
    sealed: bool = False


KINDS = {
    "onnx": Kind(("net.onnx", "loop.onnx"), (("inspect", "{file}"), TENSORS, ("bench", "{file}")), (3, 2, 0)),
    "tflite": Kind(("net.tflite",), (("inspect", "{file}"), TENSORS), (5, 1)),
    "safetensors": Kind(("model.safetensors",), (("inspect", "{}"), ("predict", "{}", "w1 w2 w3")), (2, 1)),
    "pt": Kind(("model.pt",), ((*EVALUATED, "--weights", "{file}", "--data", "{}/x.npz"),), (1,)),
    "json": Kind(
        ("config.json", "tokenizer.json", "tokenizer_config.json"),
        (("predict", "{}", "w1 w2 w3"), ("inspect", "{}")),
        (2, 1),
        text=True,
    ),
    "toml": Kind(
        ("recipe.toml", "target.toml", "recipe.lock.toml"),
        (("recipes", "check", "{file}"), ("targets", "check", "{file}"), ("recipes", "check", "{file}")),
        (1, 1, 1),
        text=True,
    ),
    "npz": Kind(("x.npz",), ((*EVALUATED, "--data", "{file}"),), (1,)),
    "artifact": Kind(
        ("manifest.json", "report.json", "recipe.lock.toml", "SHA256SUMS"),
        (("verify", "{}"), ("inspect", "{}"), ("attest", "{}"), ("report", "{}", "-o", "{}/page.html")),
        (1, 2, 2, 1),
        text=True,
        sealed=True,
    ),
    "bundle": Kind(
        ("bundle/bundle.json", "bundle/selftest/selftest.json", "bundle/tokenizer/compiled.json"),
        (("bundle", "check", "{}"),),
        (1,),
        text=True,
    ),
}


def right_files(kind: str, folder: Path) -> None:
    """The files that mutants are made of."""
    sys.path.insert(0, str(ROOT / "tests"))
    MAKERS[kind](folder)


def _onnx(folder: Path) -> None:
    from hostile.corpus import graph

    folder.mkdir(parents=True)
    shutil.move(graph(folder / "made", lambda model: None).given[0], folder / "net.onnx")
    shutil.rmtree(folder / "made")
    _control_flow(folder / "loop.onnx")
    _rows(folder / "x.npz")


def _tflite(folder: Path) -> None:
    from hostile.corpus import tflite

    folder.mkdir(parents=True)
    shutil.move(tflite(folder / "made", lambda model: None).given[0], folder / "net.tflite")
    shutil.rmtree(folder / "made")
    _rows(folder / "x.npz")


def _model_folder(folder: Path) -> None:
    import tiny

    tiny.save(tiny.build("bert", layers=1), folder)


def _toml(folder: Path) -> None:
    from sealed import LOCK

    folder.mkdir(parents=True)
    shutil.copyfile(ROOT / "edgekit" / "recipes" / "default.toml", folder / "recipe.toml")
    shutil.copyfile(ROOT / "targets" / "arm64.toml", folder / "target.toml")
    (folder / "recipe.lock.toml").write_text(LOCK, encoding="utf-8")


def _module(folder: Path) -> None:
    import numpy as np
    import torch

    folder.mkdir(parents=True)
    (folder / "net.py").write_text(NET, encoding="utf-8")
    rows = np.arange(24, dtype=np.float32).reshape(12, 2)
    np.savez_compressed(folder / "x.npz", input=rows, label=np.arange(12) % 3)
    torch.manual_seed(0)
    torch.save(torch.nn.Linear(2, 3).state_dict(), folder / "model.pt")  # noqa: TID251  # what others give, damaged


def _artifact(folder: Path) -> None:
    from bundle.bundles import make_artifact
    from cli.samples import make_report
    from sealed import LOCK

    from edgekit.artifact import open_artifact, write_artifact
    from edgekit.sealing import seal

    made = folder.with_name("made")
    shutil.copytree(make_artifact("bert", made).path, folder)
    origins = {"source": {"name": "tiny", "digest": "5" * 64}, "data": {"name": "texts", "digest": "d" * 64}}
    write_artifact(folder, open_artifact(folder).manifest.model_copy(update=origins))
    make_report(made / "report").save(folder)
    (folder / "recipe.lock.toml").write_text(LOCK, encoding="utf-8")
    seal(folder)
    shutil.rmtree(made)


def _bundle(folder: Path) -> None:
    from bundle.bundles import make_artifact

    from edgekit.bundle.build import make_bundle

    made = folder.with_name("made")
    make_bundle(make_artifact("bert", made).path, "node", folder, "onnx")
    shutil.rmtree(made)


MAKERS: dict[str, Callable[[Path], None]] = {
    "onnx": _onnx,
    "tflite": _tflite,
    "safetensors": _model_folder,
    "pt": _module,
    "json": _model_folder,
    "toml": _toml,
    "npz": _module,
    "artifact": _artifact,
    "bundle": _bundle,
}


def _rows(file: Path) -> None:
    import numpy as np

    np.savez(file, x=np.array([[0, 1]], np.float32))


def _control_flow(file: Path) -> None:
    """A graph with shapes that are computed, a loop and a choice."""
    import onnx

    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> net (float[n, 2] x) => (float[n, 2] y)'
            " <int64 times = {3}, bool yes = {1}, int64[2] shape = {-1, 2}> {"
            " turned = Loop (times, yes, x) <body = body (int64 i, bool go, float[n, 2] a) => (bool on, float[n, 2] b)"
            " { on = Identity (go) b = Relu (a) }>"
            " sizes = Shape (turned) filled = ConstantOfShape (sizes) sum = Add (turned, filled)"
            " y = Reshape (sum, shape) }"
        ),
        file,
    )
