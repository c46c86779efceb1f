"""Bundles that are broken in one place each, and the rule that is meant for it."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle.bundles import flip, shorten

from edgekit.artifact import SUMS, walk
from edgekit.bundle import rules
from edgekit.bundle.check import check_bundle
from edgekit.errors import ArtifactError
from edgekit.sealing import seal
from edgekit.source import sha256_file

Break = Callable[[Path], None]
Copied = Callable[[str, str], Path]


def edit(file: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON document."""
    said = json.loads(file.read_text(encoding="utf-8"))
    change(said)
    file.write_text(json.dumps(said), encoding="utf-8")


def described(change: Callable[[Any], object]) -> Break:
    return lambda folder: edit(folder / "bundle/bundle.json", change)


def sampled(change: Callable[[Any], object]) -> Break:
    return lambda folder: edit(folder / "bundle/selftest/selftest.json", change)


def added(name: str, content: bytes = b"x") -> Break:
    def add(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return add


def removed(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def written(name: str, content: bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(content) and None


def put(*keys: Any, value: Any) -> Callable[[Any], object]:
    """Set what a path of keys leads to."""

    def change(said: Any) -> None:
        for key in keys[:-1]:
            said = said[key]
        said[keys[-1]] = value

    return change


def library(alignment: int) -> bytes:
    """An ELF file of 64 bits with one loaded segment."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, alignment)


def short_headers() -> bytes:
    """The same with headers of one byte, the last of which is the file's last byte."""
    content = bytearray(library(16384))
    struct.pack_into("<Q", content, 32, len(content) - 1)
    struct.pack_into("<HH", content, 54, 1, 1)
    return bytes(content)


def outside(document: str, *keys: Any) -> Break:
    """Have a document name a file that is there, and not of the bundle: a copy of the one that it names."""

    def point(folder: Path) -> None:
        content = folder / "bundle"
        said = json.loads((content / DOCUMENTS[document]).read_text(encoding="utf-8"))
        for key in keys:
            said = said[key]
        other = folder.parent / "elsewhere"
        shutil.copyfile(content / said, other)
        edit(content / DOCUMENTS[document], put(*keys, value=f"../../{other.name}"))

    return point


DOCUMENTS = {"bundle": "bundle.json", "selftest": "selftest/selftest.json"}


def reseal(folder: Path) -> None:
    """Hash everything anew, so that nothing but what was broken is found."""
    content = folder / "bundle"
    if (content / "bundle.json").is_file():
        try:
            said = json.loads((content / "bundle.json").read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict) and "files" in said:
            said["files"] = {
                file.relative_to(content).as_posix(): {
                    "size_bytes": file.stat().st_size,
                    "sha256": sha256_file(file),
                }
                for file in walk(content)
                if file.name != "bundle.json" and not file.is_symlink()
            }
            (content / "bundle.json").write_text(json.dumps(said), encoding="utf-8")
    if (folder / SUMS).is_file():
        seal(folder)


TEXT: dict[str, tuple[str, Break]] = {
    "no readme": ("structure", removed("README.md")),
    "no notice": ("structure", removed("NOTICE")),
    "an empty licence": ("structure", written("LICENSE", b"")),
    "no sums": ("structure", removed(SUMS)),
    "no description": ("description", removed("bundle/bundle.json")),
    "two descriptions": ("description", lambda folder: shutil.copytree(folder / "bundle", folder / "other") and None),
    "a description cut short": ("description", lambda folder: shorten(folder / "bundle/bundle.json")),
    "a description of another version": ("description", described(put("schema", value="edgekit.bundle/9"))),
    "an unknown key": ("description", described(put("colour", value="red"))),
    "an unknown step": ("description", described(put("preprocessing", "kind", value="smell"))),
    "a name with a space": ("names", added("a file.txt")),
    "a name of Windows": ("names", added("aux.txt")),
    "a name with a colon": ("names", added("bundle/a:b.txt")),
    "names that differ in case": ("names", added("Readme.md")),
    "a path that is too long": ("names", added("/".join(["d" * 40] * 5) + "/f.txt")),
    "a name that is not ASCII": ("names", added("modèle.txt")),
    "a pickle": ("pickles", added("bundle/model/weights.pkl")),
    "pages of 4 KiB": ("pages", added("lib/libmodel.so", library(4096))),
    "a library that is none": ("pages", added("lib/libmodel.so", b"text")),
    "another schema": ("schema", written("bundle.schema.json", b"{}\n")),
    "a card without metadata": ("card", written("MODEL_CARD.md", b"# model\n")),
    "an unknown platform": ("platform", described(put("platform", value="abacus"))),
    "code that is missing": ("platform", removed("edgekit_model/tokenizer.py")),
    "a model that is missing": ("model", removed("bundle/model/model.onnx")),
    "a model of another format": ("model", written("bundle/model/model.onnx", b"TFL3" * 8)),
    "an .ort that is none": ("model", described(put("model", "forms", 0, "format", value="ort"))),
    "an input that nothing feeds": ("tensors", described(put("preprocessing", "mask", value=None))),
    "an answer that nothing gives": ("tensors", described(put("answer", "output", value="scores"))),
    "a range upside down": ("tensors", described(put("model", "inputs", 1, "low", value=7))),
    "one label too few": ("labels", lambda folder: shorten(folder / "bundle/labels.txt")),
    "ends of lines of Windows": ("labels", written("bundle/labels.txt", b"LABEL_0\r\nLABEL_1\r\n")),
    "labels without a last end": ("labels", written("bundle/labels.txt", b"LABEL_0\nLABEL_1")),
    "a tokenizer cut short": ("preprocessing", lambda folder: flip(folder / "bundle/tokenizer/compiled.json", 0)),
    "a tokenizer of another version": (
        "preprocessing",
        lambda folder: edit(folder / "bundle/tokenizer/compiled.json", put("schema", value="edgekit.tokenizer/9")),
    ),
    "another length": ("preprocessing", described(put("preprocessing", "max_length", value=9))),
    "an original tokenizer that is none": ("preprocessing", written("bundle/tokenizer/tokenizer.json", b"{")),
    "seven samples": ("selftest", sampled(lambda said: said["cases"].__delitem__(slice(7, None)))),
    "a tolerance of everything": ("selftest", sampled(put("tolerance", value=1.0))),
    "a sample of another input": ("selftest", sampled(lambda said: said["cases"][0]["inputs"].pop("input_ids"))),
    "a tensor cut short": ("selftest", written("bundle/selftest/0.input_ids.bin", b"\0" * 8)),
    "an answer that is no number": ("selftest", sampled(put("cases", 2, "output", value=[1.0]))),
    "a tolerance for ids": ("selftest", sampled(put("input_tolerance", value=1e9))),
    "a tensor outside of the list": ("selftest", outside("selftest", "cases", 0, "inputs", "input_ids", "file")),
    "a shape below zero": ("selftest", sampled(put("cases", 0, "inputs", "input_ids", "shape", value=[-1, -2]))),
    "labels outside of the bundle": ("labels", outside("bundle", "answer", "labels")),
    "a model outside of the bundle": ("model", outside("bundle", "model", "forms", 0, "file")),
    "a tokenizer outside of the bundle": ("preprocessing", outside("bundle", "preprocessing", "compiled")),
    "samples outside of the bundle": ("selftest", outside("bundle", "selftest")),
    "a tokenizer nested too deep": ("preprocessing", written("bundle/tokenizer/tokenizer.json", b"[" * 100_000)),
    "a description nested too deep": ("description", written("bundle/bundle.json", b'{"a":' * 100_000)),
    "a name of a million letters": ("model", described(put("model", "forms", 0, "file", value="x" * 1_000_000))),
    "a name with a zero": ("labels", described(put("answer", "labels", value="labels\0.txt"))),
    "a library of headers that are too short": ("pages", added("lib/libmodel.so", short_headers())),
    "a library cut short": ("pages", added("lib/libmodel.so", library(16384)[:-1])),
    "a library of big-endian numbers": ("pages", added("lib/libmodel.so", b"\x7fELF\x02\x02" + bytes(90))),
    "a text and an image": ("selftest", sampled(put("cases", 1, "image", value="selftest/0.input_ids.bin"))),
}
IMAGE: dict[str, tuple[str, Break]] = {
    "steps without a layout": ("preprocessing", described(lambda said: said["preprocessing"]["steps"].pop())),
    "a deviation of zero": ("preprocessing", described(put("preprocessing", "steps", 2, "std", value=[0.0]))),
    "a scale of nothing": ("preprocessing", described(put("preprocessing", "steps", 1, "factor", value=0.0))),
    "an image of a million pixels a side": (
        "preprocessing",
        described(put("preprocessing", "steps", 0, "width", value=1_000_000)),
    ),
    "an image of other colours": ("selftest", sampled(put("cases", 0, "image", value="selftest/missing.rgb"))),
    "a tolerance of the whole range": ("selftest", sampled(put("input_tolerance", value=2.0))),
    "a second text alone": ("selftest", sampled(put("cases", 0, "pair", value="a text"))),
    "pixels that are missing": ("selftest", written("bundle/selftest/0.rgb", b"\0" * 10)),
}
# What the sums find is broken without hashing anew.
UNSEALED: dict[str, tuple[set[str], Break]] = {
    "a flipped byte of the model": ({"sums", "record"}, lambda folder: flip(folder / "bundle/model/model.onnx")),
    "a file that nobody listed": ({"sums", "record"}, added("bundle/extra.txt")),
    "a page that was edited": ({"sums"}, written("README.md", b"# other\n")),
    "a sample that was lost": ({"sums", "record", "selftest"}, removed("bundle/selftest/3.input_ids.bin")),
}


def test_there_are_at_least_forty() -> None:
    assert len(TEXT) + len(IMAGE) + len(UNSEALED) >= 40
    caught = {rule for rule, _ in (*TEXT.values(), *IMAGE.values())} | {"sums", "record", "links", "sizes"}
    assert caught == {"description", *rules.ALWAYS, *rules.DESCRIBED}


@pytest.mark.parametrize("name", TEXT)
def test_a_broken_bundle_of_texts_is_caught_by_its_rule(copied: Copied, name: str) -> None:
    rule, breaks = TEXT[name]
    folder = copied("python", "bert")
    breaks(folder)
    reseal(folder)
    assert {problem.rule for problem in check_bundle(folder).problems} == {rule}


@pytest.mark.parametrize("name", IMAGE)
def test_a_broken_bundle_of_images_is_caught_by_its_rule(copied: Copied, name: str) -> None:
    rule, breaks = IMAGE[name]
    folder = copied("python", "vit")
    breaks(folder)
    reseal(folder)
    assert {problem.rule for problem in check_bundle(folder).problems} == {rule}


@pytest.mark.parametrize("name", UNSEALED)
def test_sums_find_what_was_changed(copied: Copied, name: str) -> None:
    found, breaks = UNSEALED[name]
    folder = copied("python", "bert")
    breaks(folder)
    assert {problem.rule for problem in check_bundle(folder).problems} == found


def tflite(data: int) -> bytes:
    """A TFLite file of one buffer, the bytes of which begin at a place."""
    content = bytearray(96)
    struct.pack_into("<I4s", content, 0, 24, b"TFL3")
    struct.pack_into("<7H", content, 8, 14, 8, 0, 0, 0, 0, 4)
    struct.pack_into("<iI", content, 24, 16, 4)
    struct.pack_into("<II", content, 32, 1, 48 - 36)
    struct.pack_into("<3H", content, 40, 6, 8, 4)
    struct.pack_into("<iI", content, 48, 8, data - 4 - 52)
    struct.pack_into("<I", content, data - 4, 4)
    return bytes(content)


def test_buffers_of_a_tflite_file_lie_on_four_bytes() -> None:
    assert not rules.misaligned(tflite(64))
    assert rules.misaligned(tflite(62))
    assert rules.misaligned(tflite(64)[:50])


def test_a_tflite_file_of_four_billion_buffers_is_refused_at_once() -> None:
    content = bytearray(tflite(64))
    struct.pack_into("<I", content, 32, 2**32 - 1)
    assert rules.misaligned(bytes(content))


def test_a_form_that_the_platform_does_not_run_is_found(copied: Copied) -> None:
    folder = copied("node", "bert")
    edit(folder / "bundle/bundle.json", put("model", "forms", 0, "format", value="tflite"))
    reseal(folder)
    told = {problem.what for problem in check_bundle(folder).problems if problem.rule == "platform"}
    assert told == {"model/model.onnx: a bundle for node runs onnx, ort"}


def test_code_for_another_runtime_is_found(copied: Copied) -> None:
    folder = copied("c", "bert")
    edit(folder / "bundle/bundle.json", put("model", "forms", 0, "format", value="tflite"))
    reseal(folder)
    told = {(problem.where, problem.what) for problem in check_bundle(folder).problems if problem.rule == "platform"}
    assert told == {("edgekit_model.c", "not the code for LiteRT, which runs the model")}


def test_names_are_told_in_characters_that_can_be_printed(copied: Copied) -> None:
    folder = copied("python", "bert")
    (folder / os.fsdecode(b"a\xff\x1b[2J")).write_text("x")
    found = [problem.where for problem in check_bundle(folder).problems if problem.rule == "names"]
    assert found == ["a\\udcff\\x1b[2J"]


def test_what_a_link_leads_to_is_not_read(copied: Copied, tmp_path: Path) -> None:
    folder = copied("python", "bert")
    (folder / "bundle/labels.txt").rename(tmp_path / "labels.txt")
    (folder / "bundle/labels.txt").symlink_to(tmp_path / "labels.txt")
    rules_broken = {problem.rule for problem in check_bundle(folder).problems}
    assert rules_broken == {"links", "record", "labels"}


def test_a_link_is_found(copied: Copied) -> None:
    folder = copied("python", "bert")
    (folder / "link").symlink_to("README.md")
    reseal(folder)
    assert [(problem.rule, problem.where) for problem in check_bundle(folder).problems] == [("links", "link")]


def test_sizes_are_those_of_stores_and_devices(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied("python", "bert")
    monkeypatch.setattr(rules, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(rules, "MAX_BUNDLE_BYTES", 2000)
    problems = check_bundle(folder).problems
    assert {problem.rule for problem in problems} == {"sizes"}
    assert problems[-1].where == "."


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no directory"):
        check_bundle(tmp_path / "nothing")
