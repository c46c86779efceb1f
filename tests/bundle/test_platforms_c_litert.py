"""C with LiteRT: a .tflite's bundle, its code compiled by gcc and linked with the library in LiteRT's wheel."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from bundle.bundles import FAMILIES, damage, run
from bundle.test_c_mutants import CHECKS, mutants
from bundle.test_check import edit, put
from bundle.test_litert import needs_litert
from bundle.test_platforms_c import assert_the_readme_leads_to_a_prediction, compile_with, run_on_arm
from tflites import LENGTHS

import edgekit
from edgekit.artifact import WHOLE, Artifact
from edgekit.bundle.check import check_bundle
from edgekit.bundle.platforms.base import coordinates
from edgekit.bundle.platforms.c import EXAMPLE, HEADER, SOURCE, C
from edgekit.formats.flatbuffer import pack, unpack
from edgekit.runtimes.litert import LiteRTRunner
from edgekit.source import sha256_file

PASSED = ("self-test passed\n", 0)
LENGTH = max(LENGTHS["bert"])
Made = Callable[[str], tuple[Artifact, Path]]
Compiled = Callable[..., Path]
pytestmark = [pytest.mark.slow, needs_litert]


@pytest.fixture(scope="session")
def made(lite_bundles: Callable[[str, str], tuple[Artifact, Path]]) -> Made:
    """Artifacts by family with their bundles for this platform."""
    return partial(lite_bundles, "c")


@pytest.fixture(scope="session")
def compiled(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Programs of a bundle's source and of others, each compiled once; with checks of memory, or without."""
    spec = util.find_spec("ai_edge_litert")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).with_name("libLiteRt.so")
    if shutil.which("gcc") is None or not library.is_file():
        pytest.skip("gcc is not installed, or the wheel of ai-edge-litert has no libLiteRt.so")
    found: dict[tuple[Any, ...], Path] = {}

    def compile_them(*sources: str, checks: Sequence[str] = CHECKS) -> Path:
        if (sources, checks) not in found:
            folder = tmp_path_factory.mktemp("compiled")
            for name in (HEADER, SOURCE, EXAMPLE):
                shutil.copyfile(made("bert")[1] / name, folder / name)
            for name in {*sources} - {SOURCE, EXAMPLE}:
                shutil.copyfile(Path(__file__).with_name(name), folder / name)
            more = ("-pthread", *checks)
            found[sources, checks] = compile_with(
                library, folder, *sources, name="program", linked="libLiteRt.so", more=more
            )
        return found[sources, checks]

    return compile_them


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bundle_has_the_code_for_litert_and_no_other_runtime(family: str, made: Made) -> None:
    _, folder = made(family)
    assert check_bundle(folder).problems == ()
    version = coordinates()["c"]["ai-edge-litert"]
    notice = (folder / "NOTICE").read_text(encoding="utf-8").splitlines()
    assert [line.partition(": ")[0] for line in notice if line.startswith("- ")] == ["- ai-edge-litert"]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"ai-edge-litert=={version}\n" in readme
    assert "onnx" not in readme.lower()
    source = (folder / SOURCE).read_text(encoding="utf-8")
    assert "LiteRtRunCompiledModel(" in source
    assert "OrtGetApiBase" not in source


def test_the_two_sources_differ_in_the_runtime_alone(made: Made, bundles: Callable[[str, str], Path]) -> None:
    texts = [(folder / SOURCE).read_text(encoding="utf-8") for folder in (bundles("c", "bert"), made("bert")[1])]
    parts = [text.split("\n/* ---- ") for text in texts]
    other = {"ONNX Runtime", "LiteRT"}
    same = [[part for part in one if part.partition(" ----")[0] not in other] for one in parts]
    assert same[0] == same[1]
    assert [len(one) - len(rest) for one, rest in zip(parts, same, strict=True)] == [1, 1]


def test_the_check_asks_for_the_source_and_for_entry_points(made: Made, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made("vit")[1], tmp_path / "out"))
    (folder / SOURCE).unlink()
    edit(folder / C.content / "bundle.json", put("model", "signatures", value={}))
    told = {(one.rule, one.where, one.what) for one in check_bundle(folder).problems if one.rule != "sums"}
    assert told == {
        ("platform", SOURCE, "missing, and part of a bundle for c"),
        ("model", "bundle.json", "names no entry point of model/model.tflite"),
    }


@pytest.mark.parametrize("checks", [(), CHECKS], ids=["plain", "checked"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_test_passes(family: str, checks: Sequence[str], made: Made, compiled: Compiled) -> None:
    done = run(compiled(EXAMPLE, SOURCE, checks=checks), C.content, folder=made(family)[1])
    assert (done.stdout, done.returncode) == PASSED, done.stderr


def test_texts_get_the_labels_that_edgekit_gives_them(made: Made, compiled: Compiled) -> None:
    artifact, folder = made("bert")
    texts = tiny.sentences(3, seed=5)
    expected = [answer[0] for answer in edgekit.load(artifact.path).predict(texts)]
    cut = " ".join(tiny.sentences(20))  # to the largest entry point
    done = run(compiled(EXAMPLE, SOURCE), C.content, *texts, cut, folder=folder)
    *lines, last = done.stdout.splitlines()
    assert lines == [f"{label}\t{score:.4f}" for label, score in expected]
    assert last.split("\t")[0] in (folder / C.content / "labels.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("family", "broken"),
    [
        ("bert", "tokenizer/compiled.json"),
        *((family, name) for family in FAMILIES for name in ("model/model.tflite", "labels.txt")),
    ],
)
def test_the_self_test_names_what_is_damaged(
    family: str, broken: str, made: Made, compiled: Compiled, tmp_path: Path
) -> None:
    content = Path(shutil.copytree(made(family)[1] / C.content, tmp_path / "bundle"))
    damage(content, broken)
    done = run(compiled(EXAMPLE, SOURCE), content, folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{broken}: ")


def test_a_file_that_is_cut_or_no_model_or_of_another_format_is_an_error(
    made: Made, compiled: Compiled, tmp_path: Path
) -> None:
    content = Path(shutil.copytree(made("vit")[1] / C.content, tmp_path / "bundle"))
    file = content / "model/model.tflite"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[: size // 50])
    done = run(compiled(EXAMPLE, SOURCE), content, "a text", folder=tmp_path)
    assert done.stderr == f"model/model.tflite: has {size // 50} bytes, not {size}\n"
    file.write_bytes(b"\x1c\x00\x00\x00TFL3" * 20 + bytes(size - 160))
    done = run(compiled(EXAMPLE, SOURCE), content, "a text", folder=tmp_path)
    assert done.returncode == 1
    assert "LiteRT: reading the model failed (status " in done.stderr
    edit(content / "bundle.json", put("model", "forms", 0, "format", value="onnx"))
    done = run(compiled(EXAMPLE, SOURCE), content, "a text", folder=tmp_path)
    assert done.stderr == "bundle.json: LiteRT runs .tflite, and the bundle has no such file\n"


def test_the_smallest_entry_point_that_holds_a_text_answers_as_in_edgekit_in_any_thread(
    made: Made, compiled: Compiled
) -> None:
    artifact, folder = made("bert")
    runner, names = LiteRTRunner(artifact), [spec.name for spec in artifact.manifest.components[WHOLE].inputs]
    done = run(compiled("entries.c"), C.content, str(LENGTH), *names, folder=folder)
    assert done.returncode == 0, done.stderr
    *lines, too_long, threads = done.stdout.splitlines()
    assert too_long == "the sample is larger than every entry point of the model"
    assert threads == "0 of 100 threads' answers differ"
    sizes, answers = zip(*((line.split()[0], line.split()[1:]) for line in lines), strict=True)
    shortest = min(LENGTHS["bert"])
    assert [int(size) for size in sizes] == [shortest if size <= shortest else LENGTH for size in range(1, LENGTH + 1)]
    for size, answer in enumerate(answers, start=1):
        expected = runner.run(WHOLE, {name: np.ones((1, size), np.int64) for name in names})["logits"][0]
        np.testing.assert_allclose([float(one) for one in answer], expected, rtol=1e-5, atol=1e-6)


def test_a_file_with_a_free_batch_takes_one_sample_at_a_time(made: Made, compiled: Compiled, tmp_path: Path) -> None:
    content = Path(shutil.copytree(made("vit")[1] / C.content, tmp_path / "bundle"))
    file = content / "model/model.tflite"
    model = unpack(file.read_bytes())
    (graph,) = model.subgraphs
    for place in (*graph.inputs, *graph.outputs):
        graph.tensors[place].shapeSignature = [-1, *graph.tensors[place].shape[1:]]
    file.write_bytes(pack(model))
    record = {"size_bytes": file.stat().st_size, "sha256": sha256_file(file)}
    edit(content / "bundle.json", put("files", "model/model.tflite", value=record))
    done = run(compiled(EXAMPLE, SOURCE), content, folder=tmp_path)
    assert (done.stdout, done.returncode) == PASSED, done.stderr


@pytest.mark.parametrize("family", FAMILIES)
def test_no_changed_document_makes_it_reach_beyond_its_memory(
    family: str, made: Made, compiled: Compiled, tmp_path: Path
) -> None:
    content = made(family)[1] / C.content
    folders = [content, *mutants(content, tmp_path / "mutants", family)]
    (tmp_path / "list").write_text("".join(f"{folder}\n" for folder in folders))
    with (tmp_path / "list").open() as stream:
        done = run(compiled("mutants.c", SOURCE), folder=tmp_path, stdin=stream)
    found = [int(line.split()[1]) for line in done.stdout.splitlines() if " " in line.strip()]
    assert done.returncode == 0, (folders[len(found)], done.stderr)
    assert len(found) == len(folders)
    assert found[0] == 0
    assert sum(count > 0 for count in found) > len(found) / 3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_readme_leads_from_nothing_to_a_prediction(family: str, made: Made, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made(family)[1], tmp_path / "out"))
    assert_the_readme_leads_to_a_prediction(folder, f"ai-edge-litert=={coordinates()['c']['ai-edge-litert']}")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_test_passes_as_an_arm_program_under_emulation(family: str, made: Made, tmp_path: Path) -> None:
    assert run_on_arm(made(family)[1], tmp_path).endswith("cortex-a76, emulated")
