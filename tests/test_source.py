from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.errors import HostError, ModelError, UsageError
from edgekit.source import model_files, resolve_source, sha256_file

CONFIG = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "config.json").write_text(json.dumps(CONFIG))
    (root / "model.safetensors").write_bytes(b"\0" * 100)
    (root / "tokenizer.json").write_text("{}")
    return root


def fails(folder: Path | str, **options: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        resolve_source(folder, **options)
    assert caught.value.exit_code == 4
    return caught.value


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({}, ""),
        ({"README.md": "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n"}, "apache-2.0"),
        ({"README.md": "---\r\nlicense: 'mit'\r\n---\r\n"}, "mit"),
        ({"README.md": "# A model\nlicense: mit\n", "LICENSE": "\n  MIT License\n\nCopyright\n"}, "MIT License"),
        ({"README.md": "---\ntags: [a]\n---\nlicense: mit\n"}, ""),
        ({"LICENCE.txt": b"\xff" * 300}, "\ufffd" * 200),
        ({"LICENSE": "MIT License\r\n\r\nCopyright".encode("utf-16")}, "MIT License"),  # as Notepad wrote it
        ({"LICENSE": "\ufeffMIT License\n"}, "MIT License"),
        ({"LICENSE": "\x1b[2JMIT\x00\n"}, r"\x1b[2JMIT\x00"),
    ],
)
def test_the_licence_is_what_the_folder_calls_it(folder: Path, files: dict[str, str | bytes], licence: str) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    source = resolve_source(folder)
    assert source.licence == licence
    assert source.record.get("licence", "") == licence


def test_a_local_folder_is_read(folder: Path) -> None:
    source = resolve_source(folder)
    assert (source.architecture, source.model_type, source.commit) == ("BertForSequenceClassification", "bert", None)
    assert source.size_bytes == 100
    assert len(source.digest) == 64
    assert source.record == {
        "kind": "transformers",
        "name": "model",
        "commit": None,
        "architecture": "BertForSequenceClassification",
        "digest": source.digest,
    }


def test_the_digest_ignores_cards_hidden_files_and_folders(folder: Path) -> None:
    before = resolve_source(folder).digest
    (folder / "README.md").write_text("a card")
    (folder / ".hidden.json").write_text("{}")
    (folder / "tf_model.h5").write_bytes(b"another format")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    assert resolve_source(folder).digest == before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_digest_changes_with_what_decides_the_answers(folder: Path, name: str) -> None:
    before = resolve_source(folder).digest
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    assert resolve_source(folder).digest != before


def test_the_digest_does_not_depend_on_the_place(folder: Path, tmp_path: Path) -> None:
    before = resolve_source(folder).digest
    assert resolve_source(folder.rename(tmp_path / "elsewhere")).digest == before


def test_the_digest_changes_with_a_name(folder: Path) -> None:
    before = resolve_source(folder).digest
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    assert resolve_source(folder).digest != before


def test_safetensors_hide_their_twins(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\0" * 999)
    assert resolve_source(folder).size_bytes == 100
    (folder / "model.safetensors").unlink()
    assert resolve_source(folder).size_bytes == 999
    assert [path.name for path in model_files(folder)] == ["config.json", "pytorch_model.bin", "tokenizer.json"]


def test_a_folder_without_config_is_an_error(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert fails(folder).what == f"'{folder}' has no config.json"


def test_a_folder_without_weights_is_an_error(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert fails(folder).what == f"'{folder}' has no weights"


def test_an_adapter_is_refused_with_the_way_to_merge_it(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    error = fails(folder)
    assert error.what == f"'{folder}' is a PEFT adapter, not a whole model"
    assert "merge_and_unload" in error.hint


def test_code_that_comes_with_a_model_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"auto_map": {"AutoModel": "modeling.Mine"}}))
    error = fails(folder)
    assert "needs code of its own (auto_map in config.json)" in error.what
    assert error.why == "edgekit does not run code that comes with a model"


@pytest.mark.parametrize("text", ["{", "", "[]", '{"architectures": 3}', "[" * 5000, "\x00"])
def test_a_corrupt_config_is_an_error(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert fails(folder).what == f"'{folder / 'config.json'}' is no valid model configuration"


@pytest.mark.parametrize("left", [{}, {"AutoModel": None}, {"AutoTokenizer": [None, None]}])
def test_a_place_for_code_with_no_code_in_it_is_no_code(folder: Path, left: object) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"auto_map": left}))
    assert resolve_source(folder).architecture == "BertForSequenceClassification"


ODD = {
    "num_hidden_layers": 1000,
    "depths": [3, 4, 27, 3],
    "max_position_embeddings": 10**30,
    "vocab_size": 2_000_000,
    "hidden_size": 18_432,
    "num_labels": 21_843,
    "out_features": None,
    "num_layers": "many",
    "layer_norm_eps": float("nan"),
    "sliding_window": 10**12,
    "model_type": None,
    "label2id": {"block": 21_000, "layers": 21_001},
    "cross_attention_layers": list(range(3, 99, 5)),
    "attention_types": [[["global", "local"], 12]],
    "num_experts": 2048,
    "depth_coefficient": 3.1,
    "_attn_implementation": "flash_attention_2",
    "text_config": {"attn_implementation": {"": "sdpa"}, "num_hidden_layers": 24, "languages": []},
}


def test_numbers_that_models_have_are_taken(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | ODD))
    assert resolve_source(folder).model_type == ""


TOO_MANY: list[dict[str, object]] = [
    {"num_hidden_layers": 10**9},
    {"depths": [2, 10**9]},
    {"depths": [1] * 2000},
    {"num_labels": 10**8},
    {"num_hidden_groups": 10**8},
    {"inner_group_num": 1024},
    {"n_heads": 10**8},
    {"num_experts": 10**8},
    {"num_block_repeats": [1, 10**8]},
    {"depth_coefficient": 1e9},
    {"attention_types": [[["global"], 10**9]]},
    {"languages": ["en"] * 2000},
]


@pytest.mark.parametrize("change", TOO_MANY)
@pytest.mark.parametrize("within", ["", "text_config", "vision_config"])
def test_numbers_that_no_model_has_are_an_error(folder: Path, change: dict[str, object], within: str) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | ({within: {"a": [change]}} if within else change)))
    assert f"{next(iter(change))} is larger than" in fails(folder).why


@pytest.mark.parametrize(
    "change", [{"use_return_dict": "\x1b[2J"}, {"a": [{"\x9b2J": 1}]}, {"id2label": {"0": "\u202egod"}}]
)
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "generation_config.json"])
def test_a_text_that_steers_the_terminal_is_an_error(folder: Path, name: str, change: dict[str, object]) -> None:
    (folder / name).write_text(json.dumps(CONFIG | change))
    error = fails(folder)
    assert error.what == f"{str(folder / name)!r} is no valid model configuration"
    assert error.why.endswith("has control characters")


def test_lines_and_tabs_steer_nothing_and_tokens_may_be_any(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"prefix": "a\r\n\tb"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "\x00", "chat_template": "\x1b[2J"}))
    assert resolve_source(folder).architecture == "BertForSequenceClassification"


@pytest.mark.parametrize("value", ["evil/kernel", "evil/kernel@v1:run", {"": "sdpa", "text_config": "evil/kernel"}])
@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_kernel_of_the_hub_is_code_of_others(folder: Path, name: str, value: object) -> None:
    for change in ({name: value}, {"text_config": {name: value}}):
        (folder / "config.json").write_text(json.dumps(CONFIG | change))
        error = fails(folder)
        assert (error.id, f"({name} in config.json)" in error.what) == ("model.own-code", True)


@pytest.mark.parametrize(("name", "told"), [("a\nb.json", "'a\\nb.json'"), ("a\udcff.json", "'a\\udcff.json'")])
def test_a_name_that_a_list_of_sums_cannot_hold_is_an_error(folder: Path, name: str, told: str) -> None:
    (folder / name).write_text("{}")
    assert told in fails(folder).what


@pytest.mark.parametrize("value", [[], None])
def test_a_config_without_architecture_is_an_error(folder: Path, value: object) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"architectures": value}))
    error = fails(folder)
    assert error.what == f"'{folder / 'config.json'}' names no architecture"
    assert "architectures" in error.hint


def test_a_file_is_no_model_folder(folder: Path) -> None:
    file = folder / "model.safetensors"
    assert fails(file).what == f"'{file}' is a file, not a model folder"


def test_a_missing_folder_is_an_error() -> None:
    assert fails("./nowhere").what == "there is no file or folder './nowhere'"
    assert fails("a/b/c").what == "there is no file or folder 'a/b/c'"


def test_a_revision_of_a_local_folder_is_an_error(folder: Path) -> None:
    with pytest.raises(UsageError, match=f"^--revision 'main' was given for the local folder '{folder}'"):
        resolve_source(folder, revision="main")


def test_a_hub_id_without_network_is_an_error_of_the_machine() -> None:
    with pytest.raises(HostError) as caught:
        resolve_source("nobody-at-all/no-model")
    assert caught.value.what == "'nobody-at-all/no-model' is no folder here, and the hub could not be reached"
    assert caught.value.exit_code == 3


def test_what_can_be_no_hub_id_is_an_error() -> None:
    assert fails("no model here!").what == "'no model here!' is neither a folder nor a hub id"


def test_the_sum_of_a_file_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
