from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import PIXELS, build, images, save, task_for

from edgekit.errors import DataError, ModelError, UnknownNameError, UsageError
from edgekit.tasks import TASKS, bind_task, task_of
from edgekit.tasks.base import Task, TaskOptions, Workload

SENTIMENT = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}


def make(folder: Path, family: str = "bert", **changes: Any) -> Task:
    return task_for(save(build(family, layers=1, **changes), folder))


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("ViTForImageClassification", "image-classification"),
        ("DeiTForImageClassificationWithTeacher", "image-classification"),
    ],
)
def test_the_task_is_read_from_the_architecture(architecture: str, name: str) -> None:
    assert task_of(architecture) == name
    assert TASKS[name].name == name


def test_an_architecture_of_no_task_is_an_error() -> None:
    with pytest.raises(ModelError, match="'BertForMaskedLM' is for no task that edgekit knows") as caught:
        task_of("BertForMaskedLM")
    assert "ForSequenceClassification" in caught.value.why
    assert task_of("BertForMaskedLM", "text-classification") == "text-classification"


def test_a_mistyped_task_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        task_of("BertForMaskedLM", "text-clasification")
    near = "'text-classification' or 'tensor-classification' or 'image-classification'"
    assert caught.value.hint == f"Did you mean {near}?"


@pytest.mark.parametrize(
    ("changes", "names", "dtype"),
    [
        ({}, ["accuracy", "f1"], np.int64),
        ({"problem_type": "multi_label_classification", "labels": 3}, ["f1", "exact_match"], np.float32),
        ({"labels": 1}, ["pearson", "spearman"], np.float32),
    ],
)
def test_each_problem_has_its_metrics(tmp_path: Path, changes: dict[str, Any], names: list[str], dtype: Any) -> None:
    task = make(tmp_path, **changes)
    assert list(task.metrics) == names
    assert task.metric_name == names[0]
    label: Any = {3: [1, 0, 1]}.get(len(task.labels), 1)
    batch = task.encode({"text": ["w1 w2", "w3"], "label": [label, label]}).batch([0, 1])
    assert batch["labels"].dtype == dtype
    assert batch["labels"].shape == ((2, 3) if len(task.labels) == 3 else (2,))
    with pytest.raises(UnknownNameError, match="there is no metric 'acuracy'"):
        bind_task(task.name, tmp_path, TaskOptions(metric="acuracy"))


@pytest.mark.parametrize(
    ("value", "names", "expected"),
    [
        ("positive", None, 1),
        ("Positive", None, 1),
        (1, None, 1),
        ("1", None, 1),
        (1, ["positive", "negative"], 0),  # the data counts the other way round
        (0, ["0", "1"], 0),
        (-1, ["positive", "negative"], -1),
        (None, None, -1),
    ],
)
def test_labels_are_read_by_name_or_number(
    tmp_path: Path, value: object, names: list[str] | None, expected: int
) -> None:
    assert make(tmp_path, **SENTIMENT).read_label(value, names) == expected


def test_a_model_without_names_takes_the_datas_numbers(tmp_path: Path) -> None:
    task = make(tmp_path)
    assert task.labels == ("LABEL_0", "LABEL_1")
    assert task.read_label(1, ["negative", "positive"]) == 1


@pytest.mark.parametrize(
    ("value", "names", "shown"),
    [
        ("neutral", None, "neutral"),
        (2, None, 2),
        (-2, None, -2),
        (0, ["cat", "dog"], "cat"),
        (7, ["negative", "positive"], 7),
        (-3, ["negative", "positive"], -3),
        (0.5, None, 0.5),
        (float("nan"), None, float("nan")),
        (float("inf"), None, float("inf")),
        ({"a": 1}, None, {"a": 1}),
        ([1], None, [1]),
        ("--1", None, "--1"),
        ("\u00b2", None, "\u00b2"),  # a digit, and no number
    ],
)
def test_a_label_that_the_model_does_not_know_is_an_error(
    tmp_path: Path, value: object, names: list[str] | None, shown: object
) -> None:
    with pytest.raises(DataError) as caught:
        make(tmp_path, **SENTIMENT).read_label(value, names)
    assert caught.value.what == f"the data has the label {shown!r}, which the model does not know"
    assert caught.value.why == "the model's labels: 0 negative, 1 positive"


def test_a_number_that_is_none_is_an_error_of_the_data(tmp_path: Path) -> None:
    task = make(tmp_path, labels=1)
    assert task.read_label("2.5", None) == 2.5
    with pytest.raises(DataError, match="good"):
        task.read_label("good", None)


def test_several_labels_are_read_as_a_row_or_by_name(tmp_path: Path) -> None:
    task = make(tmp_path, labels=3, problem_type="multi_label_classification")
    assert task.read_label([1, 0, 1], None) == [1.0, 0.0, 1.0]
    assert task.read_label(["LABEL_2"], None) == [0.0, 0.0, 1.0]
    assert task.read_label([2], None) == [0.0, 0.0, 1.0]
    assert task.read_label([], None) == [0.0, 0.0, 0.0]
    for value in (2, {"LABEL_2": True}, ["LABEL_2", None, {}]):
        with pytest.raises(DataError, match="which the model does not know"):
            task.read_label(value, None)


def test_a_label_of_many_digits_is_not_told_in_full(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        make(tmp_path).read_label("9" * 5000, None)
    assert len(caught.value.what) < 200


@pytest.mark.parametrize(
    ("changes", "row", "expected"),
    [
        (SENTIMENT, [0.0, np.log(3.0)], [("positive", 0.75), ("negative", 0.25)]),
        (
            {"problem_type": "multi_label_classification"},
            [np.log(3.0), 0.0],
            [("LABEL_0", 0.75), ("LABEL_1", 0.5)],
        ),
        ({"labels": 1}, [2.5], [("LABEL_0", 2.5)]),
    ],
)
def test_logits_are_interpreted_best_first(
    tmp_path: Path, changes: dict[str, Any], row: list[float], expected: list[tuple[str, float]]
) -> None:
    (found,) = make(tmp_path, **changes).interpret(np.array([row]))
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected])


def test_the_loss_is_the_problems(tmp_path: Path) -> None:
    import torch

    logits = torch.tensor([[0.0, np.log(3.0)]])
    assert float(make(tmp_path / "a").loss(logits, torch.tensor([1]))) == pytest.approx(-np.log(0.75))
    several = make(tmp_path / "b", problem_type="multi_label_classification")
    assert (several.several, make(tmp_path / "a").several) == (True, False)
    expected = (-np.log(0.5) - np.log(0.75)) / 2
    assert float(several.loss(logits, torch.tensor([[1.0, 1.0]]))) == pytest.approx(expected)
    assert float(make(tmp_path / "c", labels=1).loss(torch.tensor([[3.0]]), torch.tensor([1.0]))) == 4.0


@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_loaded_as_float32(tmp_path: Path, family: str, dtype: str) -> None:
    import torch

    save(build(family, layers=1).to(getattr(torch, dtype)), tmp_path)
    model = task_for(tmp_path).load_model()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training


def test_broken_weights_are_an_error_of_the_model(tmp_path: Path) -> None:
    task = make(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="are not valid safetensors"):
        task.load_model()


def test_texts_are_padded_to_the_longest_of_a_batch(tmp_path: Path) -> None:
    task = make(tmp_path)
    examples = task.encode({"text": ["w0", "w0 w1 w2"], "label": [0, 1]})
    batch = examples.batch([0, 1])
    assert batch["input_ids"].tolist() == [[2, 4, 3, 0, 0], [2, 4, 5, 6, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["labels"].tolist() == [0, 1]
    assert examples.batch([0])["input_ids"].shape == (1, 3)
    assert [examples.length(index) for index in range(2)] == [3, 5]


def test_pairs_have_segments(tmp_path: Path) -> None:
    batch = make(tmp_path).encode({"text": ["w0"], "pair": ["w1 w2"]}).batch([0])
    assert batch["input_ids"].tolist() == [[2, 4, 3, 5, 6, 3]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1]]
    assert "labels" not in batch


def test_long_texts_are_cut_to_what_the_model_takes(tmp_path: Path) -> None:
    task = make(tmp_path)
    assert task.encode({"text": ["w0 " * 100]}).batch([0])["input_ids"].shape == (1, 32)
    assert task_for(tmp_path, max_length=8).encode({"text": ["w0 " * 100]}).batch([0])["input_ids"].shape == (1, 8)
    with pytest.raises(UsageError, match="--max-length 33 is more than the model takes\nallowed: 1 to 32"):
        task_for(tmp_path, max_length=33).encode({"text": ["w0"]})


def test_the_workload_is_of_the_size_that_was_asked_for(tmp_path: Path) -> None:
    feeds = make(tmp_path).workload_feeds(Workload(batch=2, tokens=16))["model"]
    assert {name: values.shape for name, values in feeds.items()} == dict.fromkeys(
        ("input_ids", "token_type_ids", "attention_mask"), (2, 16)
    )
    with pytest.raises(UsageError, match="--tokens 64 is more than the model takes\nallowed: 1 to 32"):
        make(tmp_path).workload_feeds(Workload(tokens=64))


def test_images_become_pixels(tmp_path: Path) -> None:
    task = make(tmp_path, "vit")
    batch = task.encode(images(3)).batch([0, 2])
    assert batch["pixel_values"].shape == (2, 1, PIXELS, PIXELS)
    assert batch["pixel_values"].dtype == np.float32
    assert -1 <= batch["pixel_values"].min() < batch["pixel_values"].max() <= 1
    assert task.workload_feeds(Workload(batch=3))["model"]["pixel_values"].shape == (3, 1, PIXELS, PIXELS)
    with pytest.raises(UsageError, match="--image 16 is not the model's size\nthe model takes 8 x 8 pixels"):
        task.workload_feeds(Workload(image=16))


def test_a_file_that_is_no_image_is_an_error(tmp_path: Path) -> None:
    task = make(tmp_path, "vit")
    (tmp_path / "broken.png").write_bytes(b"no image")
    row = task.read_input(str(tmp_path / "broken.png"))
    with pytest.raises(DataError, match=r"broken.png' is not an image that Pillow reads"):
        task.encode({"image": [row["image"]]}).batch([0])
    with pytest.raises(DataError, match=r"there is no image file 'none.png'"):
        task.read_input("none.png")


def test_an_input_of_the_command_line_is_a_text_or_a_pair(tmp_path: Path) -> None:
    task = make(tmp_path)
    assert task.read_input("w0 w1") == {"text": "w0 w1"}
    assert task.read_input("w0\tw1") == {"text": "w0", "pair": "w1"}


@pytest.mark.parametrize(("family", "what"), [("bert", "tokenizer"), ("vit", "image processor")])
def test_a_folder_without_preprocessing_is_an_error(tmp_path: Path, family: str, what: str) -> None:
    build(family, layers=1).save_pretrained(tmp_path)
    task = task_for(tmp_path)
    with pytest.raises(ModelError, match=f"the model folder has no usable {what}"):
        task.encode({"text": ["w0"]} if family == "bert" else images(1)).batch([0])


def test_a_configuration_is_looked_at_before_a_tokenizer_is_built_by_it(tmp_path: Path) -> None:
    save(build("bert", layers=1), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_labels": 10**9}))
    with pytest.raises(ModelError, match="num_labels is larger than"):
        bind_task("text-classification", tmp_path, TaskOptions())
