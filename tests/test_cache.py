from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edgekit.cache import OBJECT, Cache, cache_key, copy_object, default_root

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
    assert not place.exists()
    assert cache.put(KEY, fill(cache)) == cache.get(KEY)


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
