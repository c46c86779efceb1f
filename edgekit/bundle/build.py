"""Builds a bundle: what an app developer puts into an app to run a model without Python and without edgekit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from edgekit.artifact import SUMS, WHOLE, Artifact, Component, Manifest, TensorSpec, is_plain, open_artifact, walk
from edgekit.bundle import forms
from edgekit.bundle.documents import write_documents
from edgekit.bundle.forms import FormName
from edgekit.bundle.pixels import compile_pixels, value_range
from edgekit.bundle.platforms import PLATFORMS
from edgekit.bundle.platforms.base import Platform
from edgekit.bundle.reference import self_test
from edgekit.bundle.schema import (
    BUNDLE,
    LABELS_FILE,
    SCHEMA_FILE,
    Answer,
    Bundle,
    FileRecord,
    Image,
    Model,
    Tensor,
    Text,
    json_schema,
)
from edgekit.bundle.selftest import write_selftest
from edgekit.bundle.tokenizer import compile_tokenizer, plain, write_program
from edgekit.cache import Cache, folder_beside
from edgekit.errors import ArtifactError, ModelError, UnknownNameError, VerificationError
from edgekit.formats.tflite_export import SEQUENCE
from edgekit.placing import check_output, holds_only, publish, sealed_names
from edgekit.sealing import seal
from edgekit.settings import Frozen
from edgekit.source import sha256_file
from edgekit.target import load_target, target_names
from edgekit.tasks import bind_task
from edgekit.tasks.base import TaskOptions
from edgekit.tasks.classification import Classification
from edgekit.tasks.image_classification import ImageClassification
from edgekit.tasks.origin import MULTI, REGRESSION
from edgekit.tasks.text_classification import TextClassification

if TYPE_CHECKING:
    from edgekit.tasks.text_classification import TextClassification as Texts

COMPILED, ORIGINAL = "tokenizer/compiled.json", "tokenizer/tokenizer.json"
INTEGERS = ("int64", "int32")  # of token ids, for code that asks a .tflite for its types
INPUTS = {"ids": "input_ids", "segments": "token_type_ids", "mask": "attention_mask"}


class BundleRecord(Frozen):
    """A bundle that was made.

    Attributes:
        path: where it lies.
        platform: what it is for.
        form: the format of the model in it.
        files: how many it has.
        size_bytes: of all of them.
        model_bytes: of the model alone.
    """

    schema_: Literal["edgekit.bundle-made/1"] = Field("edgekit.bundle-made/1", alias="schema")
    path: str
    platform: str
    form: str
    files: int
    size_bytes: int
    model_bytes: int


def make_bundle(path: str | Path, platform: str, out: str | Path, form: str | None = None) -> BundleRecord:
    """Make a bundle of an artifact; the same artifact and versions give the same bytes.

    Args:
        path: an artifact with one component, of text or image classification.
        platform: a name of ``PLATFORMS``.
        out: a new folder, or an earlier bundle, which is replaced.
        form: ``onnx``, ``ort`` or ``tflite``; the platform's first that the artifact can take by default.

    Raises:
        UnknownNameError: there is no such platform.
        UsageError: the platform does not take the artifact's format, or ``out`` holds something else.
        ModelError: the model's pre-processing or answers are of a kind that bundles do not carry.
        VerificationError: the artifact is not as it was made, or the bundle does not answer as the artifact does.
    """
    if platform not in PLATFORMS:
        raise UnknownNameError("platform", platform, PLATFORMS, id="unknown-name.platform")
    chosen = PLATFORMS[platform]
    out = Path(out).expanduser()
    artifact = open_artifact(Path(path).expanduser())
    check_output(out, is_only_bundle)
    task = _task_of(artifact)
    name = forms.choose_form(artifact, chosen.forms, form)
    cache = Cache()
    cache.sweep(out.resolve())
    with folder_beside(out.resolve(), cache) as scratch:
        staged = scratch / "bundle"
        content = staged / chosen.content
        content.mkdir(parents=True)
        bundle = _write_content(artifact, task, chosen, name, content)
        chosen.write(staged, bundle)
        write_documents(artifact, chosen.versions(bundle), staged)
        (staged / SCHEMA_FILE).write_text(json_schema(), encoding="utf-8")
        _check_answers(content)
        for file in walk(staged):
            file.chmod(0o755 if file.stat().st_mode & 0o100 and file.suffix == "" else 0o644)
        seal(staged)
        publish(staged, out, is_only_bundle)
    files = walk(out)
    model = out / chosen.content / bundle.model.forms[0].file
    return BundleRecord(
        path=str(out),
        platform=platform,
        form=name,
        files=len(files),
        size_bytes=sum(file.stat().st_size for file in files),
        model_bytes=model.stat().st_size,
    )


def is_bundle(path: str | Path) -> bool:
    """Whether a directory was made by ``make_bundle``: sealed, with one ``bundle.json``."""
    root = Path(path).expanduser()
    return (root / SUMS).is_file() and (root / SCHEMA_FILE).is_file() and find_content(root) is not None


def is_only_bundle(path: Path) -> bool:
    """Whether a directory is a bundle and holds nothing else: who replaces it removes all of it."""
    try:
        return is_bundle(path) and holds_only(path, {SUMS, *sealed_names(path)})
    except (ArtifactError, OSError, ValueError):
        return False


def find_content(root: Path) -> Path | None:
    """The folder of ``bundle.json`` in a bundle; None where there is none or several."""
    found = sorted(path.parent for path in root.rglob(BUNDLE) if is_plain(path))
    return found[0] if len(found) == 1 else None


def _task_of(artifact: Artifact) -> Classification:
    """The artifact's task.

    Raises:
        ModelError: bundles do not carry such a model.
        VerificationError: a file of the model is not what the manifest says.
    """
    manifest = artifact.manifest
    if artifact.format == "torch" or list(manifest.components) != [WHOLE]:
        raise _refused("it is not one exported graph", f"components: {', '.join(manifest.components)}")
    for name, digest in manifest.files.items():
        if not (artifact.path / name).is_file() or sha256_file(artifact.path / name) != digest:
            raise VerificationError(
                f"{str(artifact.path)!r} is not as it was made", id="verification.changed", why=f"{name}: changed"
            )
    task = bind_task(manifest.task, artifact.path, TaskOptions(max_length=_longest(manifest)))
    if not isinstance(task, (TextClassification, ImageClassification)):
        raise _refused(f"its task is {manifest.task}", "bundles carry text-classification and image-classification")
    if task.fixed_batch not in (None, 1):
        raise _refused(f"it takes {task.fixed_batch} samples at once", "an app asks for one at a time")
    return task


def _longest(manifest: Manifest) -> int | None:
    """The longest sequence, where the artifact says it: no longer than the largest entry point of a TFLite file."""
    recorded = manifest.preprocessing.get("max_length")
    entries = [sizes[SEQUENCE] for sizes in manifest.components[WHOLE].signatures.values() if SEQUENCE in sizes]
    lengths = [*([recorded] if isinstance(recorded, int) else []), *([max(entries)] if entries else [])]
    return min(lengths, default=None)


def _write_content(
    artifact: Artifact, task: Classification, platform: Platform, form: FormName, content: Path
) -> Bundle:
    """Write everything but the platform's code; returns what ``bundle.json`` says."""
    manifest = artifact.manifest
    component = manifest.components[WHOLE]
    _check_types(component, task, platform, form)
    preprocessing = _preprocessing(task, content)
    if preprocessing.kind not in platform.kinds:
        raise _refused(f"its input is of the kind {preprocessing.kind}", f"platform: {', '.join(platform.kinds)}")
    # one of the user's own is not here, and what is said of it is no path to be read
    architecture = load_target(manifest.target).architecture if manifest.target in target_names() else None
    written = forms.write_form(artifact, form, forms.served(platform.serves, architecture), content)
    labels = "".join(f"{label}\n" for label in task.labels)
    (content / LABELS_FILE).write_text(labels, encoding="utf-8")
    bundle = Bundle(
        name=str(manifest.source.get("name") or "model"),
        platform=platform.name,
        task=manifest.task,
        target=manifest.target,
        model=Model(
            forms=(written,),
            precision=component.precision,
            inputs=tuple(_tensor(spec, preprocessing, task) for spec in component.inputs),
            outputs=tuple(_tensor(spec, None, task) for spec in component.outputs),
            signatures=component.signatures,
        ),
        preprocessing=preprocessing,
        answer=Answer(output=task.origin.answer, activation=_activation(task), count=len(task.labels)),
        tools=manifest.tools,
    )
    write_selftest(artifact, task, bundle, content)
    records = {
        file.relative_to(content).as_posix(): FileRecord(size_bytes=file.stat().st_size, sha256=sha256_file(file))
        for file in walk(content)
    }
    bundle = bundle.model_copy(update={"files": records})
    (content / BUNDLE).write_text(bundle.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    return bundle


def _preprocessing(task: Classification, content: Path) -> Text | Image:
    """What is done to a raw input; a tokenizer is written, too."""
    if isinstance(task, ImageClassification):
        return compile_pixels(task.pixels)
    words = cast("Texts", task)
    backend: Any = cast("Any", words.tokenizer).backend_tokenizer
    program = compile_tokenizer(backend, words.max_length, words.tokenizer.pad_token_id or 0)
    (content / COMPILED).parent.mkdir()
    write_program(program, content / COMPILED)
    with plain(backend, words.max_length):
        (content / ORIGINAL).write_text(backend.to_str() + "\n", encoding="utf-8")
    names = {key: name for key, name in INPUTS.items() if name in words.input_names}
    return Text(
        compiled=COMPILED,
        original=ORIGINAL,
        family=program["model"]["type"],
        max_length=words.max_length,
        ids=names["ids"],
        segments=names.get("segments"),
        mask=names.get("mask"),
    )


def _check_types(component: Component, task: Classification, platform: Platform, form: FormName) -> None:
    """Code feeds images as float32, and texts as the platform says, or a .tflite does; it reads answers of float32.

    Raises:
        ModelError: the model takes or gives something else.
    """
    ids = INTEGERS if form == "tflite" else platform.ids
    taken = ("float32",) if isinstance(task, ImageClassification) else ids
    asked = [(spec, taken) for spec in component.inputs]
    asked += [(spec, ("float32",)) for spec in component.outputs if spec.name == task.origin.answer]
    for spec, allowed in asked:
        if spec.dtype not in allowed:
            raise _refused(
                f"its {spec.name!r} is {spec.dtype}", f"the code for {platform.name} has {' or '.join(allowed)} there"
            )


def _tensor(spec: TensorSpec, preprocessing: Text | Image | None, task: Classification) -> Tensor:
    """A tensor of the model with what is known of its values."""
    values: dict[str, Any] = {"layout": ",".join(str(side) for side in spec.shape)}
    if isinstance(preprocessing, Image):
        low, high = value_range(preprocessing)
        order = next(step.order for step in preprocessing.steps if step.op == "layout")
        values = {"layout": order, "low": low, "high": high}
    elif preprocessing is not None:
        largest = cast("Texts", task).config.vocab_size - 1 if spec.name == preprocessing.ids else 1
        values = {"layout": "batch,sequence", "low": 0, "high": largest}
    return Tensor(name=spec.name, dtype=spec.dtype, shape=spec.shape, **values)


def _activation(task: Classification) -> Any:
    if task.problem == REGRESSION or task.origin.probabilities:
        return "none"
    return "sigmoid" if task.problem == MULTI else "softmax"


def _check_answers(content: Path) -> None:
    """Run the self-test by the reference program.

    Raises:
        VerificationError: it finds something.
    """
    problems = self_test(content)
    if problems:
        raise VerificationError(
            "the bundle does not answer as the artifact does",
            id="verification.bundle-differs",
            why="\n".join(problems),
        )


def _refused(what: str, why: str) -> ModelError:
    return ModelError(f"the model cannot be put into a bundle: {what}", id="model.not-bundled", why=why)
