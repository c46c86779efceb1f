"""What a platform is: where a bundle's content lies, which forms of the model run there, and what code comes along."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from string import Template

from edgekit.bundle.forms import FormName, Serves
from edgekit.bundle.schema import SELFTEST, Bundle, Case, SelfTest


@dataclass(frozen=True)
class Runtime:
    """What runs a model on a platform that has several.

    Attributes:
        file: its code, one of the platform's files.
        package: its name in ``coordinates.toml``.
        library: what its makers call it.
        mark: what its code has in it and no other's, where that file has the same name for each.
        group: what stands before that name in a project file, where something does.
        notes: what a reader has to know of its native libraries, where there is something.
    """

    file: str
    package: str
    library: str
    mark: str = ""
    group: str = ""
    notes: str = ""


@dataclass(frozen=True)
class Platform:
    """One kind of app that a bundle is made for.

    Attributes:
        name: as it is written on the command line.
        description: one line.
        content: the folder of ``bundle.json`` and all that it lists, from the bundle's own.
        forms: forms of the model that run there, the preferred one first.
        kinds: kinds of pre-processing that its code can do.
        needs: files of its code, without which it is none.
        runtimes: where the code differs by the runtime, what runs each form; the code for the others is left out.
        write: writes code, project files and ``README.md`` into a folder that has the content already.
        serves: the processors that it has, for which an .ort is made; None where the artifact's target says it.
        ids: types of token ids that its code can feed. What runs a .tflite takes what the file says.
    """

    name: str
    description: str
    content: str
    forms: tuple[FormName, ...]
    kinds: tuple[str, ...]
    needs: tuple[str, ...]
    write: Callable[[Path, Bundle], None]
    serves: Serves | None = None
    ids: tuple[str, ...] = ("int64",)
    runtimes: Mapping[FormName, Runtime] = field(default_factory=dict)

    def code(self, bundle: Bundle) -> tuple[str, ...]:
        """Files of its code that a bundle needs, with those for the forms of its model."""
        return (*self.needs, *(runtime.file for runtime in self.used(bundle)))

    def versions(self, bundle: Bundle) -> dict[str, str]:
        """Versions by name of what the code of a bundle depends on, without the runtimes that it does not use."""
        used = {runtime.package for runtime in self.used(bundle)}
        unused = {runtime.package for runtime in self.runtimes.values()} - used
        return {package: version for package, version in coordinates()[self.name].items() if package not in unused}

    def used(self, bundle: Bundle) -> list[Runtime]:
        """The runtimes of a bundle's forms, where the code differs by the runtime."""
        return [self.runtimes[one.format] for one in bundle.model.forms if one.format in self.runtimes]


@cache
def coordinates() -> dict[str, dict[str, str]]:
    """Versions of everything that a bundle's code depends on: for each platform, versions by name."""
    text = resources.files("edgekit.bundle").joinpath("coordinates.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def copy_sources(source: str, into: Path, names: tuple[str, ...]) -> None:
    """Copy files of ``edgekit/bundle/SOURCE`` as they are."""
    into.mkdir(parents=True, exist_ok=True)
    folder = resources.files("edgekit.bundle").joinpath(source)
    for name in names:
        (into / name).write_bytes(folder.joinpath(name).read_bytes())


def fill(
    source: str, name: str, bundle: Bundle, platform: Platform, folder: Path, more: Mapping[str, str] | None = None
) -> str:
    """A template of ``edgekit/bundle/SOURCE`` with ``$names`` filled in: versions, and what a bundle says of itself.

    A version is named after its package, ``@types/node`` as ``$types_node``.

    Args:
        source: folder of the template.
        name: of the template.
        bundle: what is bundled.
        platform: what for.
        folder: of the bundle, with its content: the examples are samples of its self-test.
        more: other names, and what they stand for.
    """
    text = resources.files("edgekit.bundle").joinpath(f"{source}/{name}").read_text(encoding="utf-8")
    versions = platform.versions(bundle).items()
    values = {re.sub(r"\W", "_", package).strip("_"): version for package, version in versions}
    values |= {"name": bundle.name, "task": bundle.task, "target": bundle.target or "any device"}
    values |= {"content": platform.content} | _examples(platform, folder) | dict(more or {})
    return Template(text).substitute(values)


def _examples(platform: Platform, folder: Path) -> dict[str, str]:
    """A raw input: on a command line, and in a line of each language."""
    content = folder / platform.content
    samples = SelfTest.model_validate_json((content / SELFTEST).read_bytes())
    image = next((case for case in samples.cases if case.image is not None), None)
    if image is None:
        c_call = 'edgekit_predict_text(model, "a sentence", NULL, best, 3, why)'
        calls = dict.fromkeys(("call", "kotlin_call", "swift_call"), '"a sentence"') | {"dart_call": "'a sentence'"}
        return {"command": '"a sentence"', "example": "a sentence", "c_call": c_call} | calls
    file = f"{platform.content}/{image.image}"
    size = f"width: {image.width}, height: {image.height}, channels: {_channels(content, image)}"
    return {
        "command": f"{file} {image.width} {image.height}",
        "call": f"{{ {size}, data: pixels }}",
        "kotlin_call": "imageOf(bitmap)",
        "swift_call": "RawImage(cgImage)",
        "dart_call": "RawImage.fromRgba(width, height, rgba)",
        "example": "photo.jpg",
        "c_call": "edgekit_predict_image(model, pixels, width, height, 3, best, 3, why)",
    }


def _channels(content: Path, case: Case) -> int:
    return (content / str(case.image)).stat().st_size // ((case.width or 1) * (case.height or 1))
