from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import another_process

from edgekit.cache import (
    OBJECT,
    STAGED,
    Cache,
    Filled,
    cache_key,
    copy_object,
    decided_in,
    default_root,
    find_damage,
    folder_beside,
    newest_whole,
    put_first,
    put_whole,
    record_files,
    temporary,
)
from edgekit.source import sha256_file

KEY = "a" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def fill(cache: Cache, text: str = "weights") -> Path:
    folder = cache.scratch()
    (folder / "golden").mkdir()
    (folder / "model.onnx").write_text(text)
    (folder / "golden" / "model.safetensors").write_text("golden")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_key_is_the_sum_of_canonical_json() -> None:
    assert cache_key("stage", {"b": 1, "a": [0.5, None]}) == cache_key("stage", {"a": [0.5, None], "b": 1})
    # sha256 of ["stage",{"a":[0.5,null],"b":1}]
    assert (
        cache_key("stage", {"a": [0.5, None], "b": 1})
        == "e2c3e00c38bdd7c0305f01522a0c08ffb41761acb7ea73bca5875a679bfbfdd5"
    )


@pytest.mark.parametrize("other", [["stage", 2], ["stage", "1"], ["stag", "e1"], ["stage", 1, None], [["stage", 1]]])
def test_other_parts_give_another_key(other: list[object]) -> None:
    assert cache_key(*other) != cache_key("stage", 1)  # type: ignore[arg-type]
    assert len(cache_key(*other)) == 64  # type: ignore[arg-type]


def test_what_is_no_number_is_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        cache_key(float("nan"))


def test_an_object_comes_back_as_it_was_put(cache: Cache) -> None:
    assert cache.get(KEY) is None
    place = cache.put(KEY, fill(cache))
    assert cache.get(KEY) == place == cache.root / "objects" / KEY
    assert names(place) == [OBJECT, "golden/model.safetensors", "model.onnx"]
    assert not any((cache.root / "tmp").iterdir())


def test_a_flipped_bit_is_a_miss_and_logged(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    place = cache.put(KEY, fill(cache))
    content = bytearray((place / "model.onnx").read_bytes())
    content[3] ^= 1
    (place / "model.onnx").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY) is None
    assert caplog.messages == [f"cache: object {KEY[:12]} is damaged (model.onnx changed); it is made again"]
    assert cache.get(KEY) is None
    assert len(caplog.messages) == 1  # named once
    assert cache.put(KEY, fill(cache)) == cache.get(KEY) == place
    assert not any((cache.root / "tmp").iterdir())


@pytest.mark.parametrize("damage", ["missing", "added", "no list", "empty list"])
def test_a_damaged_object_is_a_miss(cache: Cache, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    place = cache.put(KEY, fill(cache))
    if damage == "missing":
        (place / "model.onnx").unlink()
    elif damage == "added":
        (place / "more").write_text("")
    elif damage == "no list":
        (place / OBJECT).unlink()
    else:
        (place / OBJECT).write_text("")
    assert cache.get(KEY) is None
    assert len(caplog.messages) == 1


def test_the_second_of_two_writers_keeps_what_the_first_put_there(cache: Cache) -> None:
    first, second = fill(cache, "first"), fill(cache, "second")
    place = cache.put(KEY, first)
    assert cache.put(KEY, second) == place
    assert (place / "model.onnx").read_text() == "first"
    assert not second.exists()


def test_a_damaged_object_is_replaced_by_the_one_that_is_put(cache: Cache) -> None:
    place = cache.put(KEY, fill(cache, "first"))
    (place / "model.onnx").write_text("flaws")
    assert cache.put(KEY, fill(cache, "second")) == place
    assert (place / "model.onnx").read_text() == "second"


def test_a_failure_leaves_no_object(cache: Cache) -> None:
    with pytest.raises(FileNotFoundError):
        cache.put(KEY, cache.root / "tmp" / "never-made")
    assert cache.get(KEY) is None
    assert names(cache.root) == []


def test_a_cached_object_is_copied_without_the_caches_own(cache: Cache, tmp_path: Path) -> None:
    copy_object(cache.put(KEY, fill(cache)), tmp_path / "out")
    assert names(tmp_path / "out") == ["golden/model.safetensors", "model.onnx"]
    assert (tmp_path / "out" / "model.onnx").stat().st_mode & 0o777 == 0o644


def test_what_was_decided_stays_with_the_object(cache: Cache) -> None:
    assert decided_in(cache.put(KEY, fill(cache), {"optimize.model": ["residual"]})) == {"optimize.model": ["residual"]}
    assert decided_in(cache.put("b" * 64, fill(cache))) == {}


def test_every_single_bit_of_an_object_counts(cache: Cache) -> None:
    place = cache.put(KEY, fill(cache), {"keep": True})
    for path in (place / OBJECT, place / "model.onnx"):
        content = path.read_bytes()
        for bit in range(8 * len(content)):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            assert find_damage(place) is not None, (path.name, bit)
        path.write_bytes(content)
    assert find_damage(place) is None


def test_an_object_of_an_earlier_version_is_a_miss(cache: Cache) -> None:
    place = cache.put(KEY, fill(cache))
    record = json.loads((place / OBJECT).read_text())
    (place / OBJECT).write_text(json.dumps({"schema": "edgekit.object/1", "files": record["files"]}))
    assert find_damage(place) == f"{OBJECT} changed"


def test_a_file_with_the_name_of_the_list_is_a_file_like_others(cache: Cache, tmp_path: Path) -> None:
    folder = fill(cache)
    (folder / "golden" / OBJECT).write_text("weights")
    place = cache.put(KEY, folder)
    copy_object(place, tmp_path / "out")
    assert (tmp_path / "out" / "golden" / OBJECT).read_text() == "weights"
    (place / "golden" / OBJECT).write_text("other")
    assert find_damage(place) == f"golden/{OBJECT} changed"


def test_the_newest_whole_folder_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_whole(tmp_path, "step-") is None
    for number in (5, 10):
        folder = tmp_path / f"step-{number:08d}"
        folder.mkdir()
        (folder / "weights").write_text(str(number))
        record_files(folder)
    assert newest_whole(tmp_path, "step-") == tmp_path / "step-00000010"
    (tmp_path / "step-00000010" / "weights").write_text("11")
    assert newest_whole(tmp_path, "step-") == tmp_path / "step-00000005"
    assert "the checkpoint step-00000010 is damaged (weights changed)" in caplog.text


def test_a_link_in_place_of_a_file_is_damage(cache: Cache, tmp_path: Path) -> None:
    place = cache.put(KEY, fill(cache))
    (place / "model.onnx").rename(tmp_path / "elsewhere")
    (place / "model.onnx").symlink_to(tmp_path / "elsewhere")
    assert find_damage(place) == "model.onnx changed"


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_damaged_object_is_exchanged_for_the_new_one(
    cache: Cache, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr("edgekit.cache.exchange", lambda one, other: False)
    place = cache.put(KEY, fill(cache, "first"))
    (place / "model.onnx").write_text("fiRst")
    assert cache.get_or_make(KEY, lambda scratch: Filled(_filled(scratch(), "second"))) == place
    assert (place / "model.onnx").read_text() == "second"
    assert find_damage(place) is None
    assert list((cache.root / "tmp").iterdir()) == []


def _filled(folder: Path, text: str) -> Path:
    (folder / "model.onnx").write_text(text)
    return folder


def test_what_was_hashed_while_it_was_made_is_not_hashed_again(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def watched(path: Path) -> str:
        hashed.append(path.name)
        return sha256_file(path)

    def make(scratch: Callable[[], Path]) -> Filled:
        folder = _filled(scratch(), "weights")
        (folder / "golden.txt").write_text("golden")
        return Filled(folder, {"model.onnx": sha256_file(folder / "model.onnx")})

    monkeypatch.setattr("edgekit.cache.sha256_file", watched)
    place = cache.get_or_make(KEY, make)
    assert hashed == ["golden.txt"]
    assert find_damage(place) is None


def test_what_could_not_be_made_leaves_nothing(cache: Cache) -> None:
    def fail(scratch: Callable[[], Path]) -> Filled:
        _filled(scratch(), "half")
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        cache.get_or_make(KEY, fail)
    assert cache.get(KEY) is None
    assert names(cache.root / "tmp") == []


def test_what_ended_processes_left_is_swept_and_what_living_ones_write_stays(cache: Cache, tmp_path: Path) -> None:
    out, dead, alive = tmp_path / "out", "d" * 32, "a" * 32
    folders = [
        folder
        for name in (dead, alive)
        for folder in (
            cache.root / "tmp" / name,
            tmp_path / f".out.{STAGED}{name}",
            tmp_path / f".out.{STAGED}{name}-old",
        )
    ]
    with another_process(cache.root, f"tmp/{dead}"):
        pass
    with another_process(cache.root, f"tmp/{alive}"):
        for folder in (*folders, out, tmp_path / f".other.{STAGED}{dead}", cache.scratch()):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "file").write_text("x")
        cache.sweep(out)
        assert [folder.exists() for folder in folders] == [False] * 3 + [True] * 3
        assert len(list((cache.root / "tmp").iterdir())) == 2
    assert (tmp_path / f".other.{STAGED}{dead}").exists()
    cache.sweep(out)
    assert not any(folder.exists() for folder in folders)
    assert (out / "file").exists()


def test_what_nobody_knows_any_more_is_swept_after_a_day(cache: Cache, tmp_path: Path) -> None:
    old, new, turned = cache.root / "tmp" / "o", cache.root / "tmp" / "n", cache.root / "turns" / KEY
    for folder in (old, new):
        folder.mkdir(parents=True)
    turned.parent.mkdir()
    turned.touch()
    os.utime(old, (0, 0))
    cache.sweep(tmp_path / "out")
    assert (old.exists(), new.exists(), turned.exists()) == (False, True, False)


def test_what_is_put_together_beside_an_output_goes_with_its_process_or_the_next_one(
    cache: Cache, tmp_path: Path
) -> None:
    out = tmp_path / "place" / "out"
    with folder_beside(out, cache) as staged:
        (staged / "file").write_text("x")
        cache.sweep(out)
        assert staged.parent == out.parent
        assert (staged / "file").exists()
        os.utime(staged, (0, 0))
        Cache(tmp_path / "another").sweep(out)  # which knows nothing of it
    assert list(out.parent.iterdir()) == []


def test_a_folder_is_on_the_disk_before_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged, place = tmp_path / "staged", tmp_path / "place"
    staged.mkdir()
    place.mkdir()
    (staged / "file").write_text("new")
    (place / "file").write_text("old")
    written: list[int] = []

    def fsync(descriptor: int) -> None:
        assert (place / "file").read_text() == "old"
        written.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr("os.fsync", fsync)
    put_whole(staged, place)
    assert {path.stat().st_ino for path in (place, *place.iterdir())} <= set(written)
    assert (find_damage(place), (place / "file").read_text(), staged.exists()) == (None, "new", False)


def test_a_folder_is_on_the_disk_before_it_is_found_and_the_first_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, place = tmp_path / "first", tmp_path / "second", tmp_path / "places" / "place"
    for folder in (first, second):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    written: list[int] = []

    def fsync(descriptor: int) -> None:
        assert not place.exists()
        written.append(os.fstat(descriptor).st_ino)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fsync)
        put_first(first, place)
    assert {path.stat().st_ino for path in (place, *place.iterdir())} == set(written)
    put_first(second, place)
    assert ((place / "file").read_text(), first.exists(), second.exists()) == ("first", False, True)


def test_two_processes_never_work_in_one_folder(cache: Cache) -> None:
    with another_process(cache.root, f"work/{KEY}"):
        (cache.root / "work" / KEY).mkdir(parents=True)
        (cache.root / "work" / KEY / "step").write_text("theirs")
        mine = cache.work(KEY)
        assert mine.parent == cache.root / "tmp"
        assert cache.work(KEY) == mine
        cache.forget_work(KEY)
        assert not mine.exists()
        assert (cache.root / "work" / KEY / "step").read_text() == "theirs"
    assert (cache.work(KEY) / "step").read_text() == "theirs"  # it has ended, and its work is gone on with


def test_work_stays_where_it_was_begun_whoever_begins_meanwhile(cache: Cache) -> None:
    mine = cache.work(KEY)
    with another_process(cache.root, f"work/{KEY}"):
        assert cache.work(KEY) == mine == cache.root / "work" / KEY
        cache.forget_work(KEY)
        assert mine.is_dir()  # the other process may work in it by now
    cache.forget_work(KEY)
    assert not mine.exists()


def test_what_a_killed_process_half_wrote_among_its_checkpoints_is_removed(cache: Cache) -> None:
    folder = cache.work(KEY)
    (folder / "step-1").mkdir()
    (folder / ".step-2").mkdir()
    (folder / ".step-2" / "half").write_text("x")
    (folder / ".done.json.123").write_text("x")
    assert [path.name for path in cache.work(KEY).iterdir()] == ["step-1"]


def test_temporary_folders_lie_in_the_cache_and_go(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(cache.root))
    with temporary() as folder:
        (folder / "file").write_text("x")
        assert folder.parent == cache.root / "tmp"
    assert list((cache.root / "tmp").iterdir()) == []


def test_a_cache_that_may_only_be_read_needs_no_temporary_folder_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Cache) -> Path:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Cache, "scratch", refuse)
    with temporary() as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_a_full_disk_is_no_reason_to_look_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Cache) -> Path:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Cache, "scratch", full)
    with pytest.raises(OSError, match="full"), temporary():
        pass


def test_checkpoints_stay_until_they_are_forgotten(cache: Cache) -> None:
    (cache.work(KEY) / "step").write_text("7")
    assert (cache.work(KEY) / "step").read_text() == "7"
    cache.forget_work(KEY)
    assert names(cache.work(KEY)) == []


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({"EDGEKIT_CACHE": "/one"}, "/one"),
        ({"XDG_CACHE_HOME": "/two"}, "/two/edgekit"),
        ({"EDGEKIT_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/me/.cache/edgekit"),
    ],
)
def test_where_the_cache_lies(variables: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGEKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    assert default_root() == Path(root)
