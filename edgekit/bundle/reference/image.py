"""Images to a model's input, by the steps of a bundle's ``bundle.json``, with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]


def read_image(image: str | Path | Image.Image | npt.NDArray[np.uint8], channels: int) -> Image.Image:
    """A Pillow image of a file, of an array [height, width, 3], [height, width, 1] or [height, width], or as it is.

    Where it is transparent it is white, as in the code for the other platforms.
    """
    if isinstance(image, (str, Path)):
        image = Image.open(image)
    elif isinstance(image, np.ndarray):
        image = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB" if channels == 3 else "L")


def prepare(image: Image.Image, steps: Sequence[dict[str, Any]]) -> Floats:
    """The input of one image, float32 [1, channels, height, width] or as the step ``layout`` orders the axes."""
    values: Floats | None = None
    for step in steps:
        if step["op"] in PICTURE:
            image = PICTURE[step["op"]](image, step)
            continue
        if values is None:
            values = np.atleast_3d(np.asarray(image)).astype(np.float32)
        values = NUMBERS[step["op"]](values, step)
    assert values is not None  # the last step is always `layout`
    return np.ascontiguousarray(values[None])


def _resize(image: Image.Image, step: dict[str, Any]) -> Image.Image:
    """Resized to a size, by Pillow's filters, which look at every pixel that a new one covers."""
    size = step["width"], step["height"]
    return image if image.size == size else image.resize(size, Image.Resampling[step["resample"].upper()])


def _resize_shorter(image: Image.Image, step: dict[str, Any]) -> Image.Image:
    """The shorter side resized to a length, the other one in proportion, rounded down, and not below a least size."""
    short = min(image.size)
    width, height = (step["size"] * side // short for side in image.size)
    least = step["least_width"], step["least_height"]
    return _resize(image, {**step, "width": max(width, least[0]), "height": max(height, least[1])})


def _crop(image: Image.Image, step: dict[str, Any]) -> Image.Image:
    """The centre; an odd rest is rounded down, or to the even number."""
    places = []
    for side, wanted in zip(image.size, (step["width"], step["height"]), strict=True):
        rest = side - wanted
        places.append(rest // 2 if step["rounding"] == "down" else round(rest / 2))
    left, top = places
    return image.crop((left, top, left + step["width"], top + step["height"]))


def _scale(values: Floats, step: dict[str, Any]) -> Floats:
    return values * np.float32(step["factor"])


def _normalize(values: Floats, step: dict[str, Any]) -> Floats:
    mean, std = (np.asarray(step[name], np.float32) for name in ("mean", "std"))
    return (values - mean) / std


def _layout(values: Floats, step: dict[str, Any]) -> Floats:
    return values.transpose(2, 0, 1) if step["order"] == "NCHW" else values


PICTURE = {"resize": _resize, "resize_shorter": _resize_shorter, "crop": _crop}
NUMBERS = {"scale": _scale, "normalize": _normalize, "layout": _layout}
