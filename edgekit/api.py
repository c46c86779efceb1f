"""The public functions: the command line is the same thing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from edgekit.artifact import MANIFEST, SUMS, Artifact, is_artifact, open_artifact
from edgekit.assembly import SAME_ANSWERS, assemble, hand_over, load_finished
from edgekit.cache import Cache
from edgekit.description import Feeding
from edgekit.devices import Reached
from edgekit.environment import available_cores, host
from edgekit.errors import ArtifactError, DataError, HostError, UsageError
from edgekit.models import resolve_model
from edgekit.modules import Build, code_entry
from edgekit.pipeline import Trail, run
from edgekit.places import Exported, check_answering, find_target, make_ready
from edgekit.placing import check_output
from edgekit.predictor import Predictor, Subject, artifact_subject, model_subject
from edgekit.progress import Progress, Silent
from edgekit.pruning.encoders.table import CostTable
from edgekit.report import DeviceCheck, EvalRecord, Measurement, Report, load_report
from edgekit.request import Request, RunOptions, resolve_request
from edgekit.room import check_room, check_room_for
from edgekit.runtimes import tflite_runtime
from edgekit.runtimes.measuring import Place
from edgekit.sealing import check_seal, find_tampering
from edgekit.search import in_a_hurry, open_box, search
from edgekit.settings import Frozen
from edgekit.signing import check_signature, sign_folder, signature_path
from edgekit.target import Target
from edgekit.tasks import bind_task
from edgekit.tasks.base import Task, TaskOptions, Workload
from edgekit.tasks.data import Data
from edgekit.tasks.data_source import resolve_data
from edgekit.trials import SearchRecord
from edgekit.turns import turn_of_a_run
from edgekit.upkeep import keep_below, read_limit
from edgekit.workshop import Workshop, use_threads

if TYPE_CHECKING:
    from torch import nn

    from edgekit.measure.elsewhere import Spread
    from edgekit.measure.quality import Outputs

DEFAULT_OUTPUT = Path("artifacts")


class VerifyRecord(Frozen):
    """What ``verify`` checked.

    Attributes:
        files: how many files have the hash they were sealed with.
        golden: for each component and the whole, the largest difference to the golden outputs.
        tolerance: what was allowed.
        signed: whether a signature was checked.
    """

    files: int
    golden: dict[str, float]
    tolerance: float
    signed: bool = False


def compress(
    source: str | Path | nn.Module | Build,
    *,
    output: str | Path | None = None,
    progress: Progress | None = None,
    **options: Unpack[RunOptions],
) -> Report:
    """Compress a model for a target, and measure the result against the original.

    Args:
        source: a transformers folder, a hub id, ``file.py:function``, a module, a function that returns one, or an
            ``.onnx`` file.
        output: directory for the result; ``artifacts/NAME-TARGET`` by default.
        progress: told how far the run is.
        **options: what ``edgekit.RunOptions`` lists: ``data``, ``target``, ``recipe``, ``settings``, ``max_drop`` ...

    Returns:
        The report; ``report.artifact.path`` is where the artifact lies, ``report.passed`` whether every limit is met.

    Raises:
        EdgekitError: see ``edgekit.errors``; its classes say what went wrong.
    """
    request = resolve_request(source, **options)
    return run_request(request, output_path(request, output), progress or Silent(), Cache())


def output_path(request: Request, output: str | Path | None) -> Path:
    """Where the result goes, checked."""
    name = Path(request.source.location.rstrip("/")).name.rpartition(":")[2] or "model"  # of code, the function
    out = Path(output).expanduser() if output is not None else DEFAULT_OUTPUT / f"{name}-{request.target.name}"
    check_output(out)
    return out


def run_request(request: Request, out: Path, progress: Progress, cache: Cache) -> Report:
    """Run a resolved request, or take its finished result from the cache, and leave it in ``out``."""
    began, limit = time.monotonic(), read_limit()
    cache.sweep(out.resolve())
    key = request.run_key()
    finished = load_finished(cache, key)
    if finished is None:
        request = prepared(request, progress)
        key = request.run_key()  # another one where the device could not be had
        with turn_of_a_run(cache.root, key, progress):
            finished = load_finished(cache, key)
            if finished is None:
                cache.sweep(out.resolve())  # again, for a killed process that was still alive and had the turn
                _compute(request, key, out, progress, cache, began=began)
                if limit is not None:
                    keep_below(cache, limit)
                return load_report(out)
    if not _holds(out, finished, file=SUMS):
        check_room_for(finished, out)
        hand_over(finished, out, cache)
    return load_report(out, cached=True)


def _compute(request: Request, key: str, out: Path, progress: Progress, cache: Cache, *, began: float) -> None:
    """Run a request, keep its result under its key, and leave it in ``out``."""
    check_room(request, cache, out)
    workshop = Workshop(request, cache, progress)

    def interim(workshop: Workshop, trail: Trail, record: SearchRecord | None = None) -> None:
        if _is_finished(out):
            return
        with workshop.scratch() as scratch:
            folder = scratch()
            assemble(workshop, trail, folder, complete=False, began=began, search=record)
            try:
                hand_over(folder, out, cache)
            except UsageError as error:  # somebody put a file there, and the run is not over for that
                progress.start("put it into the output", None)
                progress.finish(error.what)

    record, hurried = None, False
    if request.search is None:
        trail = run(workshop, lambda trail: interim(workshop, trail))
    else:
        box = open_box(workshop)
        began = time.monotonic() - box.spent  # what earlier attempts took counts
        workshop, trail, record = search(workshop, box, interim, lambda made: _holds(out, made.path, file=MANIFEST))
        hurried = in_a_hurry(box)
    with workshop.scratch() as scratch:
        folder = scratch()
        sums = assemble(workshop, trail, folder, complete=True, began=began, search=record, hurried=hurried)
        workshop.forget_shared()  # before the result is found, by which the same command would end at once
        finished = cache.put(key, folder, known=sums)
    hand_over(finished, out, cache)


def prepared(request: Request, progress: Progress) -> Request:
    """The same request with its devices and its runtime ready; without them, and why, where these cannot be had.

    Raises:
        HostError: the user named the way, and the device cannot be had.
    """
    if request.runtime == tflite_runtime.NAME:
        try:
            tflite_runtime.environment()
        except HostError as error:
            request = replace(request, replaced_because=f"{error.what}: {error.why}" if error.why else error.what)
    try:
        make_ready(request.places, progress)
    except HostError as error:
        if request.reached.asked:
            raise
        return replace(request, reached=Reached(because=f"{error.what}: {error.why}" if error.why else error.what))
    return request


def costs(
    source: str | Path | nn.Module | Build,
    *,
    output: str | Path | None = None,
    progress: Progress | None = None,
    **options: Unpack[RunOptions],
) -> CostTable:
    """What an inference of an encoder costs on a target, by heads and neurons of its layers: measured, or cached.

    Where the recipe prunes the hidden size, by that, too.

    Args:
        source: a transformer encoder, as for ``compress``.
        output: a file for the table, which ``compress`` takes as ``costs``.
        progress: told how far it is.
        **options: as for ``compress``; of its recipe the stages from the export on count.

    Raises:
        UsageError: the model is no encoder, or is not exported to ONNX.
        HostError: the target can neither be timed here nor emulated.
    """
    request = prepared(resolve_request(source, **options), progress or Silent())
    use_threads(request.jobs)
    table = Workshop(request, Cache(), progress or Silent()).costs()
    if output is not None:
        table.save(Path(output).expanduser())
    return table


def _holds(out: Path, folder: Path, *, file: str) -> bool:
    """Whether ``out`` already holds what a folder does, by a file with its hashes, untouched."""
    try:
        same = (out / file).read_bytes() == (folder / file).read_bytes()
    except OSError:
        return False
    return same and (out / SUMS).is_file() and not find_tampering(out)


def _is_finished(out: Path) -> bool:
    """Whether ``out`` holds a finished artifact, untouched, which only another finished one replaces."""
    if not (out / SUMS).is_file() or find_tampering(out):
        return False
    try:
        return load_report(out).status == "complete"
    except ArtifactError:  # of another version of edgekit
        return True


def evaluate(
    path: str | Path | nn.Module | Build,
    data: str | Path,
    *,
    split: str | None = None,
    task: str | None = None,
    metric: str | None = None,
    columns: Mapping[str, str] | None = None,
    max_length: int | None = None,
    threads: int | None = None,
    revision: str | None = None,
    seed: int = 0,
    batch: int = 1,
    limit: int | None = None,
    device: str | None = None,
    target: str | Path | Target | None = None,
    progress: Progress | None = None,
    **feeding: Unpack[Feeding],
) -> EvalRecord:
    """Score a model folder or an artifact on a split, in its own runtime on this machine; and see how a device answers.

    Args:
        path: an artifact, or a model as ``compress`` takes it.
        data: a file, a folder or a hub id.
        split: name of the split; None is the one that ``compress`` checks its limits on.
        task: as for ``compress``.
        metric: as for ``compress``; None scores every metric of the task.
        columns: as for ``compress``.
        max_length: as for ``compress``; None is what the artifact was made with.
        revision: as for ``compress``.
        seed: as for ``compress``: it decides which rows a split is cut from where the data has only one.
        threads: of the inference; every core by default.
        batch: samples at once in an artifact, as in the workload that it was made for.
        limit: so many samples, evenly spread over the split; all of it by default, and 128 on a device.
        device: as for ``compress``: where an exported model is run too, and its answers compared with those here.
        target: what it is for, where the model does not say.
        progress: told how far it is.
        **feeding: for a model given as code or a graph's file, as for ``compress``.
    """
    from edgekit.measure.elsewhere import SAMPLES, Spread
    from edgekit.measure.quality import collect_outputs, evaluation_batch

    options = TaskOptions(metric=metric, columns=dict(columns or {}), max_length=max_length)
    rows, told = resolve_data(data), progress or Silent()
    if isinstance(path, (str, Path)) and is_artifact(path):
        subject, name = artifact_subject(path, options, task, threads or available_cores()), Path(path).name
    else:
        model = resolve_model(path, feeding, task=task, revision=revision, data=rows, columns=columns)
        subject = model_subject(model, options, threads or available_cores())
        name = Path(model.source.location).name
    exported = _exported(subject, target, device)
    places = () if exported is None or device is None else exported.reach(device, 1, told)
    check_answering(places)
    found = Data(rows, subject.task, seed)
    whole, rule = found.split(split)
    examples = whole if limit is None else Spread(whole, limit)
    told.start("evaluate", len(examples))
    size = evaluation_batch(subject.format, Workload(batch=batch))
    outputs = collect_outputs(subject.runner, subject.task, examples, size, told)
    told.finish()
    metrics = tuple(_scores(outputs, subject.task, metric, rule))
    devices = [_compared(subject, Spread(whole, limit or SAMPLES), size, place, told) for place in places]
    return EvalRecord(
        subject={"format": subject.format, "name": name, "task": subject.task.name}
        | (exported.record if exported else {}),
        runtime={"name": subject.runtime},
        host=host().record,
        data={**found.source.record, "split": rule, "samples": len(examples), "of": len(whole)},
        metrics=metrics,
        devices=tuple(devices),
        warnings=(*(exported.doubts_of_answers() if exported else ()), *_differing(devices)),
    )


def _scores(outputs: Outputs, task: Task, metric: str | None, split: str) -> Iterator[Measurement]:
    """Each metric of the outputs on a split; one alone where it is named.

    Raises:
        DataError: there are no labels.
    """
    if outputs.labels is None:
        raise DataError(
            f"the split {split!r} has no labels, so that there is nothing to score",
            id="data.no-labels",
            hint="Choose another one with --split, or name the column with --columns label=NAME.",
        )
    for name, function in task.metrics_for(outputs.labels).items():
        if metric is None or name == metric:
            value = function(outputs.logits, outputs.labels)
            yield Measurement(name=name, unit="1", value=value, n=len(outputs.labels))


def _compared(subject: Subject, examples: Spread, batch: int, place: Place, progress: Progress) -> DeviceCheck:
    """The answers of a device to some samples beside those here."""
    from edgekit.measure.elsewhere import compare_elsewhere

    assert subject.exported is not None  # no other has devices
    progress.start(f"run samples: {place.label}", None)
    found = compare_elsewhere(subject.exported, subject.task, examples, batch, place, runner=subject.runner)
    progress.finish()
    return found


def _differing(checks: Sequence[DeviceCheck]) -> Iterator[str]:
    """The devices that answer otherwise than this machine, by the share that ``compress`` asks for, too."""
    for check in checks:
        if check.share is not None and check.share < SAME_ANSWERS:
            same = f"{check.agree} of {check.n} predictions are the same, and {SAME_ANSWERS:.0%} have to be"
            yield f"{check.device} answers otherwise than this machine: {same}"


def _exported(subject: Subject, target: str | Path | Target | None, device: str | None) -> Exported | None:
    """What is exported, and what it is for; None of a model in torch, which no device is asked for.

    Raises:
        UsageError: one is.
    """
    if subject.exported is not None:
        manifest = subject.exported.manifest
        parts, meant = tuple(manifest.components.values()), find_target(manifest.target, target, device)
        return Exported(manifest.format, parts, manifest.target, meant)
    if device is None and target is None:
        return None
    raise UsageError(
        "--device or --target was given for a model in torch",
        id="usage.not-measurable",
        why="only what is exported runs on a device",
        hint="`edgekit compress` makes artifacts; an .onnx or a .tflite file is one, too.",
    )


def verify(path: str | Path, key: str | Path | None = None, signature: str | Path | None = None) -> VerifyRecord:
    """Check that every file is as it was sealed, none missing or added, and that golden inputs give golden outputs.

    Args:
        path: the artifact.
        key: a public key: then the signature has to be of it, too.
        signature: its file; ``OUT.sig`` beside ``OUT`` by default.

    Raises:
        VerificationError: something is not; every file is named.
        UsageError: the key cannot be used, or a signature was named without one.
        HostError: a key was given, and model-signing is not installed.
    """
    from edgekit.measure.golden import check_golden

    root = Path(path).expanduser()
    check_seal(root)
    if key is not None:
        check_signature(root, Path(key).expanduser(), Path(signature or signature_path(root)).expanduser())
    elif signature is not None:
        raise UsageError("a signature was named without a key", id="usage.options-conflict", hint="Add --key FILE.")
    artifact = open_artifact(root)
    task = bind_task(artifact.manifest.task, artifact.path, TaskOptions())
    golden = check_golden(artifact, task)
    files = len((root / "SHA256SUMS").read_text(encoding="utf-8").splitlines())
    tolerance = artifact.manifest.golden_tolerance or 0.0
    return VerifyRecord(files=files, golden=golden, tolerance=tolerance, signed=key is not None)


def sign(path: str | Path, key: str | Path, *, output: str | Path | None = None) -> Path:
    """Sign an artifact that is as it was sealed; the file of the signature.

    Args:
        path: the artifact.
        key: an elliptic private key in PEM.
        output: ``OUT.sig`` beside ``OUT`` by default.

    Raises:
        VerificationError: it is not as it was sealed.
        UsageError: the key cannot be used.
        HostError: model-signing, of the extra ``[sign]``, is not installed.
    """
    root = Path(path).expanduser()
    check_seal(root)
    file = Path(output or signature_path(root)).expanduser()
    sign_folder(root, Path(key).expanduser(), file)
    return file


def load(
    path: str | Path | nn.Module | Build, *, task: str | None = None, threads: int = 1, **feeding: Unpack[Feeding]
) -> Predictor:
    """A model that answers raw inputs: ``load(path).predict("a sentence")``.

    Args:
        path: an artifact, or a model as ``compress`` takes it.
        task: name of the task; None is the model's own.
        threads: of the inference.
        **feeding: for a model given as code or a graph's file, as for ``compress``.
    """
    if isinstance(path, (str, Path)) and is_artifact(path):
        return Predictor(artifact_subject(path, TaskOptions(), task, threads))
    return Predictor(model_subject(resolve_model(path, feeding, task=task), TaskOptions(), threads))


def load_pruned(path: str | Path, build: str | Build | None = None) -> nn.Module:
    """The torch module of a pruned or distilled checkpoint: safetensors and a plan, no pickle.

    Args:
        path: a torch artifact, such as ``OUT/stages/2-distill`` of a run with ``keep_stages``.
        build: for a model that was given as code, the same code again: ``file.py:function`` or the function.

    Raises:
        ArtifactError: not a torch artifact.
        ModelError: the weights do not fit what ``build`` gives, or it is needed and was not given.
    """
    from edgekit.formats.torch import load_model

    artifact: Artifact = open_artifact(path)
    if artifact.format != "torch":
        raise ArtifactError(
            f"{str(path)!r} is an artifact of format {artifact.format!r}",
            id="artifact.wrong-format",
            why="a module can be loaded from a torch artifact only",
            hint="Run compress with --keep-stages and take one of OUT/stages/*-prune or *-distill.",
        )
    code = code_entry(build)[1] if isinstance(build, str) else build
    return load_model(bind_task(artifact.manifest.task, artifact.path, TaskOptions(), code))[0]
