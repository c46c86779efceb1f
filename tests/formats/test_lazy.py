"""Graphs whose weights stay in their file: what is read of them, and that what is written is what onnx writes."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from google.protobuf.message import DecodeError
from graphs import proto
from processes import opened_below

from edgekit.errors import ModelError
from edgekit.formats import lazy
from edgekit.formats.lazy import LARGE, PLAIN, read_lazily, read_structure, write_streamed
from edgekit.formats.onnx import load_graph, load_structure, save_graph

TEXT = """agraph (float[batch, 64] x) => (float[batch, 64] y, int64[2] shape) {
    product = MatMul(x, weight)
    y = Add(product, bias)
    shape = Shape(y)
}"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A graph with one weight of each kind: large, small, of each plain type, of 4 bits, and not as bytes."""
    model = proto(TEXT)
    random = np.random.default_rng(0)
    arrays = {"weight": random.normal(size=(64, 64)).astype(np.float32), "bias": np.arange(64, dtype=np.float32)}
    arrays |= {f"of_{name}": np.arange(2 * LARGE).astype(name).reshape(2, LARGE) for name in PLAIN}
    for name, values in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    small = onnx.helper.make_tensor("of_4_bits", onnx.TensorProto.INT4, [4 * LARGE], [1] * (4 * LARGE))
    numbers = onnx.helper.make_tensor("as_numbers", onnx.TensorProto.FLOAT, [LARGE], np.arange(LARGE))
    model.graph.initializer.extend([small, numbers])
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def test_large_weights_are_read_from_the_file_when_they_are_looked_at(file: Path) -> None:
    found, whole = read_lazily(file), ir.load(file)
    weights, expected = found.graph.initializers, whole.graph.initializers
    lazy = {name for name, value in weights.items() if isinstance(value.const_value, ir.LazyTensor)}
    assert lazy == {"weight", *(f"of_{name}" for name in PLAIN)}
    for name, value in expected.items():
        mine, theirs = weights[name].const_value, value.const_value
        assert mine is not None
        assert theirs is not None
        assert (mine.dtype, tuple(mine.shape), mine.nbytes) == (theirs.dtype, tuple(theirs.shape), theirs.nbytes)
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_what_is_written_is_what_onnx_writes(file: Path, tmp_path: Path) -> None:
    write_streamed(read_lazily(file), tmp_path / "mine.onnx")
    ir.save(ir.load(file), tmp_path / "theirs.onnx")
    assert (tmp_path / "mine.onnx").read_bytes() == (tmp_path / "theirs.onnx").read_bytes()
    onnx.checker.check_model(tmp_path / "mine.onnx")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine.onnx", "model.onnx", "theirs.onnx"]


def test_a_graph_may_be_written_over_the_file_that_it_is_read_from(file: Path) -> None:
    before = ir.load(file)
    model = load_graph(file)
    model.graph.initializers["bias"].const_value = ir.tensor(np.zeros(8 * LARGE, np.float32), name="bias")
    save_graph(model, file)
    after = load_graph(file)
    for name in ("weight", "of_int8"):
        held = before.graph.initializers[name].const_value
        again = after.graph.initializers[name].const_value
        late = model.graph.initializers[name].const_value  # the old file is open still
        assert held is not None
        assert again is not None
        assert late is not None
        np.testing.assert_array_equal(again.numpy(), held.numpy())
        np.testing.assert_array_equal(late.numpy(), held.numpy())


def test_a_structure_has_types_and_shapes_and_is_read_again_when_the_file_is_another(file: Path) -> None:
    found = load_structure(file)
    assert load_structure(file) is found
    held = found.graph.initializers["weight"].const_value
    assert held is not None
    assert (held.dtype, tuple(held.shape), held.nbytes) == (ir.DataType.FLOAT, (64, 64), 4 * 64 * 64)
    model = load_graph(file)
    del model.graph.initializers["of_int8"]
    save_graph(model, file)
    assert "of_int8" not in load_structure(file).graph.initializers
    assert read_structure(file) is load_structure(file)


def test_the_structure_of_a_copy_is_that_of_the_file_and_changes_with_its_content(file: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy.onnx"
    shutil.copyfile(file, copied)
    assert load_structure(copied) is load_structure(file)
    known, content = copied.stat(), copied.read_bytes()
    copied.write_bytes(content.replace(b"product", b"another"))
    os.utime(copied, ns=(known.st_atime_ns, known.st_mtime_ns))  # the same place, size and time
    assert [node.outputs[0].name for node in load_structure(copied).graph] == ["another", "y", "shape"]


def test_a_weight_is_written_block_by_block_without_being_read_whole(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, read = list[int](), os.pread

    def watched(number: int, count: int, place: int) -> bytes:
        counts.append(count)
        return read(number, count, place)

    monkeypatch.setattr(lazy, "BLOCK", 1000)
    monkeypatch.setattr(os, "pread", watched)
    write_streamed(read_lazily(file), tmp_path / "mine.onnx")
    assert max(counts) == 1000
    assert (tmp_path / "mine.onnx").read_bytes() == ir.serde.serialize_model(ir.load(file)).SerializeToString()


def test_a_file_that_has_become_shorter_is_an_error_where_its_weights_are_wanted(file: Path, tmp_path: Path) -> None:
    model = read_lazily(file)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"the file of the weight 'of_\w+' has become shorter"):
        write_streamed(model, tmp_path / "mine.onnx")


def test_no_file_stays_open_behind_a_graph(file: Path) -> None:
    models = [read_lazily(file) for _ in range(3)]
    assert opened_below(file.parent) in ([str(file.resolve())] * 3, None)
    del models
    gc.collect()
    assert opened_below(file.parent) in ([], None)


@pytest.mark.parametrize("cut", [1, 5, 200, 5000])
def test_a_file_that_was_cut_short_is_no_graph(file: Path, cut: int) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-cut])
    with pytest.raises(DecodeError):
        read_lazily(file)
    with pytest.raises(ModelError, match="is not a readable ONNX file"):
        load_structure(file)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x3a\xff\xff\xff\xff\x0f", b"\x3b\x00", b"plain text"])
def test_what_is_no_message_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a readable ONNX file"):
        load_graph(path)


def test_weights_of_one_name_or_of_a_wrong_length_stay_as_they_are(tmp_path: Path) -> None:
    model = proto(TEXT)
    values = np.ones((64, 64), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, "weight"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(values[0], "bias"))
    wrong = onnx.numpy_helper.from_array(values, "wrong")
    wrong.dims[0] = 65
    model.graph.initializer.append(wrong)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    weights = read_lazily(path).graph.initializers
    assert isinstance(weights["weight"].const_value, ir.LazyTensor)
    assert not isinstance(weights["wrong"].const_value, ir.LazyTensor)
