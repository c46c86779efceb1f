"""What the documentation takes from the code, so that it cannot go stale.

A line `<!-- generate: NAME -->` or `<!-- generate: NAME ARGUMENT -->` in a page stands for what one of the functions in
`PARTS` gives. mkdocs calls the two hooks at the end of this file; the tests call `expand`.
"""

from __future__ import annotations

import itertools
import json
import re
import runpy
import textwrap
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from reference import api, commands

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MARKER = re.compile(r"^<!-- generate: ([a-z-]+)(?: (\S+))? -->$", re.MULTILINE)
# Links of pages that lie elsewhere in the repository, as they are from docs/.
PAGES = {
    "../CHANGELOG.md": "changelog.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../README.md": "index.md",
    "../targets/README.md": "targets.md",
}
LINK = re.compile(r"\]\(([^)#:\s]+)")


def expand(text: str) -> str:
    """A page with every marker replaced.

    Raises:
        ValueError: a marker names nothing that is known.
    """
    return MARKER.sub(lambda found: generate(found[1], found[2]), text)


@cache
def generate(name: str, argument: str | None) -> str:
    """What one marker stands for."""
    if name not in PARTS:
        raise ValueError(f"there is no part {name!r} to generate; known: {', '.join(PARTS)}")
    return PARTS[name](argument) if argument else PARTS[name]()


def include(file: str) -> str:
    """A page of the repository, its links as they are from docs/."""
    text = (ROOT / file).read_text(encoding="utf-8")
    home = (ROOT / file).parent

    def rewrite(found: re.Match[str]) -> str:
        place = (home / found[1]).resolve()
        if not place.exists():
            return found[0]
        inside = place.is_relative_to(DOCS)
        path = place.relative_to(DOCS) if inside else Path("..") / place.relative_to(ROOT)
        return f"]({path.as_posix()}"

    return LINK.sub(rewrite, text).strip()


def sections(argument: str) -> str:
    """Some sections of a page of the repository: FILE#HEADING,HEADING, in this order."""
    file, _, names = argument.partition("#")
    parts = re.split(r"^(?=## )", include(file), flags=re.MULTILINE)[1:]
    known = {part.splitlines()[0].removeprefix("## ").lower(): part.strip() for part in parts}
    wanted = [name.replace("-", " ") for name in names.split(",")]
    if missing := [name for name in wanted if name not in known]:
        raise ValueError(f"{file} has no section {missing[0]!r}; it has: {', '.join(known)}")
    return "\n\n".join(known[name] for name in wanted)


def shown(file: str) -> str:
    """What a command printed, as a page of the repository shows it: `It ends like this`, on which machine, and how."""
    _, found, rest = (ROOT / file).read_text(encoding="utf-8").partition("\nIt ends like this")
    lead, *paragraphs = (found + rest).strip().split("\n\n")
    block = "\n\n".join(itertools.takewhile(lambda one: one.startswith("    "), paragraphs))
    return f"{lead}\n\n```text\n{textwrap.dedent(block)}\n```"


def settings() -> str:
    """A section for each stage: every setting with its default, what it is, and what it may be."""
    from edgekit.stages import STAGES

    parts = []
    for name, stage in STAGES.items():
        schema = stage.settings.model_json_schema()
        rows = [
            f"| `{key}` | `{json.dumps(field.get('default'))}` | {field['description']} | {allowed(field)} |"
            for key, field in schema.get("properties", {}).items()
        ]
        table = ["| setting | default | what it is | allowed |", "|---|---|---|---|", *rows]
        parts.append("\n".join([f"### {name}", "", *(table if rows else ["This stage has no settings."])]))
    return "\n\n".join(parts)


def allowed(field: dict[str, Any]) -> str:
    """What a value may be, in words, of its JSON schema."""
    if "anyOf" in field:
        return " or ".join(allowed(one) for one in field["anyOf"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "boolean":
        return "true, false"
    if field["type"] == "array":
        return "a list"
    noun = "whole number" if field["type"] == "integer" else field["type"]
    low = next((f"{word} {field[key]:g}" for key, word in _LOW.items() if key in field), "")
    high = next((f"{word} {field[key]:g}" for key, word in _HIGH.items() if key in field), "")
    return " ".join(part for part in (noun, low, high) if part)


_LOW = {"minimum": "from", "exclusiveMinimum": "above"}
_HIGH = {"maximum": "up to", "exclusiveMaximum": "below"}


def recipes() -> str:
    """The shipped recipes: name, sentence, stages, limit."""
    from edgekit.recipe import load_recipe, recipe_names

    rows = ["| recipe | what it does | stages | most to lose |", "|---|---|---|---|"]
    for name in recipe_names():
        recipe = load_recipe(name)
        stages = ", ".join(step.stage.name for step in recipe.steps)
        limit = recipe.limits.max_drop
        most = "no limit" if limit is None else f"{limit * 100:g} {'point' if limit == 0.01 else 'points'}"
        rows.append(f"| `{name}` | {recipe.description} | {stages} | {most} |")
    return "\n".join(rows)


def columns() -> str:
    """For each task, the names by which a column is recognised, in order of preference."""
    from edgekit.tasks import TASKS

    rows = ["| task | column | recognised names |", "|---|---|---|"]
    rows += [
        f"| {name} | {ours} | {', '.join(f'`{known}`' for known in names)} |"
        for name, task in TASKS.items()
        for ours, names in task.columns.items()
    ]
    return "\n".join(rows)


def targets() -> str:
    """The shipped targets: name and sentence; without `host`, which is another one on each machine."""
    from edgekit.target import HOST, load_target, target_names

    rows = ["| target | which devices |", "|---|---|"]
    rows += [f"| `{name}` | {load_target(name).description} |" for name in target_names() if name != HOST]
    return "\n".join(rows)


def errors() -> str:
    """Every class of error with its kind and exit code, the tree as indentation."""
    from edgekit import errors as module

    def rows(kind: type[module.EdgekitError], depth: int) -> list[str]:
        found = [f"| {'&emsp;' * depth}`{kind.__name__}` | `{kind.kind}` | {kind.exit_code} |"]
        return found + [row for child in kind.__subclasses__() for row in rows(child, depth + 1)]

    return "\n".join(["| class | kind in `--json` | exit code |", "|---|---|---|", *rows(module.EdgekitError, 0)])


def catalogue() -> str:
    """Every id of an error, in a section for each kind: what it means, the usual cause, what to do."""
    from edgekit import errors as module
    from edgekit.error_catalogue import load_catalogue

    codes = {"interrupted": 130, "terminated": 143}
    codes |= {one.kind: one.exit_code for one in vars(module).values() if hasattr(one, "exit_code")}
    parts: dict[str, list[str]] = {}
    for id_, entry in load_catalogue().items():
        told = f"{entry.means}\n\n- Usual cause: {entry.cause}\n- What to do: {entry.remedy}"
        parts.setdefault(id_.partition(".")[0], []).append(f"#### {id_} {{#{id_}}}\n\n{told}")
    return "\n\n".join(f"### {kind}: exit code {codes[kind]}\n\n" + "\n\n".join(one) for kind, one in parts.items())


def wrong_uses() -> str:
    """The wrong uses that the tests make, each with its exit code, its id and its message."""
    file = ROOT / "tests" / "cli" / "wrong_uses.toml"
    rows = ["| mistake | command | exit code | id | message |", "|---|---|---:|---|---|"]
    for what, command, code, id_, says in (
        use for uses in tomllib.loads(file.read_text(encoding="utf-8"))["rows"].values() for use in uses
    ):
        rows.append(f"| {what} | `edgekit {command}` | {code} | [`{id_}`](#{id_}) | {says} |")
    return "\n".join(rows)


def results() -> str:
    """The last result of each case of `benchmarks/run.py`, with the machine; a sentence where there is none."""
    file = ROOT / "benchmarks" / "results" / "suite.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    last = {row["case"]: row for row in map(json.loads, lines)}
    if not last:
        return "`benchmarks/run.py` measures whole runs on real models; they are kept in `benchmarks/results/`."
    table = ["| run | metric | samples | faster | smaller | undone |", "|---|---|---:|---:|---:|---|"]
    table += [_result(row) for row in last.values()]
    machines = {f"{row['host']}, onnxruntime {row['versions']['onnxruntime']}" for row in last.values()}
    lead = (
        f"Whole runs on real models by `benchmarks/run.py` on {' and '.join(sorted(machines))}, the last of each."
        " Each line of `benchmarks/results/suite.jsonl` names the code that it measured, which may be an older one."
    )
    return "\n".join([lead, "", *table])


def _result(row: dict[str, Any]) -> str:
    faster = f"{row['speedup']:.1f}x" if row["speedup"] else "not measured"
    smaller = row["before_bytes"] / row["after_bytes"]
    undone = ", ".join(entry["stage"] for entry in row["ledger"] if not entry["kept"])
    metric = f"{row['before']:.4f} to {row['after']:.4f}"
    return f"| {_case(row['case'])} | {metric} | {row['n']} | {faster} | {smaller:.1f}x | {undone} |"


def _case(name: str) -> str:
    """What a case of the benchmarks is: its model and target, and what differs from the defaults."""
    cases = runpy.run_path(str(ROOT / "benchmarks" / "cases.py"))["CASES"]
    if name not in cases:
        return name
    case = cases[name]
    box = f"a search of {case.options['time'] / 60:g} minutes" if "time" in case.options else "a search"
    recipe = [] if case.recipe == "default" else [f"recipe {case.recipe}" if case.recipe else box]
    student = [f"student {case.student}"] if case.student else []
    settings = [f"{key}={value}" for key, value in case.settings.items()]
    format_ = [case.format] if case.format else []
    return ", ".join([case.model, case.target, *format_, *recipe, *student, *settings])


PARTS: dict[str, Callable[..., str]] = {
    "api": api,
    "catalogue": catalogue,
    "columns": columns,
    "commands": commands,
    "errors": errors,
    "include": include,
    "recipes": recipes,
    "results": results,
    "sections": sections,
    "settings": settings,
    "shown": shown,
    "targets": targets,
    "wrong-uses": wrong_uses,
}


def on_config(config: Any) -> Any:
    """Put every page of a folder where the navigation names the folder: `Decisions: decisions/`."""
    config.nav = _listed(config.nav)
    return config


def _listed(nav: Any) -> Any:
    if isinstance(nav, list):
        return [_listed(entry) for entry in nav]
    if isinstance(nav, dict):
        return {title: _listed(entry) for title, entry in nav.items()}
    if not nav.endswith("/"):
        return nav
    return sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / nav).glob("*.md"))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the markers, and lead links to pages outside docs/ to where the site has them."""
    up = "../" * page.file.src_uri.count("/")

    def inside(found: re.Match[str]) -> str:
        known = PAGES.get(found[1].removeprefix(up))
        return f"]({up}{known}" if known else found[0]

    return LINK.sub(inside, expand(markdown))
