from __future__ import annotations

import os
from pathlib import Path

import pytest
from processes import another_process

from edgekit import marks
from edgekit.marks import DAY_SECONDS, FOLDER, MOST_ROOTS, mark, read_marks, used_entries


def test_a_living_process_is_seen_and_a_dead_one_is_known_to_be_dead(tmp_path: Path) -> None:
    with another_process(tmp_path, "objects/a", "work/b") as process:
        assert used_entries(tmp_path) == {"objects/a": (process.pid,), "work/b": (process.pid,)}
    assert used_entries(tmp_path) == {}
    (left,) = read_marks(tmp_path)
    assert (left.pid, left.state, left.entries) == (process.pid, "ended", frozenset({"objects/a", "work/b"}))


def test_the_own_process_does_not_count(tmp_path: Path) -> None:
    mark(tmp_path, "objects/a")
    mark(tmp_path, "objects/a")
    (mine,) = read_marks(tmp_path)
    assert (mine.pid, mine.state, mine.entries) == (os.getpid(), "alive", frozenset({"objects/a"}))
    assert mine.file.read_text().count("objects/a") == 1
    assert used_entries(tmp_path) == {}


def test_a_mark_of_a_process_that_ended_long_ago_is_swept(tmp_path: Path) -> None:
    with another_process(tmp_path, "work/b"):
        pass
    (left,) = read_marks(tmp_path)
    mark(tmp_path, "objects/a")
    assert left.file.exists()
    os.utime(left.file, (0, 0))
    with another_process(tmp_path, "work/c"):
        assert not left.file.exists()


def test_a_mark_that_never_came_to_be_seen_is_swept(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    old, new = tmp_path / FOLDER / ".1-a", tmp_path / FOLDER / ".2-b"
    for file in (old, new):
        file.touch()
    os.utime(old, (0, 0))
    mark(tmp_path, "objects/a")
    assert (old.exists(), new.exists()) == (False, True)


def test_other_users_see_a_mark(tmp_path: Path) -> None:
    mark(tmp_path, "objects/a")
    (found,) = read_marks(tmp_path)
    umask = os.umask(0)
    os.umask(umask)
    assert found.file.stat().st_mode & 0o777 == 0o644 & ~umask


def test_who_looks_at_marks_is_not_seen_by_others_who_look(tmp_path: Path) -> None:
    with another_process(tmp_path, "work/b"):
        pass
    (left,) = read_marks(tmp_path)
    descriptor = os.open(left.file, os.O_RDONLY)
    try:
        assert marks.lock(descriptor, shared=True)  # as another process that looks just now
        assert [found.state for found in read_marks(tmp_path)] == ["ended"]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("age", "state"), [(10, "alive"), (DAY_SECONDS + 10, "ended")])
def test_without_locks_a_mark_counts_for_a_day(
    tmp_path: Path, age: float, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        marks, "lock", lambda descriptor, wait=False, shared=False: True
    )  # a file system that gives a lock to everyone
    mark(tmp_path, "work/a")
    (found,) = read_marks(tmp_path)
    os.utime(found.file, (found.file.stat().st_mtime - age,) * 2)
    assert [one.state for one in read_marks(tmp_path)] == [state]


def test_a_cache_that_cannot_be_written_is_used_unmarked(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("")  # a file where the folder should be
    mark(tmp_path, "objects/a")
    assert read_marks(tmp_path) == []


def test_what_is_no_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "notes").write_text("hello\n")
    (tmp_path / FOLDER / "empty").write_text("")
    assert read_marks(tmp_path) == []


def test_only_some_roots_are_kept_open(tmp_path: Path) -> None:
    for number in range(MOST_ROOTS + 3):
        mark(tmp_path / str(number), "objects/a")
    states = [read_marks(tmp_path / str(number))[0].state for number in range(MOST_ROOTS + 3)]
    assert states == ["ended"] * 3 + ["alive"] * MOST_ROOTS
