from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgekit.errors import ModelError
from edgekit.formats.tensors import StoredTensor, is_parameter, read_tensors


def test_names_shapes_and_types_are_read_from_headers(tmp_path: Path) -> None:
    save_file({"a.weight": np.zeros((2, 3), np.float16), "n": np.zeros(4, np.int64)}, tmp_path / "1.safetensors")
    save_file({"b.weight": np.zeros((5,), np.int8)}, tmp_path / "2.safetensors")
    found = read_tensors([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    assert found == {
        "a.weight": StoredTensor("fp16", (2, 3), 12, True),
        "n": StoredTensor("i64", (4,), 32, False),
        "b.weight": StoredTensor("int8", (5,), 5, False),
    }
    assert [name for name, tensor in found.items() if is_parameter(name, tensor)] == ["a.weight", "b.weight"]


@pytest.mark.parametrize("name", ["bn.running_mean", "bn.num_batches_tracked", "position_ids"])
def test_statistics_are_no_parameters(name: str) -> None:
    assert not is_parameter(name, StoredTensor("fp32", (4,), 16, True))


def test_a_checkpoint_of_torchs_own_format_is_read(tmp_path: Path) -> None:
    import torch

    tensors = {"a.weight": torch.zeros(2, 3, dtype=torch.bfloat16)}
    torch.save(tensors, tmp_path / "pytorch_model.bin")  # noqa: TID251  # as older models come
    assert read_tensors([tmp_path / "pytorch_model.bin"]) == {"a.weight": StoredTensor("bf16", (2, 3), 12, True)}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"'model.safetensors' are not valid safetensors"):
        read_tensors([tmp_path / "model.safetensors"])
