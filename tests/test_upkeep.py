from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from processes import another_process

from edgekit.cache import OBJECT, Cache
from edgekit.decisions import RunDecisions
from edgekit.errors import UsageError
from edgekit.upkeep import (
    LIMIT,
    Choice,
    Entry,
    Listing,
    carry_out,
    keep_below,
    list_cache,
    plan_pruning,
    read_limit,
    remove_entry,
    verify_cache,
)

A, B, C, D = "a" * 64, "b" * 64, "c" * 64, "d" * 64
DAY = 86400.0


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def put(cache: Cache, key: str, **files: str) -> Path:
    """An object of small files; ``__`` in a name stands for a dot."""
    folder = cache.scratch()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return cache.put(key, folder)


def manifest(stage: str = "", source: str = "tiny") -> str:
    return json.dumps({"stages": [{"stage": stage}] if stage else [], "source": {"name": source}})


def entry(key: str = A, **changes: Any) -> Entry:
    values: dict[str, Any] = {
        "place": "objects",
        "key": key,
        "kind": "stage",
        "stage": "export",
        "source": "tiny",
        "files": 2,
        "size_bytes": 100,
        "created": 0.0,
        "used": 0.0,
        "use": "free",
    }
    return Entry(**(values | changes))


def listing(*entries: Entry, now: float = 100 * DAY) -> Listing:
    size = sum(one.size_bytes for one in entries)
    return Listing(root="cache", now=now, entries=entries, size_bytes=size, free_bytes=10**9)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"manifest__json": manifest("quantize")}, ("stage", "quantize", "tiny")),
        ({"manifest__json": manifest()}, ("original", "", "tiny")),
        ({"manifest__json": manifest("verify"), "SHA256SUMS": ""}, ("result", "", "tiny")),
        ({"outputs__safetensors": "x"}, ("outputs", "", "")),
        ({"module__json": "{}"}, ("module", "", "")),
        ({"digits-vit": "x"}, ("demo", "", "")),
        ({"anything": "x"}, ("object", "", "")),
        ({"manifest__json": "{"}, ("object", "", "")),
    ],
)
def test_an_object_is_told_by_its_files(cache: Cache, files: dict[str, str], expected: tuple[str, str, str]) -> None:
    place = put(cache, A, **files)
    (found,) = list_cache(cache).entries
    assert (found.kind, found.stage, found.source) == expected
    assert (found.place, found.key, found.files) == ("objects", A, len(files) + 1)
    assert found.size_bytes == sum(path.stat().st_size for path in place.iterdir())


def test_everything_else_is_listed_too(cache: Cache) -> None:
    (cache.work(A) / "events.jsonl").write_text('{"event": "distill.start", "step": 0}\n')
    (cache.work(B) / "events.jsonl").write_text('{"event": "calibration.start"}\n')
    cache.work(C)
    (cache.work(D) / "answers-32-auto-fp32").mkdir()
    (cache.run(A) / "decisions.json").write_text("{}")
    cache.scratch()
    (cache.root / "demo" / A).mkdir(parents=True)
    found = {(one.place, one.key): (one.kind, one.stage) for one in list_cache(cache).entries if one.place != "tmp"}
    assert found == {
        ("work", A): ("unfinished", "distill"),
        ("work", B): ("unfinished", "quantize"),
        ("work", C): ("unfinished", ""),
        ("work", D): ("answers", "distill"),
        ("runs", A): ("decisions", ""),
        ("demo", A): ("demo", ""),
    }
    assert [one.kind for one in list_cache(cache).entries if one.place == "tmp"] == ["being written"]


def test_a_cache_that_is_not_there_is_empty(cache: Cache) -> None:
    found = list_cache(cache)
    assert (found.entries, found.size_bytes) == ((), 0)
    assert found.free_bytes > 0


def test_using_an_object_moves_it_to_the_front(cache: Cache) -> None:
    for age, key in enumerate((A, B, C)):
        place = put(cache, key, file=key)
        for path in (place / OBJECT, place):
            os.utime(path, (1000.0 - age, 1000.0 - age))
    assert [one.key for one in list_cache(cache).entries] == [A, B, C]
    before = time.time()
    cache.get(C)
    first, *_ = list_cache(cache).entries
    assert first.key == C
    assert first.created == 998.0
    assert first.used >= before - 1


def test_what_a_living_process_uses_is_in_use(cache: Cache) -> None:
    put(cache, A, file="x")
    put(cache, B, file="x")
    with another_process(cache.root, f"objects/{A}", f"demo/{C}") as process:
        (cache.root / "demo" / A).mkdir(parents=True)
        used = {(one.place, one.key): (one.use, one.processes) for one in list_cache(cache).entries}
    assert used == {
        ("objects", A): ("in use", (process.pid,)),
        ("objects", B): ("free", ()),
        ("demo", A): ("in use", (process.pid,)),  # the copy is used where its object is
    }
    assert {one.use for one in list_cache(cache).entries} == {"free"}


@pytest.mark.parametrize(("age", "use"), [(0.0, "unknown"), (2 * DAY, "free")])
def test_whose_unfinished_work_nobody_named_is_not_known_for_a_day(cache: Cache, age: float, use: str) -> None:
    for place in ("work", "tmp"):
        (cache.root / place / A).mkdir(parents=True)
        (cache.root / place / A / "file").write_text("x")
    now = time.time() + age
    assert {one.use for one in list_cache(cache, now).entries} == {use}


def test_unfinished_work_of_a_process_that_ended_is_free_at_once(cache: Cache) -> None:
    with another_process(cache.root, f"work/{A}"):
        (cache.root / "work" / A).mkdir(parents=True)
        assert [one.use for one in list_cache(cache).entries] == ["in use"]
    assert [one.use for one in list_cache(cache).entries] == ["free"]


def test_a_sound_cache_is_sound(cache: Cache) -> None:
    put(cache, A, one="1", two="22")
    RunDecisions(cache.run(A) / "decisions.json", {}).decide("keep.quantize", lambda: True)
    cache.work(B)
    found = verify_cache(cache)
    assert (found.objects, found.files, found.damaged, found.unchecked, found.sound) == (1, 3, (), 2, True)


def test_each_damaged_entry_is_named(cache: Cache) -> None:
    (put(cache, A, file="x") / "file").write_text("y")
    (put(cache, B, file="x") / "more").write_text("y")
    put(cache, C, file="x")
    (cache.run(A) / "decisions.json").write_text("{")
    found = verify_cache(cache)
    assert {one.name: one.problem for one in found.damaged} == {
        f"objects/{A}": "file changed",
        f"objects/{B}": "more is missing or was added",
        f"runs/{A}": "decisions.json: it cannot be read",
    }
    assert not found.sound
    assert cache.get(C) is not None


def test_fixing_removes_what_is_damaged_and_nothing_else(cache: Cache) -> None:
    (put(cache, A, file="x") / "file").write_text("y")
    put(cache, B, file="x")
    found = verify_cache(cache, fix=True)
    assert [(one.name, one.removed) for one in found.damaged] == [(f"objects/{A}", True)]
    assert found.sound
    assert [one.key for one in list_cache(cache).entries] == [B]


def test_a_damaged_entry_that_is_in_use_stays(cache: Cache) -> None:
    (put(cache, A, file="x") / "file").write_text("y")
    with another_process(cache.root, f"objects/{A}"):
        found = verify_cache(cache, fix=True)
    assert [one.removed for one in found.damaged] == [False]
    assert not found.sound


def test_the_demos_copy_is_compared_with_its_object(cache: Cache) -> None:
    put(cache, A, file="x")
    copy = cache.root / "demo" / A
    copy.mkdir(parents=True)
    (copy / "file").write_text("x")
    assert verify_cache(cache).damaged == ()
    (copy / "file").write_text("longer")
    assert [one.problem for one in verify_cache(cache).damaged] == ["file is not as in its object"]


OLD, YOUNG = entry(A, used=10 * DAY), entry(B, used=99 * DAY)


@pytest.mark.parametrize(
    ("choice", "gone"),
    [
        (Choice(), []),
        (Choice(older_than=30 * DAY), [A]),
        (Choice(older_than=90 * DAY), []),
        (Choice(older_than=0.5 * DAY), [A, B]),
        (Choice(keep_below=200), []),
        (Choice(keep_below=199), [A]),
        (Choice(keep_below=0), [A, B]),
        (Choice(older_than=30 * DAY, keep_below=99), [A, B]),
        (Choice(everything=True), [A, B]),
    ],
)
def test_what_is_chosen(choice: Choice, gone: list[str]) -> None:
    plan = plan_pruning(listing(YOUNG, OLD), choice)
    assert [one.key for one in plan.removed] == gone
    assert (plan.freed_bytes, plan.left_bytes) == (100 * len(gone), 200 - 100 * len(gone))


def test_what_was_left_while_writing_always_goes() -> None:
    left = entry(C, place="tmp", kind="being written", used=99 * DAY)
    answers = entry(D, place="work", kind="answers", used=99 * DAY)
    work = entry(A, place="work", kind="unfinished", used=99 * DAY)
    assert [one.key for one in plan_pruning(listing(YOUNG, left, answers, work), Choice()).removed] == [C, D]


def test_decisions_do_not_go_for_room() -> None:
    decisions = entry(A, place="runs", kind="decisions", used=1.0, size_bytes=1)
    plan = plan_pruning(listing(YOUNG, decisions), Choice(keep_below=0))
    assert [one.key for one in plan.removed] == [B]
    assert [one.key for one in plan_pruning(listing(YOUNG, decisions), Choice(everything=True)).removed] == [A, B]


def test_what_is_in_use_or_unknown_is_told_and_not_counted_as_room() -> None:
    busy = entry(A, use="in use", processes=(7,), used=1 * DAY)
    unknown = entry(C, place="work", use="unknown", used=2 * DAY)
    plan = plan_pruning(listing(YOUNG, unknown, busy), Choice(keep_below=250))
    assert [one.key for one in plan.removed] == [B]  # the others were unused for longer, and stay
    assert [one.key for one in plan.kept_in_use] == [A]
    assert [one.key for one in plan.kept_unknown] == [C]
    assert plan.left_bytes == 200


def test_pruning_removes_and_leaves_nothing_behind(cache: Cache) -> None:
    put(cache, A, file="x")
    put(cache, B, file="y")
    plan = plan_pruning(list_cache(cache), Choice(everything=True))
    assert plan.dry_run
    assert len(list_cache(cache).entries) == 2
    done = carry_out(cache, plan)
    assert (len(done.removed), done.dry_run, done.left_bytes) == (2, False, 0)
    assert list_cache(cache).entries == ()


def test_what_a_process_begins_to_use_meanwhile_stays(cache: Cache) -> None:
    put(cache, A, file="x")
    plan = plan_pruning(list_cache(cache), Choice(everything=True))
    with another_process(cache.root, f"objects/{A}"):
        done = carry_out(cache, plan)
        assert (done.removed, [one.key for one in done.kept_in_use], done.freed_bytes) == ((), [A], 0)
    assert cache.get(A) is not None


def test_what_is_in_use_is_not_even_moved(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, A, file="x")
    (entry,) = list_cache(cache).entries
    with another_process(cache.root, f"objects/{A}"):
        monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("moved while a process reads it"))
        assert not remove_entry(cache, entry)


def test_a_limit_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    assert read_limit() is None
    monkeypatch.setenv(LIMIT, "10GB")
    assert read_limit() == 10**10
    monkeypatch.setenv(LIMIT, "many")
    with pytest.raises(UsageError, match="EDGEKIT_CACHE_LIMIT 'many' is no size"):
        read_limit()


def test_a_cache_keeps_below_its_limit_by_what_was_unused_longest(cache: Cache) -> None:
    for age, key in enumerate((A, B, C)):
        os.utime(put(cache, key, file="x" * 1000) / OBJECT, (1000.0 - age, 1000.0 - age))
    one = list_cache(cache).entries[0].size_bytes
    with another_process(cache.root, f"objects/{C}"):
        keep_below(cache, 2 * one)
        assert {one.key for one in list_cache(cache).entries if one.place == "objects"} == {A, C}
    keep_below(cache, 2 * one)
    assert {one.key for one in list_cache(cache).entries if one.place == "objects"} == {A, C}
    keep_below(cache, one)
    assert [one.key for one in list_cache(cache).entries if one.place == "objects"] == [A]


def test_what_somebody_else_removed_is_gone(cache: Cache) -> None:
    assert remove_entry(cache, entry(A))


def test_what_is_no_folder_is_pruned_like_any_other_entry(cache: Cache, tmp_path: Path) -> None:
    put(cache, A, model="x")
    (cache.root / "objects" / ".DS_Store").write_text("x")
    (cache.root / "objects" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("precious")
    carry_out(cache, plan_pruning(list_cache(cache), Choice(everything=True)))
    assert list((cache.root / "objects").iterdir()) == []
    assert list((cache.root / "tmp").iterdir()) == []
    assert (tmp_path / "elsewhere" / "file").read_text() == "precious"


@pytest.mark.parametrize("text", ['{"stages": [5], "source": 7}', '{"stages": {"a": 1}}', "[]", "no json"])
def test_an_entry_whose_manifest_is_odd_is_listed(cache: Cache, text: str) -> None:
    put(cache, A, manifest__json=text)
    assert [found.key for found in list_cache(cache).entries] == [A]
