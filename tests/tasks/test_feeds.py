"""Inputs that are made up: of what fits into memory only."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.artifact import State, TensorSpec
from edgekit.errors import ResourceLimitError
from edgekit.tasks.base import Workload
from edgekit.tasks.feeds import check_room, made_up, start_of


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "uint8"])
def test_inputs_are_of_their_type_and_size(dtype: str) -> None:
    made = made_up(TensorSpec(name="x", dtype=dtype, shape=("batch", 3, "length")), Workload(batch=2, tokens=5))
    assert (made.shape, made.dtype) == ((2, 3, 5), np.dtype(dtype))


@pytest.mark.parametrize("shape", [("batch", 2**62), (2**63,), (2**30, 2**30), (0, 2**62), (2**40,)])
@pytest.mark.parametrize("dtype", ["float32", "int8", "bool"])
def test_what_is_too_large_is_not_made(dtype: str, shape: tuple[int | str, ...]) -> None:
    with pytest.raises(ResourceLimitError) as caught:
        made_up(TensorSpec(name="x", dtype=dtype, shape=shape), Workload())
    assert caught.value.id == "resource-limit.model-memory"
    assert caught.value.what.startswith("the input 'x' asked for more memory than ")
    with pytest.raises(ResourceLimitError):
        start_of(State(output="y", input="x", initial=shape, dtype=dtype), "batch", 1)


def test_the_limit_is_that_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_MODEL_MB", "1")
    check_room("x", [1000, 125])
    with pytest.raises(ResourceLimitError, match="its shape is \\[1000, 126\\]"):
        check_room("x", [1000, 126])
