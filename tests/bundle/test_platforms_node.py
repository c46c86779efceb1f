"""Node: the README's commands first, then what they compiled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tiny
from bundle.bundles import DAMAGED, TOKENIZERS, commands_of, damage, run
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
const tokenizer = new Tokenizer(program);
console.log(JSON.stringify(texts.map(([text, pair]) => tokenizer.encode(text, pair ?? undefined)).map(
  ({ ids, segments }) => [ids, segments])));
"""
IMAGE = """
import { readFileSync, writeFileSync } from "node:fs";
import { prepareImage } from "%s/dist/image.js";
const [steps, raw, width, height, channels, wanted, made] = process.argv.slice(2);
const data = new Uint8Array(readFileSync(raw));
const image = { width: Number(width), height: Number(height), channels: Number(channels), data };
writeFileSync(made, prepareImage(image, Number(wanted), JSON.parse(readFileSync(steps, "utf8"))).data);
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


@pytest.mark.parametrize("family", TOKENIZERS)
def test_texts_pass_their_self_test_with_every_kind_of_tokenizer(
    built: tuple[Path, list[str]], copied: Callable[[str, str], Path], family: str
) -> None:
    done = run("node", "dist/cli.js", "bundle", folder=compiled(built, copied("node", family)))
    assert done.stdout == "self-test passed\n", done.stderr


@pytest.mark.parametrize(("family", "broken"), DAMAGED)
def test_the_self_test_names_what_is_damaged(
    built: tuple[Path, list[str]], copied: Callable[[str, str], Path], family: str, broken: str
) -> None:
    folder = compiled(built, copied("node", family))
    damage(folder / "bundle", broken)
    done = run("node", "dist/cli.js", "bundle", folder=folder)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{broken}: ")


def tokenized(
    built: tuple[Path, list[str]], folder: Path, program: dict[str, Any], texts: Sequence[tuple[str, str | None]]
) -> list[tuple[list[int], list[int]]]:
    """Ids and segments that the TypeScript gives texts and pairs."""
    write_program(program, folder / "compiled.json")
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    (folder / "ids.mjs").write_text(IDS % built[0], encoding="utf-8")
    done = run("node", "ids.mjs", "compiled.json", "texts.json", folder=folder)
    assert done.returncode == 0, done.stderr
    return [(ids, segments) for ids, segments in json.loads(done.stdout)]


@pytest.mark.parametrize("name", MADE)
def test_a_thousand_texts_get_the_librarys_ids(built: tuple[Path, list[str]], tmp_path: Path, name: str) -> None:
    library = MADE[name]()
    program = compile_tokenizer(library, 64, 0) | {"max_length": 10**9}
    library.no_truncation()
    texts: list[tuple[str, str | None]] = [(text, None) for text in probes.texts(1000)]
    expected = [library.encode(text) for text, _ in texts]
    assert tokenized(built, tmp_path, program, texts) == [(one.ids, one.type_ids) for one in expected]


@pytest.mark.parametrize("name", MADE)
def test_texts_and_pairs_are_cut_as_the_library_cuts_them(
    built: tuple[Path, list[str]], tmp_path: Path, name: str
) -> None:
    library = MADE[name]()
    program = compile_tokenizer(library, 24, 0)
    library.enable_truncation(24)
    drawn = probes.texts(160)
    pairs = [(one, other) for step in (1, 7) for one, other in zip(drawn, drawn[step:], strict=False)]
    texts: list[tuple[str, str | None]] = [*((text, None) for text in drawn), *pairs]
    expected = [library.encode(text) if pair is None else library.encode(text, pair) for text, pair in texts]
    assert any(one.overflowing for one in expected)
    assert tokenized(built, tmp_path, program, texts) == [(one.ids, one.type_ids) for one in expected]


def prepared(
    built: tuple[Path, list[str]], folder: Path, pixels: npt.NDArray[np.uint8], channels: int, steps: object
) -> npt.NDArray[np.float32]:
    """What the TypeScript makes of an image for a model of one or three channels."""
    (folder / "image.mjs").write_text(IMAGE % built[0], encoding="utf-8")
    (folder / "steps.json").write_text(json.dumps(steps), encoding="utf-8")
    (folder / "raw").write_bytes(pixels.tobytes())
    height, width, given = pixels.shape
    numbers = map(str, (width, height, given, channels))
    done = run("node", "image.mjs", "steps.json", "raw", *numbers, "made", folder=folder)
    assert done.returncode == 0, done.stderr
    return np.fromfile(folder / "made", np.float32)


@pytest.mark.parametrize("name", STEPS)
def test_images_become_the_values_that_pillow_gives(built: tuple[Path, list[str]], tmp_path: Path, name: str) -> None:
    for pixels in probes.images(3, 20, 24):
        expected = prepare(read_image(pixels, 3), STEPS[name])
        found = prepared(built, tmp_path, pixels, 3, STEPS[name]).reshape(expected.shape)
        assert np.abs(found - expected).max() <= STEP


@pytest.mark.parametrize(("given", "taken"), [(1, 1), (3, 1), (1, 3)])
def test_grey_images_become_the_values_that_pillow_gives(
    built: tuple[Path, list[str]], tmp_path: Path, given: int, taken: int
) -> None:
    mean = {"op": "normalize", "mean": [0.5], "std": [0.25]}
    steps = [mean if step["op"] == "normalize" else step for step in STEPS["bicubic"]]
    for pixels in probes.images(given, 20, 24):
        expected = prepare(read_image(pixels, taken), steps)
        found = prepared(built, tmp_path, pixels, taken, steps).reshape(expected.shape)
        assert np.abs(found - expected).max() <= STEP


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("{ width: 4, height: 2, channels: 4, data: new Uint8Array(32) }", "32 bytes for 4 x 2 pixels of 4 channels"),
        ("{ width: 4, height: 2, channels: 3, data: new Uint8Array(23) }", "23 bytes for 4 x 2 pixels of 3 channels"),
        ("{ width: 0, height: 2, channels: 3, data: new Uint8Array(0) }", "0 bytes for 0 x 2 pixels of 3 channels"),
    ],
)
def test_pixels_that_are_no_image_are_refused(built: tuple[Path, list[str]], shape: str, said: str) -> None:
    code = f"import {{ prepareImage }} from '{built[0]}/dist/image.js'; prepareImage({shape}, 3, []);"
    done = run("node", "--input-type=module", "-e", code, folder=built[0])
    assert done.returncode == 1
    assert said in done.stderr


def test_a_network_is_closed_after_the_self_test_and_a_model_when_it_is_asked_to(
    built: tuple[Path, list[str]],
) -> None:
    code = """
import { InferenceSession } from "onnxruntime-node";
const create = InferenceSession.create;
let open = 0;
InferenceSession.create = async (...given) => {
  const session = await create(...given);
  const release = session.release.bind(session);
  open++;
  session.release = async () => { open--; await release(); };
  return session;
};
const { load, selfTestOf } = await import("./dist/node.js");
const problems = await selfTestOf("bundle");
const after = open;
const model = await load("bundle");
const loaded = open;
await model.close();
console.log(JSON.stringify([problems, after, loaded, open]));
"""
    (built[0] / "closing.mjs").write_text(code, encoding="utf-8")
    done = run("node", "closing.mjs", folder=built[0])
    assert json.loads(done.stdout) == [[], 0, 1, 0], done.stderr
