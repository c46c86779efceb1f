"""Graphs of others in a process of their own: it answers as this one would, and only it suffers."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import onnx
import pytest
from graphs import ENDLESS, proto, random_array

from edgekit.artifact import WHOLE
from edgekit.errors import ModelError, ResourceLimitError
from edgekit.formats.foreign import graph_artifact, resolve_graph
from edgekit.formats.onnx import describe_component
from edgekit.runtimes import open_runner
from edgekit.runtimes.child import ConfinedRunner, open_child
from edgekit.runtimes.graph_child import pack_arrays, unpack_arrays

VAST = "agraph (int64[1] n) => (float[M] y) { y = ConstantOfShape (n) }"
FEEDS = {"x": np.ones((1, 2), np.float32)}


def child_of(text: str, file: Path) -> Any:
    onnx.save(proto(text), file)
    return open_child(file, describe_component(file))


def test_it_answers_as_the_runtime_does_here(tmp_path: Path) -> None:
    source = resolve_graph(foreign.conv_net(tmp_path / "net.onnx"), {}, None, images=False)
    artifact = graph_artifact(source, "tensors")
    feeds = {"pixels": random_array(2, 3, foreign.PIXELS, foreign.PIXELS)}
    mine, theirs = (one.run(WHOLE, feeds) for one in (ConfinedRunner(artifact), open_runner(artifact)))
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_a_graph_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = child_of(ENDLESS, tmp_path / "endless.onnx")
    object.__setattr__(child.limits, "seconds", 0.5)
    with pytest.raises(ResourceLimitError, match=r"'endless.onnx' gave no answer in 0 s, and its process") as caught:
        child.run(FEEDS)
    assert caught.value.id == "resource-limit.model-time"


def test_a_graph_that_asks_for_all_memory_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_MODEL_MB", "1500")
    child = child_of(VAST, tmp_path / "vast.onnx")
    assert child.run({"n": np.array([3])})["y"].tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ResourceLimitError, match=r"'vast.onnx' asked for more memory than the 1430 MiB") as caught:
        child.run({"n": np.array([2**36])})
    assert caught.value.id == "resource-limit.model-memory"


def test_a_runtime_that_crashes_takes_nothing_along(tmp_path: Path) -> None:
    child = child_of("agraph (float[N, 2] x) => (float[N, 2] y) { y = Relu (x) }", tmp_path / "net.onnx")
    os.kill(child._process.pid, signal.SIGSEGV)
    with pytest.raises(ModelError, match=r"the process that reads or runs 'net.onnx' crashed") as caught:
        child.run(FEEDS)
    assert caught.value.id == "model.crashes"


def test_what_the_runtime_refuses_is_told_with_its_reason(tmp_path: Path) -> None:
    child = child_of("agraph (float[N, 2] x) => (float[N, 2] y) { y = Relu (x) }", tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"does not run 'net.onnx'") as caught:
        child.run({"x": np.ones((1, 3), np.float32)})
    assert "Got invalid dimensions for input: x" in caught.value.why
    assert child.run(FEEDS)["y"].tolist() == [[1.0, 1.0]]  # it goes on


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.array(2.5, np.float32),
        np.zeros((0, 4), np.float16),
        np.arange(12, dtype=np.uint8).reshape(3, 4)[::2, ::-1],
        np.arange(4, dtype=">i4"),
        np.array([True, False]),
        np.array(["one", "other"]),
    ],
    ids=lambda values: f"{values.dtype.str}{values.shape}",
)
def test_arrays_come_through_as_they_were(values: Any) -> None:
    given = {"first": np.ones(3), "a/name of\nits own": values}
    found = unpack_arrays(pack_arrays(given))
    assert list(found) == list(given)
    mine = found["a/name of\nits own"]
    assert (mine.dtype, mine.shape, mine.flags.writeable) == (values.dtype, values.shape, True)
    np.testing.assert_array_equal(mine, values)


def test_arrays_of_objects_are_not_passed_on() -> None:
    with pytest.raises(ValueError, match="'x' has objects, which are not passed on"):
        pack_arrays({"x": np.array(["a", 1], object)})
    with pytest.raises(ValueError, match="'x' has objects, which are not passed on"):
        unpack_arrays(b'[["x", "|O", [1]]]\n' + bytes(8))
    with pytest.raises(TypeError, match="buffer is too small"):
        unpack_arrays(b'[["x", "<f4", [3]]]\n' + bytes(8))


def test_threads_that_share_it_get_their_own_answers(tmp_path: Path) -> None:
    child = child_of("agraph (float[N, 2] x) => (float[N, 2] y) { y = Neg (x) }", tmp_path / "net.onnx")
    rows = [np.full((1, 2), number, np.float32) for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda row: child.run({"x": row})["y"], rows))
    assert all(np.array_equal(answer, -row) for answer, row in zip(answers, rows, strict=True))
