from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edgekit.errors import UsageError
from edgekit.settings import MAX_FILE_BYTES, Frozen, parse_toml, read_bounded, validate


class Inner(Frozen):
    threshold: float = 0.5


class Outer(Frozen):
    temperature: int = 1
    inner: Inner = Inner()
    rows: tuple[Inner, ...] = ()


def fails(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_toml(Outer, text, "the file")
    return caught.value


def test_values_are_read_and_frozen() -> None:
    table = parse_toml(Outer, "temperature = 3\n[inner]\nthreshold = 0.25", "the file")
    assert (table.temperature, table.inner.threshold) == (3, 0.25)
    with pytest.raises(ValidationError, match="frozen"):
        table.temperature = 4


def test_an_unknown_key_is_named_with_the_nearest() -> None:
    error = fails("temprature = 3")
    assert error.what == "the file is not valid"
    assert error.why == "unknown key 'temprature'; did you mean 'temperature'?"
    assert error.hint == "Known keys: temperature, inner, rows."


def test_an_unknown_key_that_is_near_nothing_is_only_named() -> None:
    assert fails("xyz = 3").why == "unknown key 'xyz'"


def test_every_wrong_key_is_named() -> None:
    assert fails('xyz = 3\ntemperature = "hot"').why.splitlines() == [
        "temperature: input should be a valid integer, unable to parse string as an integer",
        "unknown key 'xyz'",
    ]


@pytest.mark.parametrize(
    ("text", "where"), [("[inner]\ntreshold = 1", "inner.treshold"), ("[[rows]]\ntreshold = 1", "rows.0.treshold")]
)
def test_an_unknown_key_of_a_nested_table_is_named_with_the_nearest_of_that_table(text: str, where: str) -> None:
    assert fails(text).why == f"unknown key {where!r}; did you mean 'threshold'?"


def test_text_that_is_no_toml_names_the_place() -> None:
    error = fails("a = = 1")
    assert error.what == "the file is not valid TOML"
    assert "line 1" in error.why


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, ".".join("a" * 3_000) + " = 1", "a = " + "{a=" * 20_000])
def test_deep_nesting_is_an_error_of_ours(text: str) -> None:
    assert fails(text).what in ("the file is not valid TOML", "the file is not valid")


@pytest.mark.parametrize("depth", [70, 20_000])
def test_quotes_do_not_hide_brackets(depth: int) -> None:
    error = fails(f'a = ["""x"""", {"[" * depth}{"]" * depth}, "y"]')
    assert (error.what, error.why) == ("the file is not valid TOML", "it is nested deeper than 64")


def test_values_of_another_type_are_an_error() -> None:
    with pytest.raises(UsageError, match="the thing is not valid"):
        validate(Outer, ["no", "table"], "the thing")


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "big.toml"
    file.write_text("#" * MAX_FILE_BYTES)
    assert len(read_bounded(file, "recipe")) == MAX_FILE_BYTES
    file.write_text("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(UsageError, match=f"has {MAX_FILE_BYTES + 1} bytes\nallowed: {MAX_FILE_BYTES}"):
        read_bounded(file, "recipe")
    assert len(read_bounded(file, "recipe", 1024 * 1024)) == MAX_FILE_BYTES + 1


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"the target file .*binary.toml' is not UTF-8 text"):
        read_bounded(file, "target")
