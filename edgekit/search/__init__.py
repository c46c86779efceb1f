"""From limits to a recipe: trials are proposed, run, looked at and published, until the time is up or nothing is left.

A trial is a recipe. Its stages run in the workshop, so each is in the cache, and a training that was killed goes on.
Whenever a trial is better than what was published, the straight line runs with its recipe and the result is put into
the output: at any moment a valid artifact lies there. What was tried lies on disk beside what was spent of the time, so
that the same command goes on where it was stopped, with the time that is left.
"""

from __future__ import annotations

from collections.abc import Callable

from edgekit.artifact import Artifact
from edgekit.errors import UsageError
from edgekit.formats.encoder import encoder_layers, is_encoder
from edgekit.formats.torch import load_model
from edgekit.pipeline import Trail, leave_out, run
from edgekit.report import Quality
from edgekit.search.box import Box, Ticking
from edgekit.search.executor import LocalExecutor, Scales, for_trial, make
from edgekit.search.sampler import ShapeSampler
from edgekit.search.session import END_SECONDS, Book, Session
from edgekit.search.space import Space, space_of
from edgekit.search.strategy import Strategy
from edgekit.stages.base import read_details
from edgekit.trials import SearchRecord, TrialRecord
from edgekit.workshop import Workshop

TRIALS, BOX, SHAPES = "trials.json", "box.json", "shapes.journal"

Publish = Callable[[Workshop, Trail, SearchRecord | None], None]
Held = Callable[[Artifact], bool]


def open_box(workshop: Workshop) -> Box:
    """The time box of a search, with what earlier attempts at it spent."""
    seconds = workshop.request.limits.time
    assert seconds is not None  # a search always has one
    return Box(workshop.folder / BOX, seconds)


def in_a_hurry(box: Box) -> bool:
    """Whether less of a box is left than its end usually takes."""
    return box.left < END_SECONDS


def search(workshop: Workshop, box: Box, publish: Publish, held: Held) -> tuple[Workshop, Trail, SearchRecord]:
    """Search for the recipe that keeps the limits of a request best.

    Args:
        workshop: of the request, with the base recipe.
        box: how long it may take.
        publish: puts what a run has come to into the output; whenever that is better than what lies there.
        held: whether an artifact is what lies there.

    Returns:
        The workshop and the trail of the recipe that was chosen, and the record of the search.
    """
    request = workshop.request
    assert request.search is not None  # the caller has looked
    workshop.progress = Ticking(workshop.progress, box)
    space = _space(workshop)
    _check_costs(workshop, space)
    sampler: list[ShapeSampler] = []

    def shapes() -> ShapeSampler:  # opened when it is first needed: a search that trains nothing needs none
        if not sampler:
            sampler.append(ShapeSampler(workshop.folder / SHAPES, space, request.seed))
        return sampler[0]

    book = Book(workshop.folder / TRIALS)
    line = _Line(workshop, Scales(workshop, space.quantized()), publish)
    line.published = any(trial.look_seconds for trial in book.trials)
    session = Session(
        strategy=Strategy(
            space,
            request.search,
            request.limits,
            request.strict,
            suggest=lambda shape, layers: shapes().suggest(shape, layers),
        ),
        box=box,
        book=book,
        executor=LocalExecutor(workshop, box, line.scales),
        look=line.look,
        publish=line.publish,
        held=lambda trial: held(line.of(trial)[1].finished.artifact),
        tell=lambda proposal, figures: shapes().tell(proposal, figures),
        scored=workshop.data is not None,
        metric=lambda: line.metric,
    )
    found, trail = line.of(session.run())
    record = session.record()
    trail.looks = record.looks
    return found, trail, record


def _space(workshop: Workshop) -> Space:
    request = workshop.request
    training = any(step.stage.name == "distill" for step in leave_out(request)[0])
    if not training or workshop.data is None:
        return space_of(request, None, 0)
    model, _ = load_model(workshop.task)
    layers = len(encoder_layers(model)) if is_encoder(model) else None
    return space_of(request, layers, len(workshop.data.train))


def _check_costs(workshop: Workshop, space: Space) -> None:
    """See that the search goes by a table of costs that was given, and that it holds here.

    Raises:
        UsageError: it does not.
    """
    if workshop.request.costs is None:
        return
    if not space.measures:
        raise UsageError(
            "a table of costs was given, and nothing goes by it",
            id="usage.options-conflict",
            why="this search chooses no heads and neurons of an encoder for what an inference costs",
            hint="Leave out --costs.",
        )
    workshop.costs()


class _Line:
    """The straight line of trials: what it comes to, and what it gives on the evaluation split."""

    def __init__(self, workshop: Workshop, scales: Scales, publish: Publish) -> None:
        self.scales = scales
        self.metric = ""
        self._workshop = workshop
        self._publish = publish
        self._last: tuple[int, Workshop, Trail] | None = None
        self.published = False  # something better than the original's export, in this attempt or an earlier one

    def of(self, trial: TrialRecord) -> tuple[Workshop, Trail]:
        """The straight line with a trial's recipe; what it needs is in the cache by now."""
        if self._last is None or self._last[0] != trial.number:
            workshop = for_trial(self._workshop, trial.stages, trial.shortened)
            first = None if self.published else lambda trail: self._first(workshop, trail)
            self._last = (trial.number, workshop, run(workshop, first))
            quality = _quality(self._last[2])
            self.metric = "" if quality is None else quality.metric
        return self._last[1:]

    def look(self, trial: TrialRecord) -> TrialRecord:
        """What a trial loses on the evaluation split, and what it costs where a stage was undone."""
        workshop, trail = self.of(trial)
        quality = _quality(trail)
        figures: dict[str, object] = {}
        if quality is not None:
            figures = {"drop": quality.drop, "drop_high": quality.drop_high}
        if trail.best.key != make(workshop)[-1].key:
            figures |= vars(self.scales.weigh(trail.best))
        return trial.model_copy(update=figures)

    def publish(self, trial: TrialRecord, record: SearchRecord) -> None:
        """Put a trial's result into the output."""
        workshop, trail = self.of(trial)
        trail.looks = record.looks
        self._publish(workshop, trail, record)
        self.published = True

    def _first(self, workshop: Workshop, trail: Trail) -> None:
        """The original's export, until there is something better."""
        if not self.published:
            self._publish(workshop, trail, None)
            self.published = True


def _quality(trail: Trail) -> Quality | None:
    """What the result of a line loses on the evaluation split; None where that is not known."""
    found = read_details(trail.finished.artifact).get("quality")
    return Quality.model_validate(found | {"looks": 0}) if isinstance(found, dict) else None
