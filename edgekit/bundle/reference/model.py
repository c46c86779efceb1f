"""A bundle as a model: raw input in, labels with scores out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .tokenizer import Tokenizer

BUNDLE = "bundle.json"
SCHEMA = "edgekit.bundle/1"
Array = npt.NDArray[Any]


class Run(Protocol):
    """What runs a model: named arrays in, the array of the answer out."""

    def __call__(self, feeds: Mapping[str, Array]) -> Array: ...


class Model:
    """A loaded bundle; ``load`` makes one.

    Attributes:
        labels: names of the classes, in the order of the output.
    """

    def __init__(self, folder: Path, description: dict[str, Any], run: Run) -> None:
        if description.get("schema") != SCHEMA:
            raise ValueError(f"{BUNDLE} has the schema {description.get('schema')!r}; this reads {SCHEMA!r}")
        self._preprocessing = description["preprocessing"]
        self._answer = description["answer"]
        self._run = run
        self._types = {tensor["name"]: tensor["dtype"] for tensor in description["model"]["inputs"]}
        self.labels = (folder / self._answer["labels"]).read_text(encoding="utf-8").split("\n")[:-1]
        if len(self.labels) != self._answer["count"]:
            raise ValueError(f"{self._answer['labels']} has {len(self.labels)} lines, not {self._answer['count']}")
        self._tokenizer = None
        if self._preprocessing["kind"] == "text":
            self._tokenizer = Tokenizer.load(folder / self._preprocessing["compiled"])

    @classmethod
    def load(cls, folder: str | Path, threads: int = 1) -> Model:
        """The bundle in a folder, the one with ``bundle.json``.

        Raises:
            ValueError: its parts do not fit each other; `self_test` says which one is wrong.
        """
        folder = Path(folder)
        description = json.loads((folder / BUNDLE).read_text(encoding="utf-8"))
        return cls(folder, description, open_model(folder, description, threads))

    def predict(self, raw: Any, pair: str | None = None) -> list[tuple[str, float]]:
        """Labels with scores, the best first.

        Args:
            raw: a text; or an image as a file, a Pillow image or uint8 [height, width, 3].
            pair: the second text, where there are two.
        """
        scores = self.scores(self.output(self.prepare(raw, pair)))
        order = np.argsort(-scores, kind="stable")
        return [(self.labels[int(index)], float(scores[index])) for index in order]

    def prepare(self, raw: Any, pair: str | None = None) -> dict[str, Array]:
        """What the model takes, by name: each with a batch of one.

        Raises:
            ValueError: the model takes images, and there are two texts.
        """
        if self._tokenizer is None:
            if pair is not None:
                raise ValueError("the model takes images, and was given a text")
            from .image import prepare, read_image

            image = read_image(raw, self._preprocessing["channels"])
            return {self._preprocessing["input"]: prepare(image, self._preprocessing["steps"])}
        ids, segments = self._tokenizer.encode(raw, pair)
        values = {"ids": ids, "segments": segments, "mask": [1] * len(ids)}
        names = {self._preprocessing[key]: value for key, value in values.items() if self._preprocessing[key]}
        return {name: np.asarray([value], self._types[name]) for name, value in names.items()}

    def output(self, inputs: Mapping[str, Array]) -> Array:
        """The model's answer to prepared inputs: [classes]."""
        return np.asarray(self._run(inputs)[0], np.float32)

    def scores(self, output: Array) -> Array:
        """Scores of the classes: [classes]."""
        values = np.asarray(output, np.float64)
        if self._answer["activation"] == "softmax":
            grown = np.exp(values - values.max())
            return np.asarray(grown / grown.sum())
        return 1 / (1 + np.exp(-values)) if self._answer["activation"] == "sigmoid" else values


def open_model(folder: Path, description: dict[str, Any], threads: int) -> Run:
    """The first form of the model that can be run here."""
    forms = {form["format"]: folder / form["file"] for form in reversed(description["model"]["forms"])}
    output = description["answer"]["output"]
    if "tflite" in forms:
        return _litert(forms["tflite"], description["model"], output, threads)
    # before the import: since 1.32 ONNX Runtime would write down events of its use, for its maker's server
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised
    file = str(forms.get("onnx") or forms["ort"])
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda feeds: np.asarray(session.run([output], dict(feeds))[0])


def _litert(file: Path, model: dict[str, Any], output: str, threads: int) -> Run:
    """A TFLite file: the smallest of its entry points that a sample fits in, filled up with zeros."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=threads)
    free = {tensor["name"]: tensor["shape"] for tensor in model["inputs"]}
    entries = sorted(model["signatures"].items(), key=lambda entry: tuple(sorted(entry[1].values())))

    def run(feeds: Mapping[str, Array]) -> Array:
        for key, sizes in entries:
            shapes = {one: tuple(sizes.get(str(side), side) for side in free[one]) for one in feeds}
            if all(_fits(values.shape, shapes[one]) for one, values in feeds.items()):
                return filled(key, feeds, shapes)
        raise ValueError("the sample is larger than every entry point of the model")

    def filled(key: str, feeds: Mapping[str, Array], shapes: dict[str, tuple[int, ...]]) -> Array:
        runner = interpreter.get_signature_runner(key)
        types = {one: detail["dtype"] for one, detail in runner.get_input_details().items()}
        padded = {
            one: np.pad(
                values, [(0, size - given) for size, given in zip(shapes[one], values.shape, strict=True)]
            ).astype(types[one])
            for one, values in feeds.items()
        }
        return np.asarray(runner(**padded)[output])

    return run


def _fits(given: tuple[int, ...], size: tuple[int, ...]) -> bool:
    return all(one <= other for one, other in zip(given, size, strict=True))
