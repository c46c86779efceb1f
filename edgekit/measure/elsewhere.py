"""Whether an artifact answers on a device as it does here: the same samples, output by output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgekit.artifact import Artifact
from edgekit.measure.golden import finite, relative_difference
from edgekit.measure.latency import subject_at
from edgekit.measure.quality import Outputs, collect_outputs, count_flips, has_several
from edgekit.progress import Silent
from edgekit.report import DeviceCheck
from edgekit.runtimes import open_runner
from edgekit.runtimes.measuring import Answer, Place, calls_seconds, run_calls
from edgekit.runtimes.ort import RecordingRunner
from edgekit.tasks.base import Array, Batch, Examples, Runner, Task

# 128 samples: one that flips is less than a percent, and the slowest emulated processor takes minutes for them.
SAMPLES = 128
# Fewer where an emulator only confirms what a simulation says that is the same to the bit.
CONFIRMED = 64
# Of the time that a device has, the samples may take so much by what the first of them took.
SHARE = 0.8


@dataclass(frozen=True)
class Spread:
    """So many samples of a split, evenly spread over it."""

    examples: Examples
    count: int = SAMPLES

    def __len__(self) -> int:
        return min(self.count, len(self.examples))

    def at(self, index: int) -> int:
        """Which of the split's samples is the one of an index."""
        return index * len(self.examples) // len(self)

    def length(self, index: int) -> int:
        """What a sample costs."""
        return self.examples.length(self.at(index))

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples as named arrays."""
        return self.examples.batch([self.at(index) for index in indices])


@dataclass
class Replay:
    """A Runner that answers with what a device gave for the same calls, in their order.

    Attributes:
        answers: of each component, one a call.
    """

    answers: dict[str, list[dict[str, Array]]]
    _next: dict[str, int] = field(default_factory=dict)

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The next answer of a component."""
        del feeds
        index = self._next.get(component, 0)
        self._next[component] = index + 1
        return self.answers[component][index]


def compare_elsewhere(
    artifact: Artifact, task: Task, examples: Spread, batch: int, place: Place, *, runner: Runner | None = None
) -> DeviceCheck:
    """Run samples here and on a device, and compare.

    Every component is fed there what it was fed here, its states and what other components gave included. The first
    samples go there alone: what they took tells how many there is time for.

    Args:
        artifact: an exported one.
        task: bound to it.
        examples: real samples, with labels where there are any; fewer where the device is too slow for all of them.
        batch: samples at once.
        place: the device.
        runner: answers here; the artifact in its own runtime by default.
    """
    runner = runner or open_runner(artifact)
    _, trial = _run_both(artifact, runner, task, replace(examples, count=batch), batch, place)
    slowest_ms = max(answer.run_ms for answer in trial.values())
    examples = replace(examples, count=affordable(examples.count, batch, slowest_ms, calls_seconds(place)))
    here, answers = _run_both(artifact, runner, task, examples, batch, place)
    replay = Replay({name: _arrays(answer) for name, answer in answers.items()})
    there = collect_outputs(replay, task, examples, batch, Silent())
    version = next(reversed(answers.values())).runtime_version
    scores = [task.class_scores(outputs.logits) for outputs in (here, there)]
    several = here.labels is not None and has_several(scores[0], here.labels)
    flips = count_flips(scores[0], scores[1], several=several)
    return DeviceCheck(
        device=place.label,
        runtime=f"{place.runtime} {version}".strip(),
        n=len(examples),
        agree=None if flips is None else len(examples) - flips,
        largest_difference=finite(relative_difference(there.logits, here.logits)),
        metric=task.metric_name if here.labels is None else task.metric_for(here.labels),
        here=here.score(task),
        there=there.score(task),
    )


def affordable(count: int, batch: int, batch_ms: float, seconds: float) -> int:
    """How many samples there is time for: all that are wanted, else as many whole batches as fit, and at least one.

    Args:
        count: samples that are wanted.
        batch: samples at once.
        batch_ms: what a batch took.
        seconds: the time that there is.
    """
    fitting = int(seconds * SHARE * 1e3 / batch_ms) if batch_ms > 0 else count
    return min(count, max(1, fitting) * batch)


def _run_both(
    artifact: Artifact, runner: Runner, task: Task, examples: Spread, batch: int, place: Place
) -> tuple[Outputs, dict[str, Answer]]:
    """Outputs here, and what the device gave for the calls of each component that they took."""
    recorder = RecordingRunner(runner)
    here = collect_outputs(recorder, task, examples, batch, Silent())
    parts = artifact.manifest.components
    answers = {
        component: run_calls(subject_at(artifact.path, parts[component], calls[0]), calls, place)
        for component, calls in recorder.fed.items()
    }
    return here, answers


def _arrays(answer: Answer) -> list[dict[str, Array]]:
    """The outputs of each call."""
    return [{name: packed.array() for name, packed in outputs.items()} for outputs in answer.outputs["subject"]]
