"""How to run an artifact, as code that runs in its folder: with edgekit, optimum, plain onnxruntime or LiteRT."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from edgekit.artifact import WHOLE, Manifest

# optimum's classes that load a folder of one ONNX graph, by task.
OPTIMUM = {
    "text-classification": "ORTModelForSequenceClassification",
    "image-classification": "ORTModelForImageClassification",
}
TEXT, PHOTO = "a sentence", "photo.jpg"

_EDGEKIT = """
import edgekit

print(edgekit.load(".").predict("{example}"))
"""
_OPTIMUM = """
from optimum.onnxruntime import {name}

model = {name}.from_pretrained(".", file_name="{file}"{provider})
"""
_SESSION = """
session = onnxruntime.InferenceSession("{file}", providers={providers})
{feeds}
logits = session.run(["{output}"], feeds)[0]  # {shape}
"""
_LABELS = """
labels = Path("labels.txt").read_text(encoding="utf-8").splitlines()
print(labels[int(logits[0].argmax())])
"""
_WORDS = """
from pathlib import Path

import onnxruntime
from transformers import AutoTokenizer

encoded = AutoTokenizer.from_pretrained(".")("{text}", truncation=True, max_length={length}, return_tensors="np")
"""
_IMAGE = """
from pathlib import Path

import onnxruntime
from PIL import Image
from transformers import AutoImageProcessor

image = Image.open("{photo}").convert("{mode}")
encoded = AutoImageProcessor.from_pretrained(".", backend="pil")(image, return_tensors="np")
"""
_GOLDEN = """
from pathlib import Path

import onnxruntime
from safetensors.numpy import load_file

golden = load_file("golden/{component}.safetensors")  # inputs that the artifact was verified with
"""
_LITERT = """
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from safetensors.numpy import load_file

golden = load_file("golden/{component}.safetensors")
run = Interpreter("{file}").get_signature_runner("{key}")
feeds = {{}}
for name, detail in run.get_input_details().items():
    value = golden[f"0/in/{{name}}"]
    shape = [size if size > 0 else given for size, given in zip(detail["shape_signature"], value.shape)]
    value = value[tuple(slice(size) for size in shape)]
    feeds[name] = np.pad(value, [(0, size - given) for size, given in zip(shape, value.shape)]).astype(detail["dtype"])
print(run(**feeds)["{output}"])
"""
_ENCODED = "feeds = {value.name: encoded[value.name] for value in session.get_inputs()}"
_STORED = 'feeds = {value.name: golden[f"0/in/{value.name}"] for value in session.get_inputs()}'


def usage(kind: str, manifest: Manifest, providers: Sequence[str]) -> Iterator[str]:
    """Markdown for each way that runs this artifact; the code runs where the artifact lies.

    Args:
        kind: of the source, ``transformers`` or another.
        manifest: of the artifact.
        providers: what computes in onnxruntime on the target, by its names, the first one first.
    """
    example = {"tokenizer": TEXT, "image-processor": PHOTO, "pixels": PHOTO}.get(_preprocessing(manifest))
    yield "In the folder of this file, with edgekit:"
    yield _python(_EDGEKIT.format(example=example)) if example else "```sh\nedgekit verify .\n```"
    name = OPTIMUM.get(manifest.task)
    if len(manifest.components) > 1:
        yield "It is made of several graphs, which edgekit drives; `manifest.json` has their inputs and outputs."
        return
    file = manifest.components[WHOLE].files[0]
    if manifest.format == "tflite":
        yield "With LiteRT alone (`pip install ai-edge-litert safetensors`), on inputs that it was verified with:"
        yield _python(_litert(manifest, file))
        return
    if name is not None and kind == "transformers":
        provider = "" if len(providers) == 1 else f', provider="{providers[0]}"'
        yield "With optimum's classes for onnxruntime:"
        yield _python(_OPTIMUM.format(name=name, file=_quoted(file), provider=provider))
    yield "With onnxruntime alone:"
    yield _python(_plain(manifest, file, providers))


def _plain(manifest: Manifest, file: str, providers: Sequence[str]) -> str:
    part = manifest.components[WHOLE]
    output = part.outputs[0] if part.outputs else None
    kind = _preprocessing(manifest)
    stored = kind not in ("tokenizer", "image-processor")
    if kind == "tokenizer":
        first = _WORDS.format(text=TEXT, length=manifest.preprocessing.get("max_length"))
    elif kind == "image-processor":
        shape = part.inputs[0].shape if part.inputs else ()
        first = _IMAGE.format(photo=PHOTO, mode="L" if len(shape) == 4 and shape[1] == 1 else "RGB")
    else:
        first = _GOLDEN.format(component=WHOLE)
    session = _SESSION.format(
        providers=json.dumps(list(providers)),
        file=_quoted(file),
        feeds=_STORED if stored else _ENCODED,
        output=_quoted(output.name) if output else "logits",
        shape=f"[{', '.join(str(dim) for dim in output.shape)}]" if output else "[batch, classes]",
    )
    flat = output is not None and len(output.shape) == 2 and output.shape[1] != 1  # one output is a number
    return first.rstrip() + "\n" + session.strip() + (_LABELS if flat and manifest.labels else "")


def _litert(manifest: Manifest, file: str) -> str:
    """The signature that takes the most: its sizes are fixed, and what is behind a sample is zeros."""
    part = manifest.components[WHOLE]
    key = max(part.signatures, key=lambda name: sum(part.signatures[name].values()))
    return _LITERT.format(file=_quoted(file), component=WHOLE, key=_quoted(key), output=_quoted(part.outputs[0].name))


def _preprocessing(manifest: Manifest) -> str:
    return str(manifest.preprocessing.get("kind") or "")


def _quoted(name: str) -> str:
    """A name as it stands between double quotes in Python, on one line and without a fence."""
    return json.dumps(name)[1:-1].replace("`", "\\x60")


def _python(code: str) -> str:
    return f"```python\n{code.strip()}\n```"
