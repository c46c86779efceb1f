"""The rules of ``bundle check``. Each yields where it is broken and how."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgekit.artifact import SUMS
from edgekit.bundle.documents import BENCHMARK_FILE, CARD_FILE, LICENCE_FILE, NOTICE_FILE
from edgekit.bundle.platforms import PLATFORMS
from edgekit.bundle.reference.tokenizer import SCHEMA as TOKENIZER_SCHEMA
from edgekit.bundle.schema import BUNDLE, SCHEMA_FILE, Bundle, Image, SelfTest, Text, json_schema
from edgekit.settings import first_wrong
from edgekit.source import sha256_file

Found = tuple[str, str]
NEEDED = ("README.md", CARD_FILE, LICENCE_FILE, NOTICE_FILE, BENCHMARK_FILE, SCHEMA_FILE, SUMS)
NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9._@-]*|\.[a-z][a-z0-9]*")
# Names that Windows keeps for devices, with any ending: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
LONGEST_PATH = 160  # Windows takes 260 with the folder that a bundle is put into
MAX_FILE_BYTES = 2**31 - 1  # more than 2 GiB cannot be memory-mapped on 32-bit devices, nor be one protobuf
MAX_BUNDLE_BYTES = 1_500_000_000  # a Play AI pack: https://developer.android.com/google/play/on-device-ai
PAGE_BYTES = 16384  # Android 15 and later: https://developer.android.com/guide/practices/page-sizes
BUFFER_BYTES = 4  # what float32 and int32 need where they are read in place; TFLite's schema asks for 16
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy")
MAGIC = {"ort": (4, b"ORTM"), "tflite": (4, b"TFL3"), "onnx": (0, b"\x08")}
LARGEST_TOLERANCE = 0.1


@dataclass(frozen=True)
class Given:
    """A bundle: its folder, its files, the folder of ``bundle.json`` and what that says, where it can be read."""

    root: Path
    files: list[Path]
    content: Path | None
    bundle: Bundle | None

    def name(self, file: Path) -> str:
        """A file's path from the bundle's folder."""
        return file.relative_to(self.root).as_posix()


def structure(given: Given) -> Iterator[Found]:
    """What every bundle has at its top."""
    for name in NEEDED:
        if not (given.root / name).is_file():
            yield name, "missing"
        elif not (given.root / name).stat().st_size:
            yield name, "empty"


def links(given: Given) -> Iterator[Found]:
    """Plain files only: a link does not survive an archive or an app store."""
    for file in given.files:
        if file.is_symlink() or not file.is_file():
            yield given.name(file), "not a plain file"


def names(given: Given) -> Iterator[Found]:
    """Names that every file system, archive and asset folder takes."""
    for file in given.files:
        name = given.name(file)
        parts = name.split("/")
        if not all(NAME.fullmatch(part) for part in parts):
            yield name, "allowed: letters, digits, and . _ - @ behind the first"
        elif any(part.split(".")[0].lower() in RESERVED or part.endswith(".") for part in parts):
            yield name, "a name that Windows does not take"
        elif len(name) > LONGEST_PATH:
            yield name, f"{len(name)} characters; allowed: {LONGEST_PATH}"
    folded = Counter(given.name(file).lower() for file in given.files)
    for name, count in folded.items():
        if count > 1:
            yield name, "two names that differ in case only"


def sizes(given: Given) -> Iterator[Found]:
    """Sizes that devices and stores take."""
    total = 0
    for file in given.files:
        size = file.stat().st_size if file.is_file() else 0
        total += size
        if size > MAX_FILE_BYTES:
            yield given.name(file), f"{size} bytes; allowed: {MAX_FILE_BYTES}"
    if total > MAX_BUNDLE_BYTES:
        yield ".", f"{total} bytes; allowed: {MAX_BUNDLE_BYTES}"


def sums(given: Given) -> Iterator[Found]:
    """``SHA256SUMS`` covers every file, and each is as it was."""
    file = given.root / SUMS
    if not file.is_file():
        return
    expected = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        expected[name] = digest
    present = {given.name(one): one for one in given.files if one != file}
    for name in sorted(expected.keys() - present.keys()):
        yield name, f"in {SUMS}, and not here"
    for name in sorted(present.keys() - expected.keys()):
        yield name, f"not in {SUMS}"
    for name in sorted(expected.keys() & present.keys()):
        if present[name].is_file() and sha256_file(present[name]) != expected[name]:
            yield name, f"not what {SUMS} says"


def pickles(given: Given) -> Iterator[Found]:
    """Nothing that runs code when it is read."""
    for file in given.files:
        if file.suffix.lower() in PICKLES:
            yield given.name(file), "a format that can hold a pickle"


def pages(given: Given) -> Iterator[Found]:
    """Native libraries of 64 bits lie on pages of 16 KiB, without which Android does not load them."""
    for file in given.files:
        if file.is_file() and (file.suffix == ".so" or ".so." in file.name):
            least = _least_alignment(file.read_bytes())
            if least is None:
                yield given.name(file), "not an ELF library"
            elif least < PAGE_BYTES:
                yield given.name(file), f"a segment is aligned to {least} bytes; needed: {PAGE_BYTES}"


def _least_alignment(content: bytes) -> int | None:
    """The least alignment of a loaded segment of an ELF file; that of 32 bits is let pass; None for no ELF file."""
    if content[:4] != b"\x7fELF" or len(content) < 64:
        return None
    if content[4] != 2:
        return PAGE_BYTES
    (offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    if offset + size * count > len(content):
        return None
    headers = [struct.unpack_from("<IIQQQQQQ", content, offset + size * index) for index in range(count)]
    return min((header[7] for header in headers if header[0] == 1), default=PAGE_BYTES)


def schema(given: Given) -> Iterator[Found]:
    """The JSON Schema is the one of this version."""
    file = given.root / SCHEMA_FILE
    if file.is_file() and file.read_text(encoding="utf-8", errors="replace") != json_schema():
        yield SCHEMA_FILE, "not the schema of this version of bundle.json"


def card(given: Given) -> Iterator[Found]:
    """The model card begins with metadata."""
    file = given.root / CARD_FILE
    if file.is_file() and not file.read_text(encoding="utf-8", errors="replace").startswith("---\n"):
        yield CARD_FILE, "does not begin with metadata between lines of ---"


def platform(given: Given, bundle: Bundle) -> Iterator[Found]:
    """The platform is known, and its code is there."""
    known = PLATFORMS.get(bundle.platform)
    if known is None:
        yield BUNDLE, f"platform: {bundle.platform!r}; allowed: {', '.join(PLATFORMS)}"
        return
    for name in known.needs:
        if not (given.root / name).is_file():
            yield name, f"missing, and part of a bundle for {known.name}"
    if given.content is not None and given.content != given.root / known.content:
        yield BUNDLE, f"lies in {given.name(given.content)!r}, not in {known.content!r}"


def record(given: Given, bundle: Bundle) -> Iterator[Found]:
    """``bundle.json`` lists every file beside and below it, by its size and its sum."""
    content = _content(given)
    present = {file.relative_to(content).as_posix(): file for file in given.files if file.is_relative_to(content)}
    present.pop(BUNDLE, None)
    for name in sorted(bundle.files.keys() - present.keys()):
        yield name, f"in {BUNDLE}, and not here"
    for name in sorted(present.keys() - bundle.files.keys()):
        yield name, f"not in {BUNDLE}"
    for name in sorted(bundle.files.keys() & present.keys()):
        said, file = bundle.files[name], present[name]
        if not file.is_file() or file.stat().st_size != said.size_bytes or sha256_file(file) != said.sha256:
            yield name, f"not what {BUNDLE} says"


def model(given: Given, bundle: Bundle) -> Iterator[Found]:
    """Each form of the model is a file of its format."""
    for form in bundle.model.forms:
        file = _content(given) / form.file
        if not file.is_file():
            yield form.file, "missing"
            continue
        place, magic = MAGIC[form.format]
        with file.open("rb") as stream:
            begin = stream.read(16)
        if begin[place : place + len(magic)] != magic:
            yield form.file, f"does not begin as a file of the format {form.format!r}"
        if form.format == "ort" and not (file.parent / "required_operators.config").is_file():
            yield form.file, "without required_operators.config, by which a reduced runtime is built"
        if form.format == "tflite" and misaligned(file.read_bytes()):
            yield form.file, f"a buffer does not lie on {BUFFER_BYTES} bytes, so that it cannot be read in place"


def misaligned(content: bytes) -> bool:
    """Whether a buffer of a TFLite file does not lie on ``BUFFER_BYTES``, or the file cannot be read.

    A flatbuffer by hand (https://flatbuffers.dev/internals): field 4 of the Model is the vector of Buffers, field 0 of
    a Buffer its bytes.
    """

    def number(place: int) -> int:
        return int(struct.unpack_from("<I", content, place)[0])

    def field(table: int, index: int) -> int:
        shape = table - int(struct.unpack_from("<i", content, table)[0])
        length = struct.unpack_from("<H", content, shape)[0]
        offset = struct.unpack_from("<H", content, shape + 4 + 2 * index)[0] if 4 + 2 * index < length else 0
        return table + offset if offset else 0

    try:
        buffers = field(number(0), 4)
        vector = buffers + number(buffers)
        places = [vector + 4 + 4 * index for index in range(number(vector))]
        found = [field(place + number(place), 0) for place in places]
        return any(number(one + number(one)) and (one + number(one) + 4) % BUFFER_BYTES for one in found if one)
    except struct.error:
        return True


def tensors(given: Given, bundle: Bundle) -> Iterator[Found]:
    """Pre-processing feeds every input, the answer is an output, and ranges are ranges."""
    del given
    inputs = {tensor.name for tensor in bundle.model.inputs}
    step = bundle.preprocessing
    fed = {step.input} if isinstance(step, Image) else {name for name in (step.ids, step.segments, step.mask) if name}
    if fed != inputs:
        yield BUNDLE, f"pre-processing makes {sorted(fed)}, and the model takes {sorted(inputs)}"
    outputs = {tensor.name: tensor for tensor in bundle.model.outputs}
    if bundle.answer.output not in outputs:
        yield BUNDLE, f"the answer is {bundle.answer.output!r}, and the model gives {sorted(outputs)}"
    elif outputs[bundle.answer.output].shape[-1:] != (bundle.answer.count,):
        yield BUNDLE, f"{bundle.answer.count} labels, and the output is {outputs[bundle.answer.output].shape}"
    for tensor in bundle.model.inputs:
        if tensor.low is not None and tensor.high is not None and not tensor.low <= tensor.high:
            yield BUNDLE, f"{tensor.name}: the range is from {tensor.low} to {tensor.high}"


def labels(given: Given, bundle: Bundle) -> Iterator[Found]:
    """One label a line, as many as the model has classes."""
    file = _content(given) / bundle.answer.labels
    if not file.is_file():
        yield bundle.answer.labels, "missing"
        return
    text = file.read_bytes()
    if text.startswith(b"\xef\xbb\xbf") or b"\r" in text:
        yield bundle.answer.labels, "has a byte order mark or ends of lines of Windows"
    if not text.endswith(b"\n"):
        yield bundle.answer.labels, "does not end with a line feed"
    count = text.count(b"\n")
    if count != bundle.answer.count:
        yield bundle.answer.labels, f"{count} lines, and the model has {bundle.answer.count} classes"


def preprocessing(given: Given, bundle: Bundle) -> Iterator[Found]:
    """A tokenizer of a known version, or steps that end in an arrangement of axes."""
    step = bundle.preprocessing
    if isinstance(step, Text):
        compiled = _json(_content(given) / step.compiled)
        if not isinstance(compiled, dict) or compiled.get("schema") != TOKENIZER_SCHEMA:
            yield step.compiled, f"no tokenizer of the schema {TOKENIZER_SCHEMA!r}"
        elif compiled.get("max_length") != step.max_length:
            yield step.compiled, f"cuts at {compiled.get('max_length')} tokens, and {BUNDLE} says {step.max_length}"
        if _json(_content(given) / step.original) is None:
            yield step.original, "not JSON"
        return
    kinds = [one.op for one in step.steps]
    if kinds[-1:] != ["layout"] or kinds.count("layout") != 1:
        yield BUNDLE, "the last step, and no other, arranges the axes"
    for one in step.steps:
        if one.op == "normalize" and not (
            len(one.mean) == len(one.std) and len(one.mean) in (1, step.channels) and min(one.std) > 0
        ):
            yield BUNDLE, f"mean and std are not one or {step.channels} each, or std is not above 0"


def selftest(given: Given, bundle: Bundle) -> Iterator[Found]:
    """At least 8 samples, each with all of its files, and tolerances that mean something."""
    content = _content(given)
    if not (content / bundle.selftest).is_file():
        yield bundle.selftest, "missing"
        return
    try:
        found = SelfTest.model_validate_json((content / bundle.selftest).read_bytes())
    except ValidationError as error:
        yield bundle.selftest, first_wrong(error)
        return
    if not 0 < found.tolerance <= LARGEST_TOLERANCE:
        yield bundle.selftest, f"a tolerance of {found.tolerance}; allowed: above 0, at most {LARGEST_TOLERANCE}"
    inputs = {tensor.name for tensor in bundle.model.inputs}
    for number, case in enumerate(found.cases):
        where = f"{bundle.selftest}: sample {number}"
        if (case.text is None) == (case.image is None):
            yield where, "either a text or an image"
        if case.image is not None:
            size = (case.width or 0) * (case.height or 0)
            raw = _size(content / case.image)
            if not size or raw not in (size, 3 * size):
                yield case.image, f"{raw} bytes for {case.width} x {case.height} pixels"
        if set(case.inputs) != inputs:
            yield where, f"has {sorted(case.inputs)}, and the model takes {sorted(inputs)}"
        for tensor in case.inputs.values():
            wanted = math.prod(tensor.shape) * (8 if tensor.dtype == "int64" else 4)
            if _size(content / tensor.file) != wanted:
                yield tensor.file, f"{_size(content / tensor.file)} bytes for {tensor.dtype} {tensor.shape}"
        if len(case.output) != bundle.answer.count or not all(map(math.isfinite, case.output)):
            yield where, f"the answer is not {bundle.answer.count} numbers"


def _content(given: Given) -> Path:
    assert given.content is not None  # there is a `bundle.json` where a rule is given what it says
    return given.content


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


ALWAYS: dict[str, Callable[[Given], Iterator[Found]]] = {
    "structure": structure,
    "links": links,
    "names": names,
    "sizes": sizes,
    "sums": sums,
    "pickles": pickles,
    "pages": pages,
    "schema": schema,
    "card": card,
}
DESCRIBED: dict[str, Callable[[Given, Bundle], Iterator[Found]]] = {
    "platform": platform,
    "record": record,
    "model": model,
    "tensors": tensors,
    "labels": labels,
    "preprocessing": preprocessing,
    "selftest": selftest,
}
