"""Arrays in .npz files, and files that say more than they hold."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.tasks.arrays import read_arrays


def fails(file: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_arrays(file)
    return caught.value


def test_arrays_are_columns(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", left=np.arange(12.0).reshape(4, 3), label=np.array([0, 1, 0, 1]))
    found = read_arrays(tmp_path / "a.npz")
    assert (len(found), found.column_names, found["label"]) == (4, ["left", "label"], [0, 1, 0, 1])
    part = found.select([3, 0])
    assert part["left"].tolist() == [[9.0, 10.0, 11.0], [0.0, 1.0, 2.0]]
    assert part[1]["left"].tolist() == [0.0, 1.0, 2.0]


def test_arrays_are_of_equal_length(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", left=np.zeros((4, 3)), right=np.zeros((5, 3)), rate=np.array(8000))
    error = fails(tmp_path / "a.npz")
    assert error.what == "the arrays in 'a.npz' are not of equal length"
    assert error.why == "the first axis of each is the samples; found left: 4, right: 5, rate: a single number"


def test_a_list_of_class_names_beside_the_samples_is_no_column(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 3)), y=np.array([0, 1, 0, 1]), names=np.array(["no", "yes"]))
    assert read_arrays(tmp_path / "a.npz").column_names == ["x", "y"]
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), names=np.array(["no", "yes"]))
    assert read_arrays(tmp_path / "a.npz").column_names == ["x", "names"]
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 3)), names=np.array([1, 2]))
    assert fails(tmp_path / "a.npz").why.endswith("found x: 4, names: 2")


def test_no_pickle_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", left=np.array([{}, {}], dtype=object))
    assert fails(tmp_path / "a.npz").why == "left.npy holds objects, not numbers"


@pytest.mark.parametrize("code", [0x7FFFFFFF, 0x110000, 0xD800, 0xDFFF])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("shape", [(4,), (4, 2)])
def test_a_text_array_holds_characters(tmp_path: Path, code: int, order: str, shape: tuple[int, ...]) -> None:
    codes = np.full(shape, 0x10FFFF, f"{order}u4")
    np.savez(tmp_path / "a.npz", text=codes.view(f"{order}U1"))
    assert read_arrays(tmp_path / "a.npz").column_names == ["text"]
    codes[-1:] = code
    np.savez(tmp_path / "a.npz", text=codes.view(f"{order}U1"))
    assert fails(tmp_path / "a.npz").why == "text has numbers in it that are no characters"


def test_records_are_no_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", left=np.zeros(4, [("a", "<i4"), ("b", "<U1")]))
    assert fails(tmp_path / "a.npz").why == "left.npy holds records, not numbers"


def test_a_header_that_claims_more_than_there_is_does_no_harm(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 3)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("left.npy", stream.getvalue() + b"\0" * 24)
    assert fails(tmp_path / "a.npz").why.startswith("left.npy says that it has the shape [1099511627776, 3]")


@pytest.mark.parametrize("content", [b"", b"PK nothing"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    assert fails(tmp_path / "a.npz").id == "data.unreadable"


def test_an_archive_without_rows_is_empty(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", left=np.zeros((0, 3)))
    assert fails(tmp_path / "a.npz").id == "data.empty"
