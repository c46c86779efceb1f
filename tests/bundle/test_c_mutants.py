"""The C code on documents that were changed at random: it says what is wrong, and reaches for no memory but its own."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle.bundles import run
from bundle.made_tokenizers import MADE
from bundle.test_platforms_c import SOURCES, WARNINGS

from edgekit.bundle.platforms.c import source
from edgekit.bundle.tokenizer import compile_tokenizer, write_program
from edgekit.source import sha256_file

pytestmark = pytest.mark.slow
MUTANTS = 60  # of each document
DOCUMENTS = ("bundle.json", "selftest/selftest.json", "tokenizer/compiled.json")
CHECKS = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all", "-g", "-O1")
ODD = (
    None,
    True,
    0,
    1,
    -1,
    0.5,
    2**31,
    2**53 + 2,
    -1e300,
    1e300,
    "",
    "x",
    "\0",
    "\ud800",
    "ab" * 40,
    [],
    {},
    [[]],
    [0],
    {"a": []},
)


@pytest.fixture(scope="session")
def checked(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mutants.c`, compiled with the checks."""
    folder = tmp_path_factory.mktemp("mutants")
    (folder / "edgekit_model.c").write_text(source(), encoding="utf-8")
    for file in (SOURCES / "edgekit_model.h", Path(__file__).with_name("mutants.c")):
        shutil.copyfile(file, folder / file.name)
    (folder / "libonnxruntime.so.1").symlink_to(library)
    done = run(
        "gcc", *WARNINGS, *CHECKS, "-o", "mutants", "mutants.c", "edgekit_model.c", "libonnxruntime.so.1", "-lm",
        f"-Wl,-rpath,{folder}", folder=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "mutants"


def places(said: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand in a document, each by its keys; of long lists the first and some others."""
    if path:
        yield path
    keys = list(said) if isinstance(said, dict) else range(len(said)) if isinstance(said, list) else []
    for key in [*keys[:8], *keys[8 :: max(1, len(keys) // 8)]]:
        yield from places(said[key], (*path, key))


def mutated(said: Any, drawn: random.Random) -> Any:
    """The document with one value changed, taken away or doubled."""
    changed = copy.deepcopy(said)
    *path, key = drawn.choice(list(places(changed)))
    holder = changed
    for one in path:
        holder = holder[one]
    way = drawn.random()
    if way < 0.15:
        del holder[key]
    elif way < 0.3:
        holder[key] = [holder[key], holder[key]]
    else:
        holder[key] = drawn.choice(ODD)
    return changed


def broken(text: bytes, drawn: random.Random) -> bytes:
    """The text with some of its bytes changed, or cut."""
    content = bytearray(text)
    for _ in range(drawn.randint(1, 4)):
        content[drawn.randrange(len(content))] = drawn.choice(b'"\\{}[],:u0e-\x00\xff')
    return bytes(content[: drawn.randrange(len(content))] if drawn.random() < 0.2 else content)


def mutants(content: Path, into: Path, seed: str) -> Iterator[Path]:
    """Copies of a bundle's content with one document changed, of which all other files are links."""
    drawn = random.Random(seed)
    for document in DOCUMENTS:
        if not (content / document).is_file():
            continue
        text = (content / document).read_bytes()
        for number in range(MUTANTS):
            folder = into / f"{document.replace('/', '-')}-{number}"
            shutil.copytree(content, folder, copy_function=lambda one, other: Path(other).symlink_to(one))
            changed = json.dumps(mutated(json.loads(text), drawn)).encode() if number % 4 else broken(text, drawn)
            write(folder / document, changed)
            if document != "bundle.json":
                said = json.loads((content / "bundle.json").read_bytes())
                said["files"][document] = {"size_bytes": len(changed), "sha256": sha256_file(folder / document)}
                write(folder / "bundle.json", json.dumps(said).encode())
            yield folder


def write(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["vit", "bert", "wordpiece", "byte bpe", "composed bpe", "unigram", "sentencepiece"])
def test_no_changed_document_makes_it_reach_beyond_its_memory(
    name: str, bundles: Callable[[str, str], Path], checked: Path, tmp_path: Path
) -> None:
    content = Path(shutil.copytree(bundles("c", "vit" if name == "vit" else "bert") / "bundle", tmp_path / "content"))
    if name in MADE:
        write_program(compile_tokenizer(MADE[name](), 16, 0), content / DOCUMENTS[-1])
    folders = [content, *mutants(content, tmp_path / "mutants", name)]
    (tmp_path / "list").write_text("".join(f"{folder}\n" for folder in folders))
    with (tmp_path / "list").open() as stream:
        done = run(checked, folder=tmp_path, stdin=stream)
    found = [int(line.split()[1]) for line in done.stdout.splitlines() if " " in line.strip()]
    assert done.returncode == 0, (folders[len(found)], done.stderr)
    assert len(found) == len(folders) >= 2 * MUTANTS
    assert sum(count > 0 for count in found) > len(found) / 3
