"""C: one header and one source, against the C interface of ONNX Runtime or of LiteRT."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edgekit.bundle.forms import FormName
from edgekit.bundle.platforms.base import Platform, Runtime, copy_sources, fill
from edgekit.bundle.schema import Bundle

# The source is written in parts, which become one file in this order, the code for the runtime behind "runtime.c".
PARTS = (
    "head.c",
    "support.c",
    "json.c",
    "normalizer.c",
    "pieces.c",
    "tokenizer.c",
    "image.c",
    "runtime.c",
    "model.c",
    "selftest.c",
)
SOURCE, HEADER, EXAMPLE = "edgekit_model.c", "edgekit_model.h", "example.c"
ONNX_RUNTIME = Runtime(file=SOURCE, package="onnxruntime", library="ONNX Runtime", mark="OrtGetApiBase()")
LITERT = Runtime(
    file=SOURCE,
    package="ai-edge-litert",
    library="LiteRT",
    mark="LiteRtRunCompiledModel(",
    notes="""
LiteRT is asked through its own C interface (`LiteRtCompiledModel`) and runs on the processor. Google offers the library
for Linux, Android, macOS, iOS and Windows; this code was run on Linux, with 2.2.0 and 2.3.0. (2.1 and earlier have
another interface.) A text goes to the smallest entry point of the model that holds it, with zeros behind it. LiteRT
writes a line to the standard error when it starts.
""",
)
# Of each runtime: its part of the source, the library in its wheel, that library's own name, what it is linked with.
_LIBRARIES = {
    ONNX_RUNTIME.package: ("onnxruntime.c", "onnxruntime/capi/libonnxruntime.so.{}", "libonnxruntime.so.1", "-lm"),
    LITERT.package: ("litert.c", "ai_edge_litert/libLiteRt.so", "libLiteRt.so", "-lm -pthread"),
}


def source(form: FormName = "onnx") -> str:
    """``edgekit_model.c`` for a form of the model."""
    folder = resources.files("edgekit.bundle").joinpath("c")
    behind = PARTS.index("runtime.c") + 1
    parts = (*PARTS[:behind], _LIBRARIES[C.runtimes[form].package][0], *PARTS[behind:])
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in parts)


def _write(folder: Path, bundle: Bundle) -> None:
    form = bundle.model.forms[0].format
    runtime = C.runtimes[form]
    version = C.versions(bundle)[runtime.package]
    _, in_wheel, name, linked = _LIBRARIES[runtime.package]
    more = {
        "library": runtime.library,
        "requirement": f"{runtime.package}=={version}",
        "in_wheel": in_wheel.format(version),
        "shared": name,
        "linked": linked,
        "notes": runtime.notes,
    }
    (folder / SOURCE).write_text(source(form), encoding="utf-8")
    copy_sources("c", folder, (HEADER, EXAMPLE))
    (folder / "README.md").write_text(fill("c", "README.md", bundle, C, folder, more), encoding="utf-8")


C = Platform(
    name="c",
    description="C11, one header and one source",
    content="bundle",
    forms=("onnx", "ort", "tflite"),
    kinds=("text", "image"),
    needs=(HEADER, EXAMPLE),
    write=_write,
    runtimes={"onnx": ONNX_RUNTIME, "ort": ONNX_RUNTIME, "tflite": LITERT},
)
