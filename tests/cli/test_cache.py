from __future__ import annotations

import os
from pathlib import Path

import pytest
from processes import another_process

from edgekit.cache import OBJECT, Cache
from edgekit.cli.cache import read_duration, read_size
from edgekit.error_catalogue import remedy
from edgekit.errors import UsageError
from edgekit.render.upkeep import age

A, B = "a" * 64, "b" * 64
DAY = 86400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache with an old object of 3 kB and a young one of 1 kB."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    made = Cache()
    for key, size, days in ((A, 3_000, 40), (B, 1_000, 1)):
        folder = made.scratch()
        (folder / "outputs.safetensors").write_bytes(bytes(size))
        place = made.put(key, folder)
        then = (place / OBJECT).stat().st_mtime - days * DAY
        for path in (place / OBJECT, place / "outputs.safetensors", place):
            os.utime(path, (then, then))
    return made


def left(cache: Cache) -> list[str]:
    return sorted(path.name for path in (cache.root / "objects").iterdir())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("90m", 5400), ("12h", 43200), ("30d", 30 * DAY), ("2w", 14 * DAY), ("1.5 d", 1.5 * DAY)],
)
def test_a_length_of_time(text: str, seconds: float) -> None:
    assert read_duration(text, "--older-than") == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("30", ""),
        ("30days", "Did you mean '30d'?"),
        ("12 Hours", "Did you mean '12h'?"),
        ("-3d", ""),
        ("1d12h", ""),
        ("d", ""),
        ("", ""),
        ("5y", ""),
        ("12345678 DAYS", "Did you mean '12345678d'?"),
        ("9" * 400 + "d", ""),
    ],
)
def test_what_is_no_length_of_time(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match="is no length of time") as caught:
        read_duration(text, "--older-than")
    assert caught.value.hint == (hint or remedy("usage.bad-value"))
    assert caught.value.why == "allowed: a number with s, m (minutes), h, d or w, such as 30d or 12h"


@pytest.mark.parametrize(
    ("text", "size"),
    [("10GB", 10**10), ("500MB", 5 * 10**8), ("1.5 TB", 15 * 10**11), ("0B", 0), ("2GiB", 2**31), ("3kB", 3000)],
)
def test_a_size(text: str, size: int) -> None:
    assert read_size(text, "--larger-than") == size


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("10", ""),
        ("10G", "Did you mean '10GB'?"),
        ("10gb", "Did you mean '10GB'?"),
        ("10 gib", "Did you mean '10GiB'?"),
        ("12345678gb", "Did you mean '12345678GB'?"),
        ("9" * 400 + "GB", ""),
        ("lots", ""),
        ("-1GB", ""),
        ("1e9B", ""),
    ],
)
def test_what_is_no_size(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match="is no size") as caught:
        read_size(text, "--larger-than")
    assert caught.value.hint == (hint or remedy("usage.bad-value"))
    assert "such as 10GB or 500MB" in caught.value.why


def test_ls_tells_entries_the_last_used_first(cache: Cache, run):
    result = run("cache", "ls")
    assert result.code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == str(cache.root)
    assert lines[1].startswith("2 entries, 0 MB; ")
    rows = [line.split() for line in lines[5:]]
    assert rows == [
        ["outputs", "0.0", "1", "d", "1", "d", B[:10]],
        ["outputs", "0.0", "40", "d", "40", "d", A[:10]],
    ]
    document = run("cache", "ls", "--json").document
    assert document["schema"] == "edgekit.cache/1"
    assert [entry["key"] for entry in document["entries"]] == [B, A]
    assert document["size_bytes"] > 4_000


def test_a_long_path_is_neither_broken_nor_cut(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / ("long" * 30)
    monkeypatch.setenv("EDGEKIT_CACHE", str(root))
    assert run("cache", "ls").stdout.splitlines()[0] == str(root)
    assert run("cache", "verify").stdout.splitlines()[0] == f"sound  {root}"


def test_ls_of_nothing(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "none"))
    assert run("cache", "ls").stdout.splitlines()[1].startswith("empty; ")
    assert not (tmp_path / "none").exists()


def test_ls_says_who_uses_an_entry(cache: Cache, run):
    with another_process(cache.root, f"objects/{B}") as process:
        assert f"outputs {B[:10]}: used by process {process.pid}" in run("cache", "ls").stdout


def test_verify_of_a_sound_cache(cache: Cache, run):
    result = run("cache", "verify")
    assert result.code == 0
    assert " ".join(result.stdout.split()).startswith(f"sound {cache.root} - 2 objects with 4 files")
    assert run("cache", "verify", "--json").document["sound"] is True


def test_verify_names_what_is_damaged_and_exits_with_1(cache: Cache, run):
    (cache.root / "objects" / A / "outputs.safetensors").write_bytes(b"other")
    result = run("cache", "verify")
    assert result.code == 1
    assert f"damaged  objects/{A[:10]}  outputs.safetensors changed" in result.stdout
    assert "--fix removes" in result.stdout
    document = run("cache", "verify", "--json")
    assert document.code == 1
    assert document.document["damaged"] == [
        {"name": f"objects/{A}", "problem": "outputs.safetensors changed", "removed": False}
    ]


def test_verify_with_fix_removes_it(cache: Cache, run):
    (cache.root / "objects" / A / "outputs.safetensors").write_bytes(b"other")
    result = run("cache", "verify", "--fix")
    assert result.code == 0
    assert result.stdout.startswith("mended")
    assert left(cache) == [B]


def test_prune_asks_nobody_and_needs_yes(cache: Cache, run):
    result = run("cache", "prune", "--older-than", "30d", "--json")
    assert result.code == 2
    assert result.error["what"] == "1 entries would be removed, and nobody can be asked"
    assert "--yes" in result.error["hint"]
    assert left(cache) == [A, B]


def test_prune_by_age(cache: Cache, run):
    result = run("cache", "prune", "--older-than", "30d", "-y")
    assert result.code == 0
    assert result.stdout.startswith("removed 1 entry, 0 MB; ")
    assert left(cache) == [B]


def test_prune_by_size_removes_the_longest_unused(cache: Cache, run):
    document = run("cache", "prune", "--larger-than", "2kB", "--yes", "--json").document
    assert document["schema"] == "edgekit.cache-prune/1"
    assert [entry["key"] for entry in document["removed"]] == [A]
    assert document["dry_run"] is False
    assert document["left_bytes"] < 2_000
    assert left(cache) == [B]


def test_prune_all(cache: Cache, run):
    assert run("cache", "prune", "--all", "-y").code == 0
    assert left(cache) == []


def test_prune_without_an_option_keeps_what_is_whole(cache: Cache, run):
    (cache.root / "tmp" / "left").mkdir(parents=True)
    os.utime(cache.root / "tmp" / "left", (0, 0))
    result = run("cache", "prune", "-y")
    assert result.stdout.startswith("removed 1 entry")
    assert left(cache) == [A, B]
    assert list((cache.root / "tmp").iterdir()) == []


def test_a_dry_run_removes_nothing(cache: Cache, run):
    result = run("cache", "prune", "--all", "--dry-run")
    assert result.code == 0
    assert result.stdout.startswith("would remove 2 entries")
    assert A[:10] in result.stdout
    assert left(cache) == [A, B]


def test_what_a_process_uses_stays_and_is_told(cache: Cache, run):
    with another_process(cache.root, f"objects/{A}") as process:
        result = run("cache", "prune", "--all", "-y")
        assert f"outputs {A[:10]} stays: used by process {process.pid}" in " ".join(result.stdout.split())
        assert left(cache) == [A]


def test_all_goes_with_nothing_else(run):
    result = run("cache", "prune", "--all", "--older-than", "1d")
    assert result.code == 2
    assert "--all was given with --older-than or --larger-than" in result.told


def test_a_wrong_unit_is_a_usage_error(run):
    result = run("cache", "prune", "--larger-than", "10G", "--json")
    assert result.code == 2
    assert result.error["hint"] == "Did you mean '10GB'?"


def test_a_mistyped_command_gets_the_nearest(run):
    result = run("cache", "prun")
    assert result.code == 2
    assert "Did you mean 'prune'?" in result.told


@pytest.mark.parametrize(
    ("answer", "remaining", "told"), [("y\n", [B], "removed 1 entry"), ("n\n", [A, B], "nothing was removed")]
)
def test_on_a_terminal_it_asks(
    answer: str, remaining: list[str], told: str, cache: Cache, run, monkeypatch: pytest.MonkeyPatch
):
    class Terminal:
        """What a person types."""

        def isatty(self) -> bool:
            return True

        def readline(self, size: int = -1) -> str:
            return answer

    monkeypatch.setattr("sys.stdin", Terminal())
    result = run("cache", "prune", "--older-than", "30d")
    assert result.code == 0
    assert "would remove 1 entry" in result.stderr
    assert "Remove them?" in result.stderr
    assert told in result.stdout + result.stderr
    assert left(cache) == remaining


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (300, "5 min"), (7200, "2 h"), (40 * DAY, "40 d")]
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert age(seconds) == text
