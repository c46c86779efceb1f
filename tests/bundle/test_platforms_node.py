"""Node: the README's commands first, then what they compiled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from bundle.bundles import FAMILIES, commands_of, flip, run, shorten
from bundle.made_tokenizers import MADE
from bundle.test_platforms_c import STEP, STEPS

import edgekit
from edgekit.artifact import Artifact
from edgekit.bundle import probes
from edgekit.bundle.reference.image import prepare, read_image
from edgekit.bundle.tokenizer import compile_tokenizer, write_program

pytestmark = pytest.mark.slow
Bundles = Callable[[str, str], Path]
IDS = """
import { readFileSync } from "node:fs";
import { Tokenizer } from "%s/dist/tokenizer.js";
const [program, texts] = process.argv.slice(2).map((name) => JSON.parse(readFileSync(name, "utf8")));
program.max_length = 1e9;
const tokenizer = new Tokenizer(program);
console.log(JSON.stringify(texts.map((text) => tokenizer.encode(text).ids)));
"""
IMAGE = """
import { readFileSync, writeFileSync } from "node:fs";
import { prepareImage } from "%s/dist/image.js";
const [steps, raw, width, height, made] = process.argv.slice(2);
const data = new Uint8Array(readFileSync(raw));
const image = { width: Number(width), height: Number(height), channels: 3, data };
writeFileSync(made, prepareImage(image, 3, JSON.parse(readFileSync(steps, "utf8"))).data);
"""


@pytest.fixture(scope="session")
def built(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A bundle of texts with its code compiled, by the commands of its README as they are printed; what they said."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = Path(shutil.copytree(bundles("node", "bert"), tmp_path_factory.mktemp("node") / "bundle"))
    commands = commands_of(folder / "README.md")
    assert len(commands) <= 10
    printed = []
    for command in commands:
        done = run("sh", "-c", command, folder=folder)
        if done.returncode and command.startswith("npm install"):
            pytest.skip("npm cannot install the packages here")
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        printed.append(done.stdout)
    return folder, printed


def compiled(built: tuple[Path, list[str]], folder: Path) -> Path:
    """Another bundle with the compiled code of the first."""
    for name in ("dist", "node_modules"):
        (folder / name).symlink_to(built[0] / name)
    return folder


def test_the_readme_leads_from_nothing_to_a_prediction(built: tuple[Path, list[str]]) -> None:
    folder, printed = built
    assert printed[-2] == "self-test passed\n"
    label, _, score = printed[-1].strip().partition("\t")
    assert label in (folder / "bundle/labels.txt").read_text(encoding="utf-8").split("\n")
    assert 0 < float(score) <= 1


def test_images_pass_their_self_test(built: tuple[Path, list[str]], copied: Callable[[str, str], Path]) -> None:
    folder = compiled(built, copied("node", "vit"))
    for command in commands_of(folder / "README.md")[2:]:
        done = run("sh", "-c", command, folder=folder)
        assert done.returncode == 0, done.stderr
    assert "\t" in done.stdout


def test_texts_get_the_labels_that_edgekit_gives_them(
    artifacts: Callable[[str], Artifact], built: tuple[Path, list[str]]
) -> None:
    texts = tiny.sentences(3, seed=5)
    expected = [answer[0] for answer in edgekit.load(artifacts("bert").path).predict(texts)]
    done = run("node", "dist/cli.js", "bundle", *texts, folder=built[0])
    assert done.stdout.splitlines() == [f"{label}\t{score:.4f}" for label, score in expected]


@pytest.mark.parametrize("broken", ["tokenizer/compiled.json", "model/model.onnx", "labels.txt"])
def test_the_self_test_names_what_is_damaged(
    built: tuple[Path, list[str]], copied: Callable[[str, str], Path], broken: str
) -> None:
    folder = compiled(built, copied("node", FAMILIES[0]))
    (shorten if broken == "labels.txt" else flip)(folder / "bundle" / broken)
    done = run("node", "dist/cli.js", "bundle", folder=folder)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{broken}: ")


@pytest.mark.parametrize("name", MADE)
def test_a_thousand_texts_get_the_librarys_ids(built: tuple[Path, list[str]], tmp_path: Path, name: str) -> None:
    library = MADE[name]()
    write_program(compile_tokenizer(library, 64, 0), tmp_path / "compiled.json")
    library.no_truncation()
    texts = probes.texts(1000)
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    (tmp_path / "ids.mjs").write_text(IDS % built[0], encoding="utf-8")
    done = run("node", "ids.mjs", "compiled.json", "texts.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [library.encode(text).ids for text in texts]


@pytest.mark.parametrize("name", STEPS)
def test_images_become_the_values_that_pillow_gives(built: tuple[Path, list[str]], tmp_path: Path, name: str) -> None:
    (tmp_path / "image.mjs").write_text(IMAGE % built[0], encoding="utf-8")
    (tmp_path / "steps.json").write_text(json.dumps(STEPS[name]), encoding="utf-8")
    for pixels in probes.images(3, 20, 24):
        (tmp_path / "raw").write_bytes(pixels.tobytes())
        height, width, _ = pixels.shape
        done = run("node", "image.mjs", "steps.json", "raw", str(width), str(height), "made", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        expected = prepare(read_image(pixels, 3), STEPS[name])
        found = np.fromfile(tmp_path / "made", np.float32).reshape(expected.shape)
        assert np.abs(found - expected).max() <= STEP
