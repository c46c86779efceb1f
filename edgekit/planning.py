"""The dry run: the resolved chain, what of it is in the cache, and about how long and how large the rest will be."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Literal, Unpack, cast

from pydantic import Field, JsonValue

from edgekit.api import output_path
from edgekit.artifact import WHOLE
from edgekit.assembly import load_finished
from edgekit.cache import Cache
from edgekit.devices.emulated import EmulatedDevice
from edgekit.devices.emulation.kinds import kind_of
from edgekit.devices.emulation.root import find_root
from edgekit.measure.elsewhere import CONFIRMED, SAMPLES
from edgekit.measure.instructions import INFERENCES
from edgekit.pipeline import leave_out
from edgekit.recipe import Step
from edgekit.render.figures import roughly
from edgekit.request import Request, RunOptions, resolve_request
from edgekit.search.space import SHORT_BOX
from edgekit.settings import Frozen
from edgekit.stages.distill import DistillSettings, planned_steps
from edgekit.tasks import bind_task
from edgekit.tasks.base import Examples, Task
from edgekit.tasks.data import Data
from edgekit.trials import Objective

# Seconds that a step takes beside its products, as seen on two cores: imports, tracing, sessions, measuring.
FIXED_SECONDS = {
    "prune": 3.0,
    "distill": 3.0,
    "vocabulary": 3.0,
    "export": 10.0,
    "optimize": 10.0,
    "quantize": 12.0,
    "verify": 3.0,
}
MEASURING_SECONDS = 30.0
# A table of costs: about a dozen encoders, exported and quantized, as seen on one core; so many at each hidden size,
# of which there are three where the recipe prunes it.
COSTING_SECONDS, HIDDEN_SIZES = 90.0, 3
# A backward pass costs about two forward passes (Kaplan et al. 2020, Scaling Laws for Neural Language Models, table 1).
FORWARD, TRAINING = 1, 3
# What small batches reach of a large product's speed.
EFFICIENCY = 0.4
FP32_BYTES = 4
# Operations a second of an emulated processor, two for each weight and token as below, as seen on one core for an
# encoder of 6 layers, 384 wide, on 128 tokens; half as many while instructions are counted. To start there takes 5 s.
EMULATED_FP32, EMULATED_INT8 = 5e8, 3e9
COUNTING = 2
START_SECONDS = 5.0
SET_UP_SECONDS = 20.0
# Tokens that an input without any counts as: how often a weight is used.
UNTOKENIZED = 64


class PlannedStep(Frozen):
    """A step of the chain.

    Attributes:
        stage: its name.
        settings: every setting, resolved.
        cached: whether its result is known to be in the cache already.
        seconds: estimate; None where nothing can be said.
    """

    stage: str
    settings: dict[str, JsonValue]
    cached: bool
    seconds: float | None


class PlannedEmulation(Frozen):
    """What is done on emulated processors, beside the stages.

    Attributes:
        devices: the processors.
        seconds: estimate of setting up, counting instructions and running samples; 0 where the run is in the cache.
        download_bytes: about what is fetched first; 0 where the emulator is set up.
    """

    devices: tuple[str, ...]
    seconds: float
    download_bytes: int


class PlannedSearch(Frozen):
    """A search for a recipe.

    Attributes:
        objective: what is made as small as the limits allow.
        fill: whether limits on cost are used up for quality instead.
        seconds: the time box, all attempts together.
    """

    objective: Objective
    fill: bool
    seconds: float


class Plan(Frozen):
    """What ``compress`` would do.

    With a ``search``, ``steps`` are those of the recipe that it begins with, and ``seconds`` is its whole box.
    """

    schema_: Literal["edgekit.dry-run/1"] = Field("edgekit.dry-run/1", alias="schema")
    source: dict[str, str | None]
    target: str
    task: str
    measured: bool
    not_measured_because: str
    devices: tuple[str, ...] = ()
    emulation: PlannedEmulation | None = None
    workload: dict[str, int | None]
    output: str
    steps: tuple[PlannedStep, ...]
    seconds: float | None
    search: PlannedSearch | None = None
    disk_bytes: int
    disk_free_bytes: int
    notes: tuple[str, ...]


def plan(source: str | Path, *, output: str | Path | None = None, **options: Unpack[RunOptions]) -> Plan:
    """Check everything and say what ``compress`` would do; the arguments are the same."""
    request = resolve_request(source, **options)
    out, cache = output_path(request, output), Cache()
    steps, notes = leave_out(request)
    estimate = _Estimate(request)
    planned = _plan_steps(request, steps, cache, estimate)
    kinds = _absent_kinds(request, cache)
    emulation = _plan_emulation(request, steps, cache, estimate)
    known = [step.seconds for step in planned if step.seconds is not None]
    beside = MEASURING_SECONDS * request.timed + (emulation.seconds if emulation else 0)
    return Plan(
        source=request.source.record,
        target=request.target.name,
        task=request.task,
        measured=request.timed,
        not_measured_because=request.not_measured_because,
        devices=tuple(place.device.label for place in request.places),
        emulation=emulation,
        workload=request.workload.model_dump(),
        output=str(out),
        steps=planned,
        seconds=request.limits.time
        if request.search
        else round(sum(known) + beside, 0)
        if len(known) == len(planned)
        else None,
        search=_plan_search(request),
        disk_bytes=_disk_bytes(request, len(steps)) + sum(kind_of(kind).size_bytes for kind in kinds),
        disk_free_bytes=shutil.disk_usage(_existing(cache.root)).free,
        notes=(*_search_notes(request, steps), *notes, *_batch_notes(request)),
    )


def _plan_search(request: Request) -> PlannedSearch | None:
    if request.search is None or request.limits.time is None:
        return None
    return PlannedSearch(objective=request.search.objective, fill=request.search.fill, seconds=request.limits.time)


def _search_notes(request: Request, steps: list[Step]) -> list[str]:
    """What a search would do, in the order in which it does it."""
    planned = _plan_search(request)
    if planned is None:
        return []
    aim = "limits on cost are used up for quality" if planned.fill else f"least {planned.objective} within the limits"
    said = [
        f"a recipe is searched for, {aim}, in {roughly(planned.seconds)} at most, all attempts together",
        "first the model is quantized without training: a valid artifact, which every better one replaces",
    ]
    if any(step.stage.name == "distill" for step in steps):
        only_size = planned.objective == "size" or (
            planned.fill and request.limits.max_ms is None and request.limits.max_instructions is None
        )
        roomy = planned.seconds >= SHORT_BOX and request.format == "onnx" and not only_size
        table = "what heads and neurons of an encoder cost is measured; " if roomy and request.costs is None else ""
        timed = "shapes are timed untrained until one is within the budget; then " if planned.fill else ""
        long = (
            "longer, or another one, until every limit is kept"
            if planned.fill
            else "faster while the loss is within its limit, else longer or slower"
        )
        said.append(
            f"{table}{timed}as far as the time allows, shapes of about equal cost are trained briefly and compared, and"
            f" the best is trained long: {long}"
        )
    else:
        said.append("nothing can be trained, so that the other ways to quantize are tried")
    return said


def _batch_notes(request: Request) -> list[str]:
    """What is known of a TFLite file's batch before its export."""
    if request.format != "tflite":
        return []
    when = "" if request.goal.tokens is not None else " where litert-torch has no free one for the model"
    return [f"{WHOLE}.tflite: the batch will be fixed at 1{when}, more samples run one call after another"]


def _absent_kinds(request: Request, cache: Cache) -> list[str]:
    """The kinds of machine that are emulated and are not set up."""
    devices = [place.device for place in request.places]
    kinds = {device.profile.kind for device in devices if isinstance(device, EmulatedDevice)}
    return sorted(kind for kind in kinds if find_root(kind, cache) is None)


def _plan_emulation(request: Request, steps: list[Step], cache: Cache, estimate: _Estimate) -> PlannedEmulation | None:
    """What emulated processors do in a run: those of the target count, and those that confirm answer only."""
    counting = [place.device.label for place in request.places if not place.device.timed]
    confirming = [place.device.label for place in request.confirming] if request.data is not None else []
    if not counting and not confirming:
        return None
    absent = _absent_kinds(request, cache)
    seconds = SET_UP_SECONDS * len(absent)
    seconds += len(counting) * (estimate.counting(steps) + estimate.answering(steps, SAMPLES))
    seconds += len(confirming) * estimate.answering(steps, CONFIRMED)
    done = load_finished(cache, request.run_key()) is not None
    return PlannedEmulation(
        devices=(*counting, *confirming),
        seconds=0.0 if done else round(seconds, 0),
        download_bytes=sum(kind_of(kind).download_bytes for kind in absent),
    )


def _plan_steps(request: Request, steps: list[Step], cache: Cache, estimate: _Estimate) -> tuple[PlannedStep, ...]:
    """Each step with its estimate; a step is known to be cached as long as every one before it is."""
    parent: str | None = request.import_key(request.student or request.original)
    planned = []
    for step in steps:
        key = None if parent is None else request.stage_key(step, parent, {})
        cached = key is not None and cache.get(key) is not None
        parent = key if cached else None
        planned.append(
            PlannedStep(
                stage=step.stage.name,
                settings=step.settings.model_dump(mode="json"),
                cached=cached,
                seconds=0.0 if cached else estimate.seconds(step),
            )
        )
    return tuple(planned)


class _Estimate:
    """Seconds of a step, from the model's size, the data's lengths, and this machine's speed at large products."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._parameters = request.source.size_bytes / FP32_BYTES
        self._data: Data | None = None
        self._speed = 0.0
        if request.data is not None:
            task: Task = bind_task(request.task, Path(request.source.path), request.options, request.build)
            self._data = Data(request.data, task, request.seed)

    def seconds(self, step: Step) -> float:
        """About how long a step takes."""
        settings = step.settings.model_dump()
        fixed = FIXED_SECONDS[step.stage.name]
        narrower = settings.get("hidden") is not None
        if step.stage.needs_costs(step.settings) and self._request.costs is None:
            fixed += COSTING_SECONDS * (HIDDEN_SIZES if narrower else 1)
        if self._data is None:
            return fixed
        if step.stage.name == "prune":
            passes = 2 + 2 * narrower
            return round(fixed + passes * self._pass(self._data.train, settings["samples"], TRAINING), 0)
        if step.stage.name == "distill":
            samples = len(self._data.train)
            steps = planned_steps(cast("DistillSettings", step.settings), samples)
            return round(fixed + self._pass(self._data.train, steps * settings["batch_size"], FORWARD + TRAINING), 0)
        if step.stage.name == "quantize":
            return round(fixed + self._pass(self._data.evaluation, len(self._data.evaluation), FORWARD), 0)
        return fixed

    def counting(self, steps: list[Step]) -> float:
        """Seconds to count the instructions of every artifact of a run on an emulated processor."""
        tokens = (self._request.workload.tokens or UNTOKENIZED) * self._request.workload.batch
        once = COUNTING * (INFERENCES + 1) * 2 * self._parameters * tokens
        return sum(START_SECONDS + once / speed for speed in (EMULATED_FP32, *self._speeds(steps)))

    def answering(self, steps: list[Step], samples: int) -> float:
        """Seconds to run so many samples of the evaluation split through the last artifact there."""
        if self._data is None:
            return 0.0
        examples, speed = self._data.evaluation, (EMULATED_FP32, *self._speeds(steps))[-1]
        operations = 2 * self._parameters * self._tokens(examples) * min(samples, len(examples))
        return START_SECONDS + operations / speed

    def _speeds(self, steps: list[Step]) -> list[float]:
        """Operations a second of what each stage that changes the graph makes, emulated."""
        changing = [step for step in steps if step.stage.name not in ("export", "verify")]
        return [EMULATED_INT8 if self._makes_int8(step) else EMULATED_FP32 for step in changing]

    def _makes_int8(self, step: Step) -> bool:
        return step.stage.precision(step.settings, self._request.goal) == "int8"

    def _pass(self, examples: Examples, samples: float, passes: int) -> float:
        """Seconds for so many samples: two operations a parameter and token, embeddings not counted apart."""
        operations = 2 * self._parameters * self._tokens(examples) * samples * passes
        return operations / (self._operations_per_second() * EFFICIENCY)

    def _tokens(self, examples: Examples) -> float:
        """The mean length of samples in tokens."""
        if self._request.task in ("image-classification", "tensors"):
            return UNTOKENIZED
        picked = range(0, len(examples), max(1, len(examples) // 200))
        return sum(examples.length(index) for index in picked) / len(picked)

    def _operations_per_second(self) -> float:
        import torch

        if not self._speed:
            torch.set_num_threads(self._request.jobs)
            one = torch.ones(1024, 1024)
            torch.mm(one, one)
            began = time.perf_counter()
            for _ in range(5):
                torch.mm(one, one)
            self._speed = 5 * 2 * 1024**3 / (time.perf_counter() - began)
        return self._speed


def _disk_bytes(request: Request, steps: int) -> int:
    """An upper estimate: a copy of the model a step, its exports, and a training checkpoint of four copies."""
    return request.source.size_bytes * (2 * steps + 4)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
