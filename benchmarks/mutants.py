"""Damage files in every way that seeds give, and see that edgekit refuses each or reads it, and nothing else.

    python benchmarks/mutants.py --format onnx|tflite|safetensors|pt|json|toml|npz|artifact|bundle|all --count 10000
    python benchmarks/mutants.py --table

A mutant is a right file, changed by a random generator that is seeded with the run's seed and the mutant's number, so
that any of them can be made again with `--only NUMBER`. Nineteen of twenty are opened in children that are forked from
this process, which has loaded what the commands load, and so are those that check a graph for them; the twentieth goes
through the real command line.

Counted are: exit codes, refusals that give no id of the catalogue with that exit code, tracebacks, output and files
that a refusal left behind or changed, deaths of the command line, hangs, and deaths of children. The latter are told by
the command line as the error `model.crashes`, where it watches the command; where it does not, the death of the child
is that of the command line.

Results go to `benchmarks/results/mutants.jsonl`, a line for a block of mutants; blocks of the same code that are there
are not done again, unless something was wrong in them, and count for the exit code. What was wrong once stays wrong
until the code is another, but for hangs, which a busy machine makes as well. A mutant that ends in anything but a
documented way is kept in `tests/hostile/found/`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import hashlib
import importlib
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mutations
from mutant_kinds import KINDS, ROOT, right_files
from mutations import mutate, mutate_inside

RESULTS, FOUND = ROOT / "benchmarks" / "results" / "mutants.jsonl", ROOT / "tests" / "hostile" / "found"
DOCUMENTED = (0, 1, 2, 3, 4, 5)
# One answer may take so long; a machine that is busy gets a second, longer look before it is called a hang.
HANG_SECONDS, SECOND_LOOK_SECONDS = 20.0, 180.0
PROGRAM_EVERY = 20
# Of a forked child: the command line lives on, and tells it as `model.crashes`.
DIED = "children that died"
TRACEBACKS = ("Traceback (most recent call last)", "panicked at")
BLOCK = 500
# What tells by 1, and without an error, what it has found.
CHECKS = ("bundle",)
HANG = "hang"


@dataclass
class Ended:
    """How a mutant ended.

    Attributes:
        code: of the exit; negative for a signal.
        out, told: what stood on the two outputs.
        left: files that were not there before, or were not so.
        hung: whether it did not end by itself.
        command: its first word.
    """

    code: int
    out: str
    told: str
    left: list[str]
    hung: bool = False
    command: str = ""

    @property
    def id(self) -> str:
        """Of the error."""
        found = re.search(r"error\[([a-z.-]+)\]", self.told)
        return found[1] if found else ""

    def faults(self, *, program: bool) -> list[str]:
        """What is not as it has to be; the death of a forked child is what the command line waits for.

        Args:
            program: whether it was the command line, or a child that nothing waits for there.
        """
        from edgekit.error_catalogue import load_catalogue

        found = []
        if any(sign in text for text in (self.told, self.out) for sign in TRACEBACKS):
            found.append("traceback")
        told = self.code == 1 and not self.id and self.command in CHECKS
        if self.hung:
            found.append(HANG)
        elif self.code < 0 and program:
            found.append("death")
        elif self.code >= 0 and self.code not in DOCUMENTED:
            found.append("undocumented")
        elif (self.code > 0 and not told and self.code != _exit_codes().get(self.id.partition(".")[0])) or (
            self.id and self.id not in load_catalogue()
        ):
            found.append("unexplained")
        stopped = self.id == "resource-limit.model-time"  # on a busy machine, perhaps when it had just answered
        if self.code != 0 and not stopped and not told and (self.out.strip() or self.left):
            found.append("partial")
        return found


class Arena:
    """A folder that mutants are opened in, one after the other.

    Args:
        kind: the format.
        seed: of the run.
        folder: empty.
        program_every: one mutant of so many goes through the real command line.
    """

    def __init__(self, kind: str, seed: int, folder: Path, program_every: int = PROGRAM_EVERY) -> None:
        self.program_every = program_every
        self.kind, self.seed, self.folder = KINDS[kind], f"{kind} {seed}", folder
        right_files(kind, folder / "right")
        self.work, self._spoilt = folder / "work", False
        shutil.copytree(folder / "right", self.work)
        self.contents = {name: (folder / "right" / name).read_bytes() for name in (*self.kind.files, *self._sums())}

    def _sums(self) -> list[str]:
        return ["SHA256SUMS"] if self.kind.sealed else []

    def mutant(self, number: int) -> tuple[str, bytes, tuple[str, ...]]:
        """The file, its content, and the words of the command that opens it."""
        draw = random.Random(f"{self.seed} {number}")
        name = draw.choice(self.kind.files)
        right = self.contents[name]
        inner = name.endswith((".npz", ".pt")) and draw.random() < 0.7  # else the archive's sums find all that changed
        content = mutate_inside(right, draw) if inner else mutate(right, draw, text=self.kind.text)
        program = self.by_program(number)
        weights = [1] * len(self.kind.commands) if program else self.kind.weights
        words = draw.choices(self.kind.commands, weights)[0]
        if self.kind is KINDS["toml"]:
            words = self.kind.commands[self.kind.files.index(name)]
        return name, content, words

    def open(self, number: int) -> Ended:
        """One mutant, opened."""
        name, content, words = self.mutant(number)
        return self.look(name, content, words, program=self.by_program(number))

    def alone(self, number: int, ended: Ended) -> bool:
        """Whether nothing would have waited for what died: the command line itself, or a command that it is."""
        from edgekit.cli.watch import WATCHED

        return self.by_program(number) or ended.command not in WATCHED

    def by_program(self, number: int) -> bool:
        """Whether a mutant goes through the real command line."""
        return number % self.program_every == 0

    def look(self, name: str, content: bytes, words: tuple[str, ...], *, program: bool) -> Ended:
        """A command on the folder with one file replaced; a second, longer look where the first one took too long."""
        from edgekit.sealing import seal

        (self.work / name).write_bytes(content)
        if name not in self._sums() and self.kind.sealed:
            seal(self.work)
        given = [word.replace("{file}", str(self.work / name)).replace("{}", str(self.work)) for word in words]
        try:
            ended = self._watched(given, HANG_SECONDS, program=program)
            return self._watched(given, SECOND_LOOK_SECONDS, program=program) if ended.hung else ended
        finally:
            for changed in (name, *self._sums()):
                (self.work / changed).write_bytes(self.contents[changed])
            if self._spoilt:
                self._renew()

    def needed(self) -> set[str]:
        """The modules that the commands load on the right files."""
        found: set[str] = set()
        listed = self.folder / "modules.txt"
        taken = [words for words, weight in zip(self.kind.commands, self.kind.weights, strict=True) if weight]
        for words in taken:
            for name in self.kind.files:
                given = [word.replace("{file}", str(self.work / name)).replace("{}", str(self.work)) for word in words]
                with (self.folder / "out.txt").open("wb") as out:
                    _wait(_fork(given, out.fileno(), out.fileno(), self.work, listed), SECOND_LOOK_SECONDS)
                found.update(listed.read_text(encoding="utf-8").split())
        self._renew()
        return found

    def _watched(self, given: list[str], seconds: float, *, program: bool) -> Ended:
        before = self._state()
        out, told = self.folder / "out.txt", self.folder / "told.txt"
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        with out.open("wb") as one, told.open("wb") as other:
            pid = (_program if program else _fork)(given, one.fileno(), other.fileno(), self.work)
            code, late = _wait(pid, seconds)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        left = self._restore(before)
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in (out, told)]
        # A second look that ended has only waited for the machine, unless it computed all the time.
        hung = late or (seconds == SECOND_LOOK_SECONDS and busy > HANG_SECONDS)
        return Ended(code, texts[0], texts[1], left, hung, given[0])

    def _state(self) -> dict[Path, tuple[int, ...]]:
        """All that lies in the arena but what a command says: its kind; size and time of what is no folder."""
        found = {}
        for path in self.folder.rglob("*"):
            if "__pycache__" not in path.parts and path.name not in ("out.txt", "told.txt", "modules.txt"):
                seen = path.lstat()
                folder = stat.S_ISDIR(seen.st_mode)
                found[path] = (seen.st_mode,) if folder else (seen.st_mode, seen.st_size, seen.st_mtime_ns)
        return found

    def _restore(self, before: dict[Path, tuple[int, ...]]) -> list[str]:
        """What is not as it was; it is so again afterwards."""
        now = self._state()
        changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
        for path in reversed(changed):
            if path not in before:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        self._spoilt = self._spoilt or any(path in before for path in changed)
        return [str(path) for path in changed]

    def _renew(self) -> None:
        """Put the right files in the place of those that are there."""
        shutil.rmtree(self.work)
        shutil.copytree(self.folder / "right", self.work)
        self._spoilt = False


@functools.cache
def _exit_codes() -> dict[str, int]:
    """The exit code of each kind of error, by what its ids begin with."""
    from edgekit import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EdgekitError)]
    return {kind.kind: kind.exit_code for kind in kinds}


def _fork(given: list[str], out: int, told: int, folder: Path, listed: Path | None = None) -> int:
    """A child with everything loaded, which runs a command line; with ``listed`` it leaves its modules there."""
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
        if listed is not None:
            listed.write_text("\n".join(sys.modules), encoding="utf-8")
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


def _wait(pid: int, seconds: float, *, group: bool = True) -> tuple[int, bool]:
    """The code of a child, and whether it had to be ended, with its group where it has one."""
    descriptor = os.pidfd_open(pid)
    try:
        late = not select.select([descriptor], [], [], seconds)[0]
        if late:
            (os.killpg if group else os.kill)(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), late
    finally:
        os.close(descriptor)


def preload(arena: Arena) -> None:
    """Load what the commands load, so that a forked child need not, and check graphs in forked children, too."""
    import torch

    import edgekit.cli
    from edgekit.formats import foreign

    torch.set_num_threads(1)
    edgekit.cli.main(["--version"])
    for name in sorted(arena.needed() - sys.modules.keys()):
        with contextlib.suppress(Exception):  # what cannot be loaded by its name alone, a child loads
            importlib.import_module(name)
    foreign.run = _run_loaded
    gc.freeze()  # else the first collection in each child touches, and so copies, all of its memory


def _run_loaded(command: Sequence[str], limits: Any) -> subprocess.CompletedProcess[str]:
    """In place of ``edgekit.confinement.run``: the same program with the same limits, with onnx loaded already."""
    from edgekit.confinement import limit_self
    from edgekit.formats import converting

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(told.fileno(), 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                sys.argv = [str(converting.__file__), command[-1]]
                limit_self(limits)
                converting.main()
                sys.stdout.flush()
                os._exit(0)
            except BaseException:  # noqa: BLE001  # as the interpreter does at the end of a program
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        code, late = _wait(child, limits.seconds, group=False)
        if late:
            raise subprocess.TimeoutExpired(list(command), limits.seconds)
        out.seek(0)
        told.seek(0)
        texts = [stream.read().decode(errors="replace") for stream in (out, told)]
    return subprocess.CompletedProcess(list(command), code, *texts)


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    """A folder in memory, where there is one: what is written through to a disk would take most of the time."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edgekit-mutants-", dir=where) as name:
        os.environ["EDGEKIT_CACHE"] = str(Path(name) / "cache")
        yield Path(name)


def run_blocks(kind: str, given: argparse.Namespace, done: set[int]) -> Iterator[dict[str, Any]]:
    """A record for each block of mutants that is not done yet."""
    from edgekit.environment import code_digest

    with _place() as folder:
        arena = Arena(kind, given.seed, folder / "arena", given.program_every)
        preload(arena)
        for first in range(0, given.count, BLOCK):
            if first in done:
                continue
            began = time.monotonic()
            codes: Counter[str] = Counter()
            ids: Counter[str] = Counter()
            faults: Counter[str] = Counter()
            numbers = range(first, min(first + BLOCK, given.count))
            for number in numbers:
                ended = arena.open(number)
                codes[str(ended.code)] += 1
                ids[ended.id] += bool(ended.id)
                for fault in ended.faults(program=arena.alone(number, ended)):
                    faults[fault] += 1
                    _keep(arena, number, fault, ended, given.keep)
                if ended.code < 0 and not ended.hung:
                    faults[DIED] += 1
                    _keep(arena, number, "crash", ended, given.keep)
            shutil.rmtree(folder / "cache", ignore_errors=True)
            yield {
                "schema": "edgekit.mutants/1",
                "format": kind,
                "seed": given.seed,
                "program_every": given.program_every,
                "first": first,
                "count": len(numbers),
                "codes": dict(sorted(codes.items())),
                "ids": dict(ids.most_common()),
                "faults": dict(faults),
                "seconds": round(time.monotonic() - began, 1),
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "code": code_digest(whole=True),
                "script": script_digest(),
            }


def _keep(arena: Arena, number: int, fault: str, ended: Ended, keep: Path) -> None:
    """Leave a mutant that ended wrongly where the tests look for it."""
    name, content, words = arena.mutant(number)
    kind, seed = arena.seed.split()
    keep.mkdir(parents=True, exist_ok=True)
    stem = f"{kind}-{seed}-{number}-{fault.replace(' ', '-')}"
    (keep / f"{stem}-{Path(name).name}").write_bytes(content)
    print(f"{stem}: {' '.join(words)}: {ended.code} {ended.told.strip()[-600:]}", file=sys.stderr, flush=True)


def read_results(file: Path) -> list[dict[str, Any]]:
    """All records of earlier runs."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def table(records: list[dict[str, Any]]) -> str:
    """The newest code's records, added up by format; of a block that was done again, the last one."""
    lines = [
        "| format | mutants | refused | read | faults | children that died | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    newest = {record["format"]: _made_by(record) for record in records}
    for kind in KINDS:
        made = [record for record in records if record["format"] == kind and _made_by(record) == newest.get(kind)]
        mine = list({(record["seed"], record["first"]): record for record in made}.values())
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


def _made_by(record: dict[str, Any]) -> tuple[str, str]:
    return record["code"], record.get("script", "")


@functools.cache
def script_digest() -> str:
    """sha256 of what makes mutants and judges them."""
    digest = hashlib.sha256()
    for file in (Path(__file__), Path(str(mutations.__file__)), Path(__file__).with_name("mutant_kinds.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=[*KINDS, "all"], default="all")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--program-every", type=int, default=PROGRAM_EVERY, help="one of so many by the command line")
    parser.add_argument("--at-once", type=int, default=2, help="formats, of all")
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
    if given.only is not None:
        with _place() as folder:
            print(Arena(given.format, given.seed, folder / "arena").open(given.only))
        return 0

    kinds = list(KINDS) if given.format == "all" else [given.format]
    if len(kinds) > 1:
        run_all(kinds, given)
    else:
        run_kind(kinds[0], given)
    return judge(given, kinds)


def run_all(kinds: Sequence[str], given: argparse.Namespace) -> None:
    """Each format in a process of its own, which loads what it needs and no more: with less, forking takes less."""
    said = {"count": given.count, "seed": given.seed, "program-every": given.program_every}
    options = [word for name, value in said.items() for word in (f"--{name}", str(value))]
    options += ["--results", str(given.results), "--keep", str(given.keep)]
    with ThreadPoolExecutor(given.at_once) as pool:
        command = [sys.executable, __file__, *options, "--format"]
        list(pool.map(lambda kind: subprocess.run([*command, kind], check=False), kinds))


def run_kind(kind: str, given: argparse.Namespace) -> None:
    """The blocks of a format that are not done yet, each with its line in the results."""
    done = {
        first
        for first, record in _newest(given, kind).items()
        if record["count"] == min(BLOCK, given.count - first) and not _wrong(record)
    }
    if done >= set(range(0, given.count, BLOCK)):
        return
    for record in run_blocks(kind, given, done):
        given.results.parent.mkdir(parents=True, exist_ok=True)
        with given.results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)


def judge(given: argparse.Namespace, kinds: Sequence[str]) -> int:
    """The exit code: 1 where a mutant of this code ended in another way than it may, or some were not opened."""
    code = 0
    for kind in kinds:
        records = _records(given, kind)
        newest = {record["first"]: record for record in records}
        opened = sum(record["count"] for first, record in newest.items() if first < given.count)
        wrong = sum(map(_wrong, newest.values())) + _wrong_before(records, newest)
        if wrong or opened < given.count:
            print(f"{kind}: {wrong} of {opened} mutants ended wrongly; to open: {given.count}", file=sys.stderr)
            code = 1
        else:
            print(f"{kind}: none of {opened} mutants ended wrongly")
    return code


def _wrong_before(records: list[dict[str, Any]], newest: dict[int, dict[str, Any]]) -> int:
    """How many ended wrongly in blocks that were done again: of the same code, that they do not so now means little."""
    earlier = [record for record in records if record is not newest[record["first"]]]
    return sum(number for record in earlier for name, number in record["faults"].items() if name not in (DIED, HANG))


def _newest(given: argparse.Namespace, kind: str) -> dict[int, dict[str, Any]]:
    """The last record of each block of a format with this code and seed, by its first mutant."""
    return {record["first"]: record for record in _records(given, kind)}


def _records(given: argparse.Namespace, kind: str) -> list[dict[str, Any]]:
    """The records of a format with this code and seed, and by this script."""
    from edgekit.environment import code_digest

    same = {"format": kind, "seed": given.seed, "program_every": given.program_every, "code": code_digest(whole=True)}
    same |= {"script": script_digest()}
    return [record for record in read_results(given.results) if same.items() <= record.items()]


def _wrong(record: dict[str, Any]) -> int:
    """How many mutants of a block ended in another way than they may."""
    return sum(number for name, number in record["faults"].items() if name != DIED)


if __name__ == "__main__":
    sys.exit(main())
