"""What a step of GitHub Actions says: annotations as workflow commands, a summary, and the verdict as an output.

GitHub shows ten annotations of a kind for a step and drops the others, and takes 1 MiB of summary for a step; what
exceeds it fails the upload (docs.github.com, "Workflow commands"). The escapes are those of actions/toolkit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekit.gate import wording
from edgekit.gate.record import BenchRecord

TITLE = "edgekit bench"
MOST = 10
MOST_SUMMARY_BYTES = 1024 * 1024
CUT = "\n\nCut short: a step's summary has at most 1 MiB.\n"
SUMMARY, OUTPUT = "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"


def annotate(record: BenchRecord, *, strict: bool = False) -> list[str]:
    """Workflow commands: errors for what failed, warnings for what casts doubt, else one notice.

    Args:
        record: of a gate, or of a measurement alone.
        strict: whether what is not known is a failure.
    """
    failed = [wording.sentence(one) for one in record.gated if one.verdict in {"regression", "invalid"}]
    if record.verdict == "invalid" and not failed:
        failed = [wording.headline(record)]
    doubts = [wording.sentence(one) for one in record.gated if one.verdict == "inconclusive"]
    if strict:
        failed, doubts = [*failed, *doubts, *map(wording.sentence, record.unmeasured)], []
    told = [
        *_commands("error", failed),
        *_commands("warning", [*doubts, *record.warnings]),
    ]
    return told if failed or doubts else [*told, *_commands("notice", [wording.headline(record)])]


def _commands(kind: str, messages: Sequence[str]) -> Iterator[str]:
    shown = messages if len(messages) <= MOST else messages[: MOST - 1]
    for message in shown:
        yield command(kind, message)
    if len(shown) < len(messages):
        yield command(kind, f"and {len(messages) - len(shown)} more, in the summary and in the JSON document")


def command(kind: str, message: str) -> str:
    """One annotation."""
    return f"::{kind} title={_property(TITLE)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def append_summary(file: Path, text: str) -> None:
    """Add to a step's summary what it has room for.

    Args:
        file: of ``GITHUB_STEP_SUMMARY``, which may hold what the step wrote before.
        text: Markdown.
    """
    used = file.stat().st_size if file.is_file() else 0
    room = MOST_SUMMARY_BYTES - used
    # What was there may end in HTML, which goes on to the next blank line, or lack the end of its last line.
    content = (f"\n\n{text}" if used else text).encode()
    if len(content) > room:
        end = CUT.encode()
        kept = content[: max(0, room - len(end))].decode(errors="ignore").rpartition("\n")[0]
        content = (kept.encode() + end)[: max(0, room)]
    with file.open("ab") as stream:
        stream.write(content)


def append_output(file: Path, record: BenchRecord) -> None:
    """Add the verdict to a step's outputs; without one, that it was measured alone."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(f"verdict={record.verdict or 'measured'}\n")
