"""The web: the README's commands first, then the page in Chromium, which has to be there."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundle.bundles import DAMAGED, FAMILIES, TOKENIZERS, commands_of, damage, run

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


@pytest.mark.parametrize("family", [*FAMILIES, *TOKENIZERS])
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


def test_questions_that_overlap_are_answered_one_after_the_other(
    site: Callable[[str], Path], browser: Chromium
) -> None:
    """A session of onnxruntime-web refuses a second question while it answers the first."""
    script = """
import('./js/web.js').then(async ({ load }) => {
  const model = await load('bundle/');
  const texts = ['one', 'two', 'three', 'four'];
  const alone = [];
  for (const text of texts) alone.push(await model.predict(text));
  const together = texts.map((text) => model.predict(text));
  const closed = model.close();
  const answers = await Promise.all(together);
  await closed;
  return JSON.stringify(answers) === JSON.stringify(alone);
})"""
    with served(site("bert")) as address:
        browser.open(f"{address}/")
        browser.wait_for(ENDED, SECONDS)
        assert browser.evaluate(script, SECONDS) is True


def test_the_page_records_what_it_measured(site: Callable[[str], Path], browser: Chromium) -> None:
    public = site("bert")
    with served(public) as address:
        browser.open(f"{address}/")
        browser.wait_for(ENDED, SECONDS)
        record = browser.evaluate("globalThis.edgekitRecord")
    assert record["schema"] == "edgekit.page/1"
    assert (record["engine"], record["problems"], len(record["answers_ms"])) == ("wasm", [], 20)
    assert min(record["first_answer_ms"], *record["answers_ms"]) > 0
    assert record["model_bytes"] == (public / "bundle/model/model.onnx").stat().st_size


def test_a_transparent_image_is_drawn_on_white(site: Callable[[str], Path], browser: Chromium) -> None:
    choose = """
(async () => {
  const canvas = new OffscreenCanvas(12, 12);
  canvas.getContext('2d').fillRect(0, 0, 6, 12);
  const given = new DataTransfer();
  given.items.add(new File([await canvas.convertToBlob()], 'half.png', { type: 'image/png' }));
  const field = document.getElementById('file');
  field.files = given.files;
  field.dispatchEvent(new Event('change'));
})()"""
    picture = "document.getElementById('picture')"
    black, white = [0, 0, 0, 255], [255, 255, 255, 255]
    with served(site("vit")) as address:
        browser.open(f"{address}/")
        browser.wait_for(ENDED, SECONDS)
        browser.evaluate(choose)
        browser.wait_for(f"{picture}.width === 12", SECONDS)
        row = browser.evaluate(f"[...{picture}.getContext('2d').getImageData(0, 0, 12, 1).data]")
    assert row == [*black * 6, *white * 6]


@pytest.mark.parametrize(("family", "broken"), DAMAGED)
def test_the_self_test_names_what_is_damaged(
    family: str, broken: str, site: Callable[[str], Path], browser: Chromium
) -> None:
    public = site(family)
    damage(public / "bundle", broken)
    with served(public) as address:
        browser.open(f"{address}/")
        browser.wait_for(ENDED, SECONDS)
        browser.wait_for("document.querySelectorAll('#problems li').length > 0", SECONDS)
        found = problems(browser)
    if broken == "labels.txt":
        assert any(re.fullmatch(r"labels\.txt: \d+ labels, and the model has \d+ classes", line) for line in found)
    else:
        assert f"{broken}: changed (its SHA-256 is another one)" in found


@pytest.fixture
def server(built: Path) -> Iterator[str]:
    """The address of the server that comes with a page."""
    with subprocess.Popen(["node", "serve.mjs", "0"], cwd=built, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def test_the_server_outlives_addresses_that_are_none(server: str) -> None:
    host = server.removeprefix("http://").rstrip("/")
    for path, status in (("/%", 404), ("//", 404), ("/%2e%2e/serve.mjs", 404), ("/js", 404), ("/", 200)):
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.endheaders()
        answer = connection.getresponse()
        assert (path, answer.status) == (path, status)
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        connection.close()


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
