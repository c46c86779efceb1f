"""From images to the numbers that a model reads: transformers' image processors, or a module's own description."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import JsonValue

from edgekit.description import Pixels, find_layout
from edgekit.errors import DataError, ModelError, retelling
from edgekit.tasks.base import Array
from edgekit.tasks.origin import ModuleOrigin, Origin, TransformersOrigin

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import BaseImageProcessor

# What Pillow raises on a damaged image, beside its own error of one with more pixels than anybody has.
READING = (OSError, ValueError, SyntaxError, TypeError, OverflowError, EOFError)
# torchvision resizes to slightly different pixels: one backend everywhere, recorded in the manifest.
BACKEND = "pil"


class PixelReader(Protocol):
    """Makes a model's input of images.

    Attributes:
        name: of the input.
        shape: channels, height and width.
        input_shape: the same in the order that the model takes.
        record: what a manifest says of it.
    """

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def input_shape(self) -> tuple[int, int, int]: ...

    @property
    def record(self) -> dict[str, JsonValue]: ...

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, in units of stored pixels: (pixel - mean) / std is fed."""

    def read(self, images: list[Image]) -> Array:
        """float32 [batch, *input_shape]; images are RGB, or L for one channel."""


class ProcessorPixels:
    """By the image processor in a transformers folder."""

    name = "pixel_values"

    def __init__(self, origin: TransformersOrigin) -> None:
        self._origin = origin

    @cached_property
    def processor(self) -> BaseImageProcessor:
        with retelling(_no_processor):
            return load_processor(self._origin.folder)

    @property
    def shape(self) -> tuple[int, int, int]:
        config = self._origin.config
        size = config.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return config.num_channels, int(height), int(width)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.shape

    @property
    def record(self) -> dict[str, JsonValue]:
        return {"kind": "image-processor", "backend": BACKEND}

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What a black and a white image tell, whatever steps the processor is made of."""
        import numpy as np

        channels, height, width = self.shape
        probes = [np.full((height, width, channels), value, np.uint8) for value in (0, 255)]
        black, white = self.processor(probes, input_data_format="channels_last", return_tensors="np")["pixel_values"]
        low, high = (pixels.reshape(channels, -1).mean(1) for pixels in (black, white))
        std = 255.0 / (high - low)
        return tuple((-low * std).tolist()), tuple(std.tolist())

    def read(self, images: list[Image]) -> Array:
        import numpy as np

        arrays = [np.atleast_3d(np.asarray(image)) for image in images]  # transformers 4 takes no grey image without it
        with retelling(_no_processor):
            pixels: Array = self.processor(arrays, input_data_format="channels_last", return_tensors="np")[self.name]
        return pixels


def _no_processor(why: str) -> ModelError:
    return ModelError(
        "the model folder has no usable image processor",
        id="model.no-preprocessor",
        why=why,
        hint="Save it beside the model: processor.save_pretrained(FOLDER).",
    )


def load_processor(folder: Path) -> BaseImageProcessor:
    """The image processor in a folder, on Pillow: transformers 5 asks for it by ``backend``, 4 by ``use_fast``."""
    import transformers

    pillow = {"use_fast": False} if transformers.__version__.startswith("4.") else {"backend": BACKEND}
    options: dict[str, Any] = {"trust_remote_code": False, **pillow}
    return cast("BaseImageProcessor", transformers.AutoImageProcessor.from_pretrained(folder, **options))


class DescribedPixels:
    """By the description of a module given as code, or of a graph of others."""

    def __init__(self, origin: ModuleOrigin) -> None:
        self._origin = origin

    @property
    def name(self) -> str:
        return self._origin.description.only_input.name

    @property
    def shape(self) -> tuple[int, int, int]:
        first, second, third = self.input_shape
        return (third, first, second) if self.described.layout == "NHWC" else (first, second, third)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _ = self.described
        first, second, third = self._origin.description.only_input.shape
        return first, second, third

    @property
    def described(self) -> Pixels:
        """What is said of them.

        Raises:
            ModelError: the input is no image.
        """
        pixels, shape = self._origin.description.pixels, self._origin.description.only_input.shape
        if pixels is None or find_layout(shape, pixels.layout) is None:
            raise ModelError(
                f"the module takes {'x'.join(map(str, shape))}, which is no image",
                id="model.wrong-task",
                why="an image is 1 or 3 channels, height and width",
            )
        return pixels

    @property
    def record(self) -> dict[str, JsonValue]:
        return {"kind": "pixels", "backend": BACKEND, **self.described.model_dump(mode="json", by_alias=True)}

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        import numpy as np

        pixels, channels = self.described, self.shape[0]
        mean, std = (
            np.broadcast_to(np.asarray(values), channels) / pixels.scale for values in (pixels.mean, pixels.std)
        )
        return tuple(mean.tolist()), tuple(std.tolist())

    def read(self, images: list[Image]) -> Array:
        import numpy as np

        pixels, (channels, height, width) = self.described, self.shape
        mean = np.broadcast_to(np.asarray(pixels.mean, np.float32), channels)
        std = np.broadcast_to(np.asarray(pixels.std, np.float32), channels)
        arrays = [np.asarray(_resize(image, height, width, pixels), np.float32) for image in images]
        stacked = np.stack([array if array.ndim == 3 else array[:, :, None] for array in arrays])
        normal = (stacked * np.float32(pixels.scale) - mean) / std
        return np.ascontiguousarray(normal if pixels.layout == "NHWC" else normal.transpose(0, 3, 1, 2))


def pixel_reader(origin: Origin) -> PixelReader:
    """What reads images for a model."""
    if isinstance(origin, ModuleOrigin):
        return DescribedPixels(origin)
    return ProcessorPixels(cast("TransformersOrigin", origin))


def decode(image: Any, channels: int) -> Image:
    """A Pillow image, of a file's ``Path`` or of one already decoded, in the colours that so many channels hold.

    A text is none of both: it may come from the data, whose paths ``StoredImages`` looks at.

    Raises:
        DataError: it is neither, or not readable.
    """
    from PIL import Image

    if not isinstance(image, (Image.Image, Path)):
        raise DataError(
            "a row of the data has no image",
            id="data.unsuitable-sample",
            why=f"it holds {repr(image)[:80]}",
            hint="Choose another column with --columns image=NAME: one of images, or of paths in the data's folder.",
        )
    mode, name = "RGB" if channels == 3 else "L", "an image" if isinstance(image, Image.Image) else image.name
    without_programs()
    try:
        if isinstance(image, Image.Image):
            return image.convert(mode)
        with Image.open(image) as opened:
            return opened.convert(mode)
    except (*READING, Image.DecompressionBombError) as error:
        raise _unreadable(name, error) from error


def without_programs() -> None:
    """Have Pillow start no program for an image: PostScript, whatever its file is called, would go to Ghostscript."""
    from PIL import EpsImagePlugin

    EpsImagePlugin.gs_binary = False


def _unreadable(name: str, error: BaseException) -> DataError:
    return DataError(f"{name!r} is not an image that Pillow reads", id="data.unsuitable-sample", why=str(error))


def _resize(image: Image, height: int, width: int, pixels: Pixels) -> Image:
    """The image at the input's size: the shorter side first and the centre cropped, or stretched to it.

    Sizes and places are rounded as torchvision's Resize (down) and CenterCrop (to the nearest, half to even) do it.
    """
    from PIL.Image import Resampling

    resample = Resampling[pixels.resample.upper()]
    if pixels.shorter is not None:
        short = min(image.size)
        sides = tuple(pixels.shorter * side // short for side in image.size)
        image = image.resize((max(width, sides[0]), max(height, sides[1])), resample)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))
    return image if image.size == (width, height) else image.resize((width, height), resample)
