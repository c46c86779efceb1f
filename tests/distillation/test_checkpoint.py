from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekit.cache import OBJECT
from edgekit.distillation.checkpoint import Progressed, TrainingState, load_checkpoint, save_checkpoint
from edgekit.distillation.timetable import Change

FILES = ["best.safetensors", "optimizer.safetensors", "state.json", "student.safetensors"]


def student(seed: int = 0) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))


def optimizer_of(model: Any) -> Any:
    import torch

    return torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)


def train(model: Any, optimizer: Any, steps: range) -> None:
    import torch

    for step in steps:
        data = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        model(data).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def state(step: int, model: Any) -> TrainingState:
    progressed = Progressed(step=step, best_step=step - 1, best_loss=0.1 + step, losses=((1, 0.3), (2, 1 / 3)))
    return TrainingState(progressed, {name: value.detach().clone() for name, value in model.named_parameters()})


def equal(one: Any, other: Any) -> bool:
    return all(bool((a == b).all()) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_checkpoint_comes_back_bit_by_bit(tmp_path: Path) -> None:
    model = student()
    optimizer = optimizer_of(model)
    train(model, optimizer, range(5))
    save_checkpoint(tmp_path, state(5, model), model, optimizer)
    fresh = student(1)
    fresh_optimizer = optimizer_of(fresh)
    found = load_checkpoint(tmp_path, fresh, fresh_optimizer)
    assert found is not None
    assert found.progressed == state(5, model).progressed
    assert equal(model, fresh)
    assert all(bool((found.best[name] == value).all()) for name, value in model.named_parameters())
    train(model, optimizer, range(5, 9))
    train(fresh, fresh_optimizer, range(5, 9))
    assert equal(model, fresh)


def test_only_the_newest_stays_and_it_holds_no_pickle(tmp_path: Path) -> None:
    model = student()
    optimizer = optimizer_of(model)
    (tmp_path / "events.jsonl").write_text("{}")
    (tmp_path / ".half-written").mkdir()
    for step in (5, 10, 15):
        train(model, optimizer, range(step - 5, step))
        save_checkpoint(tmp_path, state(step, model), model, optimizer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "step-00000015"]
    assert sorted(path.name for path in (tmp_path / "step-00000015").iterdir()) == [OBJECT, *FILES]
    for path in (tmp_path / "step-00000015").iterdir():
        head = path.read_bytes()[:16]
        assert not head.startswith((b"PK", b"\x80"))  # how torch.save's archives and pickles begin


def test_the_first_checkpoint_has_no_best_yet(tmp_path: Path) -> None:
    model = student()
    optimizer = optimizer_of(model)
    train(model, optimizer, range(1))
    save_checkpoint(tmp_path, TrainingState(Progressed(step=1)), model, optimizer)
    found = load_checkpoint(tmp_path, student(1), optimizer_of(student(1)))
    assert found is not None
    assert (found.progressed.step, found.progressed.best_loss, found.best) == (1, None, {})


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    model = student()
    before = [value.detach().clone() for value in model.parameters()]
    assert load_checkpoint(tmp_path / "nothing", model, optimizer_of(model)) is None
    assert all(bool((a == b).all()) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut short", "empty", "gone", "bit"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, name: str, damage: str) -> None:
    model = student()
    optimizer = optimizer_of(model)
    train(model, optimizer, range(5))
    save_checkpoint(tmp_path / "a", state(5, model), model, optimizer)
    older = [value.detach().clone() for value in model.parameters()]
    train(model, optimizer, range(5, 10))
    save_checkpoint(tmp_path / "b", state(10, model), model, optimizer)
    # As after a kill between the renaming of the newer one and the removal of the older one.
    shutil.move(tmp_path / "a" / "step-00000005", tmp_path / "b" / "step-00000005")
    file = tmp_path / "b" / "step-00000010" / name
    if damage == "gone":
        file.unlink()
    elif damage == "bit":
        content = bytearray(file.read_bytes())
        content[-3] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(file.read_bytes()[: -len(file.read_bytes()) // 2] if damage == "cut short" else b"")
    fresh = student(1)
    found = load_checkpoint(tmp_path / "b", fresh, optimizer_of(fresh))
    assert found is not None
    assert found.progressed.step == 5
    assert all(bool((a == b).all()) for a, b in zip(older, fresh.parameters(), strict=True))


def test_a_checkpoint_that_does_not_fit_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = student()
    optimizer = optimizer_of(model)
    made = Progressed(step=5, changes=(Change(3, 8),), answers_kept=True)
    save_checkpoint(tmp_path, TrainingState(made), model, optimizer)
    seen: list[Progressed] = []
    fresh = student(1)
    before = [value.detach().clone() for value in fresh.parameters()]
    assert load_checkpoint(tmp_path, fresh, optimizer_of(fresh), lambda found: bool(seen.append(found))) is None
    assert seen == [made]
    assert all(bool((a == b).all()) for a, b in zip(before, fresh.parameters(), strict=True))
    assert "step-00000005 is of a training that decided otherwise" in caplog.text
