"""Compiles the pre-processing of an image model into steps that every platform runs, and compares both on images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from edgekit.bundle import probes
from edgekit.bundle.schema import Arrange, Crop, Image, Normalize, Resample, Resize, ResizeShorter, Scale, Step
from edgekit.errors import ModelError
from edgekit.tasks.pixels import DescribedPixels, PixelReader, ProcessorPixels

if TYPE_CHECKING:
    from edgekit.description import Pixels

# Values differ in the last digits where a port adds in another order; a pixel is one of 255.
TOLERANCE = 1 / 255
# Pillow's numbers of its filters, by which transformers names them.
FILTERS: dict[int, Resample] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def compile_pixels(reader: PixelReader) -> Image:
    """The steps of what reads images for a model.

    Raises:
        ModelError: it does something that has no step, or the steps give other values.
    """
    if isinstance(reader, DescribedPixels):
        steps = _described(reader.described, reader.shape)
    elif isinstance(reader, ProcessorPixels):
        steps = _processor(reader.processor)
    else:
        raise _unsupported(f"it is read by {type(reader).__name__}")
    image = Image(input=reader.name, channels=cast("Any", reader.shape[0]), steps=tuple(steps))
    _check(reader, image)
    return image


def value_range(image: Image) -> tuple[float, float]:
    """The least and the largest value that the steps can make."""
    ends = [(0.0, 255.0)] * image.channels
    for step in image.steps:
        if isinstance(step, Scale):
            ends = [(low * step.factor, high * step.factor) for low, high in ends]
        elif isinstance(step, Normalize):
            pairs = zip(ends, _each(step.mean, ends), _each(step.std, ends), strict=True)
            ends = [((low - mean) / std, (high - mean) / std) for (low, high), mean, std in pairs]
    return min(low for low, _ in ends), max(high for _, high in ends)


def step_of_a_pixel(image: Image) -> float:
    """How far prepared values may be from stored ones: one step of a pixel, and what float32 rounds away.

    Resizing rounds to 8 bits between its passes, and versions of Pillow differ in which one goes first.
    """
    low, high = value_range(image)
    return 1.001 * TOLERANCE * (high - low)


def _each(values: tuple[float, ...], ends: list[Any]) -> tuple[float, ...]:
    return values if len(values) == len(ends) else values * len(ends)


def _described(pixels: Pixels, shape: tuple[int, int, int]) -> list[Step]:
    """The steps of `edgekit.description.Pixels`."""
    _, height, width = shape
    steps: list[Step] = [Resize(width=width, height=height, resample=pixels.resample)]
    if pixels.shorter is not None:
        steps = [
            ResizeShorter(size=pixels.shorter, least_width=width, least_height=height, resample=pixels.resample),
            Crop(width=width, height=height, rounding="even"),
        ]
    steps += [Scale(factor=pixels.scale), Normalize(mean=pixels.mean, std=pixels.std), Arrange(order=pixels.layout)]
    return steps


def _processor(processor: Any) -> list[Step]:
    """The steps of an image processor of transformers, from the settings that most of them share."""
    steps: list[Step] = []
    if _set(processor, "do_resize"):
        steps.append(_resize(dict(processor.size), FILTERS[int(processor.resample)]))
    if _set(processor, "do_center_crop"):
        crop = dict(processor.crop_size)
        steps.append(Crop(width=crop["width"], height=crop["height"], rounding="down"))
    if _set(processor, "do_rescale"):
        steps.append(Scale(factor=processor.rescale_factor))
    if _set(processor, "do_normalize"):
        mean, std = (
            tuple(values) if isinstance(values, (list, tuple)) else (float(values),)
            for values in (processor.image_mean, processor.image_std)
        )
        steps.append(Normalize(mean=mean, std=std))
    return [*steps, Arrange(order="NCHW")]


def _set(processor: Any, name: str) -> bool:
    return bool(getattr(processor, name, False))


def _resize(size: dict[str, Any], resample: Resample) -> Step:
    given = {name: value for name, value in size.items() if value is not None}
    if given.keys() == {"height", "width"}:
        return Resize(width=given["width"], height=given["height"], resample=resample)
    if given.keys() == {"shortest_edge"}:
        return ResizeShorter(size=given["shortest_edge"], least_width=1, least_height=1, resample=resample)
    raise _unsupported(f"it resizes to {', '.join(sorted(given))}")


def _check(reader: PixelReader, image: Image) -> None:
    """Run the steps beside the reader on images of many sizes.

    Raises:
        ModelError: they give other values.
    """
    import numpy as np

    from edgekit.bundle.reference.image import prepare, read_image

    steps = [step.model_dump() for step in image.steps]
    for pixels in probes.images(*reader.shape):
        picture = read_image(pixels, image.channels)
        mine, theirs = prepare(picture, steps), reader.read([picture])
        low, high = value_range(image)
        if mine.shape != theirs.shape or np.abs(mine - theirs).max() > TOLERANCE * (high - low) / 2:
            given = "x".join(map(str, pixels.shape[:2]))
            raise _unsupported(f"its settings do not tell what it makes of an image of {given} pixels")


def _unsupported(why: str) -> ModelError:
    return ModelError("the model's image pre-processing cannot be put into a bundle", id="model.not-bundled", why=why)
