"""The samples of a bundle: raw inputs, what pre-processing makes of them, and what the artifact answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgekit.artifact import Artifact
from edgekit.bundle import probes
from edgekit.bundle.pixels import step_of_a_pixel
from edgekit.bundle.schema import SELFTEST, Bundle, Case, Image, SelfTest, StoredTensor, Text
from edgekit.errors import ArtifactError, retelling
from edgekit.measure.golden import FOLDER as GOLDEN
from edgekit.measure.golden import TASK_FILE
from edgekit.runtimes import open_confined
from edgekit.tasks.base import LABELS, Array, Task

if TYPE_CHECKING:
    from edgekit.tasks.text_classification import TextClassification

MOST_GOLDEN = 4
IMAGES = 8
TABBED = "a tab\tin a text parts no pair"
LONGEST = 512  # tokens of a pair that is cut: a self-test with longer ones would take long on a phone


def write_selftest(artifact: Artifact, task: Task, bundle: Bundle, content: Path) -> None:
    """Write ``selftest/``: the samples of a bundle, answered by the artifact in its own runtime here.

    Raises:
        ArtifactError: the artifact's golden samples are not of its model.
    """
    import numpy as np

    folder = (content / SELFTEST).parent
    folder.mkdir()
    runner = open_confined(artifact, runtime=artifact.manifest.runtime)
    tolerance = artifact.manifest.golden_tolerance or 0.0
    found: list[tuple[dict[str, Any], Array]] = []
    for number, (raw, row) in enumerate(_raw_inputs(artifact, task, bundle)):
        batch = task.encode({name: [value] for name, value in row.items()}).batch([0])
        inputs = {name: values for name, values in batch.items() if name != LABELS}
        output = task.forward(runner, inputs)[0]
        said: dict[str, Any] = dict(row)
        if raw is not None:
            raw.tofile(folder / f"{number}.rgb")
            said = {
                "image": f"{SELFTEST.partition('/')[0]}/{number}.rgb",
                "width": raw.shape[1],
                "height": raw.shape[0],
            }
        stored = {name: _store(values, folder / f"{number}.{name}.bin") for name, values in inputs.items()}
        found.append((said | {"inputs": stored}, output))
    allowed = tolerance * max(float(np.abs(output).max()) for _, output in found)
    cases = tuple(
        Case(**said, output=tuple(map(float, output)), label=_label(output, allowed, task.labels))
        for said, output in found
    )
    selftest = SelfTest(tolerance=tolerance, input_tolerance=_input_tolerance(bundle), cases=cases)
    text = selftest.model_dump_json(by_alias=True, indent=1, exclude_none=False)
    (content / SELFTEST).write_text(text + "\n", encoding="utf-8")


def _input_tolerance(bundle: Bundle) -> float:
    """Of texts nothing: ids have to be equal."""
    return step_of_a_pixel(bundle.preprocessing) if isinstance(bundle.preprocessing, Image) else 0.0


def _raw_inputs(artifact: Artifact, task: Task, bundle: Bundle) -> Iterator[tuple[Array | None, dict[str, Any]]]:
    """Images as a bundle holds them, None for texts; and the same as rows of the task."""
    with retelling(_no_samples):
        golden = _golden(artifact)
    if isinstance(bundle.preprocessing, Image):
        yield from _raw_images(golden, bundle.preprocessing)
        return
    texts = _raw_texts(golden, cast("TextClassification", task), bundle.preprocessing)
    yield from ((None, row) for row in texts)


def _golden(artifact: Artifact) -> list[dict[str, Array]]:
    """The inputs of the artifact's golden samples, one sample each."""
    from safetensors.numpy import load_file

    file = artifact.path / GOLDEN / f"{TASK_FILE}.safetensors"
    if not file.is_file():
        return []
    samples: dict[int, dict[str, Array]] = {}
    for key, values in load_file(str(file)).items():
        index, side, name = key.split("/", 2)
        if side == "in":
            samples.setdefault(int(index), {})[name] = values
    return [samples[index] for index in sorted(samples)][:MOST_GOLDEN]


def _no_samples(why: str) -> ArtifactError:
    return ArtifactError(
        f"{GOLDEN}/{TASK_FILE}.safetensors holds no samples of this model", id="artifact.invalid-file", why=why
    )


def _raw_texts(golden: list[dict[str, Array]], task: TextClassification, text: Text) -> Iterator[dict[str, Any]]:
    """Sentences of several scripts, what the golden ids say (which need not be what was tokenized then), and pairs."""
    made = probes.SENTENCES[: probes.FIRST]
    decode = cast("Any", task.tokenizer).decode
    with retelling(_no_samples):
        said = [decode(sample[text.ids][0].tolist(), skip_special_tokens=True) for sample in golden]
    yield from ({"text": one} for one in dict.fromkeys([*made, *said, TABBED]))
    if getattr(task.config, "type_vocab_size", 2) < 2 and text.segments is not None:
        return  # the model knows no second text
    yield {"text": made[0], "pair": made[1]}
    if text.max_length <= LONGEST:
        long = " ".join(made * (text.max_length // 60 + 1))
        yield {"text": long, "pair": made[1]}
        yield {"text": long, "pair": long}


def _raw_images(golden: list[dict[str, Array]], image: Image) -> Iterator[tuple[Array, dict[str, Any]]]:
    """The golden inputs as images of the model's size, and images of other sizes."""
    import numpy as np
    from PIL import Image as Pillow

    sizes = [step for step in image.steps if step.op in {"resize", "crop"}]
    height, width = (sizes[-1].height, sizes[-1].width) if sizes else (0, 0)
    with retelling(_no_samples):
        made = [_unprepared(sample[image.input][0], image) for sample in golden[: IMAGES // 4]] if sizes else []
    other = next((pixels.shape for pixels in made if pixels.shape != (height, width, image.channels)), None)
    if other is not None:
        raise _no_samples(f"an image is {other}, and the model takes {(height, width, image.channels)}")
    made += list(probes.images(image.channels, height, width))
    for pixels in made[:IMAGES]:
        raw = np.ascontiguousarray(pixels)
        yield raw, {"image": Pillow.fromarray(raw if image.channels == 3 else raw[:, :, 0])}


def _unprepared(values: Array, image: Image) -> Array:
    """The image that prepared values came from, at the model's size: uint8 [height, width, channels]."""
    import numpy as np

    for step in reversed(image.steps):
        if step.op == "layout":
            values = values.transpose(1, 2, 0) if step.order == "NCHW" else values
        elif step.op == "normalize":
            values = values * np.asarray(step.std) + np.asarray(step.mean)
        elif step.op == "scale":
            values = values / step.factor
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _store(values: Array, file: Path) -> StoredTensor:
    """Write a tensor in little-endian order."""
    import numpy as np

    dtype = "int64" if values.dtype.kind in "iu" else "float32"
    np.ascontiguousarray(values, f"<{'i8' if dtype == 'int64' else 'f4'}").tofile(file)
    return StoredTensor(file=f"{file.parent.name}/{file.name}", dtype=dtype, shape=tuple(values.shape))


def _label(output: Array, allowed: float, labels: tuple[str, ...]) -> str | None:
    """The largest class, where no other could be it when both are off by as much as is allowed."""
    import numpy as np

    order = np.argsort(-output, kind="stable")
    if len(order) > 1 and output[order[0]] - output[order[1]] <= 2 * allowed:
        return None
    return labels[int(order[0])]
