"""``module.json``: how a model that transformers does not describe is fed, and how its answers are read.

It is made of what the user says, of an example of the data, and of the model itself: a module given as code
(``modules.py``), or a graph of others (``formats/foreign.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from pydantic import Field, ValidationError, model_validator

from edgekit.artifact import State, TensorSpec, check_tensors
from edgekit.bounds import MAX_MODULE_BYTES, check_numbers, check_texts
from edgekit.errors import ModelError, UsageError
from edgekit.settings import Frozen, first_wrong, parse_toml, read_bounded
from edgekit.source import MODULE

Layout = Literal["NCHW", "NHWC"]


LAYOUTS: tuple[Layout, ...] = ("NCHW", "NHWC")


IMAGE_CHANNELS = (1, 3)


class Pixels(Frozen):
    """How an image becomes the numbers that a module reads: resized, cropped, scaled, normalized, in this order.

    Attributes:
        shorter: the shorter side is resized to this and the centre cropped; None resizes to the input's size.
        resample: how pixels are interpolated.
        scale: factor of the pixels from 0 to 255.
        mean, std: of each channel, after scaling.
        layout: order of the input's axes: channels before height and width, or after them.
    """

    schema_: Literal["edgekit.pixels/1"] = Field("edgekit.pixels/1", alias="schema")
    shorter: int | None = Field(None, ge=1)
    resample: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    scale: float = Field(1 / 255, gt=0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"

    @model_validator(mode="after")
    def _fits(self) -> Pixels:
        if len(self.mean) != len(self.std) or len(self.mean) not in IMAGE_CHANNELS:
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}; allowed: 1 or 3 each")
        if min(self.std) <= 0:
            raise ValueError("std has to be above 0")
        return self


class TensorInput(Frozen):
    """The module's one input: name of the argument, shape without the batch, type."""

    name: str
    shape: tuple[int, ...] = Field(min_length=1)
    dtype: Literal["float32", "int64"] = "float32"


class Signature(Frozen):
    """What a graph of others takes and gives; free dimensions have names.

    Attributes:
        inputs: in order, states among them.
        outputs: in order, states among them.
        states: outputs that become inputs of the next call.
        scaled: inputs of integers that have a scale: floats are quantized by it, and integers go in as they are.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[State, ...] = ()
    scaled: tuple[str, ...] = ()


class Description(Frozen):
    """``module.json``: what has to be known of a module, or of a graph of others, to feed it and to read its answers.

    Attributes:
        entry: file and function that build it, without a path; of a graph, its file.
        input: what it takes; None for a graph that is fed by the names of its inputs.
        output: shape of its logits, without the batch; classes last. Empty where they are no scores of classes.
        labels: names of the classes.
        pixels: how an image becomes the input; None where the input is no image.
        graph: of an ``.onnx`` file, what it takes and gives.
        answer: name of the output that holds the logits.
        probabilities: whether they went through a softmax already.
    """

    schema_: Literal["edgekit.module/1"] = Field("edgekit.module/1", alias="schema")
    entry: str
    input: TensorInput | None
    output: tuple[int, ...]
    labels: tuple[str, ...]
    pixels: Pixels | None = None
    graph: Signature | None = None
    answer: str = "logits"
    probabilities: bool = False

    @property
    def only_input(self) -> TensorInput:
        """The one input.

        Raises:
            ModelError: it is fed by the names of several.
        """
        if self.input is None:
            raise ModelError(
                f"{self.entry} is fed by the names of its inputs, and this task feeds one",
                id="model.wrong-task",
                hint="Use --task tensors.",
            )
        return self.input


class Feeding(TypedDict, total=False):
    """What the user says of a module beside its code, or of an ``.onnx`` file.

    Attributes:
        weights: safetensors, or a checkpoint that torch reads without running code; those of the function by default.
        input: ``1x3x32x32``, batch first; ``1x16:int64`` for numbers of tokens; an example of the data by default.
        mean, std: of each channel, after scaling to 0..1.
        preprocess: TOML file with the fields of ``Pixels``.
        layout: ``NCHW`` or ``NHWC``: where an image's channels are.
        labels: names of the classes, in their order.
        state: of an ``.onnx`` file, ``OUT:IN``: outputs that become inputs of the next call.
    """

    weights: str | Path | None
    input: str | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    preprocess: str | Path | None
    layout: str | None
    labels: tuple[str, ...] | None
    state: tuple[str, ...] | None


@dataclass(frozen=True)
class Sample:
    """What the data says of the input and the answers.

    Attributes:
        shape: of one sample, without the batch.
        dtype: of it.
        classes: names of the classes, where the data has any.
        image: whether it is an image: the shape is then channels, height and width.
    """

    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"]
    classes: tuple[str, ...] = ()
    image: bool = False


def read_description(folder: Path) -> Description:
    """``module.json`` of a folder.

    Raises:
        ModelError: it cannot be read, its texts steer a terminal, its numbers are none, or it names a tensor that none
            is.
    """
    file = folder / MODULE
    if file.stat().st_size > MAX_MODULE_BYTES:
        raise ModelError(
            f"{MODULE} has {file.stat().st_size} bytes", id="model.invalid-config", why=f"allowed: {MAX_MODULE_BYTES}"
        )
    try:
        description = Description.model_validate_json(file.read_bytes())
        values = description.model_dump()
        check_texts(values)
        check_numbers(values)
        if description.input is not None:
            check_tensors([TensorSpec(**description.input.model_dump())])
        if description.graph is not None:
            check_tensors(description.graph.inputs + description.graph.outputs, description.graph.states)
    except ValueError as error:  # pydantic's is one
        raise ModelError(f"{MODULE} is not valid", id="model.invalid-config", why=first_wrong(error)) from error
    return description


def class_names(said: Sequence[str] | None, seen: Sequence[str], classes: int) -> tuple[str, ...]:
    """Names of so many classes: the user's, else the data's where they are as many, else numbered.

    Raises:
        UsageError: the user gave another number of them.
    """
    if said is not None and len(said) != classes:
        raise UsageError(
            f"--labels has {len(said)} names", id="usage.bad-value", why=f"the model's answers are {classes} classes"
        )
    named = said if said is not None else seen if len(seen) == classes else ()
    return tuple(named) or tuple(f"LABEL_{index}" for index in range(classes))


def read_layout(feeding: Feeding) -> Layout | None:
    """Where an image's channels are, as the user said it; None where nothing was said.

    Raises:
        UsageError: it is no layout.
    """
    said = feeding.get("layout")
    if said is None:
        return None
    found = next((layout for layout in LAYOUTS if layout == said.upper()), None)
    if found is None:
        raise UsageError(
            f"--layout {said!r} is no order of an image's axes",
            id="usage.bad-value",
            why=f"allowed: {', '.join(LAYOUTS)} (N the batch, C channels, H height, W width)",
        )
    return found


def parse_input(text: str) -> tuple[tuple[int, ...], Literal["float32", "int64"]]:
    """``1x3x32x32`` or ``1x16:int64``: shape without the batch, and type."""
    numbers, _, dtype = text.partition(":")
    parts = numbers.lower().split("x")
    if (
        len(parts) < 2
        or not all(part.isdigit() and int(part) > 0 for part in parts)
        or dtype not in ("", "float32", "int64")
    ):
        raise UsageError(
            f"{text!r} is no shape of an input",
            id="usage.bad-value",
            why="allowed: batch first, as in 1x3x32x32 or 1x16:int64",
        )
    return tuple(int(part) for part in parts[1:]), "int64" if dtype == "int64" else "float32"


def find_layout(shape: Sequence[int], said: Layout | None) -> Layout | None:
    """Where the channels of an input are: as it was said, else before height and width where that can be, else after.

    Args:
        shape: of one sample.
        said: by the user.

    Returns:
        None where the input is no image of this layout.
    """
    if len(shape) != 3:
        return None
    fitting = [layout for layout in LAYOUTS if shape[0 if layout == "NCHW" else -1] in IMAGE_CHANNELS]
    return next((layout for layout in fitting if said in (None, layout)), None)


def read_pixels(shape: tuple[int, ...], feeding: Feeding, said: Layout | None = None) -> Pixels | None:
    """How images are prepared; None where the input is no image.

    Raises:
        UsageError: the input is no image, and something was said of images; or what was said does not fit.
    """
    preprocess, mean, std = feeding.get("preprocess"), feeding.get("mean"), feeding.get("std")
    image = find_layout(shape, said) is not None
    pixels = _read_preprocessing(Path(preprocess).expanduser()) if preprocess is not None and image else Pixels()
    wanted = said or pixels.layout
    if not image or find_layout(shape, wanted) is None:
        if (preprocess, mean, std, said) != (None, None, None, None):
            given = "x".join(map(str, shape))
            raise UsageError(
                f"--mean, --std, --layout and --preprocess are for images, and the input is {given}",
                id="usage.preprocessing",
                why=f"an image is 1 or 3 channels, height and width, its channels where {wanted} has them",
                hint="Where the channels come last, say --layout NHWC.",
            )
        return None
    values = {name: tuple(value) for name, value in (("mean", mean), ("std", std)) if value is not None}
    try:
        pixels = Pixels.model_validate(pixels.model_dump(by_alias=True) | values | {"layout": wanted})
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError("--mean and --std do not fit each other", id="usage.preprocessing", why=reason) from error
    channels = shape[0 if wanted == "NCHW" else -1]
    if len(pixels.mean) not in (1, channels):
        raise UsageError(
            f"--mean has {len(pixels.mean)} values", id="usage.preprocessing", why=f"the input has {channels} channels"
        )
    return pixels


def _read_preprocessing(file: Path) -> Pixels:
    if not file.is_file():
        raise UsageError(f"there is no pre-processing file {str(file)!r}", id="usage.no-file")
    return parse_toml(Pixels, read_bounded(file, "pre-processing"), f"pre-processing {str(file)!r}")
