"""Damaged files by the thousand, and those that ever ended in another way than they may."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import FOLDER, scripts
from tflites import INSTALLED

FOUND = sorted(file for file in Path(__file__).with_name("found").iterdir() if file.suffix != ".md")
# Children are forked, and what another test loaded may have threads by then: a child that waits for one is ended.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
# `make test-slow` opens so many of each of nine formats; `benchmarks/mutants.py` opens 10,000.
# The command line takes seconds, so that it opens one of a hundred here, and one of twenty there.
COUNT, PROGRAM_EVERY = 2000, 100


@pytest.fixture(scope="module")
def mutants() -> Iterator[ModuleType]:
    with scripts() as load:
        yield load("mutants")


@pytest.fixture(scope="module")
def arenas(mutants: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A folder of right files for each format of which a file was found."""
    kinds = {file.name.partition("-")[0] for file in FOUND}
    return {kind: mutants.Arena(kind, 0, tmp_path_factory.mktemp(kind) / "arena") for kind in sorted(kinds)}


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.name)
def test_what_was_found_once_is_refused_or_read(file: Path, mutants: ModuleType, arenas: dict[str, Any]) -> None:
    kind = file.name.partition("-")[0]
    if kind == "tflite" and not INSTALLED:
        pytest.skip("needs the extra: edgekit[tflite]")
    name = next(name for name in mutants.KINDS[kind].files if file.name.endswith(f"-{Path(name).name}"))
    for words in mutants.KINDS[kind].commands:
        if words[0] == "bench":
            continue
        ended = arenas[kind].look(name, file.read_bytes(), words, program="crash" in file.name)
        assert ended.faults(program=True) == [], ended.told


def test_a_mutant_is_made_again_by_its_number(mutants: ModuleType, tmp_path: Path) -> None:
    one, other = (mutants.Arena("toml", 3, tmp_path / name / "arena") for name in ("a", "b"))
    assert [one.mutant(number) for number in range(20)] == [other.mutant(number) for number in range(20)]
    assert len({one.mutant(number)[1] for number in range(20)}) > 15


def test_faults_are_told_apart(mutants: ModuleType) -> None:
    ended = mutants.Ended
    assert ended(4, "", "error[model.invalid-onnx]: x", []).faults(program=True) == []
    assert ended(4, "", "error[model.invalid-onnx]: x", []).id == "model.invalid-onnx"
    assert ended(0, "answer", "", []).faults(program=True) == []
    assert ended(70, "", "", []).faults(program=True) == ["undocumented"]
    assert ended(0, "", "Traceback (most recent call last):", []).faults(program=True) == ["traceback"]
    assert ended(0, "thread panicked at x", "", []).faults(program=True) == ["traceback"]
    assert ended(4, "half", "error[model.invalid-onnx]: x", []).faults(program=True) == ["partial"]
    assert ended(4, "", "error[data.empty]: x", ["left.bin"]).faults(program=True) == ["partial"]
    assert ended(4, "", "", []).faults(program=True) == ["unexplained"]
    assert ended(4, "", "error[usage.no-file]: x", []).faults(program=True) == ["unexplained"]  # whose code is 2
    assert ended(4, "", "error[model.made-up]: x", []).faults(program=True) == ["unexplained"]
    assert ended(1, "wrong: x", "", [], command="bundle").faults(program=True) == []
    assert ended(1, "wrong: x", "", [], command="inspect").faults(program=True) == ["unexplained", "partial"]
    assert ended(-11, "", "", []).faults(program=True) == ["death"]
    assert ended(-11, "", "", []).faults(program=False) == []
    assert ended(-9, "", "", [], hung=True).faults(program=False) == ["hang"]


def test_where_nothing_waits_for_a_child_its_death_is_that_of_the_command(mutants: ModuleType, tmp_path: Path) -> None:
    arena = mutants.Arena("toml", 0, tmp_path / "arena")
    died = mutants.Ended(-11, "", "", [], command="recipes")
    assert arena.alone(1, died)
    assert not arena.alone(1, mutants.Ended(-11, "", "", [], command="inspect"))
    assert arena.alone(0, mutants.Ended(-11, "", "", [], command="inspect"))  # through the real command line


def test_what_a_command_leaves_or_changes_is_seen_and_put_right(mutants: ModuleType, tmp_path: Path) -> None:
    arena = mutants.Arena("toml", 0, tmp_path / "arena")
    name, content, words = arena.mutant(1)
    assert arena.look(name, content, words, program=False).left == []
    before = arena._state()
    (arena.work / "target.toml").write_text("changed", encoding="utf-8")
    (arena.work / "new").mkdir()
    (arena.work / "new" / "link").symlink_to("/nowhere")
    assert [Path(path).name for path in arena._restore(before)] == ["new", "link", "target.toml"]
    arena.look(name, content, words, program=False)
    assert (arena.work / "target.toml").read_bytes() == arena.contents["target.toml"]
    assert not (arena.work / "new").exists()


def test_results_are_added_up_by_format(mutants: ModuleType) -> None:
    record = {"format": "onnx", "code": "b", "codes": {"0": 3, "4": 7}, "faults": {"hang": 1}, "seconds": 2.0}
    first, second = {**record, "seed": 1, "first": 0}, {**record, "seed": 1, "first": 500, "faults": {mutants.DIED: 2}}
    told = mutants.table([{**first, "code": "a"}, {**first, "codes": {"70": 10}}, second, first])  # one was done again
    assert "| onnx | 20 | 14 | 6 | 1 | 2 | 4 |" in told


def test_all_blocks_count_for_the_exit_code(mutants: ModuleType, tmp_path: Path) -> None:
    from edgekit.environment import code_digest

    made_by = {"code": code_digest(whole=True), "script": mutants.script_digest()}
    same = {"format": "toml", "seed": 1, "program_every": 20, **made_by}
    records = [{**same, "first": first, "count": 500, "faults": {}} for first in (0, 500)]
    results = tmp_path / "mutants.jsonl"

    def judged(*records: dict[str, Any]) -> int:
        results.write_text("".join(json.dumps(record) + "\n" for record in records))
        given = argparse.Namespace(results=results, seed=1, count=1000, program_every=20)
        return int(mutants.judge(given, ["toml"]))

    assert judged(*records) == 0
    assert judged(records[0]) == 1  # the second block is missing
    assert judged({**records[0], "faults": {"hang": 1}}, records[1]) == 1
    assert judged({**records[0], "faults": {"hang": 1}}, *records) == 0  # done again, and right
    assert judged({**records[0], "faults": {"traceback": 1}}, *records) == 1  # which no busy machine makes
    assert judged({**records[0], "faults": {mutants.DIED: 1}}, records[1]) == 0
    assert judged({**records[0], "code": "other"}, records[1]) == 1
    assert judged({**records[0], "script": "other"}, records[1]) == 1


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs the extra: edgekit[tflite]")
def test_damaged_files_end_as_documented(mutants: ModuleType, tmp_path: Path) -> None:
    options = ["--seed", "7", "--count", COUNT, "--program-every", PROGRAM_EVERY, "--results", tmp_path / "m.jsonl"]
    done = subprocess.run(
        [sys.executable, FOLDER / "mutants.py", *map(str, options), "--keep", tmp_path / "found"],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    records = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(record["count"] for record in records) == COUNT * len(mutants.KINDS)
    assert {int(code) for record in records for code in record["codes"]} <= {0, 1, 2, 3, 4, 5}
