"""Graphs of others: what is refused, what is read off them, and that a copy made usable answers as the file."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest
from graphs import random_array

from edgekit.artifact import State, TensorSpec
from edgekit.cache import find_damage
from edgekit.description import Feeding, Sample, read_description
from edgekit.errors import EdgekitError, HostError, ModelError, ResourceLimitError, UsageError
from edgekit.formats.foreign import (
    adopt_graph,
    check_graph,
    convert_graph,
    graph_component,
    opset_of,
    resolve_graph,
)
from edgekit.formats.onnx import load_graph
from edgekit.formats.signatures import describe_tensors, make_signature, read_signature
from edgekit.source import digest_files, sha256_file


def answers(file: Path, feeds: dict[str, Any]) -> list[Any]:
    return list(ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, feeds))


def fails(kind: type[EdgekitError], file: Path, feeding: Feeding | None = None, **options: Any) -> Any:
    with pytest.raises(kind) as caught:
        resolve_graph(file, feeding or {}, None, **({"images": False} | options))
    return caught.value


def pixels(count: int = 2) -> dict[str, Any]:
    return {"pixels": random_array(count, 3, foreign.PIXELS, foreign.PIXELS)}


def test_an_old_graph_is_brought_up_and_answers_as_before(tmp_path: Path) -> None:
    old = foreign.conv_net(tmp_path / "old.onnx", opset=11, listed=True)
    adoption = adopt_graph(old, tmp_path / "new.onnx")
    assert adoption.refused == ()
    assert adoption.done[:2] == ("operator set 11 to 13", "7 weights are no inputs any more")
    assert adoption.done[-1] == "1 batch norms folded into convolutions"
    model = load_graph(tmp_path / "new.onnx")
    assert opset_of(model) == 13
    assert [value.name for value in model.graph.inputs] == ["pixels"]
    assert all(node.name for node in model.graph)
    assert [node.op_type for node in model.graph].count("BatchNormalization") == 0
    before, after = answers(old, pixels()), answers(tmp_path / "new.onnx", pixels())
    np.testing.assert_allclose(after[0], before[0], rtol=1e-4, atol=1e-5)


def test_a_careful_copy_keeps_operators_and_operator_set(tmp_path: Path) -> None:
    old = foreign.conv_net(tmp_path / "old.onnx", opset=11)
    adoption = adopt_graph(old, tmp_path / "new.onnx", upgrade=False)
    assert adoption.done == ("8 nodes named",)
    model = load_graph(tmp_path / "new.onnx")
    assert opset_of(model) == 11
    assert [node.op_type for node in model.graph].count("BatchNormalization") == 1
    assert np.array_equal(answers(tmp_path / "new.onnx", pixels())[0], answers(old, pixels())[0])


def test_a_conversion_that_onnx_refuses_is_told_with_its_reason(tmp_path: Path) -> None:
    old = foreign.conv_net(tmp_path / "old.onnx", opset=11)
    reason = convert_graph(old, tmp_path / "new.onnx", 999)
    assert "version_range" in reason
    assert not (tmp_path / "new.onnx").exists()


def test_a_graph_is_left_in_the_cache_with_its_description(tmp_path: Path) -> None:
    file = foreign.two_and_two(tmp_path / "pair.onnx")
    source = resolve_graph(file, {}, None, images=False)
    assert (source.kind, source.architecture, source.size_bytes) == ("onnx", "others", file.stat().st_size)
    assert source.record["name"] == "pair.onnx"
    folder = Path(source.path)
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == {"model.onnx", "module.json"}
    assert (folder / "model.onnx").read_bytes() == file.read_bytes()
    described = read_description(folder)
    assert (described.input, described.output, described.answer) == (None, (), "wide")
    part = graph_component(folder)
    assert [(spec.name, spec.dtype, spec.shape) for spec in part.inputs] == [
        ("left", "float32", ("n", 48)),
        ("right", "float32", ("n", 48)),
    ]
    assert [spec.shape for spec in part.outputs] == [("n", 1, 48), ("n", 48)]
    assert str(tmp_path) not in (folder / "module.json").read_text()
    said = sha256_file(folder / "module.json")
    assert source.digest == hashlib.sha256(f"{digest_files(tmp_path, [file])} {said}".encode()).hexdigest()
    assert find_damage(folder) is None
    assert resolve_graph(file, {}, None, images=False).digest == source.digest


def test_scores_of_classes_are_recognised_and_so_is_a_softmax(tmp_path: Path) -> None:
    for softmax in (False, True):
        file = foreign.conv_net(tmp_path / f"{softmax}.onnx", softmax=softmax)
        source = resolve_graph(file, {"labels": ("a", "b", "c", "d")}, None, images=False)
        described = read_description(Path(source.path))
        assert (described.output, described.labels, described.probabilities) == ((4,), ("a", "b", "c", "d"), softmax)


@pytest.mark.parametrize(
    "names", [("state", "stateN"), ("h", "hn"), ("state_in", "state_out"), ("past_0", "present_0")]
)
def test_states_are_found_by_their_usual_names(names: tuple[str, str], tmp_path: Path) -> None:
    file = foreign.recurrent(tmp_path / "net.onnx", names=names)
    found = read_signature(load_graph(file), ())
    assert found.states == (State(output=names[1], input=names[0], initial=("batch", 48)),)


def test_states_of_other_names_are_said(tmp_path: Path) -> None:
    model = load_graph(foreign.recurrent(tmp_path / "net.onnx", names=("before", "after")))
    assert read_signature(model, ()).states == ()
    assert read_signature(model, ("after:before",)).states[0].input == "before"
    with pytest.raises(UsageError, match=r"--state 'speech:before' cannot go round") as caught:
        read_signature(model, ("speech:before",))
    assert caught.value.why == "'speech' is float32 ['batch', 1], 'before' is float32 ['batch', 48]"
    with pytest.raises(UsageError, match="names no output and input of the graph"):
        read_signature(model, ("nothing",))


@pytest.mark.parametrize("name", ["model.onnx", "Module.json", ".object.json", "manifest.json", "part/README.md"])
def test_external_data_takes_no_name_that_is_needed(tmp_path: Path, name: str) -> None:
    model = onnx.load(foreign.two_and_two(tmp_path / "whole.onnx"))
    file = tmp_path / "apart" / "net.onnx"
    (file.parent / name).parent.mkdir(parents=True)
    onnx.save_model(model, file, save_as_external_data=True, location=name, size_threshold=1000)
    error = fails(ModelError, file)
    assert error.id == "model.unsafe-external-data"
    assert error.what == f"'net.onnx' keeps weights in {name!r}, which is not read"


@pytest.mark.parametrize("part", ["net.onnx", "weights.bin"])
def test_a_file_that_is_exchanged_behind_the_check_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    file = foreign.conv_net(tmp_path / "net.onnx")
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    resolve_graph(file, {}, None, images=False)
    checked = sha256_file

    def exchanging(path: Path) -> str:
        other = tmp_path / "other"
        other.write_bytes((tmp_path / part).read_bytes())
        other.replace(tmp_path / part)
        return checked(path)

    monkeypatch.setattr("edgekit.formats.foreign.sha256_file", exchanging)
    assert fails(ModelError, file).what == f"{part!r} was changed while it was read"


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, destination: Path) -> None:
        destination.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        resolve_graph(foreign.two_and_two(tmp_path / "net.onnx"), {}, None, images=False)
    assert not any((tmp_path / "cache" / "tmp").iterdir())


def test_external_data_belongs_to_the_graph(tmp_path: Path) -> None:
    model = onnx.load(foreign.two_and_two(tmp_path / "whole.onnx"))
    folder = tmp_path / "apart"
    folder.mkdir()
    (tmp_path / "alone").mkdir()
    onnx.save_model(model, folder / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=1000)
    source = resolve_graph(folder / "net.onnx", {}, None, images=False)
    assert graph_component(Path(source.path)).files == ("model.onnx", "net.bin")
    assert source.size_bytes == sum(file.stat().st_size for file in folder.iterdir())
    adopt_graph(Path(source.path) / "model.onnx", tmp_path / "alone" / "copy.onnx")
    both = {name: random_array(2, 48) for name in ("left", "right")}
    expected = answers(folder / "net.onnx", both)
    assert all(
        np.array_equal(*pair) for pair in zip(answers(tmp_path / "alone" / "copy.onnx", both), expected, strict=True)
    )
    changed = bytearray((folder / "net.bin").read_bytes())
    changed[0] ^= 1
    (folder / "net.bin").write_bytes(changed)
    assert resolve_graph(folder / "net.onnx", {}, None, images=False).digest != source.digest
    (folder / "net.bin").write_bytes(changed[:100])
    error = fails(ModelError, folder / "net.onnx")
    assert error.id == "model.no-external-data"
    assert error.what.startswith("'net.onnx' keeps weights in 'net.bin', which has 100 bytes, needed: ")
    (folder / "net.bin").unlink()
    assert fails(ModelError, folder / "net.onnx").what.endswith("which is not there")


def test_nothing_outside_the_folder_of_a_graph_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 100_000)
    model = onnx.load(foreign.two_and_two(tmp_path / "in" / "net.onnx"))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    (tmp_path / "in" / "net.onnx").write_bytes(model.SerializeToString())
    error = fails(ModelError, tmp_path / "in" / "net.onnx")
    assert error.what == "'net.onnx' keeps weights outside its own folder, in '../secret.bin'"


def test_operators_of_another_runtime_are_named(tmp_path: Path) -> None:
    model = onnx.load(foreign.two_and_two(tmp_path / "net.onnx"))
    model.graph.node[0].domain = "org.strange"
    model.opset_import.append(onnx.helper.make_opsetid("org.strange", 1))
    onnx.save(model, tmp_path / "net.onnx")
    error = fails(ModelError, tmp_path / "net.onnx")
    assert error.id == "model.unknown-operator"
    assert error.what.endswith("does not know: org.strange.MatMul")


def test_sympy_is_imported_when_a_size_is_computed_with_and_not_before(tmp_path: Path) -> None:
    file = foreign.two_and_two(tmp_path / "net.onnx")
    program = """if True:
        import sys
        from edgekit.formats.foreign import resolve_graph

        finders = list(sys.meta_path)
        resolve_graph(sys.argv[1], {}, None, images=False)
        print("onnx_ir" in sys.modules, "sympy.core" in sys.modules, sys.meta_path == finders)
        import onnx_ir
        print(onnx_ir.SymbolicDim("n") * 2, "sympy.core" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout.split("\n")[:2] == ["True False True", "2*n True"]


def test_what_onnx_has_against_a_graph_is_told(tmp_path: Path) -> None:
    model = onnx.load(foreign.two_and_two(tmp_path / "net.onnx"))
    model.graph.node[1].input[0] = "nowhere"
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    error = fails(ModelError, tmp_path / "net.onnx")
    assert (error.id, error.what) == ("model.invalid-onnx", "'net.onnx' is no valid ONNX graph")


@pytest.mark.parametrize("size", [2**40, -5])
def test_a_weight_that_claims_another_size_does_no_harm(size: int, tmp_path: Path) -> None:
    model = onnx.load(foreign.two_and_two(tmp_path / "net.onnx"))
    model.graph.initializer[0].dims[0] = size
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        check_graph(tmp_path / "net.onnx")
    assert caught.value.id == "model.invalid-onnx"


def test_a_graph_that_makes_more_than_a_machine_holds_is_refused(tmp_path: Path) -> None:
    shape = {"shape": np.array([2**40, 4], dtype=np.int64)}
    nodes = [
        onnx.helper.make_node("ConstantOfShape", ["shape"], ["vast"]),
        onnx.helper.make_node("ReduceSum", ["vast"], ["sum"], keepdims=0),
        onnx.helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    ends = [foreign.value(name, ["n", 3]) for name in ("x", "y")]
    error = fails(ResourceLimitError, foreign.write(tmp_path / "vast.onnx", nodes, ends[:1], ends[1:], shape))
    assert error.id == "resource-limit.model-memory"
    assert error.exit_code == 5
    assert error.what == f"'vast.onnx' would take about {17592186044416 + 2 * 12 + 8} bytes of memory"
    assert " of weights, and 1759218604" in error.why


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08" * 100])
def test_a_file_that_is_no_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    assert fails(ModelError, tmp_path / "x.onnx").id == "model.invalid-onnx"
    assert fails(ModelError, tmp_path / "y.onnx").what == f"there is no file {str(tmp_path / 'y.onnx')!r}"


def test_text_is_no_input(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["words"], ["same"])
    texts = [foreign.value(name, ["n"], onnx.TensorProto.STRING) for name in ("words", "same")]
    file = foreign.write(tmp_path / "text.onnx", [node], texts[:1], texts[1:], {})
    assert str(fails(ModelError, file)).startswith("the input 'words' has the type 'string'")


@pytest.mark.parametrize(("side", "axis", "size"), [("input", 0, 2**29), ("input", 1, 2**24), ("output", 1, 2**28)])
def test_sizes_that_no_model_has_are_refused(side: str, axis: int, size: int, tmp_path: Path) -> None:
    model = onnx.load(foreign.conv_net(tmp_path / "net.onnx", batch=1))
    values = model.graph.input if side == "input" else model.graph.output
    shape = values[0].type.tensor_type.shape
    shape.dim[axis].dim_value = size
    with pytest.raises(ModelError, match=f"the {side} '{values[0].name}' has the shape") as caught:
        read_signature(onnx_ir.from_proto(model), ())
    assert caught.value.why == "allowed: at most 134217728 numbers, where the sizes are fixed"


def test_more_scores_than_anybody_has_names_for_are_no_classes(tmp_path: Path) -> None:
    for count, classes in ((2**20, (2**20,)), (2**20 + 1, ())):
        answer = TensorSpec(name="y", dtype="float32", shape=("n", count))
        signature = make_signature((TensorSpec(name="x", dtype="float32", shape=("n", 2)),), (answer,), ())
        assert describe_tensors((), signature, {}, "net.onnx").output == classes


def test_images_have_the_layout_that_the_graph_shows(tmp_path: Path) -> None:
    mean: Feeding = {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}
    for last in (False, True):
        file = foreign.conv_net(tmp_path / f"{last}.onnx", last=last, batch=1)
        described = read_description(Path(resolve_graph(file, mean, None, images=True).path))
        assert described.pixels is not None
        assert described.pixels.layout == ("NHWC" if last else "NCHW")
        assert described.only_input.shape == ((12, 12, 3) if last else (3, 12, 12))
        assert described.pixels.mean == (0.1, 0.2, 0.3)
        wrong: Feeding = {**mean, "layout": "NCHW" if last else "NHWC"}
        error = fails(UsageError, file, wrong, images=True)
        assert error.id == "usage.preprocessing"


def test_free_sizes_of_images_come_from_what_is_said_or_from_the_data(tmp_path: Path) -> None:
    model = onnx.load(foreign.conv_net(tmp_path / "net.onnx"))
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, tmp_path / "net.onnx")
    error = fails(UsageError, tmp_path / "net.onnx", images=True)
    assert error.what == "the input 'pixels' has free sizes: height, width"
    for feeding, sample in (({"input": "1x3x12x12"}, None), ({}, Sample((3, 12, 12), "float32", image=True))):
        found = resolve_graph(tmp_path / "net.onnx", feeding, sample, images=True)  # type: ignore[arg-type]
        assert read_description(Path(found.path)).only_input.shape == (3, 12, 12)


def test_what_is_no_classifier_of_images_is_for_tensors(tmp_path: Path) -> None:
    error = fails(ModelError, foreign.two_and_two(tmp_path / "pair.onnx"), images=True)
    assert (
        error.what == "'pair.onnx' takes left: float32 ['n', 48], right: float32 ['n', 48], which is no batch of images"
    )
    assert "--task tensors" in error.hint
    error = fails(UsageError, foreign.two_and_two(tmp_path / "pair.onnx"), {"labels": ("a",)})
    assert error.what == "--labels was given, and the graph's first output is no scores of classes"
    error = fails(UsageError, foreign.two_and_two(tmp_path / "pair.onnx"), {"mean": (0.5,)})
    assert error.what == "--mean was given for a graph that is fed by the names of its inputs"


def outside(tensor: Any) -> Any:
    """A tensor, moved into the file `secret.bin`."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secret.bin"
    return tensor


HIDDEN = """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
net (float[N, 2] x) => (float[N, 2] y) { y = own.shifted (x) }
<domain: "own", opset_import: ["" : 21]> shifted (a) => (b) { c = Constant () b = Add (a, c) }
"""


def hide_in_a_function(model: onnx.ModelProto) -> None:
    weight = onnx.numpy_helper.from_array(np.ones(2, np.float32), "c")
    model.functions[0].node[0].attribute.append(onnx.helper.make_attribute("value", outside(weight)))


def hide_for_training(model: onnx.ModelProto) -> None:
    del model.functions[:]
    model.graph.node[0].op_type, model.graph.node[0].domain = "Relu", ""
    training = model.training_info.add()
    training.initialization.name = "start"
    training.initialization.initializer.append(outside(onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")))


@pytest.mark.parametrize("hide", [hide_in_a_function, hide_for_training])
def test_weights_in_other_files_are_found_wherever_they_are_named(
    tmp_path: Path, hide: Callable[[onnx.ModelProto], None]
) -> None:
    model = onnx.parser.parse_model(HIDDEN)
    hide(model)
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    error = fails(ModelError, tmp_path / "net.onnx")
    assert error.id == "model.unsafe-external-data"
    assert error.what == "'net.onnx' keeps weights in other files that are not read"
    assert error.why.startswith("1 tensors, named in functions")


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    model = onnx.load(foreign.two_and_two(tmp_path / "net.onnx"))
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    places = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "places")
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, [2**40]))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert fails(ModelError, tmp_path / "net.onnx").why == "it has sparse tensors, which are not read"


def test_a_tensor_has_as_many_elements_as_its_shape(tmp_path: Path) -> None:
    model = onnx.load(foreign.two_and_two(tmp_path / "net.onnx"))
    model.graph.initializer.append(onnx.helper.make_tensor("places", onnx.TensorProto.INT64, [2], [1, 2]))
    model.graph.initializer[-1].int64_data.append(3)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    error = fails(ModelError, tmp_path / "net.onnx")
    assert error.why == "the tensor 'places': cannot reshape array of size 3 into shape (2,)"


def test_a_constant_in_another_file_comes_into_the_copy(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 2] x) => (float[N, 2] y)'
        " { c = Constant <value = float[2] {1, 2}> () y = Add (x, c) }"
    )
    attribute = model.graph.node[0].attribute[0]
    values = onnx.numpy_helper.to_array(attribute.t)
    attribute.t.CopyFrom(outside(onnx.numpy_helper.from_array(values, "c")))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "secret.bin").write_bytes(values.tobytes())
    (tmp_path / "in" / "net.onnx").write_bytes(model.SerializeToString())
    source = resolve_graph(tmp_path / "in" / "net.onnx", {}, None, images=False)
    assert graph_component(Path(source.path)).files == ("model.onnx", "secret.bin")
    adopt_graph(Path(source.path) / "model.onnx", tmp_path / "copy.onnx")
    given = {"x": np.zeros((1, 2), np.float32)}
    assert answers(tmp_path / "copy.onnx", given)[0].tolist() == [[1.0, 2.0]]


def test_a_checker_that_cannot_run_is_no_fault_of_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise ImportError('no onnx here')")
    monkeypatch.setattr("edgekit.formats.foreign.WORKER", broken)
    with pytest.raises(HostError, match="onnx could not be run to check a graph") as caught:
        resolve_graph(foreign.two_and_two(tmp_path / "net.onnx"), {}, None, images=False)
    assert (caught.value.id, caught.value.why) == ("environment.checking", "ImportError: no onnx here")
