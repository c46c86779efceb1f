from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from edgekit.bundle.pixels import compile_pixels, value_range
from edgekit.bundle.reference.image import read_image
from edgekit.errors import ModelError
from edgekit.tasks.image_classification import ImageClassification

PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}


def task_with(folder: Path, channels: int = 3, **processor: Any) -> ImageClassification:
    tiny.save(tiny.build("vit", num_channels=channels), folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | processor), encoding="utf-8")
    task = tiny.task_for(folder)
    assert isinstance(task, ImageClassification)
    return task


@pytest.mark.parametrize("resample", [0, 1, 2, 3, 4, 5])
def test_every_filter_is_compiled(tmp_path: Path, resample: int) -> None:
    image = compile_pixels(task_with(tmp_path, resample=resample).pixels)
    assert [step.op for step in image.steps] == ["resize", "scale", "normalize", "layout"]
    assert value_range(image) == pytest.approx((-1, 1))


def test_the_shorter_side_and_a_crop_are_compiled(tmp_path: Path) -> None:
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 11},
        "crop_size": {"height": 8, "width": 8},
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
    }
    image = compile_pixels(task_with(tmp_path, **processor).pixels)
    assert [step.op for step in image.steps] == ["resize_shorter", "crop", "scale", "normalize", "layout"]
    low, high = value_range(image)
    assert low == pytest.approx(-0.48 / 0.27)
    assert high == pytest.approx((1 - 0.41) / 0.28)


def test_a_processor_that_does_more_than_its_settings_say_is_refused(tmp_path: Path) -> None:
    processor = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 8}, "crop_pct": 0.5}
    with pytest.raises(ModelError, match="cannot be put into a bundle") as caught:
        compile_pixels(task_with(tmp_path, **processor).pixels)
    assert caught.value.id == "model.not-bundled"


@pytest.mark.parametrize(("channels", "seen"), [(3, [[10, 20, 30], [255] * 3, [127, 127, 255]]), (1, [18, 255, 142])])
def test_what_is_transparent_is_white(channels: int, seen: list[object]) -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 255, 128]]], np.uint8)
    assert np.asarray(read_image(Image.fromarray(pixels), channels)).tolist() == [seen]
    assert np.asarray(read_image(pixels, channels)).tolist() == [seen]
