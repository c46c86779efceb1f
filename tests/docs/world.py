"""The folder that the pages' commands run in: a model, data, images and code under the names that the pages use."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import tflites
import tiny
from docs.reading import read_steps

from edgekit.cli import main
from edgekit.demo import SETTINGS
from edgekit.gate.protocol import Plan
from edgekit.measure.profile import profile_sides
from edgekit.runtimes.measuring import Timing

# Enough for p90, which needs 64 samples.
QUICK = Timing(seconds=0.1, rounds=25)
SHORT = Timing(seconds=0.0, rounds=3, block=2, warmup=1)
LABELS = ("negative", "positive")
ROWS, HELD_OUT = 192, 64
# The artifact that most pages speak of, by the first command of the first page.
FIRST = "edgekit compress ./my-model --data ./my-data --target host --max-drop 1% -o out"


def hasten(patch: Any) -> None:
    """Short measurements and little training, for the default settings too, on one thread beside other tests."""
    for module in ("api", "demo", "request"):
        patch.setattr(f"edgekit.{module}.available_cores", lambda: 1)
    for name in (
        "edgekit.pipeline.JUDGING",
        "edgekit.pipeline.JUDGING_A_TRIAL",
        "edgekit.search.executor.WEIGHING",
        "edgekit.assembly.FINAL",
        "edgekit.assembly.INTERIM",
        "edgekit.costing.TIMING",
    ):
        patch.setattr(name, QUICK)
    patch.setattr("edgekit.assembly.profile_sides", functools.partial(profile_sides, timing=SHORT))
    patch.setattr("edgekit.profiling.PROFILING", SHORT)
    for name in ("ALONE", "COMPARED"):
        patch.setattr(f"edgekit.gate.protocol.{name}", Plan(budget_s=600.0, process_s=0.05, processes=1, starts=1))
    patch.setattr("edgekit.measure.statistics.RESAMPLES", 200)
    for name, shares in (("HEAD_SHARES", (0.5, 1.0)), ("NEURON_SHARES", (0.5, 1.0)), ("CHECKED", ((0.75, 0.75),))):
        patch.setattr(f"edgekit.pruning.encoders.design.{name}", shares)
    patch.setattr("edgekit.measure.limits.SHAPES", ((64, 64, 64),))
    patch.setattr("edgekit.formats.tflite_export.LENGTHS", (64,))
    patch.setattr("edgekit.stages.optimize.Timing", lambda **_: QUICK)
    for name, value in (("FEWEST_EPOCHS", 1.0), ("FEWEST_STEPS", 12)):
        patch.setattr(f"edgekit.stages.distill.{name}", value)
    patch.setattr("edgekit.demo.EPOCHS", 2)
    patch.setitem(SETTINGS, "distill.epochs", "1")


def build_world(folder: Path) -> None:
    """Everything that the pages take as given."""
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / "my-model")
    write_configuration(folder)
    write_texts(folder / "my-data" / "train.csv", ROWS, seed=0)
    write_texts(folder / "my-data" / "validation.csv", HELD_OUT, seed=1)
    write_texts(folder / "sents.csv", ROWS, seed=0, names=("body", "y"))
    write_images(folder / "my-images")
    shutil.copyfile(min((folder / "my-images").rglob("*.png")), folder / "photo.jpg")
    write_graph(folder)
    if tflites.INSTALLED:
        write_tflite(folder)
    for step in read_steps("docs/your-module.md"):
        if step.kind == "file":
            (folder / step.name).write_text(step.text, encoding="utf-8")
    save_weights(folder)


def save_model(folder: Path) -> None:
    """A BERT of two layers that has learned its data, with a tokenizer for 128 tokens."""
    import torch

    names = dict(enumerate(LABELS))
    model = tiny.build(
        "bert", layers=2, max_position_embeddings=160, id2label=names, label2id={v: k for k, v in names.items()}
    )
    words = tiny.tokenizer()
    words.model_max_length = 128
    rows = tiny.labelled(ROWS)
    batch = words(rows["text"], padding=True, return_tensors="pt")
    labels, optimizer = torch.tensor(rows["label"]), torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def write_graph(folder: Path) -> None:
    """``others.onnx`` for images, and ``arrays.npz`` of what it is fed."""
    foreign.conv_net(folder / "others.onnx", opset=11, listed=True, classes=2)
    foreign.recurrent(folder / "speech.onnx", names=("before", "after"))
    random = np.random.default_rng(0)
    size = (60, 3, foreign.PIXELS, foreign.PIXELS)
    np.savez(folder / "arrays.npz", pixels=random.standard_normal(size, dtype=np.float32))


def write_tflite(folder: Path) -> None:
    """``others.tflite``, ``features.npz`` with labels, and ``sample.npz`` of what it is fed."""
    import torch

    from edgekit.formats.tflite_export import export_component
    from edgekit.tasks.base import ComponentSpec

    class Scores(torch.nn.Linear):
        def forward(self, input_1: torch.Tensor) -> torch.Tensor:
            return super().forward(input_1)

    spec = ComponentSpec(Scores(8, 3).eval(), {"input_1": torch.randn(2, 8)}, {"input_1": {0: "batch"}}, ("logits",))
    export_component(spec, folder / "others.tflite")
    rows = np.random.default_rng(0).standard_normal((60, 8), dtype=np.float32)
    np.savez(folder / "features.npz", x=rows, label=np.arange(60) % 3)
    np.savez(folder / "sample.npz", input_1=rows[:1])


def write_configuration(folder: Path) -> None:
    """``config.json``: a student of one layer."""
    values = json.loads((folder / "my-model" / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 1}), encoding="utf-8")


def write_texts(file: Path, rows: int, *, seed: int, names: tuple[str, str] = ("text", "label")) -> None:
    """Sentences with the names of their labels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    made = tiny.labelled(rows, seed=seed)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows((text, LABELS[label]) for text, label in zip(made["text"], made["label"], strict=True))


def write_images(folder: Path) -> None:
    """Images by class: one darker, one brighter."""
    from PIL import Image

    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("validation", 8)):
        for name, low in (("cat", 0), ("dog", 96)):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(low, low + 160, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")


def save_weights(folder: Path) -> None:
    """``net.safetensors``, of the function that the page shows."""
    from safetensors.torch import save_file

    from edgekit.modules import code_entry

    save_file(code_entry(str(folder / "net.py:make"))[1]().state_dict(), folder / "net.safetensors")


def compress_once(folder: Path) -> None:
    """``out``, by the command that the pages begin with, and what a reader would have made of it."""
    with contextlib.chdir(folder):
        code = main(FIRST.split()[1:])
    assert code == 0
    for name in ("model", "new", "old"):
        shutil.copyfile(folder / "out" / "model.onnx", folder / f"{name}.onnx")
    for name in ("gentle", "default", "static", "new", "old"):
        shutil.copytree(folder / "out", folder / name)
