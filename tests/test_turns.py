"""One process at a time makes an object, where there are locks; where there are none, nothing is wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import opened_below

from edgekit import turns
from edgekit.turns import FOLDER, sweep_turns, turn

KEY = "a" * 64
# Takes the turn, says so, waits for a line, writes a file, and ends its turn or is killed in it.
HOLDER = """
import sys
from pathlib import Path
from edgekit.turns import turn
root = Path(sys.argv[1])
with turn(root, sys.argv[2]):
    print("mine", flush=True)
    sys.stdin.readline()
    (root / "made").write_text("by the first")
"""


def holder(root: Path) -> subprocess.Popen[str]:
    """A process whose turn it is."""
    command = [sys.executable, "-c", HOLDER, str(root), KEY]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


def let_go(process: subprocess.Popen[str]) -> None:
    process.communicate("\n")


def test_the_second_waits_until_the_first_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, tried = holder(tmp_path), []
    real = turns.lock

    def lock(descriptor: int, *, wait: bool = False) -> bool:
        tried.append(wait)
        if wait:
            process.stdin.write("\n")  # type: ignore[union-attr]  # a pipe
            process.stdin.flush()  # type: ignore[union-attr]  # as above
        return real(descriptor, wait=wait)

    monkeypatch.setattr(turns, "lock", lock)
    told: list[bool] = []
    with turn(tmp_path, KEY, lambda: told.append(True)):
        assert (tmp_path / "made").read_text() == "by the first"
    let_go(process)
    assert tried[:2] == [False, True]
    assert told == [True]
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_the_turn_of_a_killed_process_ends_with_it(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.communicate()
    with turn(tmp_path, KEY):
        assert not (tmp_path / "made").exists()
        assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [KEY]


def test_the_files_of_killed_processes_are_swept_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    process = holder(tmp_path)
    sweep_turns(tmp_path)
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [KEY]
    process.kill()
    process.communicate()
    sweep_turns(tmp_path)
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_different_objects_do_not_wait_for_each_other(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with turn(tmp_path, "b" * 64):
        assert process.poll() is None
    let_go(process)


def test_without_locks_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = holder(tmp_path)
    monkeypatch.setattr(turns, "lock", lambda descriptor, wait=False: False)
    with turn(tmp_path, KEY):
        assert process.poll() is None
    let_go(process)


def test_without_locks_nobody_is_said_to_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    told: list[bool] = []
    monkeypatch.setattr("fcntl.flock", flock)
    with turn(tmp_path, KEY, lambda: told.append(True)):
        assert list((tmp_path / FOLDER).iterdir()) == []
    assert told == []


def test_a_turn_that_fails_is_given_up(tmp_path: Path) -> None:
    with turn(tmp_path, KEY):
        assert opened_below(tmp_path) in ([str(tmp_path.resolve() / FOLDER / KEY)], None)
    with pytest.raises(ValueError, match="no"), turn(tmp_path, KEY):
        raise ValueError("no")
    assert list((tmp_path / FOLDER).iterdir()) == []
    assert opened_below(tmp_path) in ([], None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_only_be_read_has_no_turns(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with turn(tmp_path, KEY):
        assert list(tmp_path.iterdir()) == []
