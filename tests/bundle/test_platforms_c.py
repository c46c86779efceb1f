from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import tiny
from bundle.bundles import DAMAGED, FAMILIES, TOKENIZERS, commands_of, damage, run
from bundle.made_tokenizers import MADE
from scripts import scripts

import edgekit
from edgekit.artifact import Artifact
from edgekit.bundle import probes
from edgekit.bundle.platforms.base import coordinates
from edgekit.bundle.platforms.c import source
from edgekit.bundle.reference.image import prepare, read_image
from edgekit.bundle.tokenizer import compile_tokenizer, write_program
from edgekit.devices.emulation.root import why_not

Bundles = Callable[[str, str], Path]
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers")
SOURCES = Path(edgekit.__file__).parent / "bundle" / "c"
HEADERS = "EDGEKIT_ONNXRUNTIME_HEADERS"


def compile_with(
    library: Path,
    folder: Path,
    *sources: str,
    name: str,
    linked: str = "libonnxruntime.so.1",
    more: Sequence[str] = (),
) -> Path:
    """A program of C sources, linked with the library under the name that it has of itself; warnings are errors."""
    (folder / linked).unlink(missing_ok=True)
    (folder / linked).symlink_to(library)
    done = run(
        "gcc", *WARNINGS, "-Wno-unused-function", "-O1", *more, "-o", name, *sources, linked, "-lm",
        f"-Wl,-rpath,{folder}", folder=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / name


@pytest.fixture(scope="session")
def driver(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`driver.c`."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "edgekit_model.c").write_text(source(), encoding="utf-8")
    for file in (SOURCES / "edgekit_model.h", Path(__file__).with_name("driver.c")):
        shutil.copyfile(file, folder / file.name)
    return compile_with(library, folder, "driver.c", name="driver")


@pytest.fixture(scope="session")
def example(library: Path, bundles: Bundles) -> Callable[[str], Path]:
    """The example of a bundle, compiled in it."""

    def compiled(family: str) -> Path:
        program = bundles("c", family).parent / f"example-{family}"
        if not program.is_file():
            folder = program.with_suffix(".made")
            folder.mkdir()
            for name in ("edgekit_model.h", "edgekit_model.c", "example.c"):
                shutil.copyfile(bundles("c", family) / name, folder / name)
            compile_with(library, folder, "example.c", "edgekit_model.c", name="example").replace(program)
        return program

    return compiled


@pytest.mark.parametrize("family", [*FAMILIES, *TOKENIZERS])
def test_the_self_test_passes(bundles: Bundles, example: Callable[[str], Path], family: str) -> None:
    done = run(example("vit" if family == "vit" else "bert"), "bundle", folder=bundles("c", family))
    assert (done.stdout, done.returncode) == ("self-test passed\n", 0)


def test_texts_get_the_labels_that_edgekit_gives_them(
    artifacts: Callable[[str], Artifact], bundles: Bundles, example: Callable[[str], Path]
) -> None:
    texts = tiny.sentences(3, seed=5)
    expected = [answer[0] for answer in edgekit.load(artifacts("bert").path).predict(texts)]
    done = run(example("bert"), "bundle", *texts, folder=bundles("c", "bert"))
    assert done.stdout.splitlines() == [f"{label}\t{score:.4f}" for label, score in expected]


@pytest.mark.parametrize(("family", "broken"), DAMAGED)
def test_the_self_test_names_what_is_damaged(
    copied: Callable[[str, str], Path], example: Callable[[str], Path], family: str, broken: str
) -> None:
    folder = copied("c", family)
    damage(folder / "bundle", broken)
    done = run(example("bert"), "bundle", folder=folder)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{broken}: ")


@pytest.mark.parametrize("content", ["", "{", '{"schema": "edgekit.bundle/2"}', "[" * 100, '{"a": "\\u12'])
def test_a_damaged_description_is_an_error_and_no_crash(
    copied: Callable[[str, str], Path], example: Callable[[str], Path], content: str
) -> None:
    folder = copied("c", "bert")
    (folder / "bundle" / "bundle.json").write_text(content, encoding="utf-8")
    done = run(example("bert"), "bundle", "a text", folder=folder)
    assert done.returncode == 1
    assert "bundle.json" in done.stderr


@pytest.mark.parametrize(
    ("key", "value"), [("channels", -1), ("channels", 0), ("channels", 2), ("width", 0), ("width", 9e9)]
)
def test_a_description_of_impossible_images_is_an_error_and_no_crash(
    copied: Callable[[str, str], Path], example: Callable[[str], Path], key: str, value: float
) -> None:
    folder = copied("c", "vit")
    file = folder / "bundle" / "bundle.json"
    described = json.loads(file.read_text(encoding="utf-8"))
    images = described["preprocessing"]
    places = [part for part in (images, *images["steps"]) if key in part]
    places[0][key] = value
    file.write_text(json.dumps(described), encoding="utf-8")
    done = run(example("vit"), "bundle", folder=folder)
    assert done.returncode == 1
    assert done.stdout.startswith("sample 0: ")


@pytest.mark.parametrize("name", MADE)
def test_a_thousand_texts_get_the_librarys_ids(driver: Path, tmp_path: Path, name: str) -> None:
    library = MADE[name]()
    write_program(compile_tokenizer(library, 64, 0), tmp_path / "compiled.json")
    texts = probes.texts(1000)
    found = [[int(number) for number in line.split()] for line in tokenized(driver, tmp_path, "ids", texts, 0)]
    assert found == [library.encode(text).ids for text in texts]


def tokenized(driver: Path, folder: Path, what: str, texts: Sequence[str], most: int) -> list[str]:
    """Lines that the driver prints of texts."""
    fed = b"".join(b"%d\n%s" % (len(text.encode()), text.encode()) for text in texts)
    (folder / "texts").write_bytes(fed)
    with (folder / "texts").open("rb") as stream:
        done = run(driver, what, "compiled.json", str(most), folder=folder, stdin=stream)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", MADE)
def test_texts_and_pairs_are_cut_as_the_library_cuts_them(driver: Path, tmp_path: Path, name: str) -> None:
    library = MADE[name]()
    write_program(compile_tokenizer(library, 64, 0), tmp_path / "compiled.json")
    marks = "e" + "\u0302\u0323\u0308\u0345\u05b0" * 200 + " q\u0307\u0323"
    texts = [*probes.texts(60), "film " * 40, "film", marks]
    pairs = [(one, other) for one, other in pairwise(texts)] + [("film", "film " * 40), ("film " * 40, "film " * 41)]
    for most in (7, 16):
        library.enable_truncation(most)
        found = [[int(number) for number in line.split()] for line in tokenized(driver, tmp_path, "ids", texts, most)]
        assert found == [library.encode(text).ids for text in texts]
        lines = tokenized(driver, tmp_path, "pairs", [text for pair in pairs for text in pair], most)
        parts = [[[int(number) for number in part.split()] for part in line.split(";")] for line in lines]
        expected = [library.encode(*pair) for pair in pairs]
        assert parts == [[one.ids, one.type_ids] for one in expected]
        assert max(len(one.ids) for one in expected) <= most


RESIZES = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
# Older versions of Pillow go across first always, and round in between: steps of a pixel.
STEP = 1e-6 if int(PIL.__version__.split(".")[0]) >= 13 else 2.001 / 255 / 0.26
REST = (
    {"op": "scale", "factor": 1 / 255},
    {"op": "normalize", "mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]},
    {"op": "layout", "order": "NCHW"},
)
STEPS = {name: [{"op": "resize", "width": 24, "height": 20, "resample": name}, *REST] for name in RESIZES} | {
    f"crop {rounding}": [
        {"op": "resize_shorter", "size": 27, "least_width": 1, "least_height": 1, "resample": "bicubic"},
        {"op": "crop", "width": 24, "height": 20, "rounding": rounding},
        *REST,
    ]
    for rounding in ("down", "even")
}


@pytest.mark.parametrize("name", STEPS)
def test_images_become_the_values_that_pillow_gives(driver: Path, tmp_path: Path, name: str) -> None:
    for pixels in probes.images(3, 20, 24):
        expected = prepare(read_image(pixels, 3), STEPS[name])
        assert np.abs(prepared(driver, tmp_path, pixels, 3, STEPS[name]) - expected).max() <= STEP


def prepared(driver: Path, folder: Path, pixels: Any, channels: int, steps: list[dict[str, Any]]) -> Any:
    """What the driver makes of pixels for a model that takes so many channels: float32, as the steps shape it."""
    step = {"kind": "image", "input": "pixels", "channels": channels, "steps": steps}
    (folder / "step.json").write_text(json.dumps(step), encoding="utf-8")
    (folder / "raw").write_bytes(pixels.tobytes())
    height, width, given = pixels.shape
    with (folder / "raw").open("rb") as stream, (folder / "made").open("wb") as made:
        command = [str(driver), "image", "step.json", str(width), str(height), str(given)]
        subprocess.run(command, cwd=folder, stdin=stream, stdout=made, check=True)
    return np.fromfile(folder / "made", np.float32).reshape(prepare(read_image(pixels, channels), steps).shape)


@pytest.mark.parametrize(("given", "taken"), [(1, 1), (1, 3), (3, 1)])
def test_grey_and_colour_become_what_the_model_takes(driver: Path, tmp_path: Path, given: int, taken: int) -> None:
    grey = {"op": "normalize", "mean": [0.5], "std": [0.25]}
    steps = [STEPS["bilinear"][0], REST[0], grey, REST[2]]
    for pixels in probes.images(given, 20, 24):
        expected = prepare(read_image(pixels, taken), steps)
        assert expected.shape == (1, taken, 20, 24)
        assert np.abs(prepared(driver, tmp_path, pixels, taken, steps) - expected).max() <= STEP


def test_the_places_of_functions_are_those_of_the_official_header(tmp_path: Path) -> None:
    folder = os.environ.get(HEADERS)
    if not folder or shutil.which("gcc") is None:
        pytest.skip(f"{HEADERS} names no folder with onnxruntime_c_api.h, or gcc is not installed")
    written = (SOURCES / "onnxruntime.c").read_text(encoding="utf-8")
    used = set(re.findall(r"\(ORT_CALL \*(\w+)\)", written)) - {"GetApi", "GetVersionString"}
    assert len(used) == 19
    declared = written.partition("static void check(")[0]
    own = re.sub(r"\bORT_", "OWN_", re.sub(r"\bOrt", "Own", declared))
    checks = "".join(
        f'_Static_assert(offsetof(OrtApi, {name}) == offsetof(OwnApi, {name}), "{name}");\n' for name in sorted(used)
    )
    constants = """
_Static_assert(OWN_FLOAT == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, "");
_Static_assert(OWN_INT64 == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, "");
_Static_assert(OWN_ARENA == OrtArenaAllocator && OWN_DEFAULT_MEMORY == OrtMemTypeDefault, "");
_Static_assert(OWN_LOG_ERRORS == ORT_LOGGING_LEVEL_ERROR, "");
"""
    head = '#include <stddef.h>\n#include "onnxruntime_c_api.h"\n#include "edgekit_model.h"\n'
    (tmp_path / "places.c").write_text(f"{head}{own}{checks}{constants}", encoding="utf-8")
    done = run("gcc", "-std=c11", f"-I{folder}", f"-I{SOURCES}", "-fsyntax-only", "places.c", folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_readme_leads_from_nothing_to_a_prediction(copied: Callable[[str, str], Path], family: str) -> None:
    folder = copied("c", family)
    assert_the_readme_leads_to_a_prediction(folder, f"onnxruntime=={coordinates()['c']['onnxruntime']}")


def assert_the_readme_leads_to_a_prediction(folder: Path, requirement: str) -> None:
    """Run the commands of a bundle's README as they are printed, of which the first installs the requirement."""
    commands = commands_of(folder / "README.md")
    assert len(commands) <= 10
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    assert commands[0].endswith(f" {requirement}")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = []
    for command in commands:
        done = run("sh", "-c", command, folder=folder, env=environment)
        assert done.returncode == 0, (command, done.stderr)
        printed.append(done.stdout)
    assert printed[-2] == "self-test passed\n"
    label, _, score = printed[-1].strip().partition("\t")
    assert label in (folder / "bundle/labels.txt").read_text(encoding="utf-8").split("\n")
    assert 0 < float(score) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_test_passes_as_an_arm_program_under_emulation(bundles: Bundles, family: str, tmp_path: Path) -> None:
    assert run_on_arm(bundles("c", family), tmp_path).endswith("cortex-a76, emulated")


def run_on_arm(bundle: Path, folder: Path) -> str:
    """Compile a bundle's example for 64-bit Arm and run its self-test on an emulated processor: by what it passed."""
    with scripts() as load:
        consumers = load("bundle_consumers")
        if shutil.which(consumers.ARM_COMPILER) is None:
            pytest.skip(f"{consumers.ARM_COMPILER} is not installed")
        reason = why_not("arm64")
        if reason is not None:
            pytest.skip(reason)
        told: str = consumers.c_on_arm64(bundle, folder)
    return told
