"""Android: sources and build files are parsed; where a Kotlin compiler is named, the code runs on a Java machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
from bundle.bundles import FAMILIES, TOKENIZERS, flip, shorten
from bundle.kotlin import Probe, compile_probe, jars
from bundle.made_tokenizers import MADE
from bundle.parsing import blocks, faults, sources
from bundle.test_platforms_c import STEP, STEPS

from edgekit.bundle import probes
from edgekit.bundle.platforms.android import ANDROID, CODE, MANIFEST, SOURCES
from edgekit.bundle.platforms.base import coordinates
from edgekit.bundle.reference.image import prepare, read_image
from edgekit.bundle.reference.tokenizer import Tokenizer
from edgekit.bundle.tokenizer import compile_tokenizer, write_program

Bundles = Callable[[str, str], Path]
CONTENT = ANDROID.content


@pytest.mark.parametrize("family", FAMILIES)
def test_sources_and_build_files_parse(family: str, bundles: Bundles) -> None:
    found = sources(bundles("android", family), ".kt", ".kts")
    assert {path.name for path in found} == {*SOURCES, "OnnxRuntime.kt", "settings.gradle.kts", "build.gradle.kts"}
    assert [fault for path in found for fault in faults(path)] == []


def test_build_files_pin_the_versions_of_the_table_and_leave_models_uncompressed(bundles: Bundles) -> None:
    folder, versions = bundles("android", "bert"), coordinates()["android"]
    jvm = "JavaVersion.VERSION_17"
    assert blocks(folder / "model/build.gradle.kts") == [
        ("plugins", ['id("com.android.library")', 'id("org.jetbrains.kotlin.android")']),
        (
            "android",
            [
                'namespace="edgekit.model"',
                f"compileSdk={versions['compile-sdk']}",
                ("defaultConfig", [f"minSdk={versions['min-sdk']}"]),
                ("compileOptions", [f"sourceCompatibility={jvm}", f"targetCompatibility={jvm}"]),
                ("androidResources", ['noCompress+=listOf("onnx","ort","tflite")']),
            ],
        ),
        ("kotlin", [("compilerOptions", ["jvmTarget.set(org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_17)"])]),
        (
            "dependencies",
            [f'implementation("com.microsoft.onnxruntime:onnxruntime-android:{versions["onnxruntime-android"]}")'],
        ),
    ]
    root = (folder / "build.gradle.kts").read_text(encoding="utf-8")
    assert re.findall(r'version "(.*?)"', root) == [versions["android-gradle-plugin"], versions["kotlin"]]
    assert blocks(folder / "model-pack/build.gradle.kts") == [
        ("plugins", ['id("com.android.ai-pack")']),
        ("aiPack", ['packName.set("model_pack")', ("dynamicDelivery", ['deliveryType.set("install-time")'])]),
    ]
    assert ElementTree.parse(folder / MANIFEST).getroot().tag == "manifest"  # written here
    assert (folder / CONTENT / "bundle.json").is_file()


@pytest.fixture(scope="session")
def probe(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """What the Kotlin of a bundle prints when it is asked on a Java machine; compiled by the version that is pinned."""
    return compile_probe(bundles("android", "bert") / CODE, tmp_path_factory.mktemp("kotlin"), jars())


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_kotlin_gives_the_same_ids(name: str, probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    write_program(compile_tokenizer(MADE[name](), 64, 0), tmp_path / "tokenizer/compiled.json")
    reference = Tokenizer.load(tmp_path / "tokenizer/compiled.json")
    pairs = list(probes.text_pairs(1000))
    expected = [";".join(",".join(map(str, part)) for part in reference.encode(*pair)) for pair in pairs]
    lines: list[object] = [[text] if other is None else [text, other] for text, other in pairs]
    assert probe(tmp_path, "ids", lines).splitlines() == expected


@pytest.mark.slow
def test_kotlin_gives_the_same_pixels(probe: Probe, tmp_path: Path) -> None:
    lines, expected = [], []
    for number, pixels in enumerate(probes.images(3, 20, 24)):
        raw = tmp_path / f"{number}.raw"
        raw.write_bytes(pixels.tobytes())
        for way, steps in enumerate(STEPS.values()):
            lines.append([str(raw), pixels.shape[1], pixels.shape[0], 3, 3, steps, str(tmp_path / f"{number}-{way}")])
            expected.append(prepare(read_image(pixels, 3), steps))
    assert probe(tmp_path, "image", lines) == ""
    for line, values in zip(lines, expected, strict=True):
        found = np.fromfile(line[6], np.float32).reshape(values.shape)  # type: ignore[arg-type]
        assert np.abs(found - values).max() <= STEP


@pytest.mark.slow
def test_kotlin_refuses_pixels_that_are_no_image(probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(32))
    said = probe(tmp_path, "image", [[str(tmp_path / "raw"), 4, 2, channels, 3, [], ""] for channels in (4, 3)])
    assert [line.partition(";")[0] for line in said.splitlines()] == [
        "32 bytes for 4 x 2 pixels of 4 channels",
        "32 bytes for 4 x 2 pixels of 3 channels",
    ]


@pytest.mark.slow
def test_a_transparent_bitmap_is_drawn_on_white(probe: Probe, tmp_path: Path) -> None:
    colours = [0xFF102030, 0x00102030, 0x80FF0000]
    assert probe(tmp_path, "colours", [[colours, 3, 1]]) == "16,32,48,255,255,255,255,127,127\n"
    seen = PIL.Image.fromarray(np.array([[[16, 32, 48, 255], [16, 32, 48, 0], [255, 0, 0, 128]]], np.uint8))
    assert np.asarray(read_image(seen, 3)).ravel().tolist() == [16, 32, 48, 255, 255, 255, 255, 127, 127]


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *TOKENIZERS])
def test_the_self_test_passes_and_names_what_is_damaged(
    family: str, probe: Probe, copied: Callable[[str, str], Path]
) -> None:
    content = copied("android", family) / CONTENT
    assert probe(content, "test") == "self-test passed\n0 open\n"
    flip(content / "model/model.onnx")
    shorten(content / "labels.txt")
    said = probe(content, "test").splitlines()
    assert "model/model.onnx: changed (its SHA-256 is another one)" in said
    assert any(line.startswith("labels.txt: ") and line.endswith("classes") for line in said)
