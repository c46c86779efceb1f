from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distillation.test_trainer import SCHEDULE, Notes, assert_same, lesson_of, run, weights_of
from tiny import build, examples_for, save, task_for

from edgekit.distillation.answers import Answers, sheets_of
from edgekit.distillation.teacher import Teacher, prepare_teacher
from edgekit.tasks.base import MASK, Task, shuffled_batches


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> dict[str, Task]:
    return {name: task_for(save(build(name), tmp_path_factory.mktemp(name))) for name in ("bert", "vit")}


@dataclass(frozen=True)
class Counted(Teacher):
    """Counts the samples that it is asked about."""

    asked: list[int]

    def answer(self, tensors: Any, **wanted: bool) -> Any:
        self.asked.append(len(next(iter(tensors.values()))))
        return super().answer(tensors, **wanted)


def opened(task: Task, folder: Path | None, precision: Any = "bf16") -> tuple[Answers, Counted, Any]:
    import torch

    examples = examples_for(task, 45)
    plain = prepare_teacher(task.load_model(), task, precision, torch.device("cpu"))
    teacher = Counted(plain.model, task, plain.precision, [])
    return Answers(teacher, examples, sheets_of(examples, 8, seed=3), (1, 3), lambda size: folder), teacher, examples


def tensors_of(examples: Any, indices: list[int]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(values) for name, values in examples.batch(indices).items()}


def test_every_sample_has_one_sheet_and_those_of_the_first_pass_come_first(tasks: dict[str, Task]) -> None:
    examples = examples_for(tasks["bert"], 45)
    sheets = sheets_of(examples, 8, seed=3)
    assert sheets[:5] == shuffled_batches(examples, 8, 3, 0)
    assert sorted(index for sheet in sheets for index in sheet) == list(range(45))


@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_was_asked_is_read_in_any_batch(
    tasks: dict[str, Task], tmp_path: Path, family: str, precision: str
) -> None:
    answers, teacher, examples = opened(tasks[family], tmp_path, precision)
    said: dict[int, tuple[Any, Any]] = {}
    for sheet in answers.sheets:
        tensors = tensors_of(examples, list(sheet))
        given = answers.of(sheet, tensors)
        direct = Teacher.answer(teacher, tensors, hidden_states=True)
        np.testing.assert_array_equal(given.logits, direct.logits)
        real = tensors[MASK].bool() if MASK in tensors else ...
        rounded = direct.hidden_states[3].bfloat16().float()
        np.testing.assert_array_equal(given.hidden_states[3][real], rounded[real])
        said |= {index: (given.logits[place], given.hidden_states[3][place]) for place, index in enumerate(sheet)}
    asked = sum(teacher.asked)
    mixed = [17, 3, 44, 8, 30]
    tensors = tensors_of(examples, mixed)
    again = answers.of(mixed, tensors)
    assert sum(teacher.asked) == asked == 45 + 8  # one batch more, which tells how large the answers are
    for place, index in enumerate(mixed):
        np.testing.assert_array_equal(again.logits[place], said[index][0])
        tokens = int(tensors[MASK][place].sum()) if MASK in tensors else again.hidden_states[3].shape[1]
        np.testing.assert_array_equal(again.hidden_states[3][place, :tokens], said[index][1][:tokens])
        assert not again.hidden_states[3][place, tokens:].any()
    assert [len(states) for states in again.hidden_states] == [0, 5, 0, 5]
    answers.close()


def test_another_process_reads_them_and_asks_anew_for_what_is_damaged(tasks: dict[str, Task], tmp_path: Path) -> None:
    answers, _, examples = opened(tasks["bert"], tmp_path)
    sheet = list(answers.sheets[0])
    tensors = tensors_of(examples, sheet)
    expected = answers.of(sheet, tensors)
    other, teacher, _ = opened(tasks["bert"], tmp_path)
    np.testing.assert_array_equal(other.of(sheet, tensors).hidden_states[1], expected.hidden_states[1])
    assert teacher.asked == [8]
    file = tmp_path / "states-1.bin"
    file.write_bytes(bytes(byte ^ 1 for byte in file.read_bytes()))
    np.testing.assert_array_equal(other.of(sheet, tensors).hidden_states[1], expected.hidden_states[1])
    assert teacher.asked == [8, 8]
    answers.close()
    other.close()


def test_without_a_place_the_teacher_is_asked_each_time(tasks: dict[str, Task]) -> None:
    answers, teacher, examples = opened(tasks["bert"], None)
    tensors = tensors_of(examples, [5, 6])
    direct = Teacher.answer(teacher, tensors, hidden_states=True)
    for _ in range(2):
        np.testing.assert_array_equal(answers.of([5, 6], tensors).logits, direct.logits)
    assert teacher.asked == [2, 2, 2]


@pytest.mark.parametrize("lost", [False, True])
def test_a_training_ends_in_the_same_student_whether_answers_were_kept_or_lost_on_the_way(
    tasks: dict[str, Task], tmp_path: Path, lost: bool
) -> None:
    def lesson(name: str) -> Any:
        return lesson_of(tasks["bert"], place=lambda size: tmp_path / name)

    schedule = replace(SCHEDULE, epochs=3.0)
    whole, killed, resumed = lesson("whole"), lesson("cut"), lesson("cut")
    expected = run(whole, tmp_path / "a", schedule)
    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path / "b", schedule, notes=Notes(("distill.checkpoint", 16)))
    if lost:
        shutil.rmtree(tmp_path / "cut")
    assert run(resumed, tmp_path / "b", schedule) == expected
    assert_same(weights_of(resumed.student), weights_of(whole.student))
    shared = lesson("whole")  # another training on the same samples
    assert run(shared, tmp_path / "c", schedule) == expected
