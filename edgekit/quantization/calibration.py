"""Calibration for static quantization: the range of every activation, streamed, in memory that does not grow.

Samples go through one by one at their own length, since padding would widen ranges. Minimum and maximum are merged as
they come and written down every few samples, so that a killed run goes on where it stopped: into a folder named by
their number, with the hash of each file, renamed into place when it is whole.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import Artifact
from edgekit.cache import newest_whole, put_whole
from edgekit.disk import telling_full
from edgekit.progress import Progress
from edgekit.quantization.schemes import copy_of_its_own, quiet
from edgekit.runtimes.ort import OnnxRunner, RecordingRunner, open_session
from edgekit.tasks.base import Batch, Examples, Task

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import MinMaxCalibrater

CHUNK = 32
PREFIX = "samples-"
Note = Callable[..., None]


def draw_samples(available: int, wanted: int, seed: int) -> list[int]:
    """Which samples are run, the same for every engine.

    Args:
        available: how many there are.
        wanted: how many at most.
        seed: of the choice.
    """
    import numpy as np

    return [int(index) for index in np.random.default_rng([seed, 2]).permutation(available)[:wanted]]


def record_feeds(
    artifact: Artifact, task: Task, examples: Examples, indices: Sequence[int], threads: int
) -> Iterator[dict[str, list[Batch]]]:
    """What each component is fed for each sample, states included, a chunk of samples at a time."""
    runner = OnnxRunner(artifact, threads)
    for start in range(0, len(indices), CHUNK):
        recorder = RecordingRunner(runner)
        for index in indices[start : start + CHUNK]:
            task.forward(recorder, examples.batch([index]))
        yield recorder.fed


def calibrate(
    artifact: Artifact,
    task: Task,
    examples: Examples,
    indices: Sequence[int],
    folder: Path,
    *,
    kinds: Sequence[str],
    threads: int,
    progress: Progress,
    note: Note,
) -> dict[str, Path]:
    """Calibrate every component and return the files of ranges, as onnxruntime's tool reads them.

    Args:
        artifact: float32, of format ``onnx``.
        task: drives the components.
        examples: samples.
        indices: which of them.
        folder: keeps the ranges and how far they are.
        kinds: operators whose inputs and outputs are wanted.
        threads: of the inference.
        progress: told of every chunk.
        note: told where a killed run goes on, and of every chunk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(artifact.manifest.components)
    place = newest_whole(folder, PREFIX)
    done = int(place.name.removeprefix(PREFIX)) if place is not None else 0
    note("calibration.start", sample=done, samples=len(indices), checkpoint_every=CHUNK)
    progress.start("quantize: calibration", len(indices))
    progress.advance(done)
    calibrators = {
        name: _open(
            artifact.file(name), kinds, folder / f"augmented-{name}.onnx", place and _ranges(place, name), threads
        )
        for name in names
    }
    for fed in record_feeds(artifact, task, examples, indices[done:], threads):
        done = min(done + CHUNK, len(indices))
        place = _keep(calibrators, fed, place, folder / f"{PREFIX}{done:08d}")
        note("calibration.checkpoint", sample=done)
        progress.advance(CHUNK)
        del fed  # before the next chunk is recorded, so that never two are held
    progress.finish(f"{len(indices)} samples")
    return {name: _ranges(place or folder, name) for name in names}


def _ranges(place: Path, name: str) -> Path:
    """Where a component's ranges are."""
    return place / f"ranges-{name}.json"


def _keep(
    calibrators: Mapping[str, MinMaxCalibrater], fed: Mapping[str, list[Batch]], before: Path | None, place: Path
) -> Path:
    """Merge a chunk into the ranges, and leave them in a new folder, whole or not at all; the one before it goes."""
    staged = place.with_name(f".{uuid.uuid4().hex}")
    staged.mkdir()
    for name, calibrator in calibrators.items():
        if fed.get(name):
            _merge(calibrator, fed[name], _ranges(staged, name))
        elif before is not None and _ranges(before, name).is_file():  # what this chunk does not reach
            shutil.copyfile(_ranges(before, name), _ranges(staged, name))
    put_whole(staged, place)
    if before is not None and before != place:
        shutil.rmtree(before, ignore_errors=True)
    return place


def _open(graph: Path, kinds: Sequence[str], augmented: Path, ranges: Path | None, threads: int) -> MinMaxCalibrater:
    """onnxruntime's min-max calibrator, with the ranges of an earlier attempt and our number of threads."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator, load_tensors_data

    full = telling_full(augmented.parent, graph.stat().st_size)
    with quiet(), copy_of_its_own(graph, augmented.parent) as copied, full:
        calibrator = create_calibrator(
            copied, list(kinds), augmented_model_path=str(augmented), calibrate_method=CalibrationMethod.MinMax
        )
    calibrator.infer_session = open_session(augmented, threads, optimized=False)
    if ranges is not None and ranges.is_file():
        calibrator.calibrate_tensors_range = load_tensors_data(ranges)
    return calibrator


def _merge(calibrator: MinMaxCalibrater, feeds: list[Batch], file: Path) -> None:
    from onnxruntime.quantization.calibrate import save_tensors_data

    calibrator.collect_data(_Reader(feeds))
    save_tensors_data(calibrator.compute_data(), file)
    calibrator.clear_collected_data()


class _Reader:
    """Feeds one after the other, then None: what the calibrator reads."""

    def __init__(self, feeds: list[Batch]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Batch | None:
        return next(self._feeds, None)
