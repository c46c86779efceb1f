from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgekit.cache import Cache
from edgekit.description import Description, Feeding, Pixels, Sample, parse_input, read_description
from edgekit.errors import EdgekitError, ModelError, UnknownNameError, UsageError
from edgekit.modules import build_module, code_entry, names_code, resolve_module
from edgekit.source import Source

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(4, 3)

    def forward(self, values):
        return self.layer(values)


class Optional(Net):
    def forward(self, values, mask=None):
        return self.layer(values)


class Keyword(Net):
    def forward(self, *, values):
        return self.layer(values)


class Two(Net):
    def forward(self, values, mask):
        return self.layer(values)


class None_(Net):
    def forward(self):
        return self.layer.bias


class Tuple(Net):
    def forward(self, values):
        return self.layer(values), values


class Flat(Net):
    def forward(self, values):
        return self.layer(values).argmax(-1)


class Summed(Net):
    def forward(self, values):
        return self.layer(values).sum(0, keepdim=True)


def build():
    return Net()


def raises():
    raise RuntimeError("no such size")


def nothing():
    return None


def wide(width):
    return nn.Linear(4, width)


KEPT = Net()


def kept():
    return KEPT


def images():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


answer = 42
"""
# What these tests call their own packages.
NAMES = ("parts", "late", "blocks", "pack", "broken_nets")
FOUR: Feeding = {"input": "1x4"}
IMAGE: Feeding = {"input": "1x3x8x8"}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    file = tmp_path / "here" / "net.py"
    file.parent.mkdir()
    file.write_text(CODE)
    return file


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """No path and no module of one test is seen by another."""
    path = list(sys.path)
    yield
    assert sys.path == path
    for name in [name for name in sys.modules if name.partition(".")[0] in NAMES or name.startswith("edgekit_model_")]:
        del sys.modules[name]


def resolve(location: Any, feeding: Feeding = FOUR, sample: Sample | None = None) -> Source:
    return resolve_module(location, feeding, sample)[0]


def described(source: Source) -> Description:
    return read_description(Path(source.path))


def fails(kind: type[EdgekitError], location: Any, feeding: Feeding = FOUR, sample: Sample | None = None) -> Any:
    with pytest.raises(kind) as caught:
        resolve_module(location, feeding, sample)
    return caught.value


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("net.py:build", True),
        ("a/b.py:build", True),
        (Path("a/b.py:build"), True),
        ("package.module:build", True),
        ("module:build", True),
        (net, True),
        (nn.Linear(1, 1), True),
        ("net.py", False),
        ("organisation/model", False),
        ("organisation/model:main", False),
        ("folder", False),
        ("net.py:not a name", False),
        ("http://host:80", False),
        (Path("folder"), False),
    ],
)
def test_what_names_code(location: object, code: bool) -> None:
    assert names_code(location) is code


def test_a_function_of_a_file_becomes_a_folder(code: Path) -> None:
    source, build = resolve_module(f"{code}:build", FOUR, None)
    assert (source.location, source.kind, source.architecture, source.model_type) == (
        "net.py:build",
        "module",
        "Net",
        "module",
    )
    folder = Path(source.path)
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == {"model.safetensors", "module.json"}
    assert source.size_bytes == (folder / "model.safetensors").stat().st_size
    assert {name: list(value.shape) for name, value in load_file(folder / "model.safetensors").items()} == {
        "layer.weight": [3, 4],
        "layer.bias": [3],
    }
    assert json.loads((folder / "module.json").read_text()) == {
        "schema": "edgekit.module/1",
        "entry": "net.py:build",
        "input": {"name": "values", "shape": [4], "dtype": "float32"},
        "output": [3],
        "labels": ["LABEL_0", "LABEL_1", "LABEL_2"],
        "pixels": None,
        "graph": None,
        "answer": "logits",
        "probabilities": False,
    }
    assert type(build()).__name__ == "Net"
    assert source.record["name"] == "net.py:build"
    assert str(code.parent) not in (folder / "module.json").read_text() + json.dumps(source.record)


@pytest.mark.parametrize("kind", ["file", "class", "package", "function", "instance", "partial", "lambda"])
def test_each_way_of_naming_a_module(code: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code.parent)
    (code.parent / "pack").mkdir()
    shutil.copy(code, code.parent / "pack" / "nets.py")
    locations: dict[str, tuple[Any, str]] = {
        "file": ("net.py:build", "net.py:build"),
        "class": ("net.py:Net", "net.py:Net"),
        "package": ("pack.nets:build", "pack.nets:build"),
        "function": (net, "net"),
        "instance": (net(), "Sequential"),
        "partial": (functools.partial(nn.Linear, 4, 3), "partial"),
        "lambda": (lambda: nn.Linear(4, 3), "<lambda>"),
    }
    location, entry = locations[kind]
    source, build = resolve_module(location, FOUR, None)
    assert (source.location, described(source).entry) == (entry, entry)
    assert described(source).output == (3,)
    with torch.no_grad():
        assert tuple(build_module(build, entry)(torch.zeros(5, 4)).shape) == (5, 3)


def test_a_file_may_import_its_neighbours_at_once_and_when_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(CODE)
    (tmp_path / "late.py").write_text(CODE)
    (tmp_path / "main.py").write_text(
        "from parts import Net\n\ndef build():\n    from late import build\n    return build()\n"
    )
    source, build = resolve_module(f"{tmp_path / 'main.py'}:build", FOUR, None)
    assert source.architecture == "Net"
    assert type(build()).__module__ == "late"
    assert str(tmp_path) not in sys.path


def test_files_of_two_folders_do_not_mix_their_neighbours(tmp_path: Path) -> None:
    for name, classes in (("teacher", 3), ("student", 7)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "blocks.py").write_text(CODE.replace("nn.Linear(4, 3)", f"nn.Linear(4, {classes})"))
        (folder / "main.py").write_text("from blocks import build\n")
    outputs = [described(resolve(f"{tmp_path / name / 'main.py'}:build")).output for name in ("teacher", "student")]
    assert outputs == [(3,), (7,)]


def test_a_function_that_gives_the_same_module_each_time_is_copied(code: Path) -> None:
    _, build = resolve_module(f"{code}:kept", FOUR, None)
    one, other = build_module(build, "kept"), build_module(build, "kept")
    assert one is not other
    with torch.no_grad():
        one.layer.weight.zero_()
    assert int(torch.count_nonzero(other.layer.weight)) == 12  # type: ignore[arg-type]  # a Linear's


def test_an_instance_is_left_as_it_was() -> None:
    mine = net().double().train()
    before = mine[0].weight.clone()  # type: ignore[index]  # a Sequential
    source, build = resolve_module(mine, FOUR, None)
    made = build_module(build, "x")
    assert (made.training, next(made.parameters()).dtype) == (False, torch.float32)
    assert mine.training
    assert torch.equal(mine[0].weight, before)  # type: ignore[index]  # a Sequential
    assert load_file(Path(source.path) / "model.safetensors")["0.weight"].dtype == torch.float32


def test_code_entry_finds_the_function_again(code: Path) -> None:
    entry, build = code_entry(f"{code}:build")
    assert entry == "net.py:build"
    assert type(build()).__name__ == "Net"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_take_the_place_of_those_of_the_function(code: Path, tmp_path: Path, suffix: str) -> None:
    state = {"layer.weight": torch.full((3, 4), 2.0), "layer.bias": torch.zeros(3)}
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, file)  # noqa: TID251  # read with care
    else:
        save_file(state, file)
    source = resolve(f"{code}:build", {"input": "1x4", "weights": file})
    assert torch.equal(load_file(Path(source.path) / "model.safetensors")["layer.weight"], state["layer.weight"])
    assert source.digest != resolve(f"{code}:build").digest


def test_the_input_is_that_of_the_data_where_nothing_was_said(code: Path) -> None:
    assert described(resolve(f"{code}:build", {}, Sample((4,), "float32"))).input.shape == (4,)
    said = described(resolve(f"{code}:build", {"input": "1x5x4"}, Sample((4,), "float32")))
    assert (said.input.shape, said.output) == ((5, 4), (5, 3))


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (("cat", "dog", "hen"), ("cat", "dog", "hen")),
        (("cat", "dog"), ("LABEL_0", "LABEL_1", "LABEL_2")),
        ((), ("LABEL_0", "LABEL_1", "LABEL_2")),
    ],
)
def test_labels_are_the_datas_where_their_number_fits(
    code: Path, classes: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    assert described(resolve(f"{code}:build", FOUR, Sample((4,), "float32", classes))).labels == labels


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1x3x32x32", ((3, 32, 32), "float32")),
        ("1X12", ((12,), "float32")),
        ("8x16:int64", ((16,), "int64")),
        ("1x16:float32", ((16,), "float32")),
    ],
)
def test_an_input_is_read_batch_first(text: str, expected: object) -> None:
    assert parse_input(text) == expected


@pytest.mark.parametrize("text", ["", "3", "1x", "x3", "1x0", "1x-3", "1x3:int8", "3,32,32", "1x3.5", "1 x 3"])
def test_what_is_no_input_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input(text)
    assert str(caught.value) == (
        f"{text!r} is no shape of an input\nallowed: batch first, as in 1x3x32x32 or 1x16:int64"
    )


@pytest.mark.parametrize("entry", ["Optional", "Keyword"])
def test_arguments_that_are_optional_or_named_do_not_matter(code: Path, entry: str) -> None:
    assert described(resolve(f"{code}:{entry}")).input.name == "values"


def test_the_digest_is_that_of_code_weights_and_feeding_and_not_of_the_path(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve(f"{code}:build").digest
    assert len(first) == 64
    moved = tmp_path / "elsewhere" / "net.py"
    moved.parent.mkdir()
    shutil.copy(code, moved)
    assert resolve(f"{moved}:build").digest == first
    monkeypatch.chdir(moved.parent)
    assert resolve("net.py:build").digest == first
    moved.write_text(CODE + "\n# another line\n")
    assert resolve(f"{moved}:build").digest != first
    heavier = tmp_path / "weights.safetensors"
    save_file({"layer.weight": torch.ones(3, 4), "layer.bias": torch.ones(3)}, heavier)
    others = [
        resolve(f"{code}:build", {"input": "1x4", "weights": heavier}).digest,
        resolve(f"{code}:build", {"input": "1x2x4"}).digest,
        resolve(f"{code}:Net").digest,
        resolve(f"{code}:build", FOUR, Sample((4,), "float32", ("a", "b", "c"))).digest,
    ]
    assert len({first, *others}) == 5
    assert resolve(f"{code}:build").digest == first


def test_the_digest_of_images_is_that_of_their_pixels_too(code: Path) -> None:
    feedings: list[Feeding] = [
        IMAGE,
        {**IMAGE, "mean": (0.5,)},
        {**IMAGE, "std": (0.5,)},
        {**IMAGE, "mean": (0.5, 0.5, 0.4), "std": (1, 1, 1)},
    ]
    assert len({resolve(f"{code}:images", feeding).digest for feeding in feedings}) == len(feedings)


def test_the_digest_is_that_of_the_files_in_which_its_parts_stand(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("from parts import build\n\ndef make():\n    return build()\n")
    digests = []
    for text in (CODE, CODE.replace("self.layer(values)", "self.layer(values).relu()"), CODE):
        (tmp_path / "parts.py").write_text(text)
        for name in [name for name in sys.modules if name == "parts" or name.startswith("edgekit_model_")]:
            del sys.modules[name]  # as another run would find it
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        digests.append(resolve(f"{tmp_path / 'main.py'}:make").digest)
    assert digests[0] == digests[2] != digests[1]


def test_the_digest_of_an_instance_is_that_of_its_layers() -> None:
    def made(activation: nn.Module) -> nn.Module:
        torch.manual_seed(4)
        return nn.Sequential(nn.Linear(4, 3), activation)

    assert resolve(made(nn.ReLU())).digest == resolve(made(nn.ReLU())).digest != resolve(made(nn.GELU())).digest


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    error = fails(ModelError, f"{tmp_path / 'none.py'}:build")
    assert error.what == f"there is no file '{tmp_path / 'none.py'}'"
    assert error.hint == "Give it as file.py:function."


def test_a_function_that_is_not_there_with_the_nearest(code: Path) -> None:
    error = fails(UnknownNameError, f"{code}:biuld")
    assert error.what == f"there is no function in {str(code)!r} 'biuld'"
    assert error.hint == "Did you mean 'build'?"
    assert error.why.startswith("allowed: Flat, KEPT, Keyword, Net, None_, ")
    assert "answer" not in error.why
    assert fails(UnknownNameError, f"{code}:answer").what.endswith("'answer'")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def build(:", "SyntaxError: "),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise ValueError('not today')", "ValueError: not today"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text)
    error = fails(ModelError, f"{file}:build")
    assert error.what == f"{str(file)!r} cannot be imported"
    assert error.why.startswith(why)
    file.write_text(CODE)  # once mended, it is read again
    assert resolve(f"{file}:build").architecture == "Net"


def test_a_package_that_is_not_there_or_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = fails(ModelError, "no_such.nets:build")
    assert error.what == "there is no module 'no_such.nets' to import"
    assert error.why == "No module named 'no_such'"
    assert error.hint == "Name a file instead: path/to/file.py:function."
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_nets.py").write_text("raise ValueError('not today')")
    error = fails(ModelError, "broken_nets:build")
    assert str(error) == "'broken_nets' cannot be imported\nValueError: not today"
    assert fails(UnknownNameError, "torch.nn:Lineer").hint.startswith("Did you mean 'Linear'")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("raises", "net.py:raises could not be called without arguments\nRuntimeError: no such size"),
        (
            "wide",
            "net.py:wide could not be called without arguments\n"
            "TypeError: wide() missing 1 required positional argument: 'width'",
        ),
        ("nothing", "net.py:nothing gives a NoneType\nallowed: a torch.nn.Module"),
        ("Two", "the forward of net.py:Two needs 2 arguments\nallowed: one tensor [batch, ...]"),
        ("None_", "the forward of net.py:None_ needs 0 arguments\nallowed: one tensor [batch, ...]"),
        ("Tuple", "net.py:Tuple gives tuple for two samples\nallowed: one tensor of logits [batch, ..., classes]"),
        ("Flat", "net.py:Flat gives [2] for two samples\nallowed: one tensor of logits [batch, ..., classes]"),
        ("Summed", "net.py:Summed gives [1, 3] for two samples\nallowed: one tensor of logits [batch, ..., classes]"),
    ],
)
def test_a_function_that_gives_no_classifier(code: Path, entry: str, message: str) -> None:
    assert str(fails(ModelError, f"{code}:{entry}")) == message


@pytest.mark.parametrize(
    ("given", "what", "why"),
    [
        ("1x5", "net.py:build does not run on an input of 2x5 float32", "RuntimeError: mat1 and mat2 shapes"),
        (
            "1x4:int64",
            "net.py:build does not run on an input of 2x4 int64",
            "RuntimeError: mat1 and mat2 must have the same dtype",
        ),
    ],
)
def test_an_input_that_the_module_does_not_take(code: Path, given: str, what: str, why: str) -> None:
    error = fails(ModelError, f"{code}:build", {"input": given})
    assert error.what == what
    assert error.why.startswith(why)
    assert error.hint == "Give the input's shape with --input 1x3x32x32."


def test_an_input_that_nobody_named(code: Path) -> None:
    error = fails(UsageError, f"{code}:build", {})
    assert error.what == "it is not known what the module takes"
    assert error.hint == "Give the shape of one batch: --input 1x3x32x32."


@pytest.mark.parametrize(("given", "kind"), [(5, "int"), ([nn.Linear(4, 3)], "list"), (None, "NoneType")])
def test_something_that_is_no_code(given: object, kind: str) -> None:
    error = fails(UsageError, given)
    assert error.what == f"a model cannot be a {kind}"
    assert error.why == "allowed: a folder, a hub id, file.py:function, an nn.Module, or a function that returns one"


def test_weights_that_cannot_be_written_leave_nothing(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(module: nn.Module, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edgekit.modules.save_state", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        resolve_module(f"{code}:build", {"input": "1x4"}, None, Cache(tmp_path / "cache"))
    assert not any((tmp_path / "cache" / "tmp").iterdir())


def test_weights_that_do_not_fit(code: Path, tmp_path: Path) -> None:
    save_file({"layer.weight": torch.ones(3, 5), "layer.bias": torch.ones(3)}, tmp_path / "other.safetensors")
    error = fails(ModelError, f"{code}:build", {"input": "1x4", "weights": tmp_path / "other.safetensors"})
    assert str(error) == "the weights for 'layer.weight' have the shape [3, 5]\nthe module's: [3, 4]"


@pytest.mark.parametrize(
    ("feeding", "expected"),
    [
        ({}, Pixels()),
        ({"mean": (0.5,), "std": (0.25,)}, Pixels(mean=(0.5,), std=(0.25,))),
        ({"mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 3.0)}, Pixels(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))),
    ],
)
def test_images_have_pixels(code: Path, feeding: Feeding, expected: Pixels) -> None:
    assert described(resolve(f"{code}:images", {**IMAGE, **feeding})).pixels == expected


def test_numbers_have_none(code: Path) -> None:
    assert described(resolve(f"{code}:build")).pixels is None


def test_a_file_of_preprocessing_is_read_and_options_come_before_it(code: Path, tmp_path: Path) -> None:
    file = tmp_path / "pixels.toml"
    file.write_text('shorter = 9\nresample = "bicubic"\nscale = 1.0\nmean = [100.0]\nstd = [50.0]\n')
    found = described(resolve(f"{code}:images", {**IMAGE, "preprocess": file})).pixels
    assert found == Pixels(shorter=9, resample="bicubic", scale=1.0, mean=(100.0,), std=(50.0,))
    found = described(resolve(f"{code}:images", {**IMAGE, "preprocess": file, "mean": (90.0,)})).pixels
    assert found == Pixels(shorter=9, resample="bicubic", scale=1.0, mean=(90.0,), std=(50.0,))


@pytest.mark.parametrize(
    ("feeding", "what", "why"),
    [
        (
            {"mean": (0.1, 0.2, 0.3)},
            "--mean and --std do not fit each other",
            "mean has 3 values and std 1; allowed: 1 or 3 each",
        ),
        (
            {"mean": (0.1, 0.2), "std": (1.0, 1.0)},
            "--mean and --std do not fit each other",
            "mean has 2 values and std 2",
        ),
        ({"std": (0.0,)}, "--mean and --std do not fit each other", "std has to be above 0"),
        ({"preprocess": "none.toml"}, "there is no pre-processing file 'none.toml'", ""),
    ],
)
def test_pixels_that_cannot_be(code: Path, feeding: Feeding, what: str, why: str) -> None:
    error = fails(UsageError, f"{code}:images", {**IMAGE, **feeding})
    assert error.what == what
    assert why in error.why


def test_a_grey_image_has_one_mean(tmp_path: Path) -> None:
    grey = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    three: Feeding = {"input": "1x1x8x8", "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}
    error = fails(UsageError, grey, three)
    assert str(error) == "--mean has 3 values\nthe input has 1 channels"


@pytest.mark.parametrize("feeding", [{"mean": (0.5,)}, {"std": (0.5,)}, {"preprocess": "x.toml"}])
def test_pixels_are_for_images(code: Path, feeding: Feeding) -> None:
    error = fails(UsageError, f"{code}:build", {**FOUR, **feeding})
    assert error.what == "--mean, --std, --layout and --preprocess are for images, and the input is 4"
    assert error.why == "an image is 1 or 3 channels, height and width, its channels where NCHW has them"
    assert error.hint == "Where the channels come last, say --layout NHWC."


def test_channels_may_come_last(code: Path) -> None:
    last: Feeding = {"input": "1x8x8x3", "layout": "nhwc", "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    found, _ = resolve_module(module, last, None)
    described = read_description(Path(found.path))
    assert described.pixels is not None
    assert (described.only_input.shape, described.pixels.layout) == ((8, 8, 3), "NHWC")
    seen, _ = resolve_module(module, {"layout": "NHWC"}, Sample((3, 8, 8), "float32", image=True))
    assert read_description(Path(seen.path)).only_input.shape == (8, 8, 3)


@pytest.mark.parametrize("layout", ["CHW", "NCWH", ""])
def test_an_unknown_layout_is_refused(layout: str) -> None:
    error = fails(UsageError, nn.Flatten(), {"input": "1x3x8x8", "layout": layout})
    assert error.what == f"--layout {layout!r} is no order of an image's axes"
    assert error.why.startswith("allowed: NCHW, NHWC")


def test_labels_are_as_many_as_the_classes(code: Path) -> None:
    module = nn.Linear(4, 3)
    found, _ = resolve_module(module, {"input": "1x4", "labels": ("a", "b", "c")}, None)
    assert read_description(Path(found.path)).labels == ("a", "b", "c")
    error = fails(UsageError, module, {"input": "1x4", "labels": ("a", "b")})
    assert str(error).startswith("--labels has 2 names\nthe model's answers are 3 classes")


def test_states_are_of_graphs_only() -> None:
    error = fails(UsageError, nn.Linear(4, 3), {"input": "1x4", "state": ("a:b",)})
    assert error.what == "--state was given for Linear, which is no .onnx file"


def test_a_wrong_key_of_preprocessing_is_named(code: Path, tmp_path: Path) -> None:
    file = tmp_path / "pixels.toml"
    file.write_text("shorterr = 9\n")
    error = fails(UsageError, f"{code}:images", {**IMAGE, "preprocess": file})
    assert error.why == "unknown key 'shorterr'; did you mean 'shorter'?"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "entry: Field required"),
        ("{", "Invalid JSON"),
        ('{"schema": "edgekit.module/2"}', "schema: Input should be 'edgekit.module/1'"),
    ],
)
def test_a_description_that_is_not_valid(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "module.json").write_text(text)
    with pytest.raises(ModelError, match=r"^module.json is not valid\n") as caught:
        read_description(tmp_path)
    assert caught.value.why.startswith(why)


@pytest.mark.parametrize("label", ["\x1b[2Jcat", "\u202egod"])
def test_a_description_whose_labels_steer_the_terminal_is_refused(tmp_path: Path, label: str) -> None:
    described = Description(entry="net.py:make", input=None, output=(1,), labels=(label,))
    (tmp_path / "module.json").write_text(described.model_dump_json(by_alias=True), encoding="utf-8")
    with pytest.raises(ModelError, match="has control characters") as caught:
        read_description(tmp_path)
    assert caught.value.id == "model.invalid-config"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"input": {"name": "x", "shape": [-1]}}, "'x' has the shape [-1]"),
        (
            {"graph": {"inputs": [{"name": "x", "dtype": "float99", "shape": [1]}], "outputs": []}},
            "'x' has the type 'float99'; allowed: bool, ",
        ),
        (
            {"graph": {"inputs": [], "outputs": [], "states": [{"output": "y", "input": "x", "initial": [-1]}]}},
            "'x' has the shape [-1]",
        ),
    ],
)
def test_a_description_of_what_nobody_could_feed(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    text = {"schema": "edgekit.module/1", "entry": "a.onnx", "input": None, "output": [1], "labels": ["a"]}
    (tmp_path / "module.json").write_text(json.dumps(text | changes))
    with pytest.raises(ModelError, match=r"^module.json is not valid\n") as caught:
        read_description(tmp_path)
    assert caught.value.why.startswith(why)


def test_a_description_of_many_bytes_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "module.json").write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(ModelError, match=r"^module.json has 1048577 bytes\nallowed: 1048576$"):
        read_description(tmp_path)
