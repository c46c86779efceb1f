"""What is surely written has to fit, and is told in megabytes where it does not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from edgekit.disk import free_bytes, need_room
from edgekit.errors import ResourceLimitError
from edgekit.room import check_room_for


class Usage(NamedTuple):
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A disk with 5 MB, and where it was asked for."""
    asked: list[Path] = []

    def usage(path: Path) -> Usage:
        asked.append(path)
        return Usage(5_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return asked


def test_what_fits_is_let_go_and_the_nearest_folder_that_exists_is_asked(tmp_path: Path, free: list[Path]) -> None:
    need_room([(tmp_path / "not" / "there", 3_000_000), (tmp_path, 2_000_000)])
    assert free == [tmp_path]


def test_folders_on_one_disk_count_together(tmp_path: Path, free: list[Path]) -> None:
    with pytest.raises(ResourceLimitError) as caught:
        need_room([(tmp_path / "cache", 4_000_000), (tmp_path / "out", 1_000_001)])
    assert caught.value.what == f"there is not enough room on the disk of {str(tmp_path)!r}"
    assert caught.value.why == "at least 5.0 MB are needed, and 5.0 MB are free"
    assert "`edgekit cache prune`" in caught.value.hint
    assert free == [tmp_path]


def test_the_copy_of_a_finished_result_is_counted_to_the_byte(tmp_path: Path, free: list[Path]) -> None:
    folder = tmp_path / "object"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(bytes(5_000_000))
    check_room_for(folder, tmp_path / "out")
    (folder / "report.json").write_bytes(b"1")
    with pytest.raises(ResourceLimitError, match=r"at least 5\.0 MB"):
        check_room_for(folder, tmp_path / "out")


def test_what_is_free_is_told_of_folders_that_are_not_there_yet(tmp_path: Path, free: list[Path]) -> None:
    assert free_bytes(tmp_path / "not" / "there") == 5_000_000
    assert free == [tmp_path]
