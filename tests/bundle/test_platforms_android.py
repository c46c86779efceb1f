"""Android: sources and build files are parsed; where a Kotlin compiler is named, the code runs on a Java machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from bundle.bundles import FAMILIES, flip, shorten
from bundle.made_tokenizers import MADE
from bundle.parsing import faults, sources
from bundle.test_platforms_c import STEP, STEPS

from edgekit.bundle import probes
from edgekit.bundle.platforms.android import CODE, MANIFEST, SOURCES
from edgekit.bundle.platforms.base import coordinates
from edgekit.bundle.reference.image import prepare, read_image
from edgekit.bundle.reference.tokenizer import Tokenizer
from edgekit.bundle.tokenizer import compile_tokenizer, write_program

Bundles = Callable[[str, str], Path]
CONTENT = "model/src/main/assets/bundle"
# The folder with kotlin-compiler.jar and what it needs; and jars with org.json and with ONNX Runtime's classes.
COMPILER, JARS = "EDGEKIT_KOTLIN", "EDGEKIT_KOTLIN_JARS"
ANDROID_ONLY = "AndroidBundle.kt"  # needs the SDK of Android


@pytest.mark.parametrize("family", FAMILIES)
def test_sources_and_build_files_parse(family: str, bundles: Bundles) -> None:
    found = sources(bundles("android", family), ".kt", ".kts")
    assert {path.name for path in found} >= {*SOURCES, "settings.gradle.kts", "build.gradle.kts"}
    assert [fault for path in found for fault in faults(path)] == []


def test_build_files_pin_the_versions_of_the_table_and_leave_models_uncompressed(bundles: Bundles) -> None:
    folder, versions = bundles("android", "bert"), coordinates()["android"]
    model = (folder / "model/build.gradle.kts").read_text(encoding="utf-8")
    assert f'"com.microsoft.onnxruntime:onnxruntime-android:{versions["onnxruntime-android"]}"' in model
    assert 'noCompress += listOf("onnx", "ort", "tflite")' in model
    assert f"minSdk = {versions['min-sdk']}" in model
    root = (folder / "build.gradle.kts").read_text(encoding="utf-8")
    assert re.findall(r'version "(.*?)"', root) == [versions["android-gradle-plugin"], versions["kotlin"]]
    pack = (folder / "model-pack/build.gradle.kts").read_text(encoding="utf-8")
    assert 'id("com.android.ai-pack")' in pack
    assert 'deliveryType.set("install-time")' in pack
    assert ElementTree.parse(folder / MANIFEST).getroot().tag == "manifest"  # written here
    assert (folder / CONTENT / "bundle.json").is_file()


@pytest.fixture(scope="session")
def probe(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """What the Kotlin of a bundle prints when it is asked on a Java machine."""
    lib, jars = os.environ.get(COMPILER), os.environ.get(JARS)
    if lib is None or jars is None or shutil.which("java") is None:
        pytest.skip(f"java is not installed, or {COMPILER} and {JARS} name no compiler")
    out = tmp_path_factory.mktemp("kotlin")
    code = bundles("android", "bert") / CODE
    files = [str(code / name) for name in SOURCES if name != ANDROID_ONLY]
    compiler = os.pathsep.join(map(str, sorted(Path(lib).glob("*.jar"))))
    path = os.pathsep.join([str(Path(lib) / "kotlin-stdlib.jar"), jars])
    options = ["-no-stdlib", "-no-reflect", "-Werror", "-classpath", path, "-d", str(out)]
    command = ["java", "-cp", compiler, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", *options, *files]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("KotlinProbe.kt"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    def ask(folder: Path, what: str, lines: list[object] | None = None) -> str:
        given = "".join(f"{json.dumps(line)}\n" for line in lines or [])
        run = ["java", "-cp", os.pathsep.join([str(out), path]), "KotlinProbeKt", str(folder), what]
        return subprocess.run(run, input=given, capture_output=True, text=True, check=True).stdout

    return ask


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_kotlin_gives_the_same_ids(name: str, probe: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    write_program(compile_tokenizer(MADE[name](), 64, 0), tmp_path / "tokenizer/compiled.json")
    reference = Tokenizer.load(tmp_path / "tokenizer/compiled.json")
    pairs = list(probes.text_pairs(1000))
    expected = [";".join(",".join(map(str, part)) for part in reference.encode(*pair)) for pair in pairs]
    lines: list[object] = [[text] if other is None else [text, other] for text, other in pairs]
    assert probe(tmp_path, "ids", lines).splitlines() == expected


@pytest.mark.slow
def test_kotlin_gives_the_same_pixels(probe: Callable[..., str], tmp_path: Path) -> None:
    lines, expected = [], []
    for number, pixels in enumerate(probes.images(3, 20, 24)):
        raw = tmp_path / f"{number}.raw"
        raw.write_bytes(pixels.tobytes())
        for way, steps in enumerate(STEPS.values()):
            lines.append([str(raw), pixels.shape[1], pixels.shape[0], steps, str(tmp_path / f"{number}-{way}")])
            expected.append(prepare(read_image(pixels, 3), steps))
    probe(tmp_path, "image", lines)
    for line, values in zip(lines, expected, strict=True):
        found = np.fromfile(line[4], np.float32).reshape(values.shape)  # type: ignore[arg-type]
        assert np.abs(found - values).max() <= STEP


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_test_passes_and_names_what_is_damaged(
    family: str, probe: Callable[..., str], copied: Callable[[str, str], Path]
) -> None:
    content = copied("android", family) / CONTENT
    assert probe(content, "test") == "self-test passed\n"
    flip(content / "model/model.onnx")
    shorten(content / "labels.txt")
    said = probe(content, "test").splitlines()
    assert "model/model.onnx: changed (its SHA-256 is another one)" in said
    assert any(line.startswith("labels.txt: ") and line.endswith("classes") for line in said)
