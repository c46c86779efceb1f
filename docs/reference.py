"""The two long references that the documentation takes from the code: the commands, and the Python functions."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, is_typeddict

from pydantic import BaseModel

SECTIONS = ("Args", "Attributes", "Returns", "Raises")
# What the public classes hold of the works inside: named, and not followed.
INSIDE = ("edgekit.measure", "edgekit.stages", "edgekit.tasks.data")
ENTRY = re.compile(r"^(\**[\w, ]+): (.*)$")


def commands() -> str:
    """A section for each command, of what its `--help` is made of: use, options by their panels, examples."""
    import typer.main

    from edgekit.cli import app

    root: Any = typer.main.get_command(app)
    found: list[str] = []
    for name, command in root.commands.items():
        nested = getattr(command, "commands", None)
        if nested is None:
            found.append(_command(f"edgekit {name}", command, "##"))
        else:
            found.append(f"## edgekit {name}\n\n{command.help}")
            found += [_command(f"edgekit {name} {inner}", one, "###") for inner, one in nested.items()]
    return "\n\n".join(found)


def _command(name: str, command: Any, level: str) -> str:
    arguments = [one for one in command.params if not one.opts[0].startswith("-")]
    options = [one for one in command.params if one.opts[0].startswith("-") and not one.hidden]
    use = " ".join([name, *(one.metavar for one in arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"{level} {name}", command.help, f"```text\n{use}\n```"]
    parts += [_entry(f"`{one.metavar}`", one.help) for one in arguments]
    for panel in dict.fromkeys(one.rich_help_panel or "" for one in options):
        parts += [f"**{panel}**"] if panel else []
        parts += [_entry(_option(one), _meaning(one)) for one in options if (one.rich_help_panel or "") == panel]
    examples = [line.strip().replace("\\[", "[") for line in command.epilog.splitlines()[1:]]
    return "\n\n".join([*parts, "\n".join(["```sh", *examples, "```"])])


def _option(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar}"
    return ", ".join(f"`{name}{value}`" for name in option.opts)


def _meaning(option: Any) -> str:
    default = "" if option.is_flag or option.default is None else f" Default: `{option.default}`."
    return f"{option.help}{default}"


def _entry(term: str, meaning: str) -> str:
    """A definition, as Markdown's extension of that name writes it."""
    return f"{term}\n:   {meaning}"


def api() -> str:
    """Every public function and class, and the records that they return, by their docstrings."""
    import edgekit

    public = [getattr(edgekit, name) for name in edgekit.__all__]
    functions = [one for one in public if not isinstance(one, type)]
    classes = [one for one in public if isinstance(one, type)]
    records = [one for one in _reachable(public) if one not in public]
    parts = ["## Functions", *map(_function, functions), "## Classes", *map(_class, classes), "## Records"]
    parts.append("What the functions return, and what that is made of.")
    return "\n\n".join([*parts, *map(_class, records)])


def _reachable(start: Iterable[Any]) -> list[type]:
    """Classes of edgekit that functions return or that fields hold, all the way down, by name."""
    found: dict[str, type] = {}
    todo = list(start)
    while todo:
        value = todo.pop()
        said = _fields(value).values() if isinstance(value, type) else [inspect.signature(value).return_annotation]
        for name in re.findall(r"\b[A-Z]\w+", " ".join(map(str, said))):
            one = vars(sys.modules[value.__module__]).get(name)
            if isinstance(one, type) and _is_public(one) and name not in found:
                found[name] = one
                todo.append(one)
    return [found[name] for name in sorted(found)]


def _is_public(one: type) -> bool:
    return one.__module__.startswith("edgekit.") and not one.__module__.startswith(INSIDE)


def _function(value: Any) -> str:
    text, sections = _read_docstring(value)
    return "\n\n".join([f"### {value.__name__}", _signature(value), text, *_sections(sections)])


def _signature(value: Any, name: str = "") -> str:
    """The signature as code, a parameter to a line where it is long."""
    found = inspect.signature(value)
    parameters = [str(one).replace("'", "") for one in found.parameters.values() if one.name != "self"]
    kinds = [one.kind for one in found.parameters.values() if one.name != "self"]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parameters.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returns = f" -> {found.return_annotation}".replace("'", "")
    line = f"{name or value.__name__}({', '.join(parameters)}){returns}"
    if len(line) > 88:
        line = f"{name or value.__name__}(\n" + "".join(f"    {one},\n" for one in parameters) + f"){returns}"
    return f"``` {{ .python .signature }}\n{line}\n```"


def _class(value: type) -> str:
    text, sections = _read_docstring(value)
    described = sections.pop("Attributes", {})
    for base in _extended(value):
        described |= _read_docstring(base)[1].get("Attributes", {})
    parts = [f"### {value.__name__} {{ #{value.__name__} }}", text, *_sections(sections)]
    for name, kind in _fields(value).items():
        parts.append(_entry(f"`{name}`: `{kind}`", described.get(name, "") or "&nbsp;"))
    parts += [_entry(f"`{name}`", text) for name, text in described.items() if name not in _fields(value)]
    return "\n\n".join([*parts, *_members(value)])


def _extended(value: type) -> list[Any]:
    """The TypedDicts that one extends: it is no subclass of them, and does not say which they are."""
    if not is_typeddict(value):
        return []
    near = [one for one in vars(sys.modules[value.__module__]).values() if is_typeddict(one) and one is not value]
    return [one for one in near if one.__annotations__.keys() <= value.__annotations__.keys()]


def _fields(value: Any) -> dict[str, str]:
    """A class's fields, those of its bases too, with their types as they are written."""
    if not (isinstance(value, type) and (issubclass(value, (BaseModel, dict)) or dataclasses.is_dataclass(value))):
        return {}
    found: dict[str, str] = {}
    for one in reversed(value.__mro__):
        if one.__module__.startswith("edgekit."):
            found |= {name: _written(kind) for name, kind in inspect.get_annotations(one).items()}
    return {name.rstrip("_"): kind for name, kind in found.items() if name[0] != "_" and "ClassVar" not in kind}


def _written(kind: Any) -> str:
    return str(getattr(kind, "__forward_arg__", kind)).removeprefix("typing.")


def _members(value: type) -> Iterator[str]:
    """Properties and methods that say what they are."""
    for name, member in vars(value).items():
        if name.startswith("_") or not inspect.getdoc(member):
            continue
        if isinstance(member, property):
            kind = _written(inspect.signature(member.fget).return_annotation) if member.fget else ""
            yield _entry(f"`{name}`: `{kind}` (property)", _read_docstring(member)[0])
        elif inspect.isfunction(member):
            signature = inspect.signature(member)
            arguments = ", ".join(one for one in signature.parameters if one != "self")
            yield _entry(f"`{name}({arguments})`", _read_docstring(member)[0])


def _read_docstring(value: Any) -> tuple[str, dict[str, dict[str, str]]]:
    """The text of a docstring without its sections, and each section's entries by name."""
    sections: dict[str, dict[str, str]] = {}
    text: list[str] = []
    section = ""
    for line in (inspect.getdoc(value) or "").splitlines():
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            section = line.rstrip(":")
            sections[section] = {}
        elif not section:
            text.append(line)
        elif line.strip():
            _add(sections[section], section, line)
    return "\n".join(text).strip(), sections


def _add(entries: dict[str, str], section: str, line: str) -> None:
    """Take up one line of a section: a new entry, or the rest of the last one."""
    body = textwrap.dedent(line)
    indent = len(line) - len(body)
    found = ENTRY.match(body) if section != "Returns" and indent <= 4 else None
    if found:
        entries |= {name.strip(): found[2] for name in found[1].split(",")}
        return
    last = list(entries)[-1] if entries else ""
    entries[last] = f"{entries.get(last, '')} {body}".strip()


def _sections(sections: dict[str, dict[str, str]]) -> Iterator[str]:
    for title, entries in sections.items():
        yield f"**{title}**"
        for name, text in entries.items():
            yield _entry(f"`{name}`", text) if name else text
