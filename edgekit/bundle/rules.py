"""The rules of ``bundle check``. Each yields where it is broken and how."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from edgekit.artifact import SUMS
from edgekit.bounds import MAX_REPORT_BYTES, MAX_TOKENIZER_BYTES, load_json
from edgekit.bundle.binaries import BUFFER_BYTES, PAGE_BYTES, least_alignment, misaligned
from edgekit.bundle.documents import BENCHMARK_FILE, CARD_FILE, LICENCE_FILE, NOTICE_FILE
from edgekit.bundle.forms import OPERATORS
from edgekit.bundle.pixels import step_of_a_pixel
from edgekit.bundle.platforms import PLATFORMS
from edgekit.bundle.reference.tokenizer import SCHEMA as TOKENIZER_SCHEMA
from edgekit.bundle.schema import (
    BUNDLE,
    SCHEMA_FILE,
    Bundle,
    Case,
    Crop,
    Image,
    Normalize,
    Resize,
    ResizeShorter,
    Scale,
    SelfTest,
    Text,
    json_schema,
)
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
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy")
MAGIC = {"ort": (4, b"ORTM"), "tflite": (4, b"TFL3"), "onnx": (0, b"\x08")}
LARGEST_TOLERANCE = 0.1
MOST_PIXELS = 65535  # of a side; the code in C has squares of it in 64 bits
SIDES = ("width", "height", "size", "least_width", "least_height")
NOT_THERE = f"not among the files that {BUNDLE} lists, or not here"


@dataclass(frozen=True)
class Given:
    """A bundle: its folder, its files, the folder of ``bundle.json`` and what that says, where it can be read."""

    root: Path
    files: list[Path]
    content: Path
    bundle: Bundle | None

    def name(self, file: Path) -> str:
        """A file's path from the bundle's folder."""
        return file.relative_to(self.root).as_posix()

    @cached_property
    def plain(self) -> dict[Path, None]:
        """The files that are files, in order: no links, no devices. Nothing else is opened."""
        return dict.fromkeys(file for file in self.files if not file.is_symlink() and file.is_file())

    @cached_property
    def beside(self) -> dict[str, Path]:
        """The plain files beside and below ``bundle.json``, by their path from there."""
        inside = (file for file in self.plain if file.is_relative_to(self.content))
        found = {file.relative_to(self.content).as_posix(): file for file in inside}
        found.pop(BUNDLE, None)
        return found

    def find(self, name: str) -> Path | None:
        """A file that ``bundle.json`` or the self-test names, where it is here and one of the list; else None."""
        return self.beside.get(name) if self.bundle is not None and name in self.bundle.files else None


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
        size = file.lstat().st_size
        total += size
        if size > MAX_FILE_BYTES:
            yield given.name(file), f"{size} bytes; allowed: {MAX_FILE_BYTES}"
    if total > MAX_BUNDLE_BYTES:
        yield ".", f"{total} bytes; allowed: {MAX_BUNDLE_BYTES}"


def sums(given: Given) -> Iterator[Found]:
    """``SHA256SUMS`` covers every file, and each is as it was."""
    file = given.root / SUMS
    if file not in given.plain:
        return
    present = {given.name(one): one for one in given.files if one != file}
    expected = {}
    for line in _read(file).decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        expected[name] = digest
    for name in sorted(expected.keys() - present.keys()):
        yield name, f"in {SUMS}, and not here"
    for name in sorted(present.keys() - expected.keys()):
        yield name, f"not in {SUMS}"
    for name in sorted(expected.keys() & present.keys()):
        if present[name] in given.plain and sha256_file(present[name]) != expected[name]:
            yield name, f"not what {SUMS} says"


def pickles(given: Given) -> Iterator[Found]:
    """Nothing that runs code when it is read."""
    for file in given.files:
        if file.suffix.lower() in PICKLES:
            yield given.name(file), "a format that can hold a pickle"


def pages(given: Given) -> Iterator[Found]:
    """Native libraries of 64 bits lie on pages of 16 KiB, without which Android does not load them."""
    for file in given.plain:
        if file.suffix == ".so" or ".so." in file.name:
            least = least_alignment(_read(file, MAX_FILE_BYTES))
            if least is None:
                yield given.name(file), "not an ELF library"
            elif least < PAGE_BYTES:
                yield given.name(file), f"a segment is aligned to {least} bytes; needed: {PAGE_BYTES}"


def schema(given: Given) -> Iterator[Found]:
    """The JSON Schema is the one of this version."""
    file = given.root / SCHEMA_FILE
    if file in given.plain and _read(file) != json_schema().encode():
        yield SCHEMA_FILE, "not the schema of this version of bundle.json"


def card(given: Given) -> Iterator[Found]:
    """The model card begins with metadata."""
    file = given.root / CARD_FILE
    if file in given.plain and not _read(file).startswith(b"---\n"):
        yield CARD_FILE, "does not begin with metadata between lines of ---"


def platform(given: Given, bundle: Bundle) -> Iterator[Found]:
    """The platform is known, and its code is there."""
    known = PLATFORMS.get(bundle.platform)
    if known is None:
        yield BUNDLE, f"platform: {bundle.platform!r}; allowed: {', '.join(PLATFORMS)}"
        return
    for form in bundle.model.forms:
        if form.format not in known.forms:
            yield BUNDLE, f"{form.file}: a bundle for {known.name} runs {', '.join(known.forms)}"
    for name in known.code(bundle):
        if not (given.root / name).is_file():
            yield name, f"missing, and part of a bundle for {known.name}"
    for runtime in known.used(bundle):
        code = given.root / runtime.file
        if code in given.plain and runtime.mark.encode() not in _read(code):
            yield runtime.file, f"not the code for {runtime.library}, which runs the model"
    if given.content != given.root / known.content:
        yield BUNDLE, f"lies in {given.name(given.content)!r}, not in {known.content!r}"


def record(given: Given, bundle: Bundle) -> Iterator[Found]:
    """``bundle.json`` lists every file beside and below it, by its size and its sum."""
    present = given.beside
    for name in sorted(bundle.files.keys() - present.keys()):
        yield name, f"in {BUNDLE}, and not here"
    for name in sorted(present.keys() - bundle.files.keys()):
        yield name, f"not in {BUNDLE}"
    for name in sorted(bundle.files.keys() & present.keys()):
        said, file = bundle.files[name], present[name]
        if file.stat().st_size != said.size_bytes or sha256_file(file) != said.sha256:
            yield name, f"not what {BUNDLE} says"


def model(given: Given, bundle: Bundle) -> Iterator[Found]:
    """Each form of the model is a file of its format."""
    for form in bundle.model.forms:
        file = given.find(form.file)
        if file is None:
            yield form.file, NOT_THERE
            continue
        place, magic = MAGIC[form.format]
        with file.open("rb") as stream:
            begin = stream.read(16)
        if begin[place : place + len(magic)] != magic:
            yield form.file, f"does not begin as a file of the format {form.format!r}"
        if form.format == "ort" and given.find(f"{PurePosixPath(form.file).parent}/{OPERATORS}") is None:
            yield form.file, "without required_operators.config, by which a reduced runtime is built"
        if form.format == "tflite" and not bundle.model.signatures:
            yield BUNDLE, f"names no entry point of {form.file}"
        if form.format == "tflite" and misaligned(_read(file, MAX_FILE_BYTES)):
            yield form.file, f"a buffer does not lie on {BUFFER_BYTES} bytes, so that it cannot be read in place"


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
    file = given.find(bundle.answer.labels)
    if file is None:
        yield bundle.answer.labels, NOT_THERE
        return
    text = _read(file)
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
    if isinstance(step, Image):
        yield from ((BUNDLE, wrong) for wrong in _wrong_steps(step))
        return
    compiled = _json(given.find(step.compiled))
    if not isinstance(compiled, dict) or compiled.get("schema") != TOKENIZER_SCHEMA:
        yield step.compiled, f"no tokenizer of the schema {TOKENIZER_SCHEMA!r}"
    elif compiled.get("max_length") != step.max_length or step.max_length < 1:
        yield step.compiled, f"cuts at {compiled.get('max_length')!r} tokens, and {BUNDLE} says {step.max_length}"
    if _json(given.find(step.original)) is None:
        yield step.original, "not JSON"


def _wrong_steps(image: Image) -> Iterator[str]:
    """What of an image's steps no code can do."""
    kinds = [one.op for one in image.steps]
    if kinds[-1:] != ["layout"] or kinds.count("layout") != 1:
        yield "the last step, and no other, arranges the axes"
    pictures = [isinstance(one, Resize | ResizeShorter | Crop) for one in image.steps]
    if pictures != sorted(pictures, reverse=True):
        yield "an image is resized and cropped before its values are scaled"
    for one in image.steps:
        sides = [value for name, value in one.model_dump().items() if name in SIDES]
        if not all(1 <= side <= MOST_PIXELS for side in sides):
            yield f"{one.op} makes {' x '.join(map(str, sides))} pixels; allowed: 1 to {MOST_PIXELS} a side"
        if isinstance(one, Normalize) and not (
            len(one.mean) == len(one.std)
            and len(one.mean) in (1, image.channels)
            and all(map(math.isfinite, (*one.mean, *one.std)))
            and min(one.std) > 0
        ):
            yield f"mean and std are not one or {image.channels} each, or std is not above 0"
        if isinstance(one, Scale) and not (math.isfinite(one.factor) and one.factor > 0):
            yield f"pixels are scaled by {one.factor}"


def selftest(given: Given, bundle: Bundle) -> Iterator[Found]:
    """At least 8 samples, each with all of its files, and tolerances that mean something."""
    file = given.find(bundle.selftest)
    if file is None:
        yield bundle.selftest, NOT_THERE
        return
    try:
        found = SelfTest.model_validate_json(_read(file))
    except ValidationError as error:
        yield bundle.selftest, first_wrong(error)
        return
    if not 0 < found.tolerance <= LARGEST_TOLERANCE:
        yield bundle.selftest, f"a tolerance of {found.tolerance}; allowed: above 0, at most {LARGEST_TOLERANCE}"
    most = _largest_input_tolerance(bundle.preprocessing)
    if not 0 <= found.input_tolerance <= most:
        yield bundle.selftest, f"an input_tolerance of {found.input_tolerance}; allowed: 0 to {most:.3g}"
    for number, case in enumerate(found.cases):
        where = f"{bundle.selftest}: sample {number}"
        yield from ((where if name is None else name, wrong) for name, wrong in _wrong_case(given, bundle, case))


def _largest_input_tolerance(step: Text | Image) -> float:
    """One step of a pixel, in the units of prepared values; of texts, whose ids have to be equal, nothing."""
    if isinstance(step, Text):
        return 0.0
    return math.inf if any(_wrong_steps(step)) else step_of_a_pixel(step)  # wrong steps are told by their own rule


def _wrong_case(given: Given, bundle: Bundle, case: Case) -> Iterator[tuple[str | None, str]]:
    """What is wrong with a sample, and in which of its files, or in none."""
    if (case.text is None) == (case.image is None) or (case.text is None) == (bundle.preprocessing.kind == "text"):
        yield None, f"either a text or an image, as pre-processing takes it: {bundle.preprocessing.kind}"
    if case.pair is not None and case.text is None:
        yield None, "a second text without a first"
    if case.image is not None:
        size, raw = max(case.width or 0, 0) * max(case.height or 0, 0), _size(given.find(case.image))
        if not size or raw not in (size, 3 * size):
            yield case.image, f"{raw} bytes for {case.width} x {case.height} pixels"
    inputs = {tensor.name for tensor in bundle.model.inputs}
    if set(case.inputs) != inputs:
        yield None, f"has {sorted(case.inputs)}, and the model takes {sorted(inputs)}"
    for tensor in case.inputs.values():
        stored, wanted = given.find(tensor.file), math.prod(tensor.shape) * (8 if tensor.dtype == "int64" else 4)
        if stored is None or min(tensor.shape, default=0) < 0 or _size(stored) != wanted:
            yield tensor.file, f"{_size(stored)} bytes for {tensor.dtype} {tensor.shape}"
    if len(case.output) != bundle.answer.count or not all(map(math.isfinite, case.output)):
        yield None, f"the answer is not {bundle.answer.count} numbers"


def _size(file: Path | None) -> int:
    return file.stat().st_size if file is not None else 0


def _read(file: Path, most: int = MAX_REPORT_BYTES) -> bytes:
    """The bytes of a file; none of one that is larger than any of its kind, which no rule takes then."""
    return file.read_bytes() if file.stat().st_size <= most else b""


def _json(file: Path | None) -> Any:
    try:
        return None if file is None else load_json(_read(file, MAX_TOKENIZER_BYTES))
    except ValueError:
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
