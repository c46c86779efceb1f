"""Image classification: transformers' image classifiers, and modules given as code that take an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from edgekit.artifact import WHOLE
from edgekit.errors import DataError, UsageError
from edgekit.tasks.base import Batch, ComponentSpec, Examples, Workload
from edgekit.tasks.classification import Classification
from edgekit.tasks.feeds import check_batch, check_room
from edgekit.tasks.origin import TransformersOrigin
from edgekit.tasks.pixels import PixelReader, decode, pixel_reader

if TYPE_CHECKING:
    import torch


class ImageClassification(Classification):
    """Images in, logits out."""

    name = "image-classification"
    columns = {
        "image": ("image", "img", "pixel_values", "picture"),
        "label": ("label", "labels", "fine_label", "class", "target"),
    }

    @staticmethod
    def auto_class() -> Any:
        from transformers import AutoModelForImageClassification

        return AutoModelForImageClassification

    @cached_property
    def pixels(self) -> PixelReader:
        """What reads the images."""
        return pixel_reader(self.origin)

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return self.pixels.record

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.pixels.normalization

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width that the model takes."""
        return self.pixels.shape

    def components(self, model: torch.nn.Module) -> dict[str, ComponentSpec]:
        import torch

        name = self.pixels.name
        example = {name: torch.randn(2, *self.pixels.input_shape, generator=torch.Generator().manual_seed(0))}
        module = _export_module(model) if isinstance(self.origin, TransformersOrigin) else model.eval()
        return {WHOLE: ComponentSpec(module, example, {name: {0: "batch"}}, ("logits",))}

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Examples:
        return ImageExamples(self, rows["image"], rows.get("label"))

    def workload_feeds(self, workload: Workload) -> dict[str, Batch]:
        import numpy as np

        _, height, width = self.shape
        if workload.image is not None and (workload.image, workload.image) != (height, width):
            raise UsageError(
                f"--image {workload.image} is not the model's size",
                id="usage.workload",
                why=f"the model takes {height} x {width} pixels",
            )
        check_batch(self.fixed_batch, workload)
        shape = (workload.batch, *self.pixels.input_shape)
        check_room(self.pixels.name, shape)
        return {WHOLE: {self.pixels.name: np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}}

    def read_input(self, text: str) -> dict[str, Any]:
        path = Path(text).expanduser()
        if not path.is_file():
            raise DataError(f"there is no image file {text!r}", id="data.missing")
        return {"image": path}


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
        """The input, float32 [batch, ...], its axes in the order that the model takes."""
        reader = self.task.pixels
        pixels = reader.read([decode(self.images[index], reader.shape[0]) for index in indices])
        labels = None if self.labels is None else [self.labels[index] for index in indices]
        return {reader.name: pixels} | self.task.label_array(labels)


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
