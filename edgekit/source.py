"""A source: where the model comes from, resolved to a local folder and a digest of what is in it.

Here are folders of transformers and hub ids; a model given as code is resolved in ``modules.py``, an ``.onnx`` file in
``formats/foreign.py``, a ``.tflite`` file in ``formats/foreign_tflite.py``.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError, field_validator, model_validator

from edgekit.bounds import (
    MAX_CONFIG_BYTES,
    MAX_LICENCE_BYTES,
    MAX_TOKENIZER_BYTES,
    check_sizes,
    check_texts,
    control_characters,
    inside,
    load_json,
    named_values,
    visible,
)
from edgekit.errors import HostError, ModelError, UsageError
from edgekit.settings import Frozen

# Files of a model folder that decide what the model answers; anything else in it (cards, other formats) is left alone.
MODEL_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "pytorch_model*.bin")
WEIGHT_SUFFIXES = (".safetensors", ".bin")
# Where a model folder says under which licence it is: the model card, and files of these names.
CARD = "README.md"
LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md", "COPYING")
# How a path ends that cannot be a hub's id.
FILE_SUFFIXES = (*WEIGHT_SUFFIXES, ".json", ".onnx", ".pt", ".pth", ".py", ".tflite")
# Settings of a model folder, each of which transformers looks for the name of code in.
SETTINGS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
)
# Those of them that hold tokens and templates, which may be of any characters.
TOKENS = ("processor_config.json", "special_tokens_map.json", "tokenizer_config.json")
# What a tokenizer is read from beside settings, by the ending and, of texts, by the name.
VOCABULARIES, VOCABULARY_TEXTS = (".json", ".model", ".jinja"), ("vocab.txt", "merges.txt")
MODULE = "module.json"
GRAPH_SUFFIX = ".onnx"
TFLITE_SUFFIX = ".tflite"


class _Config(BaseModel):
    """What is needed of ``config.json``."""

    architectures: list[str] = []
    model_type: str = ""
    problem_type: str | None = None

    @field_validator("architectures", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return [] if value is None else value

    @field_validator("model_type", mode="before")
    @classmethod
    def _none_is_no_family(cls, value: object) -> object:
        return "" if value is None else value

    @model_validator(mode="after")
    def _can_be_printed(self) -> _Config:
        strange = next((name for name in (*self.architectures, self.model_type) if control_characters(name)), None)
        if strange is not None:
            raise ValueError(f"the name {strange!r} has control characters")
        return self


class Source(Frozen):
    """A model on this disk.

    Attributes:
        location: what the user gave: a folder, a hub id, or a function.
        kind: how it is read.
        path: the local folder.
        commit: the hub's commit, None for a local folder.
        architecture: the class, for transformers as named in ``config.json``.
        model_type: transformers' name of the family, such as ``bert``.
        problem_type: ``config.json``'s ``problem_type``, if any.
        digest: sha256 over the names and contents of the model's files.
        size_bytes: size of the weight files.
        licence: what the model's card or file of the licence calls it; empty where neither is there.
    """

    location: str
    kind: Literal["transformers", "module", "onnx", "tflite"] = "transformers"
    path: str
    commit: str | None = None
    architecture: str
    model_type: str
    problem_type: str | None = None
    digest: str
    size_bytes: int
    licence: str = ""

    @property
    def record(self) -> dict[str, str | None]:
        """What a manifest says of the source: no local path."""
        name = self.location if self.commit else Path(self.location).name
        return {
            "kind": self.kind,
            "name": name,
            "commit": self.commit,
            "architecture": self.architecture,
            "digest": self.digest,
            **({"licence": self.licence} if self.licence else {}),
        }


def names_graph(location: object) -> bool:
    """Whether a model is given as an ``.onnx`` file."""
    return _ends_in(location, GRAPH_SUFFIX)


def names_tflite(location: object) -> bool:
    """Whether a model is given as a ``.tflite`` file."""
    return _ends_in(location, TFLITE_SUFFIX)


def _ends_in(location: object, suffix: str) -> bool:
    return isinstance(location, (str, Path)) and Path(str(location)).suffix.lower() == suffix


def resolve_source(location: str | Path, *, revision: str | None = None) -> Source:
    """Find a model: a local folder as transformers saves it, or a hub id (fetched into the hub's own cache).

    Args:
        location: folder or ``organisation/name``.
        revision: branch, tag or commit on the hub.

    Raises:
        ModelError: nothing there, or nothing that can be used; says what is missing.
        HostError: the hub cannot be reached.
        UsageError: a revision of a local folder.
    """
    text = str(location)
    folder = Path(text).expanduser()
    commit = None
    if folder.is_dir():
        if revision is not None:
            raise UsageError(
                f"--revision {revision!r} was given for the local folder {text!r}",
                id="usage.options-conflict",
                hint="Revisions exist on the hub only.",
            )
    elif folder.exists():
        raise ModelError(
            f"{text!r} is a file, not a model folder",
            id="model.not-a-model",
            why="allowed: a folder as transformers' save_pretrained writes it, a hub id, or an .onnx file",
        )
    elif text.startswith((".", "/", "~")) or text.count("/") > 1 or folder.suffix in FILE_SUFFIXES:
        raise ModelError(
            f"there is no file or folder {text!r}",
            id="model.missing",
            hint="Check the path, or give a hub id such as 'organisation/name'.",
        )
    else:
        folder, commit = _fetch(text, revision)
    config = _read_config(folder, text)
    weights = _need_weights(folder, text)
    return Source(
        location=text,
        path=str(folder.resolve()),
        commit=commit,
        architecture=config.architectures[0],
        model_type=config.model_type,
        problem_type=config.problem_type,
        digest=digest_files(folder, model_files(folder)),
        size_bytes=sum(path.stat().st_size for path in weights),
        licence=read_licence(folder),
    )


def read_licence(folder: Path) -> str:
    """``license`` of the model card, an identifier as the hub has them; else the first line of the licence's file."""
    card = _read_start(folder / CARD)
    if card.startswith("---\n"):
        front = card[4:].partition("\n---")[0]
        found = re.search(r"^license:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*$", front, re.MULTILINE)
        if found:
            return found[1]
    lines = (line.strip() for name in LICENCES for line in _read_start(folder / name).splitlines())
    return visible(next((line for line in lines if line), "")[:200])


def _read_start(file: Path) -> str:
    """The beginning of a text; empty where there is no file."""
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        content = stream.read(MAX_LICENCE_BYTES)
    kind = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return content.decode(kind, errors="replace").replace("\r\n", "\n")


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that decide its answers, sorted; safetensors hide ``.bin`` twins."""
    found = {
        path for pattern in MODEL_PATTERNS for path in folder.glob(pattern) if path.is_file() and path.name[0] != "."
    }
    if any(path.suffix == ".safetensors" for path in found):
        found = {path for path in found if path.suffix != ".bin"}
    return sorted(found)


def weight_files(folder: Path) -> list[Path]:
    """Those of them that hold weights."""
    return [path for path in model_files(folder) if path.suffix in WEIGHT_SUFFIXES]


def digest_files(root: Path, files: list[Path]) -> str:
    """sha256 over relative names and contents, in the order given."""
    return digest_sums({path.relative_to(root).as_posix(): sha256_file(path) for path in files})


def digest_sums(sums: Mapping[str, str]) -> str:
    """The same of files whose sha256 is known, by their names."""
    digest = hashlib.sha256()
    for name, found in sums.items():
        digest.update(os.fsencode(name) + b"\0" + found.encode() + b"\0")
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch(name: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=[*MODEL_PATTERNS, CARD, *LICENCES]))
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a folder nor a hub id", id="model.missing", why=str(error)) from error
    except LocalEntryNotFoundError as error:
        raise HostError(
            f"{name!r} is no folder here, and the hub could not be reached",
            id="environment.no-network",
            why=str(error).splitlines()[0],
            hint="Check the spelling of the path, or the network; a model that was fetched before works offline.",
        ) from error
    except HfHubHTTPError as error:
        raise ModelError(
            f"the hub has no model {name!r}" + (f" at revision {revision!r}" if revision else ""),
            id="model.not-on-hub",
            why=str(error).splitlines()[0],
            hint="For a private or gated model, log in with `hf auth login` or set HF_TOKEN.",
        ) from error
    return path, path.name


def _read_config(folder: Path, text: str) -> _Config:
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{text!r} is a PEFT adapter, not a whole model",
            id="model.adapter",
            why="edgekit prunes and quantizes weights, and an adapter's are not merged yet",
            hint="Merge it first: model.merge_and_unload().save_pretrained(FOLDER), and save the tokenizer there too.",
        )
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{text!r} has no config.json",
            id="model.not-a-model",
            why="a model folder holds config.json, model.safetensors and a tokenizer or image processor",
            hint="Save the model with save_pretrained(FOLDER).",
        )
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ModelError(
            f"{str(path)!r} has {path.stat().st_size} bytes",
            id="model.invalid-config",
            why=f"allowed: {MAX_CONFIG_BYTES}",
        )
    try:
        config = _Config.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(
            f"{str(path)!r} is no valid model configuration",
            id="model.invalid-config",
            why=str(error.errors()[0]["msg"]),
        ) from error
    if not config.architectures:
        raise ModelError(
            f"{str(path)!r} names no architecture",
            id="model.invalid-config",
            hint='Add "architectures": ["..."], or save the model again with save_pretrained.',
        )
    _check_settings(folder, text)
    check_config(folder)
    return config


def _check_settings(folder: Path, text: str) -> None:
    """Look at a model folder before a library does: names, sizes, depth, and whether its settings name code.

    Raises:
        ModelError: a file is too large, is no JSON, has a name that no list of sums can hold, or wants code that comes
            with the model to be run, or texts in it would steer the terminal.
    """
    for path in model_files(folder):
        if control_characters(path.name) or not inside(path.name):
            raise ModelError(
                f"{text!r} holds a file with the name {path.name!r}",
                id="model.invalid-config",
                why="a name is UTF-8, and has no control characters and no backslash",
                hint="Rename it, or remove it where it is no part of the model.",
            )
        if path.suffix not in VOCABULARIES and path.name not in VOCABULARY_TEXTS:
            continue
        allowed = MAX_CONFIG_BYTES if path.name in SETTINGS else MAX_TOKENIZER_BYTES
        if path.stat().st_size > allowed:
            raise ModelError(
                f"{str(path)!r} has {path.stat().st_size} bytes", id="model.invalid-config", why=f"allowed: {allowed}"
            )
        if path.name not in SETTINGS:
            continue
        try:
            found = load_json(path.read_bytes())
        except ValueError as error:
            raise ModelError(
                f"{str(path)!r} is no valid JSON", id="model.invalid-config", why=str(error).splitlines()[0]
            ) from error
        if path.name not in TOKENS:
            _check_setting(path, found)
        if isinstance(found, dict) and _names_code(found.get("auto_map")):
            raise ModelError(
                f"{text!r} needs code of its own (auto_map in {path.name})",
                id="model.own-code",
                why="edgekit does not run code that comes with a model",
            )


def check_config(folder: Path) -> None:
    """See what a configuration asks for, before a library builds what it says.

    Layers are built one by one, and names of classes are made up one by one, whatever weights there are.

    Raises:
        ModelError: it asks for more than any model has, or for code of a hub's, or a library that quotes it would steer
            the terminal.
    """
    path = folder / "config.json"
    if not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES:
        return  # which is told by whoever reads it
    try:
        found = load_json(path.read_bytes())
    except ValueError:
        return
    _check_setting(path, found)
    kernel = next((name for name, value in named_values(found) if _names_kernel(name, value)), None)
    if kernel is not None:
        raise ModelError(
            f"{str(folder)!r} needs code of others ({kernel} in config.json)",
            id="model.own-code",
            why="transformers would fetch a kernel from the hub and run it",
            hint=f"Take {kernel} out of config.json: the model computes the same without.",
        )


def _check_setting(path: Path, found: object) -> None:
    try:
        check_texts(found)
        check_sizes(found)
    except ValueError as error:
        raise ModelError(
            f"{str(path)!r} is no valid model configuration", id="model.invalid-config", why=str(error)
        ) from error


def _names_kernel(name: str, value: object) -> bool:
    """Whether a setting tells transformers to take its attention, or its experts, from a repository of the hub."""
    chosen = value.values() if isinstance(value, dict) else [value]
    return name.endswith(("attn_implementation", "experts_implementation")) and any("/" in str(one) for one in chosen)


def _names_code(automatic: object) -> bool:
    """Whether an ``auto_map`` has anything in it; some are left behind empty."""
    if isinstance(automatic, dict):
        return any(map(_names_code, automatic.values()))
    if isinstance(automatic, list):
        return any(map(_names_code, automatic))
    return automatic is not None


def _need_weights(folder: Path, text: str) -> list[Path]:
    files = weight_files(folder)
    if not files:
        raise ModelError(
            f"{text!r} has no weights",
            id="model.no-weights",
            why="expected model.safetensors (or shards of it) beside config.json",
        )
    return files
