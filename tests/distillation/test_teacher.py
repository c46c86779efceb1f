from __future__ import annotations

from typing import Any

import pytest
from tiny import build, examples_for, save, task_for

from edgekit.distillation.frozen import freeze_tables
from edgekit.distillation.teacher import prepare_teacher
from edgekit.environment import Host
from edgekit.quantization.blocks import round_to_blocks
from edgekit.tasks.base import Task


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> dict[str, Task]:
    return {name: task_for(save(build(name), tmp_path_factory.mktemp(name))) for name in ("bert", "vit")}


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_a_teacher_in_bfloat16_says_about_the_same_in_float32(
    tasks: dict[str, Task], torch_alone: Any, family: str
) -> None:
    torch, task = torch_alone, tasks[family]
    model = task.load_model()
    batch = {name: torch.from_numpy(values) for name, values in examples_for(task, 8).batch(range(8)).items()}
    plain, half = (prepare_teacher(model, task, precision, torch.device("cpu")) for precision in ("fp32", "bf16"))
    assert {weights.dtype for weights in half.model.parameters()} == {torch.bfloat16}
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}
    expected, given = (one.answer(batch, hidden_states=True) for one in (plain, half))
    assert given.logits.dtype == torch.float32
    assert not given.logits.requires_grad
    assert len(given.hidden_states) == len(expected.hidden_states) == 4
    for mine, theirs in (
        (given.logits, expected.logits),
        *zip(given.hidden_states, expected.hidden_states, strict=True),
    ):
        distance = float((mine - theirs).norm() / theirs.norm())
        assert 0 < distance < 0.03


@pytest.mark.parametrize(
    ("flags", "precision"), [({"amx_tile"}, "bf16"), ({"avx512_bf16"}, "bf16"), ({"avx512f"}, "fp32")]
)
def test_bfloat16_is_for_encoders_on_processors_that_multiply_it(
    tasks: dict[str, Task], torch_alone: Any, monkeypatch: pytest.MonkeyPatch, flags: set[str], precision: str
) -> None:
    monkeypatch.setattr(Host, "has", lambda self, flag: flag in flags)
    device, task = torch_alone.device("cpu"), tasks["bert"]
    assert prepare_teacher(task.load_model(), task, "auto", device).precision == precision
    assert prepare_teacher(torch_alone.nn.Linear(2, 2), task, "auto", device).precision == "fp32"


def test_tables_that_are_the_teachers_are_frozen(tasks: dict[str, Task]) -> None:
    task = tasks["bert"]
    teacher, student = task.load_model(), task.load_model()
    tables = {name for name, _ in student.named_parameters() if name.endswith("_embeddings.weight")}
    frozen = freeze_tables(student, teacher)
    assert not frozen.rounded
    assert {name for name, weights in student.named_parameters() if not weights.requires_grad} == tables
    assert frozen.weights == sum(weights.numel() for name, weights in student.named_parameters() if name in tables) > 0


def test_the_table_of_words_becomes_what_int4_leaves_of_it_and_stays_so(tasks: dict[str, Task]) -> None:
    task = tasks["bert"]
    teacher, student, other = (task.load_model() for _ in range(3))
    before = {name: weights.detach().clone() for name, weights in student.named_parameters()}
    assert freeze_tables(student, teacher, round_to_blocks).rounded
    words = student.get_input_embeddings().weight
    assert not words.requires_grad
    assert words.numpy().tolist() == round_to_blocks(teacher.get_input_embeddings().weight.detach().numpy()).tolist()
    changed = {name for name, weights in student.named_parameters() if not weights.equal(before[name])}
    assert changed == {"bert.embeddings.word_embeddings.weight"}
    other.load_state_dict(student.state_dict())  # a student of this student
    assert freeze_tables(other, teacher, round_to_blocks) == freeze_tables(student, teacher, round_to_blocks)
    assert other.get_input_embeddings().weight.equal(words)


def test_a_table_that_differs_or_is_read_elsewhere_learns(tasks: dict[str, Task], torch_alone: Any) -> None:
    task = tasks["bert"]
    teacher, student = task.load_model(), task.load_model()
    words = student.get_submodule("bert.embeddings.word_embeddings")
    positions = student.get_submodule("bert.embeddings.position_embeddings")
    with torch_alone.no_grad():
        positions.weight[0, 0] += 1
    student.tied = torch_alone.nn.Linear(*words.weight.shape[::-1], bias=False)
    student.tied.weight = words.weight
    freeze_tables(student, teacher)
    learning = {name for name, weights in student.named_parameters() if weights.requires_grad}
    assert {"bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight"} <= learning
    assert "bert.embeddings.token_type_embeddings.weight" not in learning
