"""Reading settings: TOML files and option values become frozen, typed tables; each wrong key is named."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from edgekit.bounds import MAX_FILE_BYTES, MAX_NESTING, check_depth, check_numbers, check_texts, nesting
from edgekit.errors import UsageError

Table = TypeVar("Table", bound=BaseModel)


class Frozen(BaseModel):
    """A settings table: immutable, and an unknown key is an error."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", populate_by_name=True)


class Record(BaseModel):
    """A part of a report: immutable, and tolerant of keys that a later version adds."""

    model_config = ConfigDict(defer_build=True, frozen=True, populate_by_name=True)


def read_bounded(path: Path, noun: str, limit: int = MAX_FILE_BYTES) -> str:
    """The text of a small settings file; a file above ``limit`` bytes is refused unread."""
    if path.stat().st_size > limit:
        raise UsageError(
            f"the {noun} file {str(path)!r} has {path.stat().st_size} bytes",
            id="usage.invalid-settings",
            why=f"allowed: {limit}",
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the {noun} file {str(path)!r} is not UTF-8 text", id="usage.invalid-settings", why=str(error)
        ) from error


def parse_toml(kind: type[Table], text: str, origin: str) -> Table:
    """TOML text as one of edgekit's tables; errors name each wrong key and what is allowed.

    Raises:
        UsageError: not TOML, nested too deep, or not valid for ``kind``.
    """
    return validate(kind, read_tables(text, origin), origin)


def read_tables(text: str, origin: str) -> dict[str, Any]:
    """TOML text as plain tables.

    Raises:
        UsageError: not TOML, or nested too deep.
    """
    try:
        return load_toml(text)
    except ValueError as error:
        raise UsageError(f"{origin} is not valid TOML", id="usage.invalid-settings", why=str(error)) from error


def load_toml(text: str) -> dict[str, Any]:
    """TOML text as tables; it is looked at before the parser sees it, which follows tables in tables by recursion.

    Raises:
        ValueError: not TOML, nested too deep, a number of more than 64 bits, or a text with control characters.
    """
    if nesting(text) > MAX_NESTING:
        raise ValueError(f"it is nested deeper than {MAX_NESTING}")
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_NESTING}") from None
    for value in values.values():
        check_depth(value)
    check_texts(values)
    check_numbers(values)
    return values


def validate(kind: type[Table], values: object, origin: str) -> Table:
    """``values`` as a ``kind``, or a UsageError that names every wrong key and the nearest right one."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UsageError(
            f"{origin} is not valid",
            id="usage.invalid-settings",
            why="\n".join(explain(kind, *wrong) for wrong in _one_for_each_key(error)),
            hint=f"Known keys: {', '.join(_keys(kind))}.",
        ) from error


def _one_for_each_key(error: ValidationError) -> list[tuple[tuple[int | str, ...], str, str]]:
    """Place, kind and message of each wrong value; what pydantic says for each type of a union becomes one message."""
    found: dict[tuple[int | str, ...], tuple[str, str]] = {}
    for item in error.errors():
        place = tuple(part for part in item["loc"] if not _is_branch(part))
        known = found.get(place)
        message = item["msg"] if known is None else f"{known[1]}, or {item['msg'].removeprefix('Input should be ')}"
        found[place] = (known[0] if known else item["type"], message)
    return [(place, problem, message) for place, (problem, message) in found.items()]


def _is_branch(part: int | str) -> bool:
    """Whether a part of an error's place names a type of a union, which is no key."""
    return isinstance(part, str) and (part.startswith(("literal[", "constrained-")) or part in ("float", "int"))


def explain(kind: type[BaseModel], loc: tuple[int | str, ...], problem: str, message: str) -> str:
    """One line for one wrong key, with the nearest key that exists."""
    where = ".".join(str(part) for part in loc)
    if problem == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), _keys(_nested(kind, loc[:-1])), n=1, cutoff=0.5)
        return f"unknown key {where!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if problem == "missing":
        return f"missing key {where!r}{_only_value(_nested(kind, loc[:-1]), str(loc[-1]))}"
    return f"{where}: {message[0].lower()}{message[1:]}"


def _only_value(kind: type[BaseModel], key: str) -> str:
    """What a key has to be, where it can be one thing only, such as a schema."""
    found = next(field for name, field in kind.model_fields.items() if key in (name, field.alias))
    values = get_args(found.annotation) if get_origin(found.annotation) is Literal else ()
    return f"; it has to be {values[0]!r}" if len(values) == 1 else ""


def _nested(kind: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The table inside ``kind`` that a key's place leads to; ``kind`` itself where it leads to none."""
    for part in loc:
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        found = fields.get(str(part))
        entries = [entry for entry in (found, *get_args(found)) if isinstance(entry, type)]
        tables = [entry for entry in entries if issubclass(entry, BaseModel)]
        if not tables:
            return kind
        kind = tables[0]
    return kind


def _keys(kind: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in kind.model_fields.items()]


class _Schema(BaseModel):
    """Only the version of a document."""

    schema_: str | None = Field(None, alias="schema")


def schema_said(content: bytes) -> str | None:
    """The version that a JSON document says it has; None where it says none."""
    try:
        return _Schema.model_validate_json(content).schema_
    except ValidationError:
        return None


def first_wrong(error: ValueError) -> str:
    """The first of what is wrong with a document: its place, where it has one, and why."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def toml_text(values: dict[str, JsonValue]) -> str:
    """Values as TOML, which has no null: a key without a value is left out."""
    import tomli_w

    def clean(item: JsonValue) -> JsonValue:
        if isinstance(item, dict):
            return {key: clean(value) for key, value in item.items() if value is not None}
        return [clean(entry) for entry in item] if isinstance(item, list) else item

    return tomli_w.dumps({key: clean(value) for key, value in values.items() if value is not None})
