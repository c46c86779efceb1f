"""Sizes, what to trust, and how to repeat it: files, notes, environment, versions, settings, commands."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import JsonValue

from edgekit.render import figures, wording
from edgekit.render.html.charts import share_bar
from edgekit.render.html.markup import Child, Html, element, facts, items, join, note, section, table
from edgekit.render.parts import pairs
from edgekit.render.repeat import OUT, compress_command, repeat_notes, shell
from edgekit.report import MEGABYTE, Report

MOST_FILES = 60
LONG_DIGEST = 16  # characters of a sha256; all of it is in manifest.json


def sizes(report: Report) -> Html:
    """What each file of the artifact weighs."""
    artifact = report.artifact
    model = {name for part in artifact.manifest.components.values() for name in part.files}
    found = {}
    for name in artifact.manifest.files:
        path = artifact.path / name
        found[name] = path.stat().st_size if path.is_file() else None
    total = sum(size or 0 for size in found.values()) or 1
    ordered = sorted(found, key=lambda name: (-(found[name] or 0), name))
    rows = [
        (
            join((name, element("span", " model", class_="small") if name in model else None)),
            _megabytes(found[name]),
            share_bar((found[name] or 0) / total, f"{name}: {(found[name] or 0) / total:.1%} of these files"),
        )
        for name in ordered[:MOST_FILES]
    ]
    before = report.value(wording.SIZE, before=True) or report.ledger[0].size_bytes
    after = report.value(wording.SIZE) or wording.last_kept(report).size_bytes
    return section(
        "size",
        "Size",
        table(("file", "MB", ""), rows, kinds="tnb", caption="files that the manifest lists"),
        note(f"{len(ordered) - MOST_FILES} further files are in manifest.json.") if len(ordered) > MOST_FILES else None,
        lead=(
            f"The original's weights are {figures.megabytes(before)} MB, the model files of the result"
            f" {figures.megabytes(after)} MB: {wording.size_ratio(report) or 'no ratio'}. 1 MB is 10^6 bytes."
        ),
    )


def trust(report: Report) -> Html:
    """How it was measured, and what speaks against it."""
    return section(
        "trust",
        "Can it be trusted?",
        items(_grounds(report)),
        *([element("h3", "Warnings"), items(report.warnings, "doubts")] if report.warnings else []),
        *([element("h3", "Notes"), items(report.notes)] if report.notes else []),
    )


def repeat(report: Report) -> Html:
    """The commands, and everything that the result depends on."""
    host = report.host
    machine: list[tuple[Child, Child]] = [
        ("processor", f"{host.processor} ({host.architecture})"),
        ("cores", str(host.cores)),
        ("memory", f"{host.memory_bytes / 1e9:.1f} GB"),
        ("system", f"{host.system}, Python {host.python}"),
        ("target", report.target),
        *([("timed on", wording.timed_on(report))] if report.timed_on else []),
        ("runtime", wording.runtime_text(report.runtime)),
        ("threads", f"{report.threads} measured, {report.jobs} training"),
        ("seed", str(report.seed)),
        ("took", figures.duration(report.seconds)),
    ]
    origin = [(f"model, {name}", _plain(value)) for name, value in report.source.items() if value is not None]
    if report.artifact.manifest.teacher is not None:  # the artifact is a student's; the report's source is its teacher
        student = report.artifact.manifest.source
        origin += [(f"student, {name}", _plain(value)) for name, value in student.items() if value is not None]
    origin += [(f"data, {name.replace('_', ' ')}", _plain(value)) for name, value in report.data.items()]
    versions: list[tuple[Child, Child]] = [("edgekit", report.edgekit)]
    versions += [(name, value) for name, value in report.versions.items() if name != "edgekit"]
    return section(
        "repeat",
        "Repeat it",
        element("pre", element("code", shell(compress_command(report)), "\n", f"edgekit verify {OUT}")),
        items(repeat_notes(report)),
        element("h3", "Environment"),
        facts(machine),
        element("h3", "Model and data"),
        facts(origin),
        element("h3", "Versions"),
        facts(versions),
        element("h3", "Settings"),
        *_settings(report),
    )


def _grounds(report: Report) -> Iterator[Child]:
    quality = report.quality
    if quality is not None:
        yield (
            "Quality: original and result answer the same samples, none of which any stage was trained on. They"
            f" decided {quality.looks} times whether a stage stays; the more often, the more they flatter the result."
        )
    if report.measured:
        p50 = [one for one in report.after if one.name == "latency.p50"]
        count = f" {p50[0].n} inferences each." if len(p50) == 1 else ""
        yield (
            "Latency: every artifact of the ledger was timed in turns in one run, in an order that is drawn anew each"
            f" round, so that ratios hold even where the machine is not quiet.{count}"
        )
    yield from (line[:1].upper() + line[1:] + "." for line in wording.not_measured(report))
    yield (
        "The artifact: SHA256SUMS covers every file, this page too. edgekit verify names each that was changed, and"
        " runs golden inputs against golden outputs."
    )
    if not report.warnings:
        yield "Nothing disturbed the measurement that edgekit looks for." if report.measured else None


def _settings(report: Report) -> Iterator[Child]:
    stages = report.recipe.get("stages")
    name = str(report.recipe.get("name") or "")
    if name:
        yield note(f"Recipe {name}: {report.recipe.get('description') or 'without a description'}.")
    rows: list[tuple[Child, ...]] = []
    for stage in stages if isinstance(stages, list) else []:
        if isinstance(stage, dict):
            rows.append(
                (str(stage.get("stage")), pairs({key: value for key, value in stage.items() if key != "stage"}))
            )
    if rows:
        yield table(("stage", "settings"), rows, kinds="tt", caption="settings of each stage")


def _plain(value: JsonValue) -> Child:
    """A value of a record; a mapping in one line, a digest short enough to compare by eye."""
    if isinstance(value, dict):
        return pairs(value)
    written = str(value)
    return f"{written[:LONG_DIGEST]}..." if len(written) == 64 and written.isalnum() else written


def _megabytes(size: int | None) -> str:
    return "missing" if size is None else f"{size / MEGABYTE:.3f}" if size >= 500 else "<0.001"
