"""The model card, ``README.md``: metadata as the Hugging Face hub reads it, and what was done, lost, not measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edgekit.artifact import PAGE, SUMS, Component, Manifest
from edgekit.render import figures, wording
from edgekit.render.repeat import compress_command, from_hub, repeat_notes, shell
from edgekit.render.search import search_sentence
from edgekit.render.snippets import usage
from edgekit.render.stages import row_lines
from edgekit.report import FILE, Report
from edgekit.target import EXECUTION_PROVIDERS, HOST

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# What the hub calls the library of a format, and what people call the format.
LIBRARIES = {"onnx": ("onnx", "ONNX"), "tflite": ("tflite", "TFLite")}
HUB = "https://huggingface.co"
# Tasks of edgekit that the hub knows under the same name; any other has no tag there.
HUB_TASKS = ("text-classification", "image-classification", "token-classification", "question-answering", "translation")
LONGEST = 200
_SPECIAL = re.compile(r"([\\`*_{}\[\]<|~&])")


def model_card(report: Report) -> str:
    """A card for the artifact that a report lies in: metadata in YAML, then Markdown.

    Args:
        report: one that knows where its artifact lies.
    """
    manifest = report.artifact.manifest
    parts = [
        f"# {_text(_name(report))} for {_text(report.target)}",
        _summary(report, manifest),
        "" if report.status == "complete" else "The run that makes it is not finished: this is the best so far.",
        "## What it lost and gained",
        *_gains(report),
        "## What was done",
        _items(_done(report)),
        "## For which device",
        *_device(report, manifest),
        "## How to run it",
        *usage(report.source.get("kind") or "", manifest, EXECUTION_PROVIDERS[report.provider]),
        "## What was not measured",
        _items(_open_questions(report)),
        "## How it was made",
        *_origin(report),
    ]
    return f"---\n{_metadata(report, manifest)}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _metadata(report: Report, manifest: Manifest) -> str:
    """The YAML block, written by huggingface_hub itself."""
    from huggingface_hub import ModelCardData

    commit, name = report.source.get("commit"), report.source.get("name")
    data = str(report.data.get("name") or "")
    results = _results(report)
    card = ModelCardData(
        license=_licence(report),
        base_model=name if commit else None,
        base_model_relation=_relation(report, manifest) if commit else None,
        library_name=LIBRARIES[manifest.format][0],
        pipeline_tag=report.task if report.task in HUB_TASKS else None,
        tags=["edgekit", LIBRARIES[manifest.format][0], *_precisions(manifest), report.target],
        datasets=[data] if from_hub(report) else None,
        metrics=[result.metric_type for result in results] or None,
        model_name=f"{_name(report)}-{report.target}" if results else None,
        eval_results=results or None,
    )
    return str(card.to_yaml())


def _licence(report: Report) -> str | None:
    """The source's, where its name is an identifier as the hub has them."""
    name = str(report.source.get("licence") or "")
    return name if re.fullmatch(r"[a-z0-9.+-]+", name) else None


def _results(report: Report) -> list[EvalResult]:
    """The measured metric, as the hub's leaderboards read it."""
    from huggingface_hub import EvalResult

    quality = report.quality
    if quality is None:
        return []
    data = str(report.data.get("name") or "data")
    return [
        EvalResult(
            task_type=report.task,
            dataset_type=data,
            dataset_name=data,
            dataset_split=quality.split,
            dataset_revision=str(report.data["digest"]) if from_hub(report) else None,
            metric_type=quality.metric,
            metric_value=round(quality.after, 6),
            metric_name=quality.metric,
        )
    ]


def _relation(report: Report, manifest: Manifest) -> str | None:
    """What the hub calls this artifact in relation to its source; None where it is the source in another format."""
    if _precisions(manifest) != ["fp32"]:
        return "quantized"
    return "finetune" if any(row.kept and row.stage == "distill" for row in report.ledger) else None


def _summary(report: Report, manifest: Manifest) -> str:
    gains = [wording.speed_ratio(report), wording.size_ratio(report)]
    said = ", ".join(gain for gain in gains if gain)
    name = _text(_name(report))
    source = f"[{name}]({HUB}/{report.source['name']})" if report.source.get("commit") else name
    precision = " and ".join(_precisions(manifest)).upper()
    return (
        f"{source}, compressed by edgekit {_text(report.edgekit)} for the target {_text(report.target)}:"
        f" {LIBRARIES[manifest.format][1]} in {precision}{f', {said}' if said else ''}. {_verdict(report)}"
    )


def _verdict(report: Report) -> str:
    if not report.limits:
        return "No limit was set."
    lines = [
        f"{wording.limit_name(limit)} {wording.verdict(limit, report)} ({wording.limit_text(limit, report)})"
        for limit in report.limits
    ]
    return f"Limits: {_text('; '.join(lines))}."


def _gains(report: Report) -> Iterator[str]:
    rows = [(_text(name), *map(_text, cells)) for name, *cells in _comparison(report)]
    yield _table(("", "original", "artifact", "change"), rows, right=(1, 2))
    quality = report.quality
    if quality is not None:
        yield _text(f"{wording.agreement(quality)}.".capitalize())
    if report.measured:
        machine = wording.timed_on(report)
        yield _text(
            f"Latency is of {wording.inference(report)}, in {wording.runtime_text(report.runtime)}, on {machine}."
        )


def _comparison(report: Report) -> Iterator[tuple[str, str, str, str]]:
    quality = report.quality
    if quality is not None:
        before, after = (figures.quality(quality.metric, value) for value in (quality.before, quality.after))
        yield f"{quality.metric} (n = {quality.n})", before, after, wording.interval(quality)
    originals = {(one.name, one.component): one.value for one in report.before}
    for one in sorted(report.after, key=wording.order):
        if one.value is not None:
            old = originals.get((one.name, one.component))
            before, after = (figures.measurement(one.name, one.unit, value) for value in (old, one.value))
            yield wording.label(one), before, after, wording.change(one, old)


def _done(report: Report) -> Iterator[str]:
    if report.search is not None:
        yield f"**recipe**: {_text(search_sentence(report.search))}"
    for row, line in zip(report.ledger[1:], row_lines(report), strict=True):
        what = "kept" if row.kept else "undone"
        details = "; ".join(part for part in (row.reason, line) if part)
        yield f"**{_text(row.stage)}**: {what}{f', {_text(details)}' if details else ''}"


def _device(report: Report, manifest: Manifest) -> Iterator[str]:
    machine = f", the machine it was made on ({report.host.processor})" if report.target == HOST else ""
    differs = " INT8 is chosen after the instructions of a target." if "int8" in _precisions(manifest) else ""
    yield _text(
        f"Made for the target {report.target}{machine}, to run in {wording.runtime_name(report.runtime)}. On another"
        f" device its answers may differ in the last digits, and its speed will.{differs}"
    )
    several = len(manifest.components) > 1
    for name, part in manifest.components.items():
        yield f"{f'Component `{_code(name)}`, precision' if several else 'Precision'}: {part.precision.upper()}."
        yield _table(("", "name", "type", "shape"), _signature(part))
    said = [*wording.counted(report), *wording.checked(report)]
    if said:
        yield _items(map(_text, said))
        if report.counts_after:
            yield "Instructions were counted under emulation; they are no latency."


def _signature(part: Component) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for side, tensors in (("input", part.inputs), ("output", part.outputs)):
        rows += [
            (side, f"`{_code(one.name)}`", one.dtype, _text(" x ".join(str(dim) for dim in one.shape)))
            for one in tensors
        ]
    return rows


def _open_questions(report: Report) -> Iterator[str]:
    """What nobody should read into the figures above."""
    for line in wording.not_measured(report):
        yield _text(f"{line[:1].upper()}{line[1:]}.")
    quality = report.quality
    if quality is None:
        yield "Quality: there was no labelled data, so what was lost is not known."
    else:
        yield _text(
            f"Quality on any other data than {quality.split} of {report.data.get('name') or 'the data'}, and for groups"
            " within it."
        )
    yield "Latency on any other device, with any other input, and under other load; energy."
    if not report.source.get("licence"):
        yield "The licence: it is that of the source, which does not say it in its folder."


def _origin(report: Report) -> Iterator[str]:
    command = shell(compress_command(report))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    yield f"{fence}sh\n{command}\n{fence}"
    yield _items(_text(line) for line in repeat_notes(report))
    yield f"`{PAGE}` shows all of it, `{FILE}` has every figure with its raw samples, and `{SUMS}` covers every file."


def _precisions(manifest: Manifest) -> list[str]:
    return list(dict.fromkeys(part.precision for part in manifest.components.values()))


def _name(report: Report) -> str:
    return str(report.source.get("name") or "model")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], right: tuple[int, ...] = ()) -> str:
    names = list(head)
    rule = ["---:" if index in right else "---" for index in range(len(names))]
    lines = [names, rule, *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _text(value: str) -> str:
    """Text that Markdown takes as text: one line, no longer than a line should be."""
    flat = " ".join(value.split())
    return _SPECIAL.sub(r"\\\1", flat if len(flat) <= LONGEST * 2 else flat[: LONGEST * 2 - 3] + "...")


def _code(value: str) -> str:
    """Text between backticks in a table."""
    return " ".join(value.split()).replace("`", "'").replace("|", "/")[:LONGEST]
