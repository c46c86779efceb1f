from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from torch import nn

from edgekit.description import Description, read_description
from edgekit.errors import DataError, UnknownNameError, UsageError
from edgekit.models import ResolvedModel, feeding_of, resolve_model
from edgekit.tasks.data_source import resolve_data


def flat(size: int, classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(size, classes))


def lines(folder: Path, **columns: list[Any]) -> Path:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "data.jsonl"


def images(folder: Path, mode: str, height: int, width: int) -> Path:
    """A few images of three classes."""
    for number in range(6):
        file = folder / "train" / ("hen", "cat", "dog")[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (width, height)).save(file)
    return folder


def resolve(
    source: Any, data: Path | None = None, *, task: str | None = None, columns: Any = None, **feeding: Any
) -> ResolvedModel:
    found = resolve_data(data) if data is not None else None
    return resolve_model(source, feeding, task=task, data=found, columns=columns)  # type: ignore[arg-type]  # by name


def described(model: ResolvedModel) -> Description:
    return read_description(Path(model.source.path))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_images_say_what_a_module_takes_and_how_its_classes_are_called(
    tmp_path: Path, mode: str, channels: int
) -> None:
    found = resolve(flat(channels * 6 * 8), images(tmp_path, mode, 6, 8))
    assert found.task == "image-classification"
    assert described(found).input.shape == (channels, 6, 8)
    assert described(found).labels == ("cat", "dog", "hen")
    assert described(found).pixels is not None


@pytest.mark.parametrize(
    ("value", "shape", "dtype"),
    [([0.5] * 12, (12,), "float32"), ([[0.5] * 4] * 3, (3, 4), "float32"), ([7] * 12, (12,), "int64")],
)
def test_arrays_say_what_a_module_takes(tmp_path: Path, value: Any, shape: tuple[int, ...], dtype: str) -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 3)

        def forward(self, x: Any) -> Any:
            return self.layer(x.float().flatten(1))

    found = resolve(Summed(), lines(tmp_path, features=[value] * 4, label=[0, 1, 2, 0]))
    assert found.task == "tensor-classification"
    assert (described(found).input.shape, described(found).input.dtype) == (shape, dtype)
    assert described(found).input.name == "x"
    assert described(found).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_what_was_said_comes_before_what_the_data_shows(tmp_path: Path) -> None:
    found = resolve(flat(12), lines(tmp_path, input=[[0.5] * 5] * 4, label=[0] * 4), input="1x12")
    assert described(found).input.shape == (12,)


def test_a_column_of_another_name_is_named(tmp_path: Path) -> None:
    data = lines(tmp_path, readings=[[0.5] * 12] * 4, label=[0] * 4)
    with pytest.raises(DataError) as caught:
        resolve(flat(12), data)
    assert caught.value.what == "the data 'data.jsonl' has no column that a module could read"
    assert caught.value.why == "columns: readings, label"
    assert "--columns input=NAME" in caught.value.hint
    assert described(resolve(flat(12), data, columns={"input": "readings"})).input.shape == (12,)


def test_columns_of_text_are_none_that_a_module_reads(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no column that a module could read"):
        resolve(flat(12), lines(tmp_path, input=["a", "b"], label=[0, 1]))


def test_a_folder_of_transformers_needs_no_feeding(tmp_path: Path) -> None:
    folder = tiny.save(tiny.build("bert", layers=1), tmp_path / "bert")
    found = resolve(folder)
    assert (found.task, found.build, found.source.kind) == ("text-classification", None, "transformers")
    with pytest.raises(UsageError) as caught:
        resolve(folder, weights="x.pt", input="1x3")
    assert caught.value.what == f"--input was given for {str(folder)!r}, which is neither code nor an .onnx file"
    assert caught.value.why == "a folder of transformers or a hub id says itself what the model takes"
    assert caught.value.hint == "Code is named as file.py:function or package.module:function, a graph as FILE.onnx."


def test_the_task_can_be_named() -> None:
    assert resolve(flat(12), input="1x3x2x2").task == "image-classification"
    assert resolve(flat(12), input="1x3x2x2", task="tensor-classification").task == "tensor-classification"
    with pytest.raises(UnknownNameError, match="there is no task 'images'"):
        resolve(flat(12), input="1x3x2x2", task="images")


def test_the_options_of_code_are_picked_out() -> None:
    options = {"weights": "w.pt", "input": "1x3", "data": "x", "seed": 3, "mean": None}
    assert feeding_of(options) == {"weights": "w.pt", "input": "1x3", "mean": None}


def test_the_build_of_a_module_gives_the_same_outputs() -> None:
    import torch

    mine = flat(12)
    found = resolve(mine, input="1x12")
    assert found.build is not None
    again = found.build()
    values = torch.randn(2, 12)
    with torch.no_grad():
        np.testing.assert_array_equal(again(values).numpy(), mine(values).numpy())
