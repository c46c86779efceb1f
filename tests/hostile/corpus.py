"""Hostile files, each with a name, made by a script: what each of them tries, and how it is given to edgekit.

    python tests/hostile/corpus.py FOLDER    # all of them, to be given to other programs as well

A case makes its files in a folder of its own and says how they are opened: by a command line, or by the one function
that reads such a file, which takes no process. Code that a file smuggles in would make a file called ``canary``.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

CANARY = "canary"
# What a pickle of protocol 0 has to hold to run a command when it is loaded.
PICKLE = f"cos\nsystem\n(S'touch {CANARY}'\ntR.".encode()
DEEP = 100_000


class Attack(NamedTuple):
    """How a hostile file is given to edgekit.

    Attributes:
        way: ``cli``, or what reads such files: ``arrays``, ``weights``, ``image``, ``data``, ``graph``, ``artifact``,
            ``source``, ``tensors``, ``tflite``, ``tokenizer``.
        given: the command's words, or the file.
        code: of the exit.
    """

    way: str
    given: tuple[str, ...]
    code: int = 4


Make = Callable[[Path], Attack]
CASES: dict[str, Make] = {}


def case(make: Make) -> Make:
    """Add a case under the name of its function."""
    CASES[make.__name__.replace("_", "-")] = make
    return make


def family(name: str, kinds: dict[str, Any], make: Callable[[Path, Any], Attack]) -> None:
    """Add cases that differ in one thing."""
    for kind, value in kinds.items():
        CASES[f"{name}-{kind}"] = lambda folder, value=value: make(folder, value)


def written(file: Path, content: bytes | str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


# Pickles


def npy(shape: str, descr: str = "<f4", content: bytes = b"") -> bytes:
    """An array's file with a header of one's own."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    padded = header + " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode() + content


def zipped(entries: list[tuple[Any, bytes]], packed: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of these entries, as they are named."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packed) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


def checkpoint(data: bytes, more: list[tuple[Any, bytes]] | None = None) -> bytes:
    """A zip as torch writes it, with ``data`` as what its loader unpickles."""
    entries: list[tuple[Any, bytes]] = [("archive/data.pkl", data), ("archive/version", b"3\n")]
    return zipped([*entries, ("archive/byteorder", b"little"), *(more or [])])


def weights(folder: Path, content: bytes) -> Attack:
    return Attack("weights", (written(folder / "weights.pt", content),))


family(
    "pickle",
    {
        "in-a-checkpoint": checkpoint(PICKLE),
        "in-an-old-checkpoint": PICKLE,
        "in-torchscript": checkpoint(PICKLE, [("archive/constants.pkl", PICKLE), ("archive/code/x.py", b"1")]),
        "behind-a-magic-number": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + PICKLE,
    },
    weights,
)


@case
def pickle_in_an_array(folder: Path) -> Attack:
    content = zipped([("x.npy", npy("(1,)", "|O", PICKLE))])
    return Attack("arrays", (written(folder / "x.npz", content),))


@case
def pickle_in_place_of_arrays(folder: Path) -> Attack:
    return Attack("arrays", (written(folder / "x.npz", PICKLE),))


@case
def pickle_in_place_of_safetensors(folder: Path) -> Attack:
    model_folder(folder, weights=PICKLE)
    return Attack("cli", ("inspect", str(folder)))


@case
def pickle_in_a_model_folder(folder: Path) -> Attack:
    model_folder(folder)
    (folder / "model.safetensors").unlink()
    written(folder / "pytorch_model.bin", checkpoint(PICKLE))
    return Attack("cli", ("inspect", str(folder)))


# Archives


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    return entry


def arrays(folder: Path, content: bytes) -> Attack:
    return Attack("arrays", (written(folder / "x.npz", content),))


ONE = npy("(1,)", content=b"\0\0\0\0")
family(
    "zip",
    {
        "traversal": zipped([("../../x.npy", ONE)]),
        "absolute": zipped([("/tmp/x.npy", ONE)]),
        "backslash": zipped([("..\\x.npy", ONE)]),
        "drive": zipped([("C:x.npy", ONE)]),
        "link": zipped([(link("x.npy"), b"/etc/passwd")]),
        "case-collision": zipped([("x.npy", ONE), ("X.npy", ONE)]),
        "control-characters": zipped([("\x1b[2Jx.npy", ONE)]),
        "bomb": zipped([("x.npy", npy(f"({2**22},)", content=bytes(2**24)))], zipfile.ZIP_DEFLATED),
        "array-of-another-size": zipped([("x.npy", npy(f"({2**40},)", content=b"\0" * 4))]),
        "array-of-nothing": zipped([("x.npy", npy(f"({2**40},)", "<U0"))]),
        "array-of-empty-rows": zipped([("x.npy", npy(f"({2**40}, 0)"))]),
        "array-of-records": zipped([("x.npy", npy("(1,)", content=b"\0" * 8).replace(b"'<f4'", b"[('a', '<U2')]"))]),
        "array-of-no-characters": zipped([("x.npy", npy("(1,)", "<U1", b"\xff\xff\xff\x7f"))]),
        "name-of-5000-letters": zipped([("x" * 5000, ONE)]),
        "negative-shape": zipped([("x.npy", npy("(-1,)", content=b""))]),
        "header-that-is-code": zipped([("x.npy", npy("__import__('os').system('touch canary')"))]),
    },
    arrays,
)


@case
def zip_duplicate(folder: Path) -> Attack:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile says so when it writes, and not when it reads
        return arrays(folder, zipped([("x.npy", ONE), ("x.npy", ONE)]))


@case
def zip_encrypted(folder: Path) -> Attack:
    content = bytearray(zipped([("x.npy", ONE)]))
    for place in (6, content.index(b"PK\x01\x02") + 8):
        content[place] |= 1
    return arrays(folder, bytes(content))


@case
def zip_bomb_of_weights(folder: Path) -> Attack:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"}.")
        archive.writestr("archive/data/0", bytes(2**24))
    return weights(folder, stream.getvalue())


# TOML and JSON

RECIPE = 'schema = "edgekit.recipe/1"\nname = "x"\n'
TARGET = 'schema = "edgekit.target/1"\nname = "x"\n'


def recipe(folder: Path, text: bytes | str) -> Attack:
    return Attack("cli", ("recipes", "check", written(folder / "x.toml", text)), 2)


family(
    "recipe",
    {
        "of-deep-lists": f"{RECIPE}x = {'[' * DEEP}{']' * DEEP}\n",
        "of-unclosed-lists": f"{RECIPE}x = {'[' * DEEP}",
        "of-deep-lists-behind-quotes": f'{RECIPE}x = ["""a"""", {"[" * 200}{"]" * 200}, "b"]\n',
        "of-deep-tables": f"{RECIPE}x = {'{a=' * DEEP}1{'}' * DEEP}\n",
        "of-deep-keys": f"{RECIPE}{'.'.join('a' * DEEP)} = 1\n",
        "of-a-deep-header": f"{RECIPE}[{'.'.join('a' * DEEP)}]\n",
        "of-deep-keys-in-a-table": f"{RECIPE}x = {{{'.'.join('a' * DEEP)} = 1}}\n",
        "of-deep-keys-behind-quotes": f'{RECIPE}x = """a""""\ny = {{{".".join("a" * DEEP)} = 1}}\n',
        "of-quotes-that-never-close": RECIPE + '\\"' * 400_000,
        "of-a-number-without-end": f"{RECIPE}x = {'9' * 100_000}\n",
        "of-a-number-of-too-many-bits": f'{RECIPE}[[stages]]\nstage = "quantize"\nsamples = 0x{"f" * 5000}\n',
        "too-large": RECIPE + "# x\n" * 400_000,
        "not-text": b"\xff\xfe\x00",
        "with-a-null": f"{RECIPE}x = 1\x00\n",
        "with-a-name-that-steers-the-terminal": RECIPE.replace('"x"', '"\\u001b[2Jx"')
        + '[[stages]]\nstage = "export"\n',
        "with-an-escape": f'{RECIPE}x = "\x1b[2J"\n',
    },
    recipe,
)


def target(folder: Path, text: str) -> Attack:
    return Attack("cli", ("targets", "check", written(folder / "x.toml", text)), 2)


family(
    "target",
    {"of-deep-lists": f"{TARGET}x = {'[' * DEEP}{']' * DEEP}\n", "too-large": TARGET + "# x\n" * 20_000},
    target,
)


@case
def setting_of_deep_lists(folder: Path) -> Attack:
    words = ("compress", str(folder / "none.onnx"), "--recipe", "quantize", "--set", "quantize.method=" + "[" * 2000)
    return Attack("cli", words, 2)


def config(**changes: Any) -> str:
    """A configuration, changed."""
    right = {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": 4}
    return json.dumps(right | changes)


def model_folder(folder: Path, *, weights: bytes | None = None, **files: bytes | str) -> None:
    """A model folder with these files in place of right ones; ``_`` stands for the dot of an ending."""
    written(folder / "config.json", config())
    written(folder / "model.safetensors", safetensors({"x": tensor([1])}, bytes(4)) if weights is None else weights)
    for name, content in files.items():
        written(folder / name.replace("_json", ".json"), content)


def source(folder: Path, files: dict[str, Any]) -> Attack:
    model_folder(folder, **files)
    return Attack("source", (str(folder),))


DEEP_JSON = f'{{"a": {"[" * DEEP}{"]" * DEEP}}}'
family(
    "model",
    {
        "with-a-deep-config": {"config_json": DEEP_JSON},
        "with-an-unclosed-config": {"config_json": "[" * DEEP},
        "with-a-config-of-a-number-without-end": {"config_json": f'{{"a": {"9" * 10_000}}}'},
        "with-a-config-that-is-a-list": {"config_json": "[1, 2]"},
        "of-a-billion-layers": {"config_json": config(num_hidden_layers=10**9)},
        "of-a-billion-blocks-in-a-list": {"config_json": config(depths=[2, 10**9])},
        "of-a-billion-groups": {"config_json": config(num_hidden_groups=10**9)},
        "of-a-billion-layers-in-a-part": {"config_json": config(text_config={"num_hidden_layers": 10**9})},
        "of-a-billion-layers-of-one-kind": {"config_json": config(attention_types=[[["global"], 10**9]])},
        "with-a-kernel-of-the-hub": {"config_json": config(_attn_implementation="evil/kernel")},
        "of-a-billion-classes": {"config_json": config(num_labels=10**9)},
        "of-a-billion-words": {"config_json": config(vocab_size=10**9)},
        "of-a-width-of-a-billion": {"config_json": config(hidden_size=10**9)},
        "with-an-escape-in-its-architecture": {"config_json": config(architectures=["\x1b[2JBert"])},
        "with-an-escape-in-any-text": {"config_json": config(use_return_dict="\x1b]0;owned\x07\x1b[2J")},
        "with-an-escape-in-a-name": {"config_json": config(text_config={"\x1b[2J": 1})},
        "with-half-a-character": {"config_json": config(model_type="\ud800")},
        "with-a-name-that-breaks-sums": {"x\ny_json": "{}"},
        "with-a-name-that-steers-the-terminal": {"\x1b[2J_json": "{}"},
        "with-a-config-that-is-not-text": {"config_json": b"\xff\xfe{"},
        "with-a-config-too-large": {"config_json": b" " * (17 * 1024 * 1024) + b"{}"},
        "with-deep-tokenizer-settings": {"tokenizer_config_json": DEEP_JSON},
        "with-deep-processor-settings": {"preprocessor_config_json": DEEP_JSON},
        "with-code": {
            "config_json": '{"architectures": ["X"], "model_type": "x", "auto_map": {"AutoModel": "evil.Model"}}',
            "evil.py": f"open({CANARY!r}, 'w')\n",
        },
        "with-code-for-its-tokenizer": {
            "tokenizer_config_json": '{"auto_map": {"AutoTokenizer": ["evil.Tokenizer", null]}}',
            "evil.py": f"open({CANARY!r}, 'w')\n",
        },
        "with-code-for-its-processor": {
            "preprocessor_config_json": '{"auto_map": {"AutoImageProcessor": "evil.Processor"}}',
            "evil.py": f"open({CANARY!r}, 'w')\n",
        },
    },
    source,
)


@case
def model_with_a_tokenizer_too_large(folder: Path) -> Attack:
    model_folder(folder)
    with (folder / "tokenizer.json").open("wb") as stream:
        stream.truncate(257 * 1024 * 1024)  # a hole: it takes no room on the disk
    return Attack("source", (str(folder),))


@case
def model_with_a_list_of_words_too_large(folder: Path) -> Attack:
    model_folder(folder)
    with (folder / "vocab.txt").open("wb") as stream:
        stream.truncate(257 * 1024 * 1024)
    return Attack("source", (str(folder),))


# Tokenizers, which a bundle compiles


def charsmap(units: dict[int, int]) -> dict[str, str]:
    """A normalizer with SentencePiece's map of characters: some units of its trie, and one text."""
    trie = struct.pack("<2048I", *(units.get(place, 0) for place in range(2048)))
    content = struct.pack("<I", len(trie)) + trie + b"a\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


def tokenizer(folder: Path, changes: dict[str, Any]) -> Attack:
    """A tokenizer of two words, changed."""
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"} | changes.get("model", {})
    parts = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    right = {"version": "1.0", "added_tokens": [], **dict.fromkeys(parts)}
    return Attack("tokenizer", (written(folder / "tokenizer.json", json.dumps(right | changes | {"model": model})),))


def shared(level: int) -> dict[int, int]:
    """All units of a level of such a trie: 255 of them, the children of each of which are those of the next level."""
    place, below = 256 * level, 256 * (level + 1)
    return {place ^ byte: byte | (place ^ byte ^ below) << 10 for byte in range(1, 256)}


BPE = {"type": "BPE", "merges": [], "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
family(
    "tokenizer",
    {
        "with-a-map-without-an-end": {"normalizer": charsmap({0: 256 << 10, 257: 1 | 1 << 10})},
        "with-a-map-of-255-to-the-5-keys": {
            "normalizer": charsmap({0: 256 << 10, **{k: v for level in range(1, 6) for k, v in shared(level).items()}})
        },
        "with-a-map-that-points-away": {"normalizer": charsmap({0: 256 << 10, 257: 1 | 1 << 8 | 1 << 30})},
        "with-a-number-of-32-bits": {"model": {"vocab": {"a": 0, "b": 2**32 - 2}}},
        "without-its-unknown-token": {"model": {"unk_token": "none"}},
        "of-pairs-without-its-unknown-token": {"model": BPE | {"unk_token": "none"}},
    },
    tokenizer,
)


# safetensors


def tensor(shape: list[int], begin: int = 0, end: int | None = None, dtype: str = "F32") -> dict[str, Any]:
    size = 4
    for dim in shape:
        size *= dim
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + size if end is None else end]}


def safetensors(header: Any, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensors(folder: Path, content: bytes) -> Attack:
    return Attack("tensors", (written(folder / "model.safetensors", content),))


family(
    "safetensors",
    {
        "with-a-header-of-2-to-the-63": safetensors({}, b"", 2**63),
        "with-a-header-beyond-its-end": safetensors({}, b"", 10_000),
        "with-a-header-of-negative-length": safetensors({}, b"", 2**64 - 1),
        "with-an-offset-beyond-its-end": safetensors({"x": tensor([1], 0, 2**40)}, bytes(4)),
        "with-overlapping-tensors": safetensors({"x": tensor([2]), "y": tensor([2], 4)}, bytes(12)),
        "with-a-hole": safetensors({"x": tensor([1]), "y": tensor([1], 8)}, bytes(12)),
        "with-a-negative-size": safetensors({"x": {**tensor([1]), "shape": [-1]}}, bytes(4)),
        "with-a-size-that-overflows": safetensors({"x": {**tensor([1]), "shape": [2**62, 8]}}, bytes(4)),
        "with-a-deep-header": safetensors(b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}", b""),
        "with-control-characters": safetensors({"\x1b[2Jx": tensor([1])}, bytes(4)),
        "that-is-empty": b"",
    },
    tensors,
)


# ONNX


def graph(folder: Path, change: Callable[[Any], None]) -> Attack:
    """A small graph, changed; what it takes is [n, 2]."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    made = helper.make_graph([node], "net", ends[:1], ends[1:], [weight])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    change(model)
    file = folder / "net.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model.SerializeToString())
    return Attack("graph", (str(file),))


def external(folder: Path, entries: dict[str, str]) -> Attack:
    """The graph's weight in a file beside it, with these entries."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "secret.bin").write_bytes(bytes(64))
    (folder / "real.bin").write_bytes(bytes(64))
    (folder / "other.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    os.link(folder / "other.bin", folder / "hard.bin")
    (folder / "model.onnx").write_bytes(bytes(64))
    (folder / "away").symlink_to(folder.parent)
    (folder / "zero.bin").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.bin")
    placed = {key: value.replace("{folder}", str(folder)) for key, value in entries.items()}
    return graph(folder, lambda model: move_out(model.graph.initializer[0], placed))


def move_out(tensor: Any, entries: dict[str, str]) -> Any:
    """A tensor, in a file beside the graph, with these entries."""
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


family(
    "external-data",
    {
        "above": {"location": "../secret.bin"},
        "above-in-disguise": {"location": "real/../../secret.bin"},
        "absolute": {"location": "/etc/passwd"},
        "absolute-and-beside": {"location": "{folder}/real.bin"},
        "behind-a-link": {"location": "link.bin"},
        "behind-a-hard-link": {"location": "hard.bin"},
        "behind-a-linked-folder": {"location": "away/secret.bin"},
        "with-a-backslash": {"location": "..\\secret.bin"},
        "of-a-huge-length": {"location": "real.bin", "length": str(2**62)},
        "from-a-huge-place": {"location": "real.bin", "offset": str(2**62)},
        "from-a-negative-place": {"location": "real.bin", "offset": "-4096"},
        "of-a-negative-length": {"location": "real.bin", "length": "-1"},
        "without-a-number": {"location": "real.bin", "offset": "many"},
        "of-a-device": {"location": "/dev/zero"},
        "of-a-device-by-a-link": {"location": "zero.bin"},
        "of-a-pipe": {"location": "pipe.bin"},
        "of-its-own-folder": {"location": "."},
        "with-a-name-of-5000-letters": {"location": "a" * 5000},
        "with-a-path-of-5000-letters": {"location": "a/" * 2500 + "a"},
        "nowhere": {"location": "nothing.bin"},
        "with-the-name-of-the-checked-graph": {"location": "model.onnx"},
    },
    external,
)


def elsewhere() -> Any:
    """A tensor that lies beside its graph, or above it."""
    import numpy as np
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "elsewhere")
    return move_out(tensor, {"location": "../secret.bin"})


def hidden_in_a_function(model: Any) -> None:
    from onnx import helper

    opsets = [helper.make_opsetid("", 17)]
    nodes = [helper.make_node("Constant", [], ["c"], value=elsewhere()), helper.make_node("Add", ["a", "c"], ["b"])]
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(helper.make_function("own", "shifted", ["a"], ["b"], nodes, opsets))
    model.graph.node.insert(0, helper.make_node("shifted", ["x"], ["called"], domain="own"))
    model.graph.node[1].input[0] = "called"


def hidden_for_training(model: Any) -> None:
    training = model.training_info.add()
    training.initialization.name = "start"
    training.initialization.initializer.append(elsewhere())


def sparse(model: Any) -> None:
    """A runtime spells sparse weights out: 2^40 numbers, of which one is given."""
    import numpy as np
    from onnx import helper, numpy_helper

    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64), "places"), [2**40])
    )


family("external-data", {"of-a-function": hidden_in_a_function, "for-training": hidden_for_training}, graph)
CASES["graph-with-sparse-weights"] = lambda folder: graph(folder, sparse)


def onnx_node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, outputs, **attributes)


def add_weight(model: Any, name: str, values: Any) -> None:
    import numpy as np
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def vast(model: Any) -> None:
    """ConstantOfShape of 2^36 floats passes onnx's checker; onnxruntime then asks for 256 GiB."""
    import numpy as np

    add_weight(model, "sizes", np.array([2**36], np.int64))
    model.graph.node.insert(0, onnx_node("ConstantOfShape", ["sizes"], ["vast"]))
    model.graph.node.insert(1, onnx_node("ReduceSum", ["vast"], ["sum"], keepdims=0))
    model.graph.node[2].input[0] = "shifted"
    model.graph.node.insert(2, onnx_node("Add", ["x", "sum"], ["shifted"]))


def expanded(model: Any) -> None:
    import numpy as np

    add_weight(model, "sizes", np.array([2**40, 1, 2], np.int64))
    model.graph.node.insert(0, onnx_node("Expand", ["x", "sizes"], ["vast"]))
    model.graph.node.insert(1, onnx_node("ReduceSum", ["vast"], ["sum"], keepdims=0))
    model.graph.node.insert(2, onnx_node("Add", ["x", "sum"], ["shifted"]))
    model.graph.node[3].input[0] = "shifted"


def endless(model: Any) -> None:
    import numpy as np
    from onnx import helper

    ends = [
        helper.make_tensor_value_info("i", 7, []),
        helper.make_tensor_value_info("go", 9, []),
        helper.make_tensor_value_info("a", 1, ["n", 2]),
        helper.make_tensor_value_info("on", 9, []),
        helper.make_tensor_value_info("b", 1, ["n", 2]),
    ]
    nodes = [onnx_node("Identity", ["go"], ["on"]), onnx_node("Identity", ["a"], ["b"])]
    body = helper.make_graph(nodes, "body", ends[:3], ends[3:])
    add_weight(model, "times", np.array(2**62, np.int64))
    add_weight(model, "yes", np.array(True))
    model.graph.node.insert(0, onnx_node("Loop", ["times", "yes", "x"], ["turned"], body=body))
    model.graph.node[1].input[0] = "turned"


def loops(model: Any) -> None:
    """Loops in loops, each of which begins with another size: two looks at each are 2^25 at the last."""
    from onnx import helper

    inner = [onnx_node("Concat", ["a", "a"], ["b"], axis=0), onnx_node("Identity", ["go"], ["on"])]
    for _ in range(25):
        ends = [
            helper.make_tensor_value_info("i", 7, []),
            helper.make_tensor_value_info("go", 9, []),
            helper.make_tensor_value_info("a", 1, None),
            helper.make_tensor_value_info("on", 9, []),
            helper.make_tensor_value_info("b", 1, None),
        ]
        body = helper.make_graph(inner, "body", ends[:3], ends[3:])
        inner = [
            onnx_node("Loop", ["times", "yes", "w"], ["c"], body=body),
            onnx_node("Concat", ["c", "a"], ["b"], axis=0),
            onnx_node("Identity", ["go"], ["on"]),
        ]
    add_weight(model, "times", 3)
    add_weight(model, "yes", True)
    model.graph.node.insert(0, inner[0])


def functions(model: Any, *, depth: int, width: int, closed: bool) -> None:
    """Functions that call the next one several times: ``width`` to the power of ``depth`` nodes in a few lines."""
    from onnx import helper

    model.opset_import.append(helper.make_opsetid("own", 1))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for number in range(depth):
        last = number == depth - 1
        called = "f0" if last and closed else f"f{number + 1}"
        kind, domain = ("Identity", "") if last and not closed else (called, "own")
        names = ["a", *(f"t{place}" for place in range(width - 1)), "b"]
        nodes = [helper.make_node(kind, [one], [other], domain=domain) for one, other in itertools.pairwise(names)]
        model.functions.append(helper.make_function("own", f"f{number}", ["a"], ["b"], nodes, opsets))
    model.graph.node.insert(0, helper.make_node("f0", ["x"], ["called"], domain="own"))
    model.graph.node[1].input[0] = "called"


def code_of(change: Callable[[Any], None], code: int) -> Make:
    return lambda folder: graph(folder, change)._replace(code=code)


CASES["graph-of-2-to-the-36-numbers"] = code_of(vast, 5)
CASES["graph-that-expands-to-2-to-the-41-numbers"] = code_of(expanded, 5)
CASES["graph-of-loops-in-loops"] = code_of(loops, 4)
CASES["graph-with-functions-that-multiply"] = code_of(lambda m: functions(m, depth=24, width=4, closed=False), 4)
CASES["graph-with-a-function-that-calls-itself"] = code_of(lambda m: functions(m, depth=2, width=2, closed=True), 4)


@case
def graph_of_operator_set_9999(folder: Path) -> Attack:
    return asked(folder, lambda model: setattr(model.opset_import[0], "version", 9999))


@case
def graph_without_an_end(folder: Path) -> Attack:
    return asked(folder, endless)._replace(code=5)


def asked(folder: Path, change: Callable[[Any], None]) -> Attack:
    """The graph, changed, and one row for it."""
    file = graph(folder, change).given[0]
    values = written(folder / "x.npz", zipped([("x.npy", npy("(1, 2)", content=bytes(8)))]))
    return Attack("cli", ("predict", file, values, "--task", "tensors"))


family(
    "graph",
    {
        "with-an-escape-in-a-node": lambda m: setattr(m.graph.node[0], "name", "pro\x1b[2Jduct"),
        "with-an-escape-in-its-producer": lambda m: setattr(m, "producer_name", "\x1b]0;owned\x07"),
        "with-a-text-that-runs-backwards": lambda m: setattr(m, "producer_name", "\u202egpj.exe"),
        "with-a-weight-of-another-size": lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**40),
        "with-a-weight-of-negative-size": lambda m: m.graph.initializer[0].dims.__setitem__(0, -5),
        "of-an-unknown-operator": lambda m: setattr(m.graph.node[0], "op_type", "Shell"),
        "of-an-unknown-domain": lambda m: setattr(m.graph.node[0], "domain", "org.evil"),
        "that-reads-what-is-not-there": lambda m: m.graph.node[0].input.__setitem__(0, "nothing"),
        "in-a-circle": lambda m: m.graph.node[0].input.__setitem__(0, "y"),
        "of-texts": lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 8),
        "without-outputs": lambda m: m.graph.ClearField("output"),
        "without-a-graph": lambda m: m.ClearField("graph"),
    },
    graph,
)


def bytes_of_a_graph(folder: Path, change: Callable[[bytes], bytes]) -> Attack:
    attack = graph(folder, lambda model: None)
    file = Path(attack.given[0])
    file.write_bytes(change(file.read_bytes()))
    return attack


family(
    "graph",
    {
        "cut-short": lambda content: content[: len(content) // 2],
        "of-noise": lambda content: bytes(index * 37 % 256 for index in range(4096)),
        "that-is-empty": lambda content: b"",
        "of-groups-in-groups": lambda content: b"\x0b" * 100_000,
    },
    bytes_of_a_graph,
)


# TFLite


def tflite(folder: Path, change: Callable[[Any], None]) -> Attack:
    """y = x + x, changed."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version = 3
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = 0  # ADD
    model.operatorCodes = [code]
    model.buffers = [schema.BufferT() for _ in range(3)]
    tensors = []
    for index, name in enumerate(("x", "y")):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), [1, 2], 0, index + 1
        tensors.append(tensor)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 0], [1]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [operator], [0], [1]
    model.subgraphs = [graph]
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return Attack("tflite", (written(folder / "net.tflite", bytes(builder.Output())),))


def first(model: Any) -> Any:
    return model.subgraphs[0]


family(
    "tflite",
    {
        "that-reads-another-tensor": lambda m: setattr(first(m).operators[0], "inputs", [0, 99]),
        "of-another-operator": lambda m: setattr(first(m).operators[0], "opcodeIndex", 99),
        "of-another-buffer": lambda m: setattr(first(m).tensors[0], "buffer", 99),
        "of-an-unknown-type": lambda m: setattr(first(m).tensors[0], "type", 99),
        "without-a-graph": lambda m: setattr(m, "subgraphs", []),
        "with-an-escape-in-a-name": lambda m: setattr(first(m).tensors[0], "name", b"\x1b[2Jx"),
        "with-a-buffer-beyond-its-end": lambda m: (
            setattr(m.buffers[1], "offset", 2**40),
            setattr(m.buffers[1], "size", 2**40),
        ),
    },
    tflite,
)


def bytes_of_a_tflite(folder: Path, change: Callable[[bytes], bytes]) -> Attack:
    attack = tflite(folder, lambda model: None)
    file = Path(attack.given[0])
    file.write_bytes(change(file.read_bytes()))
    return attack


family(
    "tflite",
    {
        "cut-short": lambda content: content[: len(content) // 2],
        "that-points-away": lambda content: b"\xff\xff\xff\x7f" + content[4:],
        "of-another-kind": lambda content: content[:4] + b"ONNX" + content[8:],
        "of-long-lists": lambda content: content[:8] + b"\xff" * (len(content) - 8),
    },
    bytes_of_a_tflite,
)


@case
def tflite_of_lists_that_share_their_parts(folder: Path) -> Attack:
    """3000 times the same graph of 3000 times the same tensor: 24 KB, and nine million tensors."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def repeated(begin: Callable[[Any, int], Any], part: int) -> int:
        begin(builder, 3000)
        for _ in range(3000):
            builder.PrependUOffsetTRelative(part)
        return int(builder.EndVector())

    builder = flatbuffers.Builder(1024)
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    schema.ModelStartBuffersVector(builder, 1)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    name = builder.CreateString("x")
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    tensors = repeated(schema.SubGraphStartTensorsVector, schema.TensorEnd(builder))
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = repeated(schema.ModelStartSubgraphsVector, schema.SubGraphEnd(builder))
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    return Attack("tflite", (written(folder / "net.tflite", bytes(builder.Output())),))


# Artifacts

MANIFEST: dict[str, Any] = {
    "schema": "edgekit.artifact/1",
    "format": "onnx",
    "task": "tensors",
    "source": {},
    "components": {"model": {"files": ["model.onnx"], "inputs": [], "outputs": []}},
}


def artifact(folder: Path, changes: dict[str, Any] | str) -> Attack:
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "outside.onnx").write_bytes(b"")
    content = changes if isinstance(changes, str) else json.dumps(MANIFEST | changes)
    written(folder / "manifest.json", content)
    return Attack("artifact", (str(folder),))


def artifact_that_leads_outside(folder: Path, name: str) -> Attack:
    """One whose manifest is right, with a link, or a pipe, beside its model."""
    attack = artifact(folder, summed("model.onnx"))
    written(folder / "model.onnx", "")
    (folder / name).parent.mkdir(exist_ok=True)
    if name.endswith(".pipe"):
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(folder.parent / "outside.onnx")
    return attack


def of_file(name: str) -> dict[str, Any]:
    return {"components": {"model": {"files": [name], "inputs": [], "outputs": []}}}


def taking(**changes: Any) -> dict[str, Any]:
    """A graph with a sum, and with one input, changed."""
    spec = {"name": "x", "dtype": "float32", "shape": ["batch", 2]} | changes
    return {
        "components": {"model": {"files": ["model.onnx"], "inputs": [spec], "outputs": []}},
        "files": {"model.onnx": "0" * 64},
    }


def summed(name: str) -> dict[str, Any]:
    """The same, with a sum of the file."""
    return of_file(name) | {"files": {name: "0" * 64}}


family(
    "artifact",
    {
        "that-names-a-file-above": of_file("../outside.onnx"),
        "that-names-an-absolute-file": of_file("/etc/passwd"),
        "that-names-its-own-folder": summed("."),
        "that-names-5000-letters": summed("a" * 5000),
        "that-names-a-path-of-5000-letters": summed("a/" * 2500 + "a"),
        "that-names-an-escape": of_file("\x1b[2J.onnx"),
        "with-a-component-that-is-a-path": {"components": {"../x": of_file("a")["components"]["model"]}},
        "with-a-component-of-no-file": {"components": {"model": {"files": [], "inputs": [], "outputs": []}}},
        "without-sums-of-its-parts": of_file("model.onnx"),
        "that-takes-what-no-number-is": taking(dtype="float99"),
        "that-takes-less-than-nothing": taking(shape=["batch", -1]),
        "with-weights-in-its-report": of_file("report.json") | {"files": {"report.json": "0" * 64}},
        "with-sums-of-files-above": {"files": {"../outside.onnx": "0" * 64}},
        "with-a-deep-manifest": DEEP_JSON,
        "with-labels-that-steer-the-terminal": {"labels": ["\x1b[2J"]},
    },
    artifact,
)
family(
    "artifact",
    {
        "whose-card-is-a-link": "README.md",
        "whose-report-is-a-link": "report.json",
        "whose-tokenizer-is-a-link": "tokenizer.json",
        "with-a-link-deeper-in-it": "golden/task.safetensors",
        "with-a-pipe": "golden/task.pipe",
    },
    artifact_that_leads_outside,
)


@case
def artifact_that_names_a_link(folder: Path) -> Attack:
    attack = artifact(folder, summed("model.onnx"))
    (folder / "model.onnx").symlink_to(folder.parent / "outside.onnx")
    return attack


@case
def artifact_that_names_a_pipe(folder: Path) -> Attack:
    attack = artifact(folder, summed("model.onnx"))
    os.mkfifo(folder / "model.onnx")
    return attack


P50 = {"name": "latency.p50", "unit": "ms", "value": 1.0}


def result(folder: Path, changes: dict[str, Any]) -> Attack:
    """What ``bench --save`` keeps, changed."""
    right = {
        "schema": "edgekit.bench/2",
        "tool": {"version": "0.1.0"},
        "created": "2026-01-01T00:00:00Z",
        "host": {"fingerprint": "ab"},
        "subject": {"name": "m.onnx", "sha256": "c", "bytes": 1, "format": "onnx"},
        "runtime": {"name": "onnxruntime"},
        "metrics": [P50],
    }
    return Attack("cli", ("history", written(folder / "x.json", json.dumps(right | changes))))


family(
    "result",
    {
        "of-a-time-that-steers-the-terminal": {"created": "\x1b[2J2026"},
        "of-a-number-without-an-end": {"metrics": [P50 | {"value": float("inf")}]},
        "of-an-interval-wider-than-numbers": {"metrics": [P50 | {"ci_low": -1e308, "ci_high": 1.7e308}]},
        "of-a-machine-that-steers-the-terminal": {"host": {"fingerprint": "\x1b[2Jab"}},
    },
    result,
)


@case
def artifact_of_a_module_with_labels_that_steer_the_terminal(folder: Path) -> Attack:
    """The manifest's labels are harmless, and those by which answers are named are others."""
    graph(folder, lambda model: None)
    tensors = [{"name": name, "dtype": "float32", "shape": ["n", 2]} for name in ("x", "y")]
    part = {"files": ["net.onnx"], "inputs": tensors[:1], "outputs": tensors[1:]}
    changes = {"task": "tensor-classification", "labels": ["a", "b"], "components": {"model": part}}
    module = {"schema": "edgekit.module/1", "entry": "net.py:make", "input": {"name": "x", "shape": [2]}, "output": [2]}
    written(folder / "module.json", json.dumps(module | {"labels": ["\x1b[2Jcat", "dog"], "answer": "y"}))
    artifact(folder, changes | {"files": {"net.onnx": "0" * 64}})
    return Attack("cli", ("predict", str(folder), "[1, 2]"))


# Data


def data(folder: Path, files: dict[str, bytes | str]) -> Attack:
    for name, content in files.items():
        written(folder / name, content)
    return Attack("data", (str(folder),))


def card(place: str) -> str:
    """A card by which the data lies in another place."""
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {place}\n---\n"


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
CSV = "text,label\na,0\nb,1\n"
family(
    "data",
    {
        "with-a-yaml-alias-bomb": {"train.csv": CSV, "README.md": f"---\n{ALIASES}---\n"},
        "with-yaml-that-contains-itself": {"train.csv": CSV, "README.md": "---\na: &a [*a]\n---\n"},
        "with-deep-yaml": {"train.csv": CSV, "README.md": f"---\na: {'[' * 5000}{']' * 5000}\n---\n"},
        "with-yaml-that-runs-code": {
            "train.csv": CSV,
            "README.md": f"---\na: !!python/object/apply:os.system ['touch {CANARY}']\nb: [\n---\n",
        },
        "with-an-alias-bomb-behind-an-empty-line": {"train.csv": CSV, "README.md": f"\n---\n{ALIASES}---\n"},
        "with-an-alias-bomb-behind-three-dashes": {"train.csv": CSV, "README.md": f"---\n---x: 1\n{ALIASES}---\n"},
        "with-a-hidden-alias-bomb": {"train.csv": CSV, ".huggingface.yaml": ALIASES},
        "that-lies-above": {"train.csv": CSV, "README.md": card("../../secret.csv")},
        "that-lies-elsewhere": {"train.csv": CSV, "README.md": card("/etc/passwd")},
        "that-lies-on-the-network": {"train.csv": CSV, "README.md": card("https://example.com/train.csv")},
        "that-lies-in-an-archive": {"train.csv": CSV, "README.md": card("zip://train.csv::../train.zip")},
        "that-lies-above-by-hidden-settings": {
            "train.csv": CSV,
            ".huggingface.yaml": "configs: [{config_name: default, data_dir: ../..}]",
        },
        "that-is-hidden": {"train.csv": CSV, ".hidden/train.csv": CSV, "README.md": card(".hidden/*.csv")},
        "of-deep-json": {"train.jsonl": f'{{"text": {"[" * DEEP}{"]" * DEEP}, "label": 0}}\n'},
        "of-unclosed-json": {"train.json": "[\n" * DEEP},
        "with-an-archive": {"train.zip": zipped([("../../train.csv", CSV.encode())])},
        "with-a-packed-file": {"train.csv.gz": zlib.compress(CSV.encode())},
    },
    data,
)


@case
def data_behind_a_link(folder: Path) -> Attack:
    written(folder.parent / "outside/train.csv", CSV)
    attack = data(folder, {"test.csv": CSV, "README.md": card("sub/*.csv")})
    (folder / "sub").symlink_to(folder.parent / "outside")
    return attack


@case
def data_with_settings_that_are_a_pipe(folder: Path) -> Attack:
    attack = data(folder, {"train.csv": CSV})
    os.mkfifo(folder / ".huggingface.yaml")
    return attack


def png(width: int, height: int, content: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def image(folder: Path, content: bytes) -> Attack:
    return Attack("image", (written(folder / "x.png", content),))


family(
    "image",
    {
        "of-ten-billion-pixels": png(100_000, 100_000),
        "cut-short": png(64, 64)[:60],
        "with-a-wrong-sum": png(8, 8, bytes(200))[:-20] + b"\0" * 20,
        "without-pixels": png(64, 64),
        "of-no-size": png(0, 0),
        "of-postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n",
    },
    image,
)


def make_all(folder: Path) -> dict[str, Attack]:
    """Every case, each in a folder of its name."""
    return {name: make(folder / name / "files") for name, make in CASES.items()}


if __name__ == "__main__":
    for made, attack in make_all(Path(sys.argv[1])).items():
        sys.stdout.write(f"{made} {attack.way} {' '.join(attack.given)}\n")
