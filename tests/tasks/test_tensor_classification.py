from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import build, save
from torch import nn
from zoo import make, task_of

from edgekit.description import Description, Pixels, TensorInput, read_description
from edgekit.errors import DataError, ModelError, ResourceLimitError, UnknownNameError
from edgekit.tasks import TASKS, bind_task, module_task
from edgekit.tasks.base import Task, TaskOptions, Workload
from edgekit.tasks.tensor_classification import TensorClassification

LABELS = ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4")


@pytest.fixture(scope="module")
def features() -> Task:
    """Twelve numbers, five classes."""
    return task_of(lambda: make("perceptron"), "1x12")


@pytest.fixture(scope="module")
def sequence() -> Task:
    """Ten tokens, one of five classes at each."""
    return task_of(lambda: make("tagger"), "1x10:int64")


class Grid(nn.Module):
    """A label at each of 2 x 3 places."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 5)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.layer(values)


@pytest.fixture(scope="module")
def grid() -> Task:
    return task_of(Grid, "1x2x3x4")


def describe(folder: Path, **changes: Any) -> Description:
    described = Description(
        entry="net.py:build", input=TensorInput(name="x", shape=(4,)), output=(2,), labels=("no", "yes"), **changes
    )
    (folder / "module.json").write_text(described.model_dump_json(by_alias=True))
    return described


def test_the_table_has_it_and_a_description_leads_to_it(tmp_path: Path, features: Task) -> None:
    assert TASKS["tensor-classification"] is TensorClassification
    assert module_task(describe(tmp_path)) == "tensor-classification"
    assert module_task(describe(tmp_path, pixels=Pixels())) == "image-classification"
    assert module_task(describe(tmp_path), "image-classification") == "image-classification"
    with pytest.raises(UnknownNameError) as caught:
        module_task(describe(tmp_path), "tensor-clasification")
    assert caught.value.hint.startswith("Did you mean 'tensor-classification'")
    assert features.name == "tensor-classification"


def test_input_labels_and_places(features: Task, sequence: Task, grid: Task) -> None:
    def seen(task: Any) -> tuple[Any, ...]:
        return (task.input.name, task.input.shape, task.input.dtype, task.places, task.labels)

    assert seen(features) == ("features", (12,), "float32", (), LABELS)
    assert seen(sequence) == ("tokens", (10,), "int64", (10,), LABELS)
    assert seen(grid) == ("values", (2, 3, 4), "float32", (2, 3), LABELS)
    assert sequence.preprocessing == {"kind": "none", "shape": [10], "dtype": "int64"}
    assert not features.reads_first_token


def test_rows_become_batches(features: Task, sequence: Task) -> None:
    rows = np.arange(36.0).reshape(3, 12).tolist()
    batch = features.encode({"input": rows, "label": [4, 0, 2]}).batch([2, 0])
    assert (batch["features"].dtype, batch["labels"].dtype) == (np.float32, np.int64)
    assert batch["features"].tolist() == [rows[2], rows[0]]
    assert batch["labels"].tolist() == [2, 4]
    tokens = sequence.encode({"input": [[1] * 10, [2.0] * 10], "label": [[0] * 10, [1] * 10]})
    assert (len(tokens), tokens.length(1)) == (2, 1)
    assert (tokens.batch([1])["tokens"].dtype, tokens.batch([1])["tokens"].tolist()) == (np.int64, [[2] * 10])
    assert tokens.batch([0, 1])["labels"].shape == (2, 10)
    assert "labels" not in features.encode({"input": rows}).batch([0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0] * 11, "row 1 of the data has the shape [11]\nthe module takes [12]"),
        ([[1.0] * 12], "row 1 of the data has the shape [1, 12]\nthe module takes [12]"),
        (["a"] * 12, "row 1 of the data is no array of numbers\n"),
        ([[1.0], [2.0, 3.0]], "row 1 of the data is no array of numbers\n"),
        ([1.0] * 11 + [None], "row 1 of the data has places without a number"),
        ([1.0] * 11 + [float("nan")], "row 1 of the data has places without a number"),
        (None, "row 1 of the data has the shape []\nthe module takes [12]"),
    ],
)
def test_a_row_that_does_not_fit_is_an_error_of_the_data(features: Task, row: Any, message: str) -> None:
    examples = features.encode({"input": [[0.0] * 12, row]})
    assert examples.batch([0])["features"].shape == (1, 12)
    with pytest.raises(DataError) as caught:
        examples.batch([0, 1])
    assert str(caught.value).startswith(message)


def test_fractions_are_not_cut_off_where_whole_numbers_are_needed(sequence: Task) -> None:
    with pytest.raises(DataError, match=r"^row 0 of the data has fractions\nthe module takes int64$"):
        sequence.encode({"input": [[1.0] * 9 + [1.5]]}).batch([0])


@pytest.mark.parametrize(
    ("value", "names", "expected"), [(3, None, 3), ("LABEL_2", None, 2), (None, None, -1), (-1, None, -1)]
)
def test_one_label_is_read_by_name_or_number(features: Task, value: object, names: Any, expected: int) -> None:
    assert features.read_label(value, names) == expected
    assert features.is_label(value) is (expected != -1)


def test_labels_of_a_sequence_are_read_place_by_place(sequence: Task, grid: Task) -> None:
    value = [0, "LABEL_3", None, -1, 4, 0, 0, 0, 0, 1]
    assert sequence.read_label(value, None) == [0, 3, -1, -1, 4, 0, 0, 0, 0, 1]
    assert sequence.read_label([1] * 10, ["LABEL_4", "LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"]) == [0] * 10
    assert grid.read_label([[0, 1, 2], ["LABEL_3", 4, None]], None) == [[0, 1, 2], [3, 4, -1]]
    assert sequence.is_label([-1] * 10)
    assert not sequence.is_label(None)


@pytest.mark.parametrize("value", [1, "LABEL_1", [0] * 9, [[0] * 10], [[0]] * 10])
def test_labels_of_another_shape_are_an_error_of_the_data(sequence: Task, value: Any) -> None:
    with pytest.raises(DataError) as caught:
        sequence.read_label(value, None)
    assert caught.value.what.startswith("the data has the label ")
    assert caught.value.why == "the module gives labels of the shape [10] for a sample"
    assert caught.value.hint == "Choose another column with --columns label=NAME."


def test_many_labels_for_one_are_an_error_of_the_data(features: Task) -> None:
    with pytest.raises(DataError) as caught:
        features.read_label([1, 2], None)
    assert (caught.value.what, caught.value.why) == (
        "the data has the label [1, 2]",
        "the module gives one label for a sample",
    )
    with pytest.raises(DataError, match="the data has the label 9, which the model does not know"):
        features.read_label(9, None)


def test_the_loss_is_the_mean_over_labelled_places(features: Task, sequence: Task) -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 1, 2] = float(np.log(3.0))  # of 3 + 1 + 1 + 1
    assert float(sequence.loss(logits, torch.tensor([[-1, 2, -1]]))) == pytest.approx(np.log(2.0))
    assert float(sequence.loss(logits, torch.tensor([[0, 2, -1]]))) == pytest.approx((np.log(4.0) + np.log(2.0)) / 2)
    assert float(features.loss(logits[:, 1], torch.tensor([2]))) == pytest.approx(np.log(2.0))


def test_metrics_look_at_labelled_places_alone(features: Task, sequence: Task) -> None:
    logits = np.zeros((2, 3, 4))
    logits[0, :, 1] = logits[1, :, 2] = 1.0
    labels = np.array([[1, 1, -1], [0, -1, 2]])
    assert list(sequence.metrics) == ["accuracy", "f1"]
    assert sequence.score(logits, labels) == 3 / 4
    assert features.score(logits[:, 0], np.array([1, 0])) == 1 / 2
    assert features.score(logits[:, 0], np.array([1, -1])) == 1.0
    # f1 of the classes 0 (never found), 1 (both found), 2 (found twice, once rightly)
    assert sequence.metrics["f1"](logits, labels) == pytest.approx((0 + 1 + 2 / 3) / 3)


def test_logits_are_interpreted_best_first_or_place_by_place(features: Task, sequence: Task, grid: Task) -> None:
    row = np.log([[1.0, 4.0, 2.0, 2.0, 1.0]])
    (found,) = features.interpret(row)
    assert [name for name, _ in found] == ["LABEL_1", "LABEL_2", "LABEL_3", "LABEL_0", "LABEL_4"]
    assert [score for _, score in found] == pytest.approx([0.4, 0.2, 0.2, 0.1, 0.1])
    (tagged,) = sequence.interpret(np.stack([row, row[:, ::-1]], axis=1))
    assert [name for name, _ in tagged] == ["LABEL_1", "LABEL_3"]
    assert [score for _, score in tagged] == pytest.approx([0.4, 0.4])
    (places,) = grid.interpret(np.zeros((1, 2, 3, 5)))
    assert [(name, round(score, 6)) for name, score in places] == [("LABEL_0", 0.2)] * 6


def test_the_workload_is_of_the_inputs_shape(features: Task, sequence: Task) -> None:
    (feeds,) = features.workload_feeds(Workload(batch=3)).values()
    assert (feeds["features"].shape, feeds["features"].dtype) == ((3, 12), np.float32)
    assert np.ptp(feeds["features"]) > 1
    (feeds,) = sequence.workload_feeds(Workload(batch=2, tokens=99)).values()
    assert (feeds["tokens"].shape, feeds["tokens"].dtype) == ((2, 10), np.int64)


def test_a_workload_that_does_not_fit_into_memory_is_an_error(features: Task) -> None:
    with pytest.raises(ResourceLimitError, match="the input 'features' asked for more memory"):
        features.workload_feeds(Workload(batch=2**40))


def test_the_component_takes_and_gives_what_the_module_does(features: Task, sequence: Task) -> None:
    for task, shape, dtype in ((features, (2, 12), torch.float32), (sequence, (2, 10), torch.int64)):
        (spec,) = task.components(task.load_model()).values()
        ((name, example),) = spec.example.items()
        assert (tuple(example.shape), example.dtype) == (shape, dtype)
        assert (spec.axes, spec.outputs) == ({name: {0: "batch"}}, ("logits",))
        assert not spec.module.training


def test_an_input_of_the_command_line_is_an_array(features: Task) -> None:
    assert features.read_input("[1, 2.5]") == {"input": [1, 2.5]}
    with pytest.raises(DataError, match=r"^'1, 2' is no JSON array\n"):
        features.read_input("1, 2")


def test_loading_and_building_need_the_code(features: Task) -> None:
    model = features.load_model()
    expected = make("perceptron").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    output = features.call(model, {"features": torch.zeros(2, 12), "labels": torch.zeros(2)})
    assert (tuple(output.logits.shape), output.hidden_states, output.attentions) == ((2, 5), (), ())
    with pytest.raises(ModelError, match="does not hand out its hidden states"):
        features.call(model, {"features": torch.zeros(2, 12)}, hidden_states=True)
    without = bind_task(features.name, features.folder, TaskOptions())
    assert without.labels == LABELS  # what needs no code works without
    with pytest.raises(ModelError) as caught:
        without.load_model()
    entry = read_description(features.folder).entry
    assert caught.value.what == f"the module was built by {entry}, and no code runs unless you name it"
    assert caught.value.hint == f"Name it: edgekit.load_pruned(PATH, build='path/to/{entry}')."


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (lambda: None, "gives a NoneType\nallowed: a torch.nn.Module"),
        (lambda: 1 / 0, "could not be called without arguments\nZeroDivisionError: division by zero"),
        (lambda: make("tagger"), "the weights in 'model.safetensors' do not fit the module\n"),
    ],
)
def test_other_code_is_an_error_of_the_model(features: Task, code: Any, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        bind_task(features.name, features.folder, TaskOptions(), code).load_model()
    assert message in str(caught.value)


def test_a_folder_of_transformers_is_not_for_this_task(tmp_path: Path) -> None:
    folder = save(build("bert", layers=1), tmp_path)
    with pytest.raises(ModelError, match=r"^this task is for modules given as code\nthe folder has no module.json$"):
        bind_task("tensor-classification", folder, TaskOptions()).load_model()
