from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import build, examples_for, save, task_for

from edgekit.distillation.losses import Weights, distillation_loss
from edgekit.distillation.teacher import Teacher
from edgekit.distillation.timetable import Change, Timetable
from edgekit.distillation.trainer import Lesson, Schedule, train
from edgekit.errors import UsageError
from edgekit.formats.encoder import encoder_layers
from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay
from edgekit.progress import Silent
from edgekit.stages.distill import layer_map
from edgekit.tasks.base import LABELS, MASK, Batch, Task

SCHEDULE = Schedule(
    epochs=2.0,
    most_steps=1000,
    batch_size=8,
    learning_rate=3e-3,
    warmup=0.1,
    weight_decay=0.01,
    clip=1.0,
    evaluate_every=4,
    patience=100,
    checkpoint_every=4,
    precision="fp32",
    dropout=False,
)
WEIGHTS = Weights(logits=1.0, task=0.5, hidden=1.0, attention=0.0, temperature=2.0)


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> dict[str, Task]:
    return {name: task_for(save(build(name), tmp_path_factory.mktemp(name))) for name in ("bert", "vit")}


def lesson_of(task: Task, *, columns: tuple[int, ...] | None = None, **changes: Any) -> Lesson:
    """A teacher of three layers, and what a plan leaves of it; of its stream these columns, or all."""
    teacher, student = task.load_model(), task.load_model()
    plan = EncoderPlan(
        architecture=type(student).__name__,
        layers=(
            LayerPlan(index=0, heads=(0, 2), neurons=tuple(range(32))),
            LayerPlan(index=2, heads=(1, 3), neurons=tuple(range(16))),
        ),
        hidden=columns,
    )
    values = {
        "teacher": teacher,
        "student": replay(student, plan),
        "layers": layer_map(teacher, teacher, plan),
        "weights": WEIGHTS,
        "task": task,
        "train": examples_for(task, 80),
        "selection": examples_for(task, 16, seed=1),
    }
    return Lesson(**(values | changes))


class Notes:
    """What the log is told; ``kill_at`` stops the run as a signal would, behind that event."""

    def __init__(self, kill_at: tuple[str, int] | None = None) -> None:
        self.kill_at = kill_at
        self.events: list[tuple[str, int]] = []

    def __call__(self, event: str, **values: Any) -> None:
        self.events.append((event, values["step"]))
        if self.events[-1] == self.kill_at:
            raise KeyboardInterrupt


def whole_loss(lesson: Lesson) -> float:
    """The loss that training lowers, on the selection split."""
    import torch

    tensors = {name: torch.from_numpy(values) for name, values in lesson.selection.batch(range(16)).items()}
    with torch.no_grad():
        teacher, student = (
            lesson.task.call(model, tensors, hidden_states=True, attentions=bool(lesson.weights.attention))
            for model in (lesson.teacher, lesson.student)
        )
        loss = distillation_loss(
            student,
            teacher,
            task=lesson.task,
            labels=tensors.get(LABELS),
            mask=tensors.get(MASK),
            layers=lesson.layers,
            weights=lesson.weights,
        )
    return float(loss)


def weights_of(model: Any) -> dict[str, Any]:
    return {name: value.detach().clone().numpy() for name, value in model.named_parameters()}


def run(
    lesson: Lesson, folder: Path, schedule: Schedule = SCHEDULE, *, seed: int = 0, notes: Notes | None = None
) -> dict[str, Any]:
    return train(lesson, schedule, folder, seed=seed, progress=Silent(), note=notes or Notes())


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_the_student_learns(tasks: dict[str, Task], tmp_path: Path, family: str) -> None:
    lesson = lesson_of(tasks[family])
    before, taught = weights_of(lesson.student), weights_of(lesson.teacher)
    at_first = whole_loss(lesson)
    figures = run(lesson, tmp_path)
    assert figures["steps"] == figures["planned_steps"] == 20
    losses = figures["selection_losses"]
    assert [step for step, _ in losses] == [4, 8, 12, 16, 20]
    assert figures["best_selection_loss"] == min(loss for _, loss in losses)
    assert whole_loss(lesson) < 0.9 * at_first
    assert dict(losses)[figures["best_step"]] == figures["best_selection_loss"]
    assert any(np.abs(before[name] - values).max() > 1e-3 for name, values in weights_of(lesson.student).items())
    assert_same(weights_of(lesson.teacher), taught)
    assert not lesson.student.training
    assert not figures["stopped_early"]


@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize("dropout", [False, True])
def test_a_run_that_was_killed_and_goes_on_ends_as_if_it_had_not_been(
    tasks: dict[str, Task], tmp_path: Path, family: str, dropout: bool
) -> None:
    schedule = replace(SCHEDULE, dropout=dropout)
    whole, killed, resumed = (lesson_of(tasks[family]) for _ in range(3))
    expected = run(whole, tmp_path / "whole", schedule)
    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path / "cut", schedule, notes=Notes(("distill.checkpoint", 12)))
    notes = Notes()
    assert run(resumed, tmp_path / "cut", schedule, notes=notes) == expected
    assert notes.events[0] == ("distill.start", 12)
    assert_same(weights_of(resumed.student), weights_of(whole.student))


def test_frozen_tables_are_in_no_checkpoint_and_a_run_goes_on_without_them(
    tasks: dict[str, Task], tmp_path: Path
) -> None:
    from safetensors import safe_open

    schedule = replace(SCHEDULE, freeze=True)
    whole, killed, resumed = (lesson_of(tasks["bert"]) for _ in range(3))
    expected = run(whole, tmp_path / "whole", schedule)
    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path / "cut", schedule, notes=Notes(("distill.checkpoint", 12)))
    for name in ("student", "best", "optimizer"):
        with safe_open(tmp_path / "cut" / "step-00000012" / f"{name}.safetensors", "np") as stored:
            assert not [key for key in stored.keys() if "_embeddings" in key]  # noqa: SIM118  # it is no dictionary
    assert run(resumed, tmp_path / "cut", schedule) == expected
    assert_same(weights_of(resumed.student), weights_of(whole.student))
    assert expected["frozen_weights"] == sum(
        values.size for name, values in weights_of(whole.teacher).items() if name.endswith("_embeddings.weight")
    )
    tables = [name for name in weights_of(whole.student) if name.endswith("_embeddings.weight")]
    assert len(tables) == 3
    for name in tables:
        np.testing.assert_array_equal(weights_of(whole.student)[name], weights_of(whole.teacher)[name])


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_a_student_of_fewer_columns_learns_and_goes_on_when_killed(
    tasks: dict[str, Task], tmp_path: Path, family: str
) -> None:
    columns = (*range(0, 20, 2), *range(20, 32))
    schedule = replace(SCHEDULE, freeze=True)
    whole, killed, resumed = (lesson_of(tasks[family], columns=columns) for _ in range(3))
    at_first = whole_loss(whole)
    expected = run(whole, tmp_path / "whole", schedule)
    assert whole_loss(whole) < 0.9 * at_first
    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path / "cut", schedule, notes=Notes(("distill.checkpoint", 12)))
    assert run(resumed, tmp_path / "cut", schedule) == expected
    assert_same(weights_of(resumed.student), weights_of(whole.student))
    tables = [name for name in weights_of(whole.student) if name.endswith("_embeddings.weight")]
    assert len(tables) == (3 if family == "bert" else 0)
    for name in tables:  # the teacher's own, of the columns that stayed
        np.testing.assert_array_equal(weights_of(whole.student)[name], weights_of(whole.teacher)[name][:, columns])
    assert expected["frozen_weights"] == sum(weights_of(whole.student)[name].size for name in tables)


def test_a_training_whose_time_is_up_keeps_its_best_and_goes_on_to_the_same_end(
    tasks: dict[str, Task], tmp_path: Path
) -> None:
    told: list[Change] = []

    def record(change: Change) -> Change:
        told.append(change)
        return change

    left = iter([100.0] * 13)
    whole, killed, resumed = (lesson_of(tasks["bert"]) for _ in range(3))
    ends = Timetable(SCHEDULE, 20, left=lambda: next(left, -1.0), record=record)
    expected = train(whole, SCHEDULE, tmp_path / "whole", seed=0, progress=Silent(), note=Notes(), timetable=ends)
    assert told == [Change(14, 14)]
    assert (expected["steps"], expected["planned_steps"]) == (14, 20)
    losses = expected["selection_losses"]
    assert isinstance(losses, list)
    assert losses[-1] == [14, pytest.approx(losses[-1][1])]  # type: ignore[index]
    notes, known = Notes(("distill.checkpoint", 12)), Timetable(SCHEDULE, 20, known=told)
    with pytest.raises(KeyboardInterrupt):
        train(killed, SCHEDULE, tmp_path / "cut", seed=0, progress=Silent(), note=notes, timetable=known)
    known = Timetable(SCHEDULE, 20, known=told)
    again = train(resumed, SCHEDULE, tmp_path / "cut", seed=0, progress=Silent(), note=Notes(), timetable=known)
    assert again == expected
    assert_same(weights_of(resumed.student), weights_of(whole.student))


def test_a_run_that_is_not_to_be_shortened_does_not_go_on_from_one_that_was(
    tasks: dict[str, Task], tmp_path: Path
) -> None:
    whole, killed, resumed = (lesson_of(tasks["bert"]) for _ in range(3))
    expected = run(whole, tmp_path / "whole")
    shortened = Timetable(SCHEDULE, 20, known=[Change(6, 16)])
    with pytest.raises(KeyboardInterrupt):
        train(
            killed,
            SCHEDULE,
            tmp_path / "cut",
            seed=0,
            progress=Silent(),
            note=Notes(("distill.checkpoint", 12)),
            timetable=shortened,
        )
    notes = Notes()
    assert run(resumed, tmp_path / "cut", notes=notes) == expected
    assert notes.events[0] == ("distill.start", 0)
    assert_same(weights_of(resumed.student), weights_of(whole.student))


def test_the_teacher_is_asked_about_the_selection_split_once(
    tasks: dict[str, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    answer = Teacher.answer

    def counted(self: Teacher, tensors: Any, **wanted: bool) -> Any:
        asked.append(wanted.get("hidden_states", False))
        return answer(self, tensors, **wanted)

    monkeypatch.setattr(Teacher, "answer", counted)
    figures = run(lesson_of(tasks["bert"]), tmp_path)
    assert len(figures["selection_losses"]) == 5
    assert (asked.count(True), asked.count(False)) == (20, 2)  # 20 steps, and 16 samples in batches of 8


def test_at_most_one_interval_is_computed_again(tasks: dict[str, Task], tmp_path: Path) -> None:
    class Killed(Silent):
        steps = 0

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.steps += steps
            if self.steps == 11:
                raise KeyboardInterrupt

    whole, resumed = lesson_of(tasks["bert"]), lesson_of(tasks["bert"])
    run(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(lesson_of(tasks["bert"]), SCHEDULE, tmp_path / "cut", seed=0, progress=Killed(), note=Notes())
    notes = Notes()
    run(resumed, tmp_path / "cut", notes=notes)
    assert notes.events[0] == ("distill.start", 8)
    assert_same(weights_of(resumed.student), weights_of(whole.student))


def test_the_seed_decides_the_order(tasks: dict[str, Task], tmp_path: Path) -> None:
    one, same, other = (lesson_of(tasks["bert"]) for _ in range(3))
    for name, lesson, seed in (("one", one, 0), ("same", same, 0), ("other", other, 1)):
        run(lesson, tmp_path / name, replace(SCHEDULE, most_steps=6), seed=seed)
    assert_same(weights_of(one.student), weights_of(same.student))
    name = next(iter(weights_of(one.student)))
    assert np.abs(weights_of(one.student)[name] - weights_of(other.student)[name]).max() > 0


def test_the_best_student_is_left_not_the_last(tasks: dict[str, Task], tmp_path: Path) -> None:
    class Once(Silent):
        """Keeps the student's weights of every step."""

        def __init__(self, student: Any) -> None:
            self.student, self.kept = student, [weights_of(student)]

        def advance(self, steps: int = 1, note: str = "") -> None:
            if steps:
                self.kept.append(weights_of(self.student))

    lesson = lesson_of(tasks["bert"])
    wild = replace(SCHEDULE, learning_rate=0.1, evaluate_every=1, warmup=0.0)
    progress = Once(lesson.student)
    figures = train(lesson, wild, tmp_path, seed=0, progress=progress, note=Notes())
    assert figures["best_step"] < figures["steps"]  # type: ignore[operator]
    assert_same(weights_of(lesson.student), progress.kept[int(str(figures["best_step"]))])


def test_training_ends_early_when_nothing_gets_better(tasks: dict[str, Task], tmp_path: Path) -> None:
    still = replace(SCHEDULE, learning_rate=1e-12, weight_decay=0.0, evaluate_every=1, patience=3, epochs=10.0)
    figures = run(lesson_of(tasks["bert"]), tmp_path, still)
    assert figures["stopped_early"] is True
    losses = [loss for _, loss in figures["selection_losses"]]
    assert figures["steps"] < figures["planned_steps"] == 100
    assert len(losses) - figures["best_step"] == 3
    assert min(losses[figures["best_step"] :]) >= figures["best_selection_loss"]


def test_a_loss_that_is_no_number_is_an_error(tasks: dict[str, Task], tmp_path: Path) -> None:
    lesson = lesson_of(tasks["bert"])
    encoder_layers(lesson.student)[0].up.weight.data[0, 0] = math.nan
    with pytest.raises(UsageError) as caught:
        run(lesson, tmp_path)
    assert caught.value.what == "distillation diverged: the loss is nan at step 0"
    assert caught.value.hint == "Lower the learning rate: --set distill.learning_rate=3e-5."


def test_a_student_that_diverges_in_the_last_step_is_an_error(tasks: dict[str, Task], tmp_path: Path) -> None:
    once = replace(SCHEDULE, learning_rate=1e38, most_steps=1, evaluate_every=100)
    with pytest.raises(UsageError, match=r"^distillation diverged: the loss is (nan|inf) at step 0"):
        run(lesson_of(tasks["bert"]), tmp_path, once)


def test_training_without_labels_is_held_to_the_teacher(tasks: dict[str, Task], tmp_path: Path) -> None:
    class Unlabelled:
        def __init__(self, examples: Any) -> None:
            self.examples = examples

        def __len__(self) -> int:
            return len(self.examples)

        def length(self, index: int) -> int:
            return int(self.examples.length(index))

        def batch(self, indices: Any) -> Batch:
            return {name: values for name, values in self.examples.batch(indices).items() if name != "labels"}

    task = tasks["bert"]
    lesson = lesson_of(
        task, train=Unlabelled(examples_for(task, 80)), selection=Unlabelled(examples_for(task, 16, seed=1))
    )
    losses = [loss for _, loss in run(lesson, tmp_path)["selection_losses"]]
    assert losses[-1] < losses[0]


def test_attention_maps_are_taught(tasks: dict[str, Task], tmp_path: Path) -> None:
    lesson = lesson_of(tasks["bert"], weights=Weights(0.0, 0.0, 0.0, 1.0, 2.0))
    for model in (lesson.teacher, lesson.student):
        model.set_attn_implementation("eager")  # type: ignore[operator]
    at_first = whole_loss(lesson)
    run(lesson, tmp_path)
    assert whole_loss(lesson) < 0.9 * at_first


def test_bf16_products_train_float32_weights(tasks: dict[str, Task], tmp_path: Path) -> None:
    import torch

    lesson = lesson_of(tasks["bert"])
    losses = [loss for _, loss in run(lesson, tmp_path, replace(SCHEDULE, precision="bf16"))["selection_losses"]]
    assert losses[-1] < losses[0]
    assert {parameter.dtype for parameter in lesson.student.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "samples", "steps"),
    [
        ({}, 80, 20),
        ({"epochs": 0.5}, 80, 5),
        ({"epochs": 0.01}, 80, 1),
        ({"most_steps": 7}, 80, 7),
        ({}, 87, 20),
        ({}, 3, 2),
    ],
)
def test_training_takes_epochs_or_steps(changes: dict[str, Any], samples: int, steps: int) -> None:
    assert replace(SCHEDULE, **changes).steps(samples) == steps


def test_the_rate_rises_and_falls_as_a_cosine() -> None:
    schedule = replace(SCHEDULE, learning_rate=1.0, warmup=0.1)
    rates = [schedule.rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert sorted(rates[10:], reverse=True) == rates[10:]


@pytest.mark.parametrize("dropout", [False, True])
def test_batch_norms_learn_nothing_from_one_sample_alone(tasks: dict[str, Task], tmp_path: Path, dropout: bool) -> None:
    import torch

    lesson = lesson_of(tasks["vit"], train=examples_for(tasks["vit"], 6), weights=replace(WEIGHTS, hidden=0.0))
    head = lesson.student.classifier
    norm = torch.nn.BatchNorm1d(head.in_features)  # which refuses one value a channel while it trains
    lesson.student.classifier = torch.nn.Sequential(norm, head)
    run(lesson, tmp_path / "one", replace(SCHEDULE, batch_size=1, epochs=1.0, dropout=dropout))
    assert norm.num_batches_tracked == 0
    run(lesson, tmp_path / "two", replace(SCHEDULE, batch_size=2, epochs=1.0, dropout=dropout))
    assert norm.num_batches_tracked == 3
