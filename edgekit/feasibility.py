"""What cannot be, found before any work: a model, a recipe, a target and a device that do not go together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgekit.artifact import Format
from edgekit.bounds import MAX_GRAPH_BYTES
from edgekit.devices import Reached
from edgekit.devices.meter import Meter
from edgekit.environment import numeric_level
from edgekit.errors import HostError, ModelError, UnknownNameError, UsageError
from edgekit.models import ResolvedModel
from edgekit.pruning.vocabulary import check_tokenizer
from edgekit.quantization.methods import advise, methods_for
from edgekit.recipe import Recipe
from edgekit.runtimes import FORMATS_OF, LITERT
from edgekit.stages.distill import DistillSettings, refuse_all_tokens
from edgekit.stages.prune import PruneSettings
from edgekit.target import Provider, Target
from edgekit.tasks import bind_task
from edgekit.tasks.text_classification import TextClassification
from edgekit.trials import OBJECTIVES, Objective, Search

if TYPE_CHECKING:
    from edgekit.request import Request, RunOptions

NO_ENERGY = "no counter of energy can be read there (RAPL, hwmon)"
DIGEST_DIGITS = 64  # of a sha256 in hexadecimal
# Settings that a search chooses itself.
SEARCHED = (
    "prune.ratio",
    "prune.layers",
    "prune.floor",
    "prune.cost",
    "prune.budget",
    "distill.max_steps",
    "distill.epochs",
)


def check_request(request: Request) -> None:
    """The lock, the chain, the device and the student against the rest.

    Raises:
        UsageError: two of them cannot go together.
        HostError: the device that the user named cannot be had.
        ModelError: the model does not fit into the format.
    """
    _check_lock(request)
    _check_target(request)
    _check_size(request)
    _check_limits(request)
    check_reached(request.target, request.reached)
    _check_student(request)
    _check_vocabulary(request)
    _check_tokens(request.recipe)


def check_search(given: RunOptions) -> bool:
    """Whether a recipe is to be searched for: limits were given, and no recipe.

    Raises:
        UsageError: the time or the objective of a search was given with what leaves nothing to search.
    """
    of_search = [name for name in ("time", "objective") if given.get(name) is not None]
    fixed = [name for name in ("recipe", "student") if given.get(name) is not None]
    if of_search and fixed:
        raise UsageError(
            f"--{of_search[0]} was given with --{fixed[0]}",
            id="usage.options-conflict",
            why=f"--{of_search[0]} is for the search for a recipe, and --{fixed[0]} leaves it nothing to choose",
            hint=f"Leave out --{fixed[0]}, or --{of_search[0]}; limits like --max-ms are checked with a recipe, too.",
        )
    limits = [name for name in ("max_ms", "max_mb", "max_instructions") if given.get(name) is not None]
    searched = not fixed and bool(of_search or limits)
    chosen = [name for name in given.get("settings", {}) if name in SEARCHED]
    if searched and chosen:
        raise UsageError(
            f"--set {chosen[0]} was given, and a recipe is searched for",
            id="usage.options-conflict",
            why=f"the search chooses {', '.join(SEARCHED)} itself",
            hint="Leave it out, or give a recipe: --recipe default; limits are checked with a recipe, too.",
        )
    return searched


def choose_objective(request: Request, asked: str | None) -> Search:
    """What a search is for: what was asked for; else limits on cost are used up, and without any it is latency.

    Where nothing is timed it is instructions, and where none are counted it is size.

    Raises:
        UnknownNameError: no such objective.
        UsageError: it cannot be measured here.
    """
    if asked is None:
        counted = any(not place.device.timed for place in request.places)
        objective: Objective = "latency" if request.timed else "instructions" if counted else "size"
        return Search(objective=objective, fill=request.limits.on_cost)
    if asked not in OBJECTIVES:
        raise UnknownNameError("objective", asked, OBJECTIVES, id="unknown-name.objective")
    if asked in ("latency", "energy"):
        _check_timed(request, f"--objective {asked}")
    if asked == "energy" and (request.clock is None or request.clock.elsewhere or not Meter().readable()):
        raise _not_measurable(request, "--objective energy", NO_ENERGY)
    if asked == "instructions":
        _check_counted(request, "--objective instructions")
    return Search(objective=asked)


def _check_size(request: Request) -> None:
    """A format that has no place for more; the original is exported whole, before anything makes it smaller."""
    size = request.source.size_bytes
    if request.format == "tflite" and size > MAX_GRAPH_BYTES:
        raise ModelError(
            f"the weights have {size} bytes",
            id="model.too-large",
            why=f"a TFLite file has at most {MAX_GRAPH_BYTES}",
        )


def _check_limits(request: Request) -> None:
    """Limits on what can be measured on this target from here."""
    if request.limits.max_ms is not None:
        _check_timed(request, "--max-ms")
    if request.limits.max_instructions is not None:
        _check_counted(request, "--max-instructions")


def _check_timed(request: Request, option: str) -> None:
    if not request.timed:
        raise _not_measurable(request, option, request.not_measured_because)


def _check_counted(request: Request, option: str) -> None:
    if all(place.device.timed for place in request.places):
        why = "instructions are counted on emulated devices only, and it is timed here"
        raise _not_measurable(request, option, why if request.timed else request.not_measured_because)


def _not_measurable(request: Request, option: str, why: str) -> UsageError:
    counted = any(not place.device.timed for place in request.places)
    return UsageError(
        f"{option} cannot be measured for the target {request.target.name!r} here",
        id="usage.limit-not-measurable",
        why=why,
        hint="Use --max-instructions or --objective instructions, which are counted under emulation."
        if counted
        else "Use --max-ms or --objective latency."
        if request.timed
        else "Use --max-mb or --objective size, or name a device with --device.",
    )


def check_reached(target: Target, reached: Reached) -> None:
    """The way to the target that the user named.

    Raises:
        HostError: there is no device at its end.
    """
    if reached.asked and not reached.devices:
        raise HostError(
            f"the target {target.name!r} cannot be measured in the way that --device names",
            id="environment.cannot-measure",
            why=reached.because,
            hint="Leave out --device: what can be done without it is done, and what could not be measured is said.",
        )


def _check_target(request: Request) -> None:
    """The whole chain against the target, before any work."""
    target = request.target
    for step in request.recipe.steps:
        step.stage.check(step.settings, request.goal)
        precision = step.stage.precision(step.settings, request.goal)
        if precision is not None and precision not in target.precisions:
            raise UsageError(
                f"the target {target.name!r} does not take {precision}, which {step.stage.name} would make",
                id="usage.target-mismatch",
                why=f"its precisions: {', '.join(target.precisions)}",
                hint=advise(methods_for(target, request.format, request.runtime), "Choose another target or recipe."),
            )


def choose_format(target: Target, asked: str | None) -> Format:
    """The format of the artifact: what was asked for, else the target's first.

    Raises:
        UsageError: the target does not take it.
    """
    if asked is None:
        return target.formats[0]
    if asked not in target.formats:
        raise UsageError(
            f"the target {target.name!r} does not take the format {asked!r}",
            id="usage.target-mismatch",
            why=f"its formats: {', '.join(target.formats)}",
            hint="`edgekit targets list` names targets; `edgekit targets show NAME` says what one takes.",
        )
    return cast("Format", asked)


def runtime_for(target: Target, format_: Format) -> str:
    """What runs a format on a target: the target's own runtime where it takes it, else the format's."""
    if format_ in FORMATS_OF[target.runtime.name]:
        return target.runtime.name
    return LITERT


def provider_for(target: Target, format_: Format) -> Provider:
    """What computes in that runtime: the target's provider in its own runtime, else the processor."""
    return target.runtime.provider if runtime_for(target, format_) == target.runtime.name else "cpu"


def check_graph(source: Any, recipe: Recipe, student: Any, target: Target, format_: Format) -> None:
    """What cannot be meant of an ``.onnx`` file, whose weights nothing here can train."""
    if student is not None:
        raise UsageError(
            f"--student was given for {str(source)!r}, which is an .onnx file",
            id="usage.options-conflict",
            why="a teacher is a torch model: a transformers folder, a hub id, or code",
            hint="Leave out --student, or give the model that the graph was exported from.",
        )
    if format_ != "onnx":
        raise UsageError(
            f"{str(source)!r} is an .onnx file, and the artifact would be {format_}",
            id="usage.target-mismatch",
            why=f"the formats of the target {target.name!r}: {', '.join(target.formats)}; --format chooses one",
            hint="Give the model that the graph was exported from, or a target that takes onnx.",
        )
    names = [step.stage.name for step in recipe.steps]
    if "optimize" not in names and "quantize" not in names:
        raise UsageError(
            f"the recipe {recipe.name!r} has nothing to do for an .onnx file",
            id="usage.options-conflict",
            why=f"its stages: {', '.join(names)}; pruning and distillation need the model in torch",
            hint="Use a recipe that optimizes or quantizes: --recipe quantize.",
        )
    engines = {str(step.settings.model_dump().get("engine")) for step in recipe.steps if step.stage.name == "quantize"}
    if engines - {"onnxruntime"}:
        raise UsageError(
            f"quantize.engine={engines.pop()} cannot go with an .onnx file",
            id="usage.settings-conflict",
            why="neural-compressor quantizes the model in torch",
            hint="Leave the engine to onnxruntime.",
        )


def _check_student(request: Request) -> None:
    if request.student is None:
        return
    if not any(step.stage.name == "distill" for step in request.recipe.steps):
        raise UsageError(
            f"the recipe {request.recipe.name!r} does not distill, and a student has to be taught",
            id="usage.student-untaught",
            hint="Use --recipe distill, or one of your own with a distill stage.",
        )
    if request.data is None:
        raise UsageError(
            "a student is taught on data, and none was given", id="usage.student-untaught", hint="Give it with --data."
        )
    _check_lengths(request, request.student)


def _check_lengths(request: Request, student: ResolvedModel) -> None:
    """A student that has a place for every token of the texts that its teacher is given."""
    theirs, mine = (
        bind_task(request.task, Path(model.source.path), request.options, model.build)
        for model in (request.original, student)
    )
    if not isinstance(theirs, TextClassification) or not isinstance(mine, TextClassification):
        return
    if mine.max_length < theirs.max_length:
        raise UsageError(
            f"the student takes texts of up to {mine.max_length} tokens",
            id="usage.student-differs",
            why=f"its teacher, as which it is fed, takes {theirs.max_length}",
            hint=f"Cut texts with --max-length {mine.max_length}, or use a student of as many positions.",
        )


def _check_vocabulary(request: Request) -> None:
    """A tokenizer that tokens can be taken out of, where the recipe does so."""
    if request.data is not None and any(step.stage.name == "vocabulary" for step in request.recipe.steps):
        check_tokenizer(Path(request.source.path))


def _check_tokens(recipe: Recipe) -> None:
    """A distillation that students whose layers leave tokens out can learn by, where the recipe makes such."""
    settings = [step.settings for step in recipe.steps]
    if any(isinstance(one, PruneSettings) and one.tokens is not None for one in settings):
        for one in settings:
            if isinstance(one, DistillSettings):
                refuse_all_tokens(one)


def _check_lock(request: Request) -> None:
    """A lock repeats one run: another model, other data or another target cannot be what was meant."""
    lock = request.recipe.lock
    if lock is None:
        return
    digest = request.data.digest if request.data else ""
    for what, mine, theirs in (
        ("model", request.source.digest, lock.source),
        ("data", digest, lock.data),
        ("target", request.target.name, lock.target),
        ("numeric level of the processor", numeric_level(), lock.numeric_level),
    ):
        if mine != theirs:
            raise UsageError(
                f"the lock is for another {what}",
                id="usage.lock-mismatch",
                why=f"locked: {_told(theirs)}; given: {_told(mine)}",
                hint="Give what the lock was made with, or a recipe without a lock.",
            )


def _told(value: str) -> str:
    """A value of a lock; of a digest its beginning."""
    return (value[:16] if len(value) == DIGEST_DIGITS else value) or "none"
