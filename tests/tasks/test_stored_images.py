from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features
from datasets import Image as Feature
from PIL import Image

from edgekit.errors import DataError
from edgekit.tasks.data_source import DataSource, load_splits, resolve_data
from edgekit.tasks.stored_images import StoredImages, is_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    Image.new("L", (3, 2), 7).save(place / "in.png")
    Image.new("L", (3, 2), 9).save(tmp_path / "out.png")
    return place


def stored(folder: Path, *values: Any, kind: Any = "folder") -> StoredImages:
    dataset = Dataset.from_dict({"image": list(values)}, features=Features({"image": Feature()}))
    source = DataSource(location=str(folder), kind=kind, digest="0" * 64) if kind != "folder" else resolve_data(folder)
    return StoredImages(dataset, "image", source)


def test_images_are_of_bytes_or_of_files_in_the_folder(folder: Path) -> None:
    content = (folder / "in.png").read_bytes()
    found = stored(
        folder, {"bytes": content, "path": "/elsewhere.png"}, {"bytes": None, "path": str(folder / "in.png")}
    )
    assert len(found) == 2
    assert [image.getpixel((0, 0)) for image in found] == [7, 7]
    assert [image.size for image in found[1:]] == [(3, 2)]


def test_texts_are_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    dataset = Dataset.from_dict({"image": ["in.png", "../out.png"], "label": [0, 1]})
    assert is_images(dataset, "image")
    assert not is_images(dataset, "label")
    found = StoredImages(dataset, "image", DataSource(location=str(folder / "t.csv"), kind="file", digest="0" * 64))
    assert found[0].getpixel((0, 0)) == 7
    with pytest.raises(DataError, match="outside its folder"):
        found[1]


@pytest.mark.parametrize("path", ["{}/../out.png", "/etc/passwd", "https://example.com/x.png", "zip://a.png::{}/x.zip"])
def test_an_image_elsewhere_is_not_opened(folder: Path, path: str) -> None:
    place = path.format(folder)
    with pytest.raises(DataError) as caught:
        stored(folder, {"bytes": None, "path": place})[0]
    assert caught.value.id == "data.elsewhere"
    assert repr(place) in caught.value.what


def test_a_link_in_the_folder_is_in_the_folder(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder.parent / "out.png")
    assert stored(folder, {"bytes": None, "path": str(folder / "link.png")})[0].getpixel((0, 0)) == 9


def test_an_image_that_is_not_the_one_that_was_hashed_is_an_error(folder: Path) -> None:
    for name in ("replaced", "rewritten"):
        shutil.copy(folder / "in.png", folder / f"{name}.png")
    source = resolve_data(folder)
    rows = load_splits(source)["train"]
    (folder.parent / "out.png").replace(folder / "replaced.png")
    found = StoredImages(rows, "image", source)
    assert found[0].getpixel((0, 0)) == 7
    with pytest.raises(DataError) as caught:
        found[1]
    assert caught.value.id == "data.changed"
    assert found[2].getpixel((0, 0)) == 7
    Image.new("L", (3, 2), 8).save(folder / "rewritten.png")
    with pytest.raises(DataError, match="the data in 'data' was changed while it was read"):
        found[2]


def test_an_image_that_a_table_names_stays_what_it_was_when_it_was_first_opened(folder: Path) -> None:
    place = {"bytes": None, "path": str(folder / "in.png")}
    found = stored(folder / "t.csv", place, place, kind="file")
    assert found[0].getpixel((0, 0)) == 7
    (folder.parent / "out.png").replace(folder / "in.png")
    with pytest.raises(DataError, match="was changed while it was read"):
        found[1]


def test_a_hidden_image_is_not_opened(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder.parent / "out.png").rename(folder / ".cache/in.png")
    with pytest.raises(DataError, match="hidden or new in its folder") as caught:
        stored(folder, {"bytes": None, "path": str(folder / ".cache/in.png")})[0]
    assert caught.value.id == "data.elsewhere"


def test_of_the_hub_only_what_was_fetched_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    assert stored(folder, {"bytes": None, "path": str(folder / "in.png")}, kind="hub")[0].getpixel((0, 0)) == 7
    with pytest.raises(DataError) as caught:
        stored(folder, {"bytes": None, "path": str(folder.parent / "out.png")}, kind="hub")[0]
    assert caught.value.id == "data.elsewhere"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.parametrize("name", ["pipe.png", "none.png", ".", "nu\0ll.png"])
def test_what_is_no_file_is_not_waited_for(folder: Path, name: str) -> None:
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(DataError, match="row 0 is not an image that Pillow reads"):
        stored(folder, {"bytes": None, "path": f"{folder}/{name}"})[0]


@pytest.mark.parametrize(
    "content", [b"no image", b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n"]
)
def test_what_is_no_image_is_named_by_its_row(folder: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="row 0 is not an image that Pillow reads"):
        stored(folder, {"bytes": content, "path": None})[0]
    assert is_images(Dataset.from_dict({"image": [None]}, features=Features({"image": Feature()})), "image")
    with pytest.raises(DataError, match="row 0 has no image"):
        stored(folder, None)[0]
