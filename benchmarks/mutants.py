"""Damage files in every way that seeds give, and see that edgekit refuses each or reads it, and nothing else.

    python benchmarks/mutants.py --format onnx|tflite|safetensors|json|toml|npz|all --count 10000 --seed 1
    python benchmarks/mutants.py --table

A mutant is a right file, changed by a random generator that is seeded with the run's seed and the mutant's number, so
that any of them can be made again with `--only NUMBER`. Nineteen of twenty are opened in children that are forked from
this process, which has everything loaded; the twentieth goes through the real command line. Counted are: exit codes,
tracebacks, files or output left behind by a refusal, deaths of the command line, hangs, and deaths of children, which
the command line tells as the error `model.crashes`.

Results go to `benchmarks/results/mutants.jsonl`, a line for a block of mutants; blocks of the same code that are there
are not done again. A mutant that ends in anything but a documented way is kept in `tests/hostile/found/`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS, FOUND = ROOT / "benchmarks" / "results" / "mutants.jsonl", ROOT / "tests" / "hostile" / "found"
DOCUMENTED = (0, 1, 2, 3, 4, 5)
# One answer may take so long; a machine that is busy gets a second, longer look before it is called a hang.
HANG_SECONDS, SECOND_LOOK_SECONDS = 20.0, 180.0
PROGRAM_EVERY = 20
# Of a forked child: the command line lives on, and tells it as `model.crashes`.
DIED = "children that died"
BLOCK = 500
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = ("-1", "0", "1e999", "NaN", "9" * 400, "-9223372036854775809", "0.1", "null", "true", "[]", "{}", '""')
TEXTS = ("\x1b[2J", "\u202e", "\x00", "é", "../../x", "/etc/passwd", "%s%n", "a" * 5000, "[" * 300, "{" * 300, "'")


class Kind(NamedTuple):
    """What is mutated, and how it is opened.

    Attributes:
        files: of the right folder, those that one mutant each changes one of.
        commands: the words of each way to open the folder; ``{}`` is the folder, ``{file}`` the mutated file.
        weights: how often each is taken by the forked children.
        text: whether it is mutated as text as well.
    """

    files: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    weights: tuple[int, ...]
    text: bool = False


KINDS = {
    "onnx": Kind(
        ("net.onnx", "loop.onnx"),
        (("inspect", "{file}"), ("predict", "{file}", "{}/x.npz", "--task", "tensors"), ("bench", "{file}")),
        (14, 1, 0),
    ),
    "tflite": Kind(
        ("net.tflite",), (("inspect", "{file}"), ("predict", "{file}", "{}/x.npz", "--task", "tensors")), (5, 1)
    ),
    "safetensors": Kind(("model.safetensors",), (("inspect", "{}"), ("predict", "{}", "w1 w2 w3")), (2, 1)),
    "json": Kind(
        ("config.json", "tokenizer.json", "tokenizer_config.json"),
        (("predict", "{}", "w1 w2 w3"), ("inspect", "{}")),
        (2, 1),
        text=True,
    ),
    "toml": Kind(
        ("recipe.toml", "target.toml"),
        (("recipes", "check", "{file}"), ("targets", "check", "{file}")),
        (1, 1),
        text=True,
    ),
    "npz": Kind(("x.npz",), (("eval", "{}/net.py:net", "--input", "1x2", "--data", "{file}"),), (1,)),
}
NET = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Linear(2, 3)
"""


def right_files(kind: str, folder: Path) -> None:
    """The files that mutants are made of."""
    sys.path.insert(0, str(ROOT / "tests"))
    import numpy as np

    folder.mkdir(parents=True)
    rows = np.arange(24, dtype=np.float32).reshape(12, 2)
    if kind == "onnx":
        from hostile.corpus import graph

        shutil.move(graph(folder / "made", lambda model: None).given[0], folder / "net.onnx")
        shutil.rmtree(folder / "made")
        _control_flow(folder / "loop.onnx")
        np.savez(folder / "x.npz", x=rows[:1])
    elif kind == "tflite":
        from hostile.corpus import tflite

        shutil.move(tflite(folder / "made", lambda model: None).given[0], folder / "net.tflite")
        shutil.rmtree(folder / "made")
        np.savez(folder / "x.npz", x=rows[:1])
    elif kind in ("safetensors", "json"):
        import tiny

        tiny.save(tiny.build("bert", layers=1), folder)
    elif kind == "toml":
        shutil.copyfile(ROOT / "edgekit" / "recipes" / "default.toml", folder / "recipe.toml")
        shutil.copyfile(ROOT / "targets" / "arm64.toml", folder / "target.toml")
    else:
        (folder / "net.py").write_text(NET, encoding="utf-8")
        np.savez_compressed(folder / "x.npz", input=rows, label=np.arange(12) % 3)


def _control_flow(file: Path) -> None:
    """A graph with shapes that are computed, a loop and a choice."""
    import onnx

    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> net (float[n, 2] x) => (float[n, 2] y)'
            " <int64 times = {3}, bool yes = {1}, int64[2] shape = {-1, 2}> {"
            " turned = Loop (times, yes, x) <body = body (int64 i, bool go, float[n, 2] a) => (bool on, float[n, 2] b)"
            " { on = Identity (go) b = Relu (a) }>"
            " sizes = Shape (turned) filled = ConstantOfShape (sizes) sum = Add (turned, filled)"
            " y = Reshape (sum, shape) }"
        ),
        file,
    )


def mutate(content: bytes, draw: random.Random, *, text: bool) -> bytes:
    """A file that differs: one to four changes of bits, bytes, numbers, pieces, or what stands in a text."""
    changed = bytearray(content)
    if not text and draw.random() < 0.5:  # a small file falls apart under more
        draw.choice((_flip_one, _number))(changed, draw)
        return bytes(changed)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        changes = (_flip, _replace, _number, _cut, _repeat, _insert, _shorten)
        change = draw.choice((_value, _text, _cut, _repeat, _flip) if text and draw.random() < 0.8 else changes)
        change(changed, draw)
    return bytes(changed)


def _mutate_inside(content: bytes, draw: random.Random) -> bytes:
    """An archive one of whose entries differs, with a right sum."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        chosen = draw.choice(source.namelist())
        for name in source.namelist():
            entry = source.read(name)
            if name == chosen:  # its header has the most to say
                head = mutate(entry[:128], draw, text=draw.random() < 0.5)
                entry = head + entry[128:] if draw.random() < 0.7 else mutate(entry, draw, text=False)
            archive.writestr(name, entry)
    return stream.getvalue()


def _place(content: bytearray, draw: random.Random, size: int = 1) -> int:
    return draw.randrange(max(1, len(content) - size + 1)) if content else 0


def _flip_one(content: bytearray, draw: random.Random) -> None:
    if content:
        content[_place(content, draw)] ^= 1 << draw.randrange(8)


def _flip(content: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 8)):
        _flip_one(content, draw)


def _replace(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    content[at : at + draw.randint(1, 16)] = draw.randbytes(draw.randint(1, 16))


def _number(content: bytearray, draw: random.Random) -> None:
    size = draw.choice((1, 2, 4, 8))
    at = _place(content, draw, size)
    value = draw.choice(INTERESTING) % 2 ** (8 * size)
    content[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))


def _cut(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    del content[at : at + draw.choice((1, 4, 16, 64, 256))]


def _repeat(content: bytearray, draw: random.Random) -> None:
    at, other = _place(content, draw), _place(content, draw)
    content[other:other] = content[at : at + draw.choice((4, 16, 64, 256))] * draw.choice((1, 2, 50))


def _insert(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    content[at:at] = draw.choice((b"\0", b"\xff", draw.randbytes(1))) * draw.choice((1, 4, 64, 4096))


def _shorten(content: bytearray, draw: random.Random) -> None:
    del content[_place(content, draw) :]


def _value(content: bytearray, draw: random.Random) -> None:
    """Another value in the place of a number, a word or a text."""
    found = list(re.finditer(rb'-?\d+(\.\d+)?|true|false|null|"[^"\n]*"', bytes(content)))
    if found:
        one = draw.choice(found)
        content[one.start() : one.end()] = draw.choice(NUMBERS).encode()


def _text(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    content[at:at] = draw.choice(TEXTS).encode()


@dataclass
class Ended:
    """How a mutant ended.

    Attributes:
        code: of the exit; negative for a signal.
        out, told: what stood on the two outputs.
        left: files that were not there before.
        hung: whether it did not end by itself.
    """

    code: int
    out: str
    told: str
    left: list[str]
    hung: bool = False

    @property
    def id(self) -> str:
        """Of the error."""
        found = re.search(r"error\[([a-z.-]+)\]", self.told)
        return found[1] if found else ""

    def faults(self, *, program: bool) -> list[str]:
        """What is not as it has to be; the death of a forked child is what the command line waits for."""
        found = []
        if "Traceback (most recent call last)" in self.told or "panicked at" in self.told:
            found.append("traceback")
        if self.hung:
            found.append("hang")
        elif self.code < 0 and program:
            found.append("death")
        elif self.code >= 0 and self.code not in DOCUMENTED:
            found.append("undocumented")
        stopped = self.id == "resource-limit.model-time"  # on a busy machine, perhaps when it had just answered
        if self.code != 0 and not stopped and (self.out.strip() or self.left):
            found.append("partial")
        return found


class Arena:
    """A folder that mutants are opened in, one after the other.

    Args:
        kind: the format.
        seed: of the run.
        folder: empty.
    """

    def __init__(self, kind: str, seed: int, folder: Path) -> None:
        self.kind, self.seed, self.folder = KINDS[kind], f"{kind} {seed}", folder
        right_files(kind, folder / "right")
        self.work = folder / "work"
        shutil.copytree(folder / "right", self.work)
        self.contents = {name: (folder / "right" / name).read_bytes() for name in self.kind.files}

    def mutant(self, number: int) -> tuple[str, bytes, tuple[str, ...]]:
        """The file, its content, and the words of the command that opens it."""
        draw = random.Random(f"{self.seed} {number}")
        name = draw.choice(self.kind.files)
        right = self.contents[name]
        inner = name.endswith(".npz") and draw.random() < 0.7  # else the sums of the archive find all that changed
        content = _mutate_inside(right, draw) if inner else mutate(right, draw, text=self.kind.text)
        program = number % PROGRAM_EVERY == 0
        weights = [1] * len(self.kind.commands) if program else self.kind.weights
        words = draw.choices(self.kind.commands, weights)[0]
        if name.endswith(".toml"):
            words = self.kind.commands[self.kind.files.index(name)]
        return name, content, words

    def open(self, number: int) -> Ended:
        """One mutant, opened."""
        name, content, words = self.mutant(number)
        return self.look(name, content, words, program=number % PROGRAM_EVERY == 0)

    def look(self, name: str, content: bytes, words: tuple[str, ...], *, program: bool) -> Ended:
        """A command on the folder with one file replaced; a second, longer look where the first one took too long."""
        (self.work / name).write_bytes(content)
        given = [word.replace("{file}", str(self.work / name)).replace("{}", str(self.work)) for word in words]
        try:
            ended = self._watched(given, HANG_SECONDS, program=program)
            return self._watched(given, SECOND_LOOK_SECONDS, program=program) if ended.hung else ended
        finally:
            (self.work / name).write_bytes(self.contents[name])

    def _watched(self, given: list[str], seconds: float, *, program: bool) -> Ended:
        before = self._files()
        out, told = self.folder / "out.txt", self.folder / "told.txt"
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        with out.open("wb") as one, told.open("wb") as other:
            pid = (_program if program else _fork)(given, one.fileno(), other.fileno(), self.work)
            code, late = _wait(pid, seconds)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        left = self._files() - before
        for path in left:
            path.unlink()
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in (out, told)]
        # A second look that ended has only waited for the machine, unless it computed all the time.
        hung = late or (seconds == SECOND_LOOK_SECONDS and busy > HANG_SECONDS)
        return Ended(code, texts[0], texts[1], sorted(map(str, left)), hung)

    def _files(self) -> set[Path]:
        return {path for path in self.work.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def _fork(given: list[str], out: int, told: int, folder: Path) -> int:
    """A child with everything loaded, which runs a command line."""
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        os.dup2(out, 1)
        os.dup2(told, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.chdir(folder)
        from edgekit.cli import main
        from edgekit.confinement import limit_self, limits_for

        limit_self(limits_for(0))
        code = main(given)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    except BaseException:  # noqa: BLE001  # nothing of a child may reach the loop of its parent
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


def _program(given: list[str], out: int, told: int, folder: Path) -> int:
    """The command line, as a person starts it."""
    command = [sys.executable, "-m", "edgekit", *given]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=told, cwd=folder, process_group=0)
    process.returncode = 0  # waited for below, by its number
    return process.pid


def _wait(pid: int, seconds: float) -> tuple[int, bool]:
    """The code of a child, and whether it had to be ended."""
    descriptor = os.pidfd_open(pid)
    try:
        late = not select.select([descriptor], [], [], seconds)[0]
        if late:
            os.killpg(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), late
    finally:
        os.close(descriptor)


def preload() -> None:
    """Load what the commands load, so that a forked child need not."""
    import datasets
    import onnx
    import torch
    import transformers

    import edgekit.api
    import edgekit.cli
    import edgekit.inspection
    from edgekit.formats import foreign

    torch.set_num_threads(1)
    assert all((datasets, onnx, transformers, edgekit, foreign))
    __import__("transformers.models.bert.modeling_bert")
    __import__("transformers.models.auto.tokenization_auto")


def run_blocks(kind: str, seed: int, count: int, done: set[int], keep: Path) -> Iterator[dict[str, Any]]:
    """A record for each block of mutants that is not done yet."""
    from edgekit.environment import code_digest

    with tempfile.TemporaryDirectory(prefix="edgekit-mutants-") as name:
        os.environ["EDGEKIT_CACHE"] = str(Path(name) / "cache")
        arena = Arena(kind, seed, Path(name) / "arena")
        for first in range(0, count, BLOCK):
            if first in done:
                continue
            began = time.monotonic()
            codes: Counter[str] = Counter()
            ids: Counter[str] = Counter()
            faults: Counter[str] = Counter()
            numbers = range(first, min(first + BLOCK, count))
            for number in numbers:
                ended = arena.open(number)
                codes[str(ended.code)] += 1
                ids[ended.id] += bool(ended.id)
                for fault in ended.faults(program=number % PROGRAM_EVERY == 0):
                    faults[fault] += 1
                    _keep(arena, number, fault, ended, keep)
                if ended.code < 0 and not ended.hung:
                    faults[DIED] += 1
                    _keep(arena, number, "crash", ended, keep)
            shutil.rmtree(Path(name) / "cache", ignore_errors=True)
            yield {
                "schema": "edgekit.mutants/1",
                "format": kind,
                "seed": seed,
                "first": first,
                "count": len(numbers),
                "codes": dict(sorted(codes.items())),
                "ids": dict(ids.most_common()),
                "faults": dict(faults),
                "seconds": round(time.monotonic() - began, 1),
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "code": code_digest(),
            }


def _keep(arena: Arena, number: int, fault: str, ended: Ended, keep: Path) -> None:
    """Leave a mutant that ended wrongly where the tests look for it."""
    name, content, words = arena.mutant(number)
    kind, seed = arena.seed.split()
    keep.mkdir(parents=True, exist_ok=True)
    stem = f"{kind}-{seed}-{number}-{fault.replace(' ', '-')}"
    (keep / f"{stem}-{name}").write_bytes(content)
    print(f"{stem}: {' '.join(words)}: {ended.code} {ended.told.strip()[-600:]}", file=sys.stderr, flush=True)


def read_results(file: Path) -> list[dict[str, Any]]:
    """All records of earlier runs."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def table(records: list[dict[str, Any]]) -> str:
    """The newest code's records, added up by format."""
    lines = [
        "| format | mutants | refused | read | faults | children that died | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    newest = {record["format"]: record["code"] for record in records}
    for kind in KINDS:
        mine = [record for record in records if record["format"] == kind and record["code"] == newest.get(kind)]
        codes: Counter[str] = Counter()
        faults: Counter[str] = Counter()
        for record in mine:
            codes.update(record["codes"])
            faults.update(record["faults"])
        died = faults.pop(DIED, 0)
        total, seconds = codes.total(), sum(record["seconds"] for record in mine)
        lines.append(
            f"| {kind} | {total} | {total - codes['0']} | {codes['0']} | {faults.total()} | {died} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=[*KINDS, "all"], default="all")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="one mutant, told in full")
    parser.add_argument("--table", action="store_true", help="what the results say so far")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, default=FOUND)
    given = parser.parse_args()
    if given.table:
        print(table(read_results(given.results)))
        return 0
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    os.environ.setdefault("EDGEKIT_MODEL_SECONDS", "15")
    preload()
    if given.only is not None:
        with tempfile.TemporaryDirectory(prefix="edgekit-mutants-") as name:
            os.environ["EDGEKIT_CACHE"] = str(Path(name) / "cache")
            print(Arena(given.format, given.seed, Path(name) / "arena").open(given.only))
        return 0
    from edgekit.environment import code_digest

    wrong = 0
    for kind in KINDS if given.format == "all" else [given.format]:
        same = {"format": kind, "seed": given.seed, "code": code_digest()}
        earlier = [record for record in read_results(given.results) if same.items() <= record.items()]
        done = {record["first"] for record in earlier if record["count"] == min(BLOCK, given.count - record["first"])}
        for record in run_blocks(kind, given.seed, given.count, done, given.keep):
            given.results.parent.mkdir(parents=True, exist_ok=True)
            with given.results.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
            print(json.dumps(record), flush=True)
            wrong += sum(number for name, number in record["faults"].items() if name != DIED)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
