from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from edgekit.checkpoint import first_lines, load_checkpoint, load_state, load_weights
from edgekit.errors import ModelError


def net(width: int = 4) -> nn.Sequential:
    return nn.Sequential(OrderedDict(body=nn.Linear(3, width), norm=nn.BatchNorm1d(width), head=nn.Linear(width, 2)))


def save(thing: Any, file: Path, *, zipped: bool = True) -> Path:
    """Write a checkpoint as trainers do."""
    torch.save(thing, file, _use_new_zipfile_serialization=zipped)  # noqa: TID251  # what is read with care here
    return file


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


class Touch:
    """A pickle of it makes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
def test_a_checkpoint_gives_its_tensors(tmp_path: Path, wrapper: str | None, zipped: bool) -> None:
    state = net().state_dict()
    thing = state if wrapper is None else {wrapper: state, "epoch": 7, "optimizer": {"lr": 0.1}}
    found = load_checkpoint(save(thing, tmp_path / "weights.pt", zipped=zipped))
    assert found.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.items())


def test_a_wrapper_may_lie_in_another(tmp_path: Path) -> None:
    found = load_checkpoint(save({"state_dict": {"model": {"w": torch.ones(2)}}}, tmp_path / "weights.pth"))
    assert found["w"].tolist() == [1, 1]


def test_a_pickle_with_code_is_refused_and_its_code_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    file = save({"w": torch.ones(2), "extra": Touch(mark)}, tmp_path / "evil.pt")
    with pytest.raises(ModelError) as caught:
        load_checkpoint(file)
    assert caught.value.what == "'evil.pt' is no checkpoint that can be read without running its code"
    assert len(caught.value.why.splitlines()) <= 4
    assert caught.value.hint.startswith("Save the weights as safetensors: safetensors.torch.save_file(")
    assert not mark.exists()


def test_a_whole_module_in_a_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'whole.pt' is no checkpoint that can be read without running its code"):
        load_checkpoint(save(net(), tmp_path / "whole.pt"))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_an_error_of_the_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"broken.pt' is no checkpoint"):
        load_checkpoint(tmp_path / "broken.pt")


@pytest.mark.parametrize("place", [30, 60, 90, 200])
def test_a_damaged_checkpoint_of_the_old_format_is_an_error_of_the_model(tmp_path: Path, place: int) -> None:
    file = save(net().state_dict(), tmp_path / "old.pt", zipped=False)
    damaged = bytearray(file.read_bytes())
    damaged[place : place + 4] = b"\xff" * 4
    file.write_bytes(damaged)
    with pytest.raises(ModelError, match=r"old.pt' is no checkpoint"):
        load_checkpoint(file)


def test_half_a_checkpoint_is_an_error_of_the_model(tmp_path: Path) -> None:
    file = save(net().state_dict(), tmp_path / "half.pt")
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(ModelError, match=r"half.pt' is no checkpoint"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        ({"epoch": 3}, "dict"),
        ({0: torch.ones(2)}, "dict"),
        ([torch.ones(2)], "list"),
        (torch.ones(2), "Tensor"),
        ({"model": {"epoch": 3}}, "dict"),
    ],
)
def test_a_checkpoint_of_something_else_says_what_it_holds(tmp_path: Path, thing: Any, kind: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_checkpoint(save(thing, tmp_path / "other.pt"))
    assert str(caught.value) == f"'other.pt' holds no state dict\nit holds a {kind}"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_loaded_into_the_module(tmp_path: Path, suffix: str) -> None:
    mine, theirs = net(), net()
    file = tmp_path / f"weights{suffix}"
    write = save_file if suffix == ".safetensors" else save
    write(theirs.state_dict(), file)  # type: ignore[operator]  # both take tensors and a file
    assert not same(mine, theirs)
    load_weights(mine, file)
    assert same(mine, theirs)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model."])
def test_a_prefix_that_trainers_leave_is_taken_off(tmp_path: Path, prefix: str) -> None:
    mine, theirs = net(), net()
    save({f"{prefix}{name}": value for name, value in theirs.state_dict().items()}, tmp_path / "weights.pt")
    load_weights(mine, tmp_path / "weights.pt")
    assert same(mine, theirs)


def test_a_prefix_that_is_the_modules_own_name_stays(tmp_path: Path) -> None:
    mine, theirs = (nn.Sequential(OrderedDict(module=net())) for _ in range(2))
    assert all(name.startswith("module.") for name in mine.state_dict())
    load_weights(mine, save(theirs.state_dict(), tmp_path / "weights.pt"))
    assert same(mine, theirs)
    wrapped = nn.DataParallel(theirs)
    assert "module.module.body.weight" in wrapped.state_dict()
    fresh = nn.Sequential(OrderedDict(module=net()))
    load_weights(fresh, save(wrapped.state_dict(), tmp_path / "parallel.pt"))
    assert same(fresh, theirs)


def test_a_prefix_of_some_names_alone_stays(tmp_path: Path) -> None:
    state = net().state_dict()
    state["module.head.bias"] = state.pop("head.bias")
    with pytest.raises(ModelError) as caught:
        load_weights(net(), save(state, tmp_path / "weights.pt"))
    assert caught.value.what == "the weights in 'weights.pt' do not fit the module"
    assert caught.value.why == "missing: head.bias; not in the module: module.head.bias"


def test_names_that_are_missing_or_too_many_are_named_up_to_five(tmp_path: Path) -> None:
    save_file({"other": torch.ones(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError) as caught:
        load_weights(net(), tmp_path / "weights.safetensors")
    assert caught.value.why == (
        "missing: body.weight, body.bias, norm.weight, norm.bias, norm.running_mean ...; not in the module: other"
    )


def test_a_wrong_shape_is_named_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_weights(net(4), save(net(5).state_dict(), tmp_path / "weights.pt"))
    assert str(caught.value) == "the weights for 'body.weight' have the shape [5, 3]\nthe module's: [4, 3]"


def test_a_tensor_that_cannot_be_copied_is_an_error_of_the_model(tmp_path: Path) -> None:
    state = net().state_dict() | {"body.weight": torch.ones(4, 3).to_sparse()}
    with pytest.raises(ModelError, match=r"^the weights in 'weights.pt' do not fit the module\n"):
        load_weights(net(), save(state, tmp_path / "weights.pt"))


def test_the_number_of_batches_that_a_norm_saw_may_be_missing(tmp_path: Path) -> None:
    mine, theirs = net(), net()
    state = {name: value for name, value in theirs.state_dict().items() if not name.endswith("num_batches_tracked")}
    load_weights(mine, save(state, tmp_path / "weights.pt"))
    assert same(mine, theirs)


def test_tied_weights_may_stand_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

    mine, theirs = Tied(), Tied()
    save_model(theirs, str(tmp_path / "tied.safetensors"))
    load_weights(mine, tmp_path / "tied.safetensors")
    assert torch.equal(mine.second.weight, theirs.first.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    mine, theirs = net(), net()
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in theirs.state_dict().items()
    }
    load_weights(mine, save(state, tmp_path / "weights.pt"))
    assert {value.dtype for value in mine.state_dict().values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(mine.body.weight, theirs.body.weight, atol=1e-2, rtol=1e-2)


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"^there is no file of weights 'none.pt'$"):
        load_weights(net(), Path("none.pt"))


def test_broken_safetensors_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"^the weights in 'broken.safetensors' are not valid safetensors\n"):
        load_weights(net(), tmp_path / "broken.safetensors")
    with pytest.raises(ModelError, match=r"^the weights in 'broken.safetensors' do not fit the module\n"):
        load_state(net(), tmp_path / "broken.safetensors")


def test_edgekits_own_weights_have_to_be_all_there(tmp_path: Path) -> None:
    mine, theirs = net(), net()
    save_model(theirs, str(tmp_path / "own.safetensors"))
    load_state(mine, tmp_path / "own.safetensors")
    assert same(mine, theirs)
    with pytest.raises(ModelError, match=r"^the weights in 'own.safetensors' do not fit the module\n"):
        load_state(net(5), tmp_path / "own.safetensors")


def test_long_errors_are_cut_to_their_first_lines() -> None:
    assert first_lines(ValueError("\n one\ntwo\nthree\nfour\nfive")) == "one\ntwo\nthree\nfour"
    assert first_lines(ValueError()) == ""
