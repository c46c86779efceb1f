"""What a graph of others has to be; the hostile ones are in tests/hostile/."""

from __future__ import annotations

from pathlib import Path

import foreign
import onnx
import pytest
from graphs import proto

from edgekit.errors import ModelError
from edgekit.formats import wellformed
from edgekit.formats.onnx import load_graph
from edgekit.formats.wellformed import check_names, external_files, inline_functions

CALLS = """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
net (float[N] x) => (float[N] y) { y = own.twice (x) }
<domain: "own", opset_import: ["" : 21, "own" : 1]> twice (a) => (b) { t = own.once (a) b = own.once (t) }
<domain: "own", opset_import: ["" : 21]> once (a) => (b) { b = Relu (a) }
"""


def test_functions_are_put_in_place_of_their_calls(tmp_path: Path) -> None:
    onnx.save(proto(CALLS), tmp_path / "net.onnx")
    model = load_graph(tmp_path / "net.onnx")
    assert inline_functions(model, tmp_path / "net.onnx") == 2
    assert [node.op_type for node in model.graph] == ["Relu", "Relu"]
    assert inline_functions(model, tmp_path / "net.onnx") == 0


def test_functions_that_would_become_too_many_nodes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wellformed, "MOST_NODES", 1)
    onnx.save(proto(CALLS), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="more than 1 nodes once its functions are spelled out"):
        inline_functions(load_graph(tmp_path / "net.onnx"), tmp_path / "net.onnx")


def test_names_of_plain_graphs_pass_and_others_are_named(tmp_path: Path) -> None:
    model = proto("agraph (float[N] x) => (float[N] y) { y = Relu (x) }")
    onnx.save(model, tmp_path / "net.onnx")
    check_names(load_graph(tmp_path / "net.onnx"), tmp_path / "net.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N\x1b[2J"
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError) as caught:
        check_names(load_graph(tmp_path / "net.onnx"), tmp_path / "net.onnx")
    assert caught.value.why == r"the name 'N\x1b[2J' has control characters"


def test_external_data_that_is_a_link_is_told_from_one_that_is_missing(tmp_path: Path) -> None:
    model, file = onnx.load(foreign.two_and_two(tmp_path / "whole.onnx")), tmp_path / "net.onnx"
    onnx.save_model(model, file, save_as_external_data=True, location="net.bin", size_threshold=0)
    assert external_files(load_graph(file), file) == [tmp_path / "net.bin"]
    (tmp_path / "net.bin").rename(tmp_path / "real.bin")
    (tmp_path / "net.bin").symlink_to("real.bin")
    with pytest.raises(ModelError, match=r"keeps weights in 'net.bin', which is not read") as caught:
        external_files(load_graph(file), file)
    assert (caught.value.id, caught.value.why) == ("model.unsafe-external-data", "it is a link, or has other names")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(ModelError, match="which is not there") as caught:
        external_files(load_graph(file), file)
    assert caught.value.id == "model.no-external-data"
