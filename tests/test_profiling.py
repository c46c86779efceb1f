from __future__ import annotations

from pathlib import Path

import foreign
import pytest

from edgekit.errors import UsageError
from edgekit.profiling import profile
from edgekit.render.html.document import OPENING
from edgekit.runtimes.measuring import Timing


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.measure.limits.SHAPES", ((8, 8, 8),))
    monkeypatch.setattr("edgekit.profiling.PROFILING", Timing(seconds=0.0, rounds=3, block=2, warmup=1))


def test_two_graphs_are_profiled_with_a_page(tmp_path: Path) -> None:
    first, second = foreign.conv_net(tmp_path / "a.onnx"), foreign.conv_net(tmp_path / "b.onnx")
    record = profile(first, second, output=tmp_path / "page.html")
    assert record.subject["name"] == "b.onnx"
    assert record.compared_with is not None
    assert record.compared_with["name"] == "a.onnx"
    assert record.protocol["rounds"] == 3
    (before,), (after,) = record.profiles.before, record.profiles.after
    assert [one.operator for one in before.kernels] == [one.operator for one in after.kernels]
    assert {change.operator for change in record.changes} == {one.operator for one in after.operators}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith(OPENING)
    assert "a.onnx beside b.onnx" in page


def test_one_graph_is_profiled_alone(tmp_path: Path) -> None:
    record = profile(foreign.conv_net(tmp_path / "a.onnx"))
    assert (record.profiles.before, record.changes, record.compared_with) == ((), (), None)
    assert sum(one.ms for one in record.profiles.after[0].kernels) > 0


def test_a_page_that_may_not_be_written_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("my own")
    with pytest.raises(UsageError, match="exists and is no page of edgekit"):
        profile(tmp_path / "nothing.onnx", output=tmp_path / "mine.html")


def test_tflite_is_refused_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(b"not read")
    with pytest.raises(UsageError, match="cannot be profiled") as raised:
        profile(file)
    assert raised.value.id == "usage.no-profile"
    assert raised.value.why == "the Python interface of litert tells no time per operator; onnxruntime does"
