"""Android with LiteRT: a .tflite's bundle, and its Kotlin on a Java machine, where LiteRT in Python answers for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bundle.bundles import FAMILIES, flip
from bundle.kotlin import Probe, compile_probe, compile_sources, jars
from bundle.parsing import blocks, faults, sources
from bundle.test_check import edit, put
from bundle.test_litert import needs_litert
from tflites import LENGTHS

from edgekit.artifact import WHOLE, Artifact
from edgekit.bundle.check import check_bundle
from edgekit.bundle.documents import TOOLS
from edgekit.bundle.platforms import PLATFORMS
from edgekit.bundle.platforms.android import ANDROID, CODE, SOURCES
from edgekit.bundle.platforms.base import coordinates
from edgekit.runtimes.litert import LiteRTRunner
from edgekit.source import sha256_file

CONTENT, LENGTH = ANDROID.content, max(LENGTHS["bert"])
# What stands in for LiteRT's classes: of its Java interface what the code uses, and a process that answers.
STANDS_IN = Path(__file__).with_name("litert")
Made = Callable[[str], tuple[Artifact, Path]]
pytestmark = [pytest.mark.slow, needs_litert]


@pytest.fixture(scope="session")
def made(lite_bundles: Callable[[str, str], tuple[Artifact, Path]]) -> Made:
    """Artifacts by family with their bundles for this platform."""
    return partial(lite_bundles, "android")


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each entry point that was run is written down."""
    return tmp_path_factory.mktemp("litert") / "log"


@pytest.fixture(scope="session")
def probe(made: Made, log: Path, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """What the Kotlin of such a bundle prints, with the classes that stand in for LiteRT's."""
    named = jars()
    if shutil.which("javac") is None:
        pytest.skip("javac is not installed")
    classes = tmp_path_factory.mktemp("classes")
    path = os.pathsep.join(named)
    files = [str(file) for file in STANDS_IN.rglob("*.java")]
    subprocess.run(["javac", "-Werror", "-Xlint:all", "-cp", path, "-d", str(classes), *files], check=True)
    answers = "\t".join([sys.executable, str(STANDS_IN / "answers.py"), str(log)])
    out = tmp_path_factory.mktemp("kotlin")
    return compile_probe(made("bert")[1] / CODE, out, [str(classes), *named], f"-Dlitert.answers={answers}")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bundle_has_the_code_for_litert_and_no_other_runtime(family: str, made: Made) -> None:
    _, folder = made(family)
    assert check_bundle(folder).problems == ()
    found = sources(folder, ".kt", ".kts")
    assert {path.name for path in found} == {*SOURCES, "LiteRt.kt", "settings.gradle.kts", "build.gradle.kts"}
    assert [fault for path in found for fault in faults(path)] == []
    version = coordinates()["android"]["litert"]
    assert blocks(folder / "model/build.gradle.kts")[-1] == (
        "dependencies",
        [f'implementation("com.google.ai.edge.litert:litert:{version}")'],
    )
    notice = (folder / "NOTICE").read_text(encoding="utf-8").splitlines()
    named = {line.removeprefix("- ").partition(": ")[0] for line in notice if line.startswith("- ")}
    assert named == coordinates()["android"].keys() - {*TOOLS, "onnxruntime-android"}
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"litert {version}" in readme
    assert "onnxruntime" not in readme.lower()


def test_every_form_of_a_platform_with_several_runtimes_has_one() -> None:
    several = {name: one for name, one in PLATFORMS.items() if one.runtimes}
    assert several.keys() == {"android", "c"}
    assert all(one.runtimes.keys() == set(one.forms) for one in several.values())


def test_the_check_asks_for_the_code_of_the_form_and_for_entry_points(made: Made, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made("vit")[1], tmp_path / "out"))
    (folder / ANDROID.runtimes["tflite"].file).unlink()
    edit(folder / CONTENT / "bundle.json", put("model", "signatures", value={}))
    told = {(one.rule, one.where, one.what) for one in check_bundle(folder).problems if one.rule != "sums"}
    assert told == {
        ("platform", ANDROID.runtimes["tflite"].file, "missing, and part of a bundle for android"),
        ("model", "bundle.json", "names no entry point of model/model.tflite"),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_test_passes_with_answers_of_litert(family: str, made: Made, probe: Probe, tmp_path: Path) -> None:
    content = Path(shutil.copytree(made(family)[1] / CONTENT, tmp_path / "bundle"))
    assert probe(content, "run") == "self-test passed\n0 open\n"
    selftest = content / "selftest/selftest.json"
    edit(selftest, lambda said: said["cases"][1]["output"].reverse())
    record = {"size_bytes": selftest.stat().st_size, "sha256": sha256_file(selftest)}
    edit(content / "bundle.json", put("files", "selftest/selftest.json", value=record))
    said = probe(content, "run").splitlines()
    assert said[0].startswith("selftest/selftest.json: sample 1: the output differs by ")
    assert said[-1] == "0 open"


def test_a_damaged_model_is_named_and_not_opened(made: Made, probe: Probe, tmp_path: Path) -> None:
    content = Path(shutil.copytree(made("bert")[1] / CONTENT, tmp_path / "bundle"))
    flip(content / "model/model.tflite")
    assert probe(content, "run") == "model/model.tflite: changed (its SHA-256 is another one)\n0 open\n"


def test_the_smallest_entry_point_that_holds_a_text_answers_as_in_edgekit(made: Made, probe: Probe, log: Path) -> None:
    artifact, folder = made("bert")
    runner, names = LiteRTRunner(artifact), [spec.name for spec in artifact.manifest.components[WHOLE].inputs]
    samples = [{name: [1 + size % 3] * size for name in names} for size in range(1, LENGTH + 2)]
    for sample in samples:
        sample.update({name: [0] * len(sample[name]) for name in names if name == "token_type_ids"})
    log.unlink(missing_ok=True)
    said = probe(folder / CONTENT, "answer", samples).splitlines()
    assert said.pop() == "the sample is larger than every entry point of the model"
    for sample, line in zip(samples[:-1], said, strict=True):
        feeds = {name: np.asarray([ids], np.int64) for name, ids in sample.items()}
        expected = runner.run(WHOLE, feeds)["logits"][0]
        np.testing.assert_allclose([float(one) for one in line.split(",")], expected, rtol=1e-5, atol=1e-6)
    shortest = min(LENGTHS["bert"])
    sizes = [shortest if size <= shortest else LENGTH for size in range(1, LENGTH + 1)]
    assert log.read_text(encoding="utf-8").split() == [f"tokens_{size}" for size in sizes]


def test_the_code_compiles_against_the_classes_of_litert(made: Made, tmp_path: Path) -> None:
    named = jars()
    if not any("org/tensorflow/lite/Interpreter.class" in zipfile.ZipFile(jar).namelist() for jar in named):
        pytest.skip("no jar that is named has the classes of LiteRT")
    compile_sources(sorted((made("bert")[1] / CODE).glob("*.kt")), tmp_path, named)
    assert list(tmp_path.rglob("*.class")) != []
