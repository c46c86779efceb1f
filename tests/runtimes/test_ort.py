"""What onnxruntime says when it cannot make a session, as errors with ids."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import EdgekitError, ModelError
from edgekit.runtimes.ort import fuse, open_session


@pytest.mark.parametrize(
    ("kind", "told", "id"),
    [
        ("Fail", "Load model from model.onnx failed:std::bad_alloc\nat line 3", "resource-limit.memory"),
        ("RuntimeException", "Exception during initialization: std::bad_alloc", "resource-limit.memory"),
        ("RuntimeException", "Exception during initialization: bad shape", "model.does-not-load"),
        ("InvalidGraph", "no such operator", "model.does-not-load"),
    ],
)
def test_a_session_that_gets_no_memory_is_no_fault_of_the_model(
    kind: str, told: str, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    def refuse(*given: Any, **options: Any) -> None:
        raise getattr(state, kind)(told)

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    with pytest.raises(EdgekitError) as caught:
        open_session(Path("model.onnx"), 1)
    assert (caught.value.id, caught.value.why) == (id, told.splitlines()[0])


@pytest.mark.parametrize(("free", "number"), [(10, errno.ENOSPC), (10**9, None)])
def test_a_graph_that_finds_no_room_on_the_disk_is_no_fault_of_the_model(
    free: int, number: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    def refuse(*given: Any, **options: Any) -> None:
        raise state.InvalidProtobuf("Protobuf serialization failed.")

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    monkeypatch.setattr("edgekit.disk.free_bytes", lambda folder: free)
    (tmp_path / "model.onnx").write_bytes(bytes(100))
    with pytest.raises(OSError if number else ModelError) as caught:
        fuse(tmp_path / "model.onnx", tmp_path / "written.onnx")
    assert getattr(caught.value, "errno", None) == number
