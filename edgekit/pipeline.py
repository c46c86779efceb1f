"""The straight line: run the stages, judge each, keep the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from edgekit.artifact import Artifact
from edgekit.errors import ModelError
from edgekit.formats.graphs import steps_of
from edgekit.judgement import Evidence, Judgement, judge
from edgekit.measure.latency import time_artifacts
from edgekit.measure.quality import compare
from edgekit.recipe import Step
from edgekit.report import Count
from edgekit.request import Request
from edgekit.runtimes.measuring import Timing
from edgekit.stages.base import read_details
from edgekit.workshop import Made, Workshop, use_threads

JUDGING = Timing(seconds=6.0, rounds=25)
# Of a search, whose recipes differ by more than what short measuring leaves open.
JUDGING_A_TRIAL = Timing(seconds=2.5, rounds=20)


@dataclass(frozen=True)
class Entry:
    """A row of the ledger before it is measured.

    Attributes:
        stage: its name.
        scored: the artifact whose metric and size it shows.
        timed: the exported artifact whose latency it shows.
        kept: False when it was undone.
        reason: why.
    """

    stage: str
    scored: Made
    timed: Made
    kept: bool = True
    reason: str = ""


@dataclass
class Trail:
    """What a run has come to.

    Attributes:
        entries: the ledger so far.
        best: the best artifact so far, exported.
        finished: the same, verified.
        looks: how often the evaluation split decided something.
    """

    entries: list[Entry]
    best: Made
    finished: Made
    looks: int = 0


def run(workshop: Workshop, publish: Callable[[Trail], None] | None) -> Trail:
    """Every stage in order; each artifact that is the best so far is handed to ``publish``, verified.

    Args:
        workshop: of the run.
        publish: takes what the run has come to; None where nobody waits for it, and only the last artifact is verified.
    """
    request = workshop.request
    foreign = workshop.original.artifact.format == "onnx"
    if not foreign:  # which is all that torch computes with
        use_threads(request.jobs)
    steps, _ = leave_out(request)
    export, verify = _only(steps, "export"), _only(steps, "verify")
    baseline = workshop.stage(export, workshop.original)
    first = Entry("original", workshop.original, workshop.original if foreign else baseline)
    trail = Trail([first], baseline, baseline)
    if foreign:  # there is no torch block before it
        trail.entries.append(_export_row(trail))

    def interim() -> None:
        if publish is not None:
            trail.finished = workshop.stage(verify, trail.best)
            publish(trail)

    if takes_long(request):
        interim()
    start, kept = workshop.student or workshop.original, workshop.original
    for block in _torch_blocks(steps):
        made = _torch_block(workshop, trail, block, export, start)
        if made is not None:
            kept = made
            interim()
        start = kept
    if not foreign:
        trail.entries.append(_export_row(trail))
    for step in steps:
        if step.stage.accepts == "graph" and step is not verify:
            _graph_stage(workshop, trail, step)
    trail.finished = workshop.stage(verify, trail.best)
    return trail


def takes_long(request: Request) -> bool:
    """Whether a run trains, scores or measures: without any of them it ends before a first result would be of use."""
    return request.source.kind != "onnx" or request.data is not None or bool(request.places)


def _export_row(trail: Trail) -> Entry:
    equal = str(read_details(trail.best.artifact).get("adopted") or "equal to torch within its tolerance")
    return Entry("export", trail.best, trail.best, reason=f"never undone; {equal}")


def _graph_stage(workshop: Workshop, trail: Trail, step: Step) -> None:
    """Optimize or quantize; what a tool cannot do to a graph of others is undone, with the reason."""
    name = step.stage.name
    try:
        candidate = workshop.stage(step, trail.best)
    except ModelError as error:
        if workshop.original.artifact.format != "onnx":
            raise
        reason = f"could not be done: {error.what}: {error.why}"
        trail.entries.append(Entry(name, trail.best, trail.best, kept=False, reason=reason))
        return
    _settle(workshop, trail, name, candidate, [(name, candidate, candidate)])


def leave_out(request: Request) -> tuple[list[Step], list[str]]:
    """The steps that can run, and a sentence for each that cannot, for want of data, of torch, or of its format."""
    other = [step for step in request.recipe.steps if request.format not in step.stage.formats]
    steps = [step for step in request.recipe.steps if step not in other]
    notes = [f"{step.stage.name}: left out, since it knows {', '.join(step.stage.formats)} only" for step in other]
    if request.source.kind == "onnx":
        training = [step for step in steps if step.stage.produces == "torch"]
        steps = [step for step in steps if step not in training]
        names = list(dict.fromkeys(step.stage.name for step in training))
        notes += [f"{name}: left out, since an .onnx file cannot be trained" for name in names]
    if request.data is not None:
        return steps, notes
    kept, missing = _without_data(request, steps)
    if request.source.kind == "onnx":
        missing.append("latency is of made-up inputs of the right types and shapes; they say nothing of the answers")
    return kept, notes + missing


def _without_data(request: Request, steps: list[Step]) -> tuple[list[Step], list[str]]:
    left = [step for step in steps if step.stage.needs_data(step.settings, request.goal)]
    kept = [step for step in steps if step not in left]
    training = any(step.stage.name == "distill" for step in left)
    if training:  # pruning without anything to recover on would only lose accuracy
        left += [step for step in kept if step.stage.name == "prune"]
        kept = [step for step in kept if step.stage.name != "prune"]
    names = list(dict.fromkeys(step.stage.name for step in left))
    notes = [f"{name}: left out, since it needs data (--data)" for name in names]
    return kept, [*notes, "the metric was not measured, since there is no data"]


def _torch_blocks(steps: list[Step]) -> list[list[Step]]:
    """The stages in torch that are judged together: all that train, then each that closes by itself."""
    training = [step for step in steps if step.stage.produces == "torch" and not step.stage.closes]
    closing = [[step] for step in steps if step.stage.produces == "torch" and step.stage.closes]
    return [training, *closing] if training else closing


def _torch_block(workshop: Workshop, trail: Trail, block: list[Step], export: Step, at: Made) -> Made | None:
    """Run stages in torch on ``at``: each is seen through its export, and the whole block stays or goes.

    Returns:
        What the last of them made, where it stays.
    """
    rows, waiting = list[tuple[str, Made, Made]](), list[tuple[str, Made]]()
    for number, step in enumerate(block):
        at = workshop.stage(step, at)
        waiting.append((step.stage.name, at))
        following = block[number + 1].stage.name if number + 1 < len(block) else ""
        if following == "distill" and workshop.request.is_trial:
            continue  # training changes no shape, so the latency of what comes of it is this one's, too
        timed = workshop.stage(export, at)
        rows += [(name, made, timed) for name, made in waiting]
        waiting = []
    name = "+".join(dict.fromkeys(step.stage.name for step in block))
    return at if _settle(workshop, trail, name, rows[-1][2], rows) else None


def _settle(workshop: Workshop, trail: Trail, name: str, candidate: Made, rows: list[tuple[str, Made, Made]]) -> bool:
    """Judge a candidate against the best so far, enter its rows, and let it be the best where it stays."""

    def measure() -> JsonValue:
        verdict = judge(_evidence(workshop, name, candidate, trail.best))
        return {"kept": verdict.kept, "reason": verdict.reason}

    trail.looks += workshop.data is not None and not workshop.request.is_trial
    number = 1 + sum(entry.stage == rows[-1][0] for entry in trail.entries)
    found = workshop.decisions.decide(f"keep.{name}" if number == 1 else f"keep.{name}.{number}", measure)
    assert isinstance(found, dict)
    verdict = Judgement(bool(found["kept"]), str(found["reason"]))
    for stage, scored, timed in rows:
        last = scored is rows[-1][1]
        reason = verdict.reason if last else f"judged together with {rows[-1][0]}"
        trail.entries.append(Entry(stage, scored, timed, verdict.kept, reason))
    if verdict.kept:
        trail.best = candidate
    return verdict.kept


def _evidence(workshop: Workshop, name: str, candidate: Made, parent: Made) -> Evidence:
    request, slowdown = workshop.request, None
    if request.clock is not None:
        workshop.progress.start(f"measure: {name}", None)
        pair = {"parent": parent.artifact, "candidate": candidate.artifact}
        timing = JUDGING_A_TRIAL if workshop.request.is_trial else JUDGING
        timings = time_artifacts(pair, workshop.task_of, request.workload, request.clock, timing)
        slowdown = timings.slowdown("candidate", than="parent")
        workshop.progress.finish(f"{1 / slowdown[0]:.2f}x as fast as before")
    before, after = shape_of_work(parent.artifact), shape_of_work(candidate.artifact)
    return Evidence(
        size_before=parent.artifact.size_bytes,
        size_after=candidate.artifact.size_bytes,
        operators_before=sum(map(len, before)),
        operators_after=sum(map(len, after)),
        same_graph=before == after,
        slowdown=slowdown,
        drop=_drop(workshop, candidate),
        max_drop=request.limits.max_drop,
        proof=request.strict,
        not_timed_because=request.not_measured_because,
        unchanged_because=str(read_details(candidate.artifact).get("left_float", "")),
        dearer=_dearer(workshop.counts(parent.artifact), workshop.counts(candidate.artifact)),
    )


def _dearer(before: Sequence[Count], after: Sequence[Count]) -> dict[str, float]:
    """For each emulated device, how many times the instructions of an inference there are after."""
    pairs = zip(before, after, strict=True)
    return {one.device: other.instructions / one.instructions for one, other in pairs}


def _drop(workshop: Workshop, candidate: Made) -> float | None:
    """Loss of the metric against the original; under ``strict`` its one-sided 95 % bound; a search sees to it."""
    if workshop.data is None or workshop.request.is_trial:
        return None
    original, outputs = workshop.outputs(workshop.original.artifact), workshop.outputs(candidate.artifact)
    quality = compare(original, outputs, workshop.task, split=workshop.data.rule, looks=0)
    if quality is None:
        return None
    return quality.drop_high if workshop.request.strict else quality.drop


def shape_of_work(artifact: Artifact) -> list[list[tuple[str, tuple[str, ...]]]]:
    """For every graph its operators in order, each with shapes and types of its weights: what latency hangs on."""
    return [steps_of(artifact.file(name)) for name in artifact.manifest.components]


def _only(steps: list[Step], name: str) -> Step:
    return next(step for step in steps if step.stage.name == name)
