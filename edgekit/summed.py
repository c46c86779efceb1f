"""Small JSON files of the cache that tell whether they are as they were written: each has a sum over what it says.

One that is not is named and removed, and counts as absent: what it said is found out again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from edgekit.artifact import write_text
from edgekit.cache import cache_key, name_damage


def write_summed(file: Path, schema: str, content: Mapping[str, JsonValue]) -> None:
    """Write what a file is to say, whole or not at all."""
    record: dict[str, JsonValue] = {"schema": schema, **content}
    write_text(file, json.dumps(record | {"sha256": cache_key(record)}, indent=1, sort_keys=True))


def read_summed(file: Path, schema: str) -> dict[str, JsonValue] | None:
    """What a file says, its schema included; None where it is absent, or was damaged and is gone now."""
    with contextlib.suppress(FileNotFoundError):
        try:
            record = read_whole(file)
            if record["schema"] == schema:
                return record
            problem = f"its schema is not {schema}"
        except ValueError as error:
            problem = str(error)
        name_damage(f"{file} is damaged ({problem}); what it said is found out again")
        with contextlib.suppress(OSError):  # a cache that may only be read
            file.unlink()
    return None


def find_damage(folder: Path) -> str | None:
    """The first of a folder's files that is not as it was written, and how; None where all are."""
    for file in sorted(folder.rglob("[!.]*.json")):
        try:
            read_whole(file)
        except FileNotFoundError:
            continue
        except ValueError as error:
            return f"{file.relative_to(folder).as_posix()}: {error}"
    return None


def read_whole(file: Path) -> dict[str, JsonValue]:
    """What a file says.

    Raises:
        ValueError: it is not as it was written.
        FileNotFoundError: it is not there.
    """
    try:
        record: dict[str, JsonValue] = json.loads(file.read_text(encoding="utf-8"))
        if record.pop("sha256") == cache_key(record) and isinstance(record["schema"], str):
            return record
    except FileNotFoundError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it cannot be read") from error
    raise ValueError("it changed")
