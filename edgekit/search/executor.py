"""Where trials run: one small interface, and the executor that runs them one after another in this process.

A trial is a record with its stages; it comes back with its figures. Trials that are handed over together do not wait
for each other, so another executor may run them anywhere the cache can be reached.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from pydantic import JsonValue

from edgekit.artifact import Artifact
from edgekit.costing import fewest_columns
from edgekit.errors import EdgekitError, HostError, InputError, ModelError, UsageError
from edgekit.formats.encoder import encoder_layers
from edgekit.formats.torch import load_model
from edgekit.measure.divergence import divergence
from edgekit.measure.latency import Timings, named_subjects, time_in_processes
from edgekit.pipeline import leave_out
from edgekit.runtimes.measuring import Place, Timing
from edgekit.search.box import Box, OutOfTimeError, Watched
from edgekit.search.pace import EVERY, usual_step
from edgekit.search.space import SHORT_BOX, Table, reach_of, recipe_of
from edgekit.stages.base import read_details
from edgekit.stages.distill import DistillSettings
from edgekit.tasks.base import shuffled_batches
from edgekit.trials import MEASURING, TrialRecord
from edgekit.workshop import Made, Workshop, use_threads

# Of each of so many processes: one alone is off by 2 to 3 % of what the next one says of the same graphs.
WEIGHING = Timing(seconds=1.4, rounds=9)
PROCESSES = 3
REFERENCE, REFERENCE_ENERGY = "search.reference_ms", "search.reference_uj"
OPTIMIZE = "optimize"
# What trainings decide by the clock.
SHORTENED = "distill.steps"


class Executor(ABC):
    """Runs trials."""

    @abstractmethod
    def submit(self, trials: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
        """Run trials that do not wait for each other.

        Args:
            trials: with the stages of each.

        Returns:
            Each with its figures, or failed with the reason, in the order in which they end.
        """


@dataclass(frozen=True)
class Weight:
    """What an artifact costs, by the names that a trial has for it; None where it is not measured."""

    latency_ms: float | None
    size_bytes: int
    instructions: int | None
    energy_uj: float | None = None


class Scales:
    """Weighs artifacts: latency and energy by the ratio to one artifact that is timed beside each, so that all compare.

    That artifact takes what was measured of it first; so does any other with the same graphs.

    Args:
        workshop: of the search.
        reference: stages of that artifact.
    """

    def __init__(self, workshop: Workshop, reference: Sequence[Table]) -> None:
        self._workshop = workshop
        self._stages = reference
        self._reference: Made | None = None

    def weigh(self, made: Made) -> Weight:
        """The cost of an exported artifact."""
        workshop, limits = self._workshop, self._workshop.request.limits
        search = workshop.request.search
        counted = limits.max_instructions is not None or (search is not None and search.objective == "instructions")
        counts = [count.instructions for count in workshop.counts(made.artifact)] if counted else []
        milliseconds, microjoules = self._timed(made)
        return Weight(milliseconds, made.artifact.size_bytes, max(counts, default=None), microjoules)

    def _timed(self, made: Made) -> tuple[float | None, float | None]:
        workshop = self._workshop
        clock = workshop.request.clock
        if clock is None:
            return None, None
        self._reference = self._reference or make(for_trial(workshop, self._stages))[-1]
        reference = self._reference.artifact
        usual = workshop.decisions.decide(REFERENCE, lambda: self._time({REFERENCE: reference}, clock).p50(REFERENCE))
        energy = self._reference_energy(reference, clock)
        ratio = 1.0
        dearness: float | None = 1.0
        if _graphs(made.artifact) != _graphs(reference):
            workshop.progress.start("measure: a trial", None)
            timings = self._time({"reference": reference, "candidate": made.artifact}, clock)
            ratio, _ = timings.slowdown("candidate", than="reference")
            dearness = timings.dearness("candidate", than="reference")
            workshop.progress.finish(f"{1 / ratio:.2f}x as fast as without training")
        milliseconds = round(float(cast("float", usual)) * ratio, 4)
        return milliseconds, None if energy is None or dearness is None else round(energy * dearness, 2)

    def _reference_energy(self, reference: Artifact, clock: Place) -> float | None:
        """Microjoules of one inference of the reference; None where the search does not go by energy.

        Raises:
            HostError: the counters cannot tell.
        """
        search = self._workshop.request.search
        if search is None or search.objective != "energy":
            return None
        name = REFERENCE_ENERGY
        found = self._workshop.decisions.decide(name, lambda: self._time({name: reference}, clock).energy(name))
        if found is None:
            raise HostError(
                "the energy of an inference cannot be told here",
                id="environment.cannot-measure",
                why="the counters of energy stood still, or began anew, while it was measured",
                hint="Use --objective latency.",
            )
        return float(cast("float", found))

    def _time(self, artifacts: Mapping[str, Artifact], clock: Place) -> Timings:
        subjects = named_subjects(artifacts, self._workshop.task_of, self._workshop.request.workload)
        return time_in_processes(subjects, clock, WEIGHING, PROCESSES)


def _graphs(artifact: Artifact) -> list[str]:
    """The hashes of an artifact's graphs and their weights, in order: what decides its latency."""
    parts = artifact.manifest.components.values()
    return [artifact.manifest.files[file] for part in parts for file in part.files]


class LocalExecutor(Executor):
    """Runs trials in this process, one after another.

    Args:
        workshop: of the search.
        box: how long all may take.
        scales: what weighs artifacts.
    """

    def __init__(self, workshop: Workshop, box: Box, scales: Scales) -> None:
        self._workshop = workshop
        self._box = box
        self._scales = scales

    def submit(self, trials: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
        for trial in trials:
            began = self._box.now()
            watched = Watched(self._workshop.progress, self._box, checked_every(trial.stages))
            figures: dict[str, object] = {"state": "timed" if trial.kind in MEASURING else "kept"}
            try:
                figures |= self._run(trial, watched)
            except (InputError, UsageError, HostError) as error:
                if isinstance(error, HostError) and trial.kind != "costs":
                    raise
                figures = {"state": "failed", "reason": because(error)}
            except OutOfTimeError as error:
                figures = {"state": "failed", "reason": str(error)}
            seconds = round(trial.seconds + self._box.now() - began, 2)
            step = watched.step_seconds
            if trial.kind == "pace" and step is not None:
                step *= self._usual(trial)
            figures |= {"seconds": seconds, "step_seconds": step, "check_seconds": watched.check_seconds}
            yield trial.model_copy(update=figures)

    def _usual(self, trial: TrialRecord) -> float:
        """How many times as long a usual step of a trial's training is as its few steps were."""
        table = next(table for table in trial.stages if table["stage"] == "distill")
        settings = DistillSettings.model_validate({key: value for key, value in table.items() if key != "stage"})
        data, seed = self._workshop.data, self._workshop.request.seed
        assert data is not None  # something was trained
        batches = shuffled_batches(data.train, settings.batch_size, seed, 0)
        return usual_step(batches, data.train.length, trial.steps)

    def _costs(self, watched: Watched) -> dict[str, object]:
        workshop = self._workshop.for_run(self._workshop.request)
        workshop.progress = watched
        request = workshop.request
        use_threads(request.jobs)
        model, _ = load_model(workshop.task)
        widths = [(layer.heads, layer.neurons) for layer in encoder_layers(model)]
        hidden = fewest_columns(model, request)
        return {"reach": reach_of(workshop.costs(), widths, request.target.width_multiple, hidden)}

    def _run(self, trial: TrialRecord, watched: Watched) -> dict[str, object]:
        if trial.kind == "costs":
            return self._costs(watched)
        workshop = for_trial(self._workshop, trial.stages, trial.shortened)
        workshop.progress, workshop.left = watched, self._box.for_training
        use_threads(workshop.request.jobs)
        line = make(workshop, timed=trial.kind == "pace")
        self._workshop.decisions.adopt(workshop.decisions.inside(OPTIMIZE))
        trained = [made for made in line if made.artifact.format == "torch"]
        figures: dict[str, object] = _shape(trained) | (_steps(trained) if trial.steps else {})
        figures["shortened"] = workshop.decisions.inside(SHORTENED)
        if trial.kind == "pace":
            return figures
        figures |= vars(self._scales.weigh(line[-1]))
        if workshop.data is None:
            return figures
        if trial.kind == "proxy" or (trial.kind == "quantized" and self._fills):
            figures |= _divergence(workshop, trained[-1] if trial.kind == "proxy" else line[-1])
        elif self._ranked(trial):
            figures["selection_drop"] = _selection_drop(workshop, line[-1])
        return figures

    @property
    def _fills(self) -> bool:
        search = self._workshop.request.search
        return search is not None and search.fill

    def _ranked(self, trial: TrialRecord) -> bool:
        """Whether a trial is compared with others on the selection split; in a short box there is one training."""
        other = trial.kind == "quantized" and trial.number > 0
        return trial.kind != "timing" and (other or self._box.seconds >= SHORT_BOX)


def for_trial(
    workshop: Workshop, stages: Sequence[Table], shortened: Mapping[str, JsonValue] | None = None
) -> Workshop:
    """The workshop for one trial's recipe.

    Args:
        workshop: of the search. Which rewrites pay is decided by the first trial, for all of them.
        stages: of the recipe.
        shortened: what the clock decided of the trainings that it goes on from.
    """
    request = workshop.request
    assert request.search is not None  # only a search has trials
    search = request.search.model_copy(update={"trial": True})
    own = workshop.for_run(replace(request, recipe=recipe_of(request.recipe, stages), search=search))
    own.decisions.adopt(workshop.decisions.inside(OPTIMIZE) | dict(shortened or {}))
    return own


def make(workshop: Workshop, *, timed: bool = False) -> list[Made]:
    """Every artifact of a trial up to its last graph, in order; verification is a result's, not a trial's.

    Args:
        workshop: of the trial.
        timed: whether only its trainings are wanted, and of these how long they take: none comes from the cache.
    """
    at, line = workshop.original, []
    for step in leave_out(workshop.request)[0]:
        if step.stage.name == "verify" or (timed and step.stage.produces != "torch"):
            continue
        try:
            at = workshop.stage(step, at, anew=timed)
        except ModelError:
            if workshop.original.artifact.format != "onnx":
                raise
            continue  # what cannot be done to a graph of others: the straight line says so
        line.append(at)
    return line


def _shape(trained: Sequence[Made]) -> dict[str, object]:
    """The share of the cost that is left, and the layers of an encoder, by what pruning says.

    Cost is what the table of costs predicts where pruning went by one, else multiply-accumulates.
    """
    kept, layers = 1.0, None
    for made in trained:
        if made.artifact.manifest.stages[-1].stage != "prune":
            continue
        details = read_details(made.artifact)
        predicted = details.get("predicted")
        pair = (details.get("macs_before"), details.get("macs_after"))
        if isinstance(predicted, dict):
            pair = (predicted["before"], predicted["after"])
        kept *= _number(pair[1]) / (_number(pair[0]) or 1.0)
        rows = details.get("kept")
        layers = len(rows) if isinstance(details.get("before"), dict) and isinstance(rows, list) else None
    return {"kept": round(kept, 6), "layers": layers} if trained else {}


def _number(value: JsonValue) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _steps(trained: Sequence[Made]) -> dict[str, object]:
    """The steps that the last training came to: fewer than planned where it ended early."""
    details = [read_details(made.artifact) for made in trained if made.artifact.manifest.stages[-1].stage == "distill"]
    return {"steps": int(_number(details[-1].get("steps")))} if details else {}


def _divergence(workshop: Workshop, made: Made) -> dict[str, object]:
    """How far a student's answers are from the original's on the selection split, and what it loses there."""
    original, student = (
        workshop.outputs(artifact, "selection") for artifact in (workshop.original.artifact, made.artifact)
    )
    found = divergence(original.logits, student.logits)
    drop = _selection_drop(workshop, made)
    return {"divergence": found.mean, "divergence_error": found.error, "selection_drop": drop}


def _selection_drop(workshop: Workshop, made: Made) -> float | None:
    """Loss of the metric on the selection split; None without labels there."""
    scores = [
        workshop.outputs(artifact, "selection").score(workshop.task)
        for artifact in (workshop.original.artifact, made.artifact)
    ]
    return None if scores[0] is None or scores[1] is None else scores[0] - scores[1]


def checked_every(stages: Sequence[Table]) -> int:
    """Steps between two looks at the selection split in a trial's last training; 0 where nothing is trained."""
    trained = [table for table in stages if table["stage"] == "distill"]
    return int(_number(trained[-1].get("evaluate_every", EVERY))) if trained else 0


def because(error: EdgekitError) -> str:
    """Why a trial failed, in words."""
    return f"{error.what}: {error.why}" if error.why else error.what
