"""The web: the README's commands first, then the page in Chromium, which has to be there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundle.bundles import FAMILIES, commands_of, flip, run, shorten

from edgekit.bundle.platforms.base import coordinates
from edgekit.devices import web_runtime
from edgekit.devices.browser import served
from edgekit.devices.chromium import Chromium, find_chromium

pytestmark = pytest.mark.slow
Bundles = Callable[[str, str], Path]
STATE = "document.getElementById('selftest')?.dataset.state"
ENDED = f"['passed', 'failed'].includes({STATE})"
KEPT = "document.getElementById('kept')?.hidden === false"
SECONDS = 300


@pytest.fixture(scope="session")
def built(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of texts with its page built, by the commands of its README as they are printed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = Path(shutil.copytree(bundles("web", "bert"), tmp_path_factory.mktemp("web") / "bundle"))
    commands = commands_of(folder / "README.md")
    assert commands[-1] == "npm start"
    for command in commands[:-1]:
        done = run("sh", "-c", command, folder=folder)
        if done.returncode and command.startswith("npm install"):
            pytest.skip("npm cannot install the packages here")
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    return folder


@pytest.fixture
def site(built: Path, copied: Bundles) -> Callable[[str], Path]:
    """The built page around the bundle of another family, which may be broken."""

    def make(family: str) -> Path:
        public = copied("web", family) / "public"
        for name in ("js", "ort"):
            shutil.copytree(built / "public" / name, public / name)
        return public

    return make


@pytest.fixture
def browser() -> Iterator[Chromium]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("Chromium is not installed")
    with Chromium(executable) as opened:
        yield opened


def problems(browser: Chromium) -> list[str]:
    """What the self-test on the page has found."""
    found: list[str] = browser.evaluate("[...document.querySelectorAll('#problems li')].map((one) => one.textContent)")
    return found


def complaints(browser: Chromium) -> list[str]:
    """What the browser says is wrong: exceptions, files that are missing, what the page's security policy forbids."""
    thrown = [one["params"] for one in browser.events if one["method"] == "Runtime.exceptionThrown"]
    logged = [one["params"] for one in browser.events if one["method"] == "Log.entryAdded"]
    return [str(told) for told in (*thrown, *(one for one in logged if one["entry"]["level"] == "error"))]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_answers_and_asks_nobody_but_its_own_server(
    family: str, site: Callable[[str], Path], browser: Chromium
) -> None:
    with served(site(family)) as address:
        browser.open(f"{address}/")
        browser.wait_for(ENDED, SECONDS)
        assert (browser.evaluate(STATE), problems(browser)) == ("passed", [])
        labels = browser.evaluate("[...document.querySelectorAll('#labels span')].map((one) => one.textContent)")
        assert labels
        assert set(labels) <= set((site_labels(browser)).split("\n"))
        assert "thread" in browser.evaluate("document.getElementById('threads').textContent")
        browser.wait_for(KEPT, SECONDS)
    sent = [one["params"]["request"]["url"] for one in browser.events if one["method"] == "Network.requestWillBeSent"]
    assert len(sent) > 20
    assert [url for url in sent if not url.startswith(f"{address}/")] == []
    assert complaints(browser) == []


def site_labels(browser: Chromium) -> str:
    """The labels of the bundle that the page shows."""
    return str(browser.evaluate("fetch('bundle/labels.txt').then((response) => response.text())"))


def test_the_page_opens_without_a_network_once_it_was_open(site: Callable[[str], Path], browser: Chromium) -> None:
    with served(site("bert")) as address:
        browser.open(f"{address}/")
        browser.wait_for(KEPT, SECONDS)
    browser.open("about:blank")
    browser.open(f"{address}/")
    browser.wait_for(ENDED, SECONDS)
    assert browser.evaluate(STATE) == "passed"


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("tokenizer/compiled.json", flip, "tokenizer/compiled.json: changed (its SHA-256 is another one)"),
        ("model/model.onnx", flip, "model/model.onnx: changed (its SHA-256 is another one)"),
        ("labels.txt", shorten, "labels.txt: 1 labels, and the model has 2 classes"),
    ],
)
def test_the_self_test_names_what_is_damaged(
    name: str, damage: Callable[[Path], None], said: str, site: Callable[[str], Path], browser: Chromium
) -> None:
    public = site("bert")
    damage(public / "bundle" / name)
    with served(public) as address:
        browser.open(f"{address}/")
        browser.wait_for(ENDED, SECONDS)
        browser.wait_for("document.querySelectorAll('#problems li').length > 0", SECONDS)
        assert said in problems(browser)


def test_both_ways_into_a_browser_have_the_same_runtime() -> None:
    assert coordinates()["web"][web_runtime.PACKAGE] == web_runtime.VERSION


def test_sha256_is_that_of_the_platform(built: Path) -> None:
    script = """
import { createHash } from "node:crypto";
import { sha256 } from "./public/js/sha256.js";
for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 100003]) {
  const bytes = Uint8Array.from({ length }, (_, place) => (place * 7919) >> 3);
  if (sha256(bytes) !== createHash("sha256").update(bytes).digest("hex")) console.log(length);
}
"""
    done = run("node", "--input-type=module", "-e", script, folder=built)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
