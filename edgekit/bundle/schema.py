"""``bundle.json``: what a bundle is, so that a program in any language can feed the model and read its answers.

The same as JSON Schema lies beside this file, ``bundle.schema.json``, and is part of every bundle's documentation.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field

from edgekit.settings import Frozen

BUNDLE, LABELS_FILE, SELFTEST = "bundle.json", "labels.txt", "selftest/selftest.json"
SCHEMA_FILE = "bundle.schema.json"
Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


class Quantization(Frozen):
    """What integers of a tensor stand for: (value - zero_point) * scale."""

    scale: float
    zero_point: int


class Tensor(Frozen):
    """One input or output of the model.

    Attributes:
        name: by which the runtime knows it.
        dtype: as numpy names it; little-endian in files.
        shape: a name for each free dimension.
        layout: what the dimensions are, one letter or word each: ``NCHW``, ``batch,sequence``.
        low, high: the range of the values that pre-processing makes; None where any can be.
        quantization: of a tensor of integers that stand for real numbers.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str
    low: float | None = None
    high: float | None = None
    quantization: Quantization | None = None


class Form(Frozen):
    """The model in one format.

    Attributes:
        file: where it lies, from the folder of ``bundle.json``.
        format: what reads it: ``onnx`` and ``ort`` ONNX Runtime, ``tflite`` LiteRT.
        serves: the processors it is made for: ``any``, ``arm`` or ``amd64``.
    """

    file: str
    format: Literal["onnx", "ort", "tflite"]
    serves: Literal["any", "arm", "amd64"]


class Model(Frozen):
    """The network.

    Attributes:
        forms: one file or several with the same network; a program takes the first that it can run.
        precision: of most weights.
        inputs, outputs: in order.
        signatures: of a TFLite file, its entry points, each with the free dimensions that it fixes. Places behind a
            shorter sample are zeros.
    """

    forms: tuple[Form, ...] = Field(min_length=1)
    precision: str
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    signatures: dict[str, dict[str, int]] = {}


class Text(Frozen):
    """A text, or two of them, becomes token ids. A tab in a text is a character like any other.

    Attributes:
        compiled: the tokenizer with all its Unicode tables, for the small programs that come with bundles.
        original: the same as the library tokenizers reads it.
        family: of the model that makes pieces of words.
        max_length: the longest sequence, special tokens included; what is behind it is cut.
        ids, segments, mask: names of the inputs for token ids, for 0 and 1 of first and second text, and for ones;
            None where the model does not take it.
    """

    kind: Literal["text"] = "text"
    compiled: str
    original: str
    family: Literal["wordpiece", "wordlevel", "bpe", "unigram"]
    max_length: int
    ids: str
    segments: str | None = None
    mask: str | None = None


class Resize(Frozen):
    """To a size, by a filter of Pillow's: it looks at every pixel that a new one covers, in integers of 8 bits."""

    op: Literal["resize"] = "resize"
    width: int
    height: int
    resample: Resample


class ResizeShorter(Frozen):
    """The shorter side to a length and the other in proportion, rounded down, neither below a least size."""

    op: Literal["resize_shorter"] = "resize_shorter"
    size: int
    least_width: int
    least_height: int
    resample: Resample


class Crop(Frozen):
    """The centre; what is left over is halved and rounded ``down``, or to the nearest, halves to ``even``."""

    op: Literal["crop"] = "crop"
    width: int
    height: int
    rounding: Literal["down", "even"]


class Scale(Frozen):
    """Pixels of 0 to 255 times a factor, in float32."""

    op: Literal["scale"] = "scale"
    factor: float


class Normalize(Frozen):
    """(value - mean) / std for each channel, in float32."""

    op: Literal["normalize"] = "normalize"
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Arrange(Frozen):
    """The order of the axes: from height, width, channels to this."""

    op: Literal["layout"] = "layout"
    order: Literal["NCHW", "NHWC"]


Step = Annotated[Resize | ResizeShorter | Crop | Scale | Normalize | Arrange, Field(discriminator="op")]


class Image(Frozen):
    """An image becomes an array, by steps in this order.

    An image is RGB of 8 bits. Where the model takes one channel, it is made grey before the first step:
    (19595 R + 38470 G + 7471 B + 32768) >> 16, as Pillow does it.

    Attributes:
        input: name of the model's input.
        channels: 3 or 1.
        steps: in order; the last one arranges the axes.
    """

    kind: Literal["image"] = "image"
    input: str
    channels: Literal[1, 3]
    steps: tuple[Step, ...]


class Answer(Frozen):
    """How scores are made of the model's output.

    Attributes:
        output: its name.
        activation: ``softmax`` over the classes, ``sigmoid`` of each, or ``none``.
        labels: the file with the names of the classes, one a line, in the order of the output.
        count: how many there are.
    """

    output: str
    activation: Literal["softmax", "sigmoid", "none"]
    labels: str = LABELS_FILE
    count: int


class FileRecord(Frozen):
    """A file of the bundle: its size and its sum."""

    size_bytes: int
    sha256: str


class Bundle(Frozen):
    """What a bundle is.

    Attributes:
        name: of the model.
        platform: what the bundle was made for.
        task: as edgekit names it.
        target: the device that the model was compressed for.
        selftest: where its list of samples lies.
        tools: versions of what made the model and its answers.
        files: every file beside and below this one, by its path from here.
    """

    schema_: Literal["edgekit.bundle/1"] = Field("edgekit.bundle/1", alias="schema")
    name: str
    platform: str
    task: str
    target: str | None
    model: Model
    preprocessing: Annotated[Text | Image, Field(discriminator="kind")]
    answer: Answer
    selftest: str = SELFTEST
    tools: dict[str, str] = {}
    files: dict[str, FileRecord] = {}


class StoredTensor(Frozen):
    """A tensor in a file: little-endian values, the last axis first; ``int64`` or ``float32``."""

    file: str
    dtype: Literal["int64", "float32"]
    shape: tuple[int, ...]


class Case(Frozen):
    """One sample of the self-test.

    Attributes:
        text: the raw input, where it is a text.
        pair: the second text, where there are two.
        image: the file of the raw input, where it is an image: RGB of 8 bits (or grey, with one channel), no header.
        width, height: of that image in pixels.
        inputs: what pre-processing makes of it, by the input's name.
        output: the answer of the model, one number a class, before the activation.
        label: the class with the largest value; None where two are too near to each other to tell on every device.
    """

    text: str | None = None
    pair: str | None = None
    image: str | None = None
    width: int | None = None
    height: int | None = None
    inputs: dict[str, StoredTensor]
    output: tuple[float, ...]
    label: str | None


class SelfTest(Frozen):
    """``selftest.json``.

    Attributes:
        tolerance: largest difference of an output, in units of the largest absolute value of all samples' outputs. (An
            answer that is near zero in all classes would make a difference look large that means nothing.)
        input_tolerance: largest difference of a prepared value; token ids have to be equal.
        cases: the samples.
    """

    schema_: Literal["edgekit.selftest/1"] = Field("edgekit.selftest/1", alias="schema")
    tolerance: float
    input_tolerance: float
    cases: tuple[Case, ...] = Field(min_length=8)


def json_schema() -> str:
    """The JSON Schema of ``bundle.json`` as the file beside this module holds it."""
    return json.dumps(Bundle.model_json_schema(by_alias=True), indent=2, sort_keys=True) + "\n"
