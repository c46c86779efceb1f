"""Image classification: transformers' image classifiers and their own image processors, through Pillow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from edgekit.artifact import WHOLE
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.tasks.base import Batch, ComponentSpec, Examples, Workload
from edgekit.tasks.classification import Classification

if TYPE_CHECKING:
    import torch
    from transformers import BaseImageProcessor

# torchvision resizes to slightly different pixels: one backend everywhere, recorded in the manifest.
BACKEND = "pil"


class ImageClassification(Classification):
    """Images in, logits out."""

    name = "image-classification"
    columns = {
        "image": ("image", "img", "pixel_values", "picture"),
        "label": ("label", "labels", "fine_label", "class", "target"),
    }

    def auto_class(self) -> Any:
        from transformers import AutoModelForImageClassification

        return AutoModelForImageClassification

    @cached_property
    def processor(self) -> BaseImageProcessor:
        from transformers import AutoImageProcessor

        try:
            return cast("BaseImageProcessor", AutoImageProcessor.from_pretrained(self.folder, backend=BACKEND))
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                "the model folder has no usable image processor",
                why=str(error).splitlines()[0],
                hint="Save it beside the model: processor.save_pretrained(FOLDER).",
            ) from error

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return {"kind": "image-processor", "backend": BACKEND}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width that the model takes."""
        size = self.config.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return self.config.num_channels, int(height), int(width)

    def components(self, model: torch.nn.Module) -> dict[str, ComponentSpec]:
        import torch

        example = {"pixel_values": torch.randn(2, *self.shape, generator=torch.Generator().manual_seed(0))}
        return {WHOLE: ComponentSpec(_export_module(model), example, {"pixel_values": {0: "batch"}}, ("logits",))}

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Examples:
        return ImageExamples(self, rows["image"], rows.get("label"))

    def workload_feeds(self, workload: Workload) -> dict[str, Batch]:
        import numpy as np

        channels, height, width = self.shape
        if workload.image is not None and (workload.image, workload.image) != (height, width):
            raise UsageError(
                f"--image {workload.image} is not the model's size", why=f"the model takes {height} x {width} pixels"
            )
        pixels = np.random.default_rng(0).standard_normal((workload.batch, channels, height, width), dtype=np.float32)
        return {WHOLE: {"pixel_values": pixels}}

    def read_input(self, text: str) -> dict[str, Any]:
        path = Path(text).expanduser()
        if not path.is_file():
            raise DataError(f"there is no image file {text!r}")
        return {"image": str(path)}


@dataclass(frozen=True)
class ImageExamples:
    """Images, decoded and processed when a batch needs them."""

    task: ImageClassification
    images: Sequence[Any]
    labels: Sequence[Any] | None

    def __len__(self) -> int:
        return len(self.images)

    def length(self, index: int) -> int:
        return 1

    def batch(self, indices: Sequence[int]) -> Batch:
        """``pixel_values``, float32 [batch, channels, height, width]."""
        mode = "RGB" if self.task.shape[0] == 3 else "L"
        images = [_decode(self.images[index]).convert(mode) for index in indices]
        pixels = self.task.processor(images, return_tensors="np")["pixel_values"]
        labels = None if self.labels is None else [self.labels[index] for index in indices]
        return {"pixel_values": pixels} | self.task.label_array(labels)


def _decode(image: Any) -> Any:
    """A Pillow image of a path or of one already decoded."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, Image.Image):
        return image
    try:
        return Image.open(image)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{str(image)!r} is not an image that Pillow reads", why=str(error)) from error


def _export_module(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    class ImageClassifier(torch.nn.Module):
        def __init__(self, classifier: torch.nn.Module) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.classifier(pixel_values=pixel_values).logits
            return logits

    return ImageClassifier(model).eval()
