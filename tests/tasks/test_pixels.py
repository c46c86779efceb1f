from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import PIXELS, build, images, save

from edgekit.description import Description, Pixels, TensorInput
from edgekit.errors import DataError, ModelError
from edgekit.tasks.origin import ModuleOrigin, find_origin
from edgekit.tasks.pixels import DescribedPixels, ProcessorPixels, decode, pixel_reader


def reader(folder: Path, shape: tuple[int, ...], pixels: Pixels | None = None) -> Any:
    """What reads images for a module of this input."""
    described = Description(
        entry="net.py:build",
        input=TensorInput(name="images", shape=shape),
        output=(2,),
        labels=("a", "b"),
        pixels=pixels,
    )
    (folder / "module.json").write_text(described.model_dump_json(by_alias=True))
    return pixel_reader(find_origin(folder, None, None))


def image(values: Any) -> Image.Image:
    return Image.fromarray(np.asarray(values, np.uint8))


def grid(height: int, width: int) -> Image.Image:
    """A grey image whose value is ten times the row plus the column."""
    return image([[10 * row + column for column in range(width)] for row in range(height)])


def colours() -> Image.Image:
    """2 x 3 pixels of which each channel of each is known."""
    return image([[[0, 51, 102], [255, 0, 0], [0, 255, 0]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]])


def test_pixels_are_scaled_with_channels_first(tmp_path: Path) -> None:
    found = reader(tmp_path, (3, 2, 3), Pixels()).read([colours(), colours()])
    assert (found.shape, found.dtype) == ((2, 3, 2, 3), np.float32)
    expected = np.asarray(colours(), np.float64).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found[1], expected, rtol=1e-6)
    assert found[0, :, 0, 0].tolist() == pytest.approx([0.0, 0.2, 0.4])


def test_each_channel_has_a_mean_and_a_deviation_after_scaling(tmp_path: Path) -> None:
    pixels = Pixels(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    found = reader(tmp_path, (3, 2, 3), pixels).read([colours()])
    assert found[0, :, 0, 0].tolist() == pytest.approx([-0.1 / 0.5, 0.0, 0.1 / 2.0], abs=1e-6)
    assert found[0, 0, 0, 1] == pytest.approx(0.9 / 0.5)
    assert found.flags["C_CONTIGUOUS"]


def test_one_mean_is_that_of_all_channels(tmp_path: Path) -> None:
    one = reader(tmp_path, (3, 2, 3), Pixels(mean=(0.5,), std=(0.25,))).read([colours()])
    three = reader(tmp_path, (3, 2, 3), Pixels(mean=(0.5,) * 3, std=(0.25,) * 3)).read([colours()])
    np.testing.assert_array_equal(one, three)
    assert one[0, 0, 0, 1] == pytest.approx(2.0)


def test_a_grey_image_has_one_channel(tmp_path: Path) -> None:
    found = reader(tmp_path, (1, 2, 3), Pixels(scale=1.0, mean=(10.0,), std=(2.0,))).read([grid(2, 3)])
    assert found.tolist() == [[[[-5.0, -4.5, -4.0], [0.0, 0.5, 1.0]]]]


def test_an_image_of_another_size_is_stretched(tmp_path: Path) -> None:
    found = reader(tmp_path, (1, 2, 4), Pixels(scale=1.0, resample="nearest")).read([grid(4, 8)])
    assert found[0, 0].tolist() == [[11.0, 13.0, 15.0, 17.0], [31.0, 33.0, 35.0, 37.0]]


@pytest.mark.parametrize(
    ("size", "crop", "shorter", "corner"),
    [
        ((4, 8), (2, 2), 4, (1, 3)),  # height, width: 1 above, 3 to the left
        ((8, 4), (2, 2), 4, (3, 1)),
        ((4, 7), (4, 4), 4, (0, 2)),  # half a pixel: to the even one
        ((4, 5), (4, 4), 4, (0, 0)),
        ((6, 6), (2, 4), 6, (2, 1)),
    ],
)
def test_the_centre_is_cropped(
    tmp_path: Path, size: tuple[int, int], crop: tuple[int, int], shorter: int, corner: tuple[int, int]
) -> None:
    pixels = Pixels(scale=1.0, shorter=shorter, resample="nearest")
    found = reader(tmp_path, (1, *crop), pixels).read([grid(*size)])
    assert found[0, 0, 0, 0] == 10 * corner[0] + corner[1]
    assert found[0, 0, -1, -1] == 10 * (corner[0] + crop[0] - 1) + corner[1] + crop[1] - 1


def test_the_shorter_side_is_resized_before_the_crop(tmp_path: Path) -> None:
    pixels = Pixels(scale=1.0, shorter=2, resample="nearest")
    found = reader(tmp_path, (1, 2, 2), pixels).read([grid(4, 8)])  # 2 x 4 of every second pixel, then 2 x 2
    assert found[0, 0].tolist() == [[13.0, 15.0], [33.0, 35.0]]


def test_the_longer_side_is_rounded_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision's Resize does it: 256 of 427 x 640 is 256 x 383, not 384."""
    sizes: list[tuple[int, int]] = []
    plain = Image.Image.resize

    def resize(self: Image.Image, size: Any, *rest: Any) -> Image.Image:
        sizes.append(size)
        return plain(self, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", resize)
    found = reader(tmp_path, (3, 224, 224), Pixels(shorter=256)).read([Image.new("RGB", (640, 427))])
    assert sizes == [(383, 256)]
    assert found.shape == (1, 3, 224, 224)


def test_a_crop_larger_than_the_resized_image_is_filled(tmp_path: Path) -> None:
    found = reader(tmp_path, (1, 4, 4), Pixels(scale=1.0, shorter=2, resample="nearest")).read([grid(4, 4)])
    assert found[0, 0].tolist() == np.asarray(grid(4, 4)).tolist()


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic"])
def test_pixels_are_interpolated_as_asked(tmp_path: Path, resample: Any) -> None:
    (made,) = images(1)["image"]
    expected = np.asarray(made.resize((5, 5), getattr(Image.Resampling, resample.upper())), np.float32)
    found = reader(tmp_path, (1, 5, 5), Pixels(scale=1.0, resample=resample)).read([made])
    np.testing.assert_array_equal(found[0, 0], expected)


def test_what_a_manifest_says_of_the_pixels(tmp_path: Path) -> None:
    made = reader(tmp_path, (3, 8, 9), Pixels(shorter=10, mean=(0.5,), std=(0.25,)))
    assert (made.name, made.shape) == ("images", (3, 8, 9))
    assert made.record == {
        "kind": "pixels",
        "backend": "pil",
        "schema": "edgekit.pixels/1",
        "shorter": 10,
        "resample": "bilinear",
        "scale": 1 / 255,
        "layout": "NCHW",
        "mean": [0.5],
        "std": [0.25],
    }


def test_a_module_that_takes_no_image_is_an_error(tmp_path: Path) -> None:
    made = reader(tmp_path, (12,))
    with pytest.raises(ModelError) as caught:
        made.read([grid(2, 2)])
    assert str(caught.value) == (
        "the module takes 12, which is no image\nan image is 1 or 3 channels, height and width"
    )


def test_a_folder_of_transformers_is_read_by_its_processor(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    made: Any = pixel_reader(
        find_origin(save(build("vit", layers=1), tmp_path), lambda: AutoModelForImageClassification, None)
    )
    assert isinstance(made, ProcessorPixels)
    assert (made.name, made.shape) == ("pixel_values", (1, PIXELS, PIXELS))
    assert made.record == {"kind": "image-processor", "backend": "pil"}
    found = made.read([decode(each, 1) for each in images(2)["image"]])
    expected = np.stack([np.asarray(each, np.float64) / 255 for each in images(2)["image"]])
    np.testing.assert_allclose(found[:, 0], (expected - 0.5) / 0.5, atol=1e-5)


def test_a_module_is_read_by_its_description(tmp_path: Path) -> None:
    made = reader(tmp_path, (1, 2, 2), Pixels())
    assert isinstance(made, DescribedPixels)
    assert isinstance(made._origin, ModuleOrigin)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_mode_become_grey_or_coloured(tmp_path: Path, mode: str, channels: int) -> None:
    made = decode(Image.new("RGB", (4, 5), (10, 200, 30)).convert(mode), channels)
    assert (made.mode, made.size) == ("RGB" if channels == 3 else "L", (4, 5))


def test_an_image_is_decoded_from_its_file(tmp_path: Path) -> None:
    colours().save(tmp_path / "x.png")
    np.testing.assert_array_equal(np.asarray(decode(tmp_path / "x.png", 3)), np.asarray(colours()))
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^'broken.png' is not an image that Pillow reads\n"):
        decode(tmp_path / "broken.png", 3)
    with pytest.raises(DataError, match=r"^'none.png' is not an image that Pillow reads\n"):
        decode(tmp_path / "none.png", 3)


@pytest.mark.parametrize("shape", [(2,), (5, 4, 4), (3, 4, 4, 4)])
def test_pixels_of_no_image_are_an_error(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="which is no image"):
        _ = reader(tmp_path, shape, Pixels()).shape


@pytest.mark.parametrize("given", ["/etc/hostname", b"/etc/hostname", 5, None, [["x"]], np.zeros((2, 2))])
def test_what_data_holds_in_place_of_an_image_is_not_opened(given: object) -> None:
    with pytest.raises(DataError, match="a row of the data has no image\nit holds "):
        decode(given, 3)


def test_no_program_is_started_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow knows PostScript by its content, and hands it to Ghostscript."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    file = tmp_path / "x.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n")
    with Image.open(file) as opened:
        assert opened.format == "EPS"
    with pytest.raises(DataError, match="not an image that Pillow reads"):
        decode(file, 3)
    assert not (tmp_path / "canary").exists()
