"""What ``doctor`` and ``env`` print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.diagnosis.records import Check, DoctorRecord, EnvRecord, State
from edgekit.render.parts import BAD, DOUBT, FAINT, GOOD, STRONG, make_grid, title

WORDS: dict[State, tuple[str, str]] = {
    "ok": ("ok", GOOD),
    "note": ("note", FAINT),
    "absent": ("-", FAINT),
    "warning": ("warning", DOUBT),
    "failed": ("failed", f"{STRONG} {BAD}"),
}
STATE_WIDTH, NAME_WIDTH = 7, 20
GIGABYTE = 1e9


def doctor_view(record: DoctorRecord) -> RenderableType:
    """What ``doctor`` prints: the verdict, then every check by group, each gap with its fix."""
    parts: list[RenderableType] = [_verdict(record)]
    for group, checks in groupby(record.checks, lambda check: check.group):
        parts += [title(group), make_grid(_rows(list(checks)))]
    return Group(*parts)


def _verdict(record: DoctorRecord) -> Text:
    """The whole in one sentence."""
    failed, warned = (_count(record, state) for state in ("failed", "warning"))
    if record.passed:
        said, style = "nothing that a run needs is missing", f"{STRONG} {GOOD}"
    else:
        said, style = f"{failed} of what a run needs {'is' if failed == 1 else 'are'} missing", f"{STRONG} {BAD}"
    more = f"; {warned} warning{'' if warned == 1 else 's'}" if warned else ""
    return Text.assemble((f"edgekit {record.edgekit}: ", STRONG), (said, style), more)


def _count(record: DoctorRecord, state: State) -> int:
    return sum(check.state == state for check in record.checks)


def _rows(checks: Sequence[Check]) -> Iterator[tuple[Text, str, Text]]:
    """A row a check, its fix below it; packages that are well become one row. All groups have the same columns."""
    well = [check for check in checks if check.package and check.state == "ok"]
    for check in checks:
        if check in well:
            continue
        word, style = WORDS[check.state]
        found = Text(check.found, style=FAINT if style == FAINT else "")
        yield Text(f"{word:{STATE_WIDTH}}", style=style), f"{check.name:{NAME_WIDTH}}", found
        if check.fix and check.state not in ("ok", "note"):
            yield Text(), "", Text.assemble(("fix: ", STRONG), check.fix)
    if well:
        word, style = WORDS["ok"]
        said = "their versions are tested, and they can be imported"
        yield Text(f"{word:{STATE_WIDTH}}", style=style), f"{f'{len(well)} packages':{NAME_WIDTH}}", Text(said)


def env_view(record: EnvRecord) -> RenderableType:
    """What ``env`` prints, to be pasted into a report as it is."""
    available = record.memory_available_bytes
    memory = f"{record.memory_bytes / GIGABYTE:.1f} GB"
    memory += "" if available is None else f", {available / GIGABYTE:.1f} GB available"
    there = [f"{name} {version}" for name, version in record.packages.items() if version is not None]
    absent = [name for name, version in record.packages.items() if version is None]
    rows = [
        ("edgekit", record.edgekit),
        ("python", record.python),
        ("system", record.system),
        ("processor", f"{record.processor} ({record.architecture}), {record.cores} cores"),
        ("instructions", ", ".join(record.features) or "none that matter"),
        ("gpus", "; ".join(record.gpus)),
        ("memory", memory),
        ("targets", ", ".join(name for name, measured in record.targets.items() if measured) or "none"),
        ("packages", ", ".join(there) or "unknown"),
        ("not installed", ", ".join(absent)),
        ("settings", ", ".join(f"{name}: {value}" for name, value in record.settings.items()) or "none"),
    ]
    return make_grid([row for row in rows if row[1]])
