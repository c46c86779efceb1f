"""Every command, every piece of Python and every error that the documentation shows does what it says."""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.reading import Step, pages, read_steps
from docs.world import FIRST, build_world, compress_once, hasten
from tflites import INSTALLED, REASON

from edgekit.cli import main

NETWORK, INSTALLS, DEVICE = "needs the network", "installs into the environment", "needs a device"
SIGNS = "needs a key and the extra [sign]: tests/test_signing.py"
NOISE = "ends as the noise of the machine has it"
BROWSER = "needs Chromium and npm; tests/devices/test_browser.py and tests/bundle/test_platforms_web.py use them"
# Commands that are not run, each with its reason.
NOT_RUN = {
    "pip install .": INSTALLS,
    "pip install . --extra-index-url https://download.pytorch.org/whl/cpu": INSTALLS,
    "pip install '.[tflite]'": INSTALLS,
    "make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu": INSTALLS,
    "edgekit compress org/name --revision main --data org/data -o out": NETWORK,
    "edgekit compress org/name --data org/data --set prune.ratio=0.5 -o out": NETWORK,
    "edgekit eval org/name --data data.csv --split test --json": NETWORK,
    "edgekit costs org/name --target x86-64-vnni -o costs.json": NETWORK,
    "edgekit sign ./out --key private.pem": SIGNS,
    "edgekit sign ./out --key private.pem -o release.sig": SIGNS,
    "edgekit sign out --key private.pem": SIGNS,
    "edgekit verify ./out --key public.pem": SIGNS,
    "edgekit bench ./new --baseline ./old --data ./my-data --strict": NOISE,
    "edgekit bench ./out --device ssh://pi@raspberrypi.local": DEVICE,
    "edgekit eval ./out --data ./my-data --device ssh://pi@raspberrypi.local": DEVICE,
    "edgekit compress ./my-model --data ./my-data --target arm64-dotprod --device ssh://pi@raspberrypi.local": DEVICE,
    "edgekit compress ./my-model --data ./my-data --target web --max-drop 1%": BROWSER,
    "edgekit bench ./out --device browser": BROWSER,
    "cd page && npm install --ignore-scripts && npm run build && npm start": BROWSER,
    "edgekit compress ./my-model --data ./my-data --target arm64-dotprod"
    ' --device "adb:R5CT?tool=./onnxruntime_perf_test&lib=./libonnxruntime.so"': DEVICE,
    "edgekit compress ./my-model --data ./my-data"
    ' --device "command:docker run --rm -v {folder}:/job:ro my-image python3 /job/runner.py /job/spec.json"': DEVICE,
}
# Commands that are run with the slow tests, each with its reason.
SLOW = {
    "edgekit demo": "trains a model first",
    "edgekit demo -o ./demo-out": "as above",
    "edgekit targets setup arm64": "fetches what it is made of",
    "edgekit targets setup cortex-a76 haswell": "as above",
    "edgekit doctor": "imports every package in processes of its own",
    "edgekit doctor --json": "as above",
    "edgekit compress ./my-model --data ./my-data --target arm64 --max-drop 1%": "a whole run, for another device",
    "edgekit costs ./my-model --target host -o costs.json": "a dozen exports, for the run that takes its table",
    "edgekit costs ./my-model --target host --set prune.hidden=0.67": "as above, at three hidden sizes",
    "edgekit compress ./my-model --data ./my-data --set prune.cost=measured": "a whole run",
    "edgekit compress ./my-model --data ./my-data --set prune.cost=measured --costs costs.json": "as above",
    "edgekit costs ./my-model --target raspberry-pi-5 --device emulated": "a dozen exports, for another device",
    "edgekit bench model.onnx --target raspberry-pi-5 --device emulated": "as above",
    "edgekit compress ./my-model --data sents.csv --columns text=body,label=y": "a whole run, on data of another name",
}
# What a page says of a reader's own things, and what stands for it here.
SUBSTITUTES = {"org/model-or-folder": "my-model", "folder-or-hub-id": "my-data"}
# The shell is left out where it has nothing to do: a fresh process for each command takes seconds to import torch.
SHELL = set("|&;<>$`*?~()#!{}")
# This page is run in parts, by its sections: each stands by itself, but for what shows that another one saved.
COMMANDS = "docs/commands.md"
TOGETHER = {"edgekit history": "edgekit bench"}
EMPTIES = "edgekit cache prune --all -y"
TFLITE = "docs/tflite.md"


def read_parts() -> Iterator[tuple[str, list[Step]]]:
    """Pages that have steps by their names, and one by its sections."""
    for page in pages():
        parts: dict[str, list[Step]] = {}
        for step in read_steps(page):
            section = TOGETHER.get(step.section, step.section)
            parts.setdefault(f"{page}: {section}" if page == COMMANDS else page, []).append(step)
        yield from parts.items()


STEPS = dict(read_parts())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, torch_alone: object) -> Iterator[Path]:
    """A folder with everything that the pages take as given, and a cache that they share."""
    root = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(root / "cache"))
        hasten(patch)
        build_world(root / "world")
        compress_once(root / "world")
        yield root


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that folder for one page; the current directory."""
    shutil.copytree(world / "world", tmp_path / "world")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    for name in ("EDGEKIT_DEBUG", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "world")
    sys.path.insert(0, str(tmp_path / "world"))
    importlib.invalidate_caches()
    yield tmp_path / "world"
    sys.path.remove(str(tmp_path / "world"))  # and nothing else: onnxruntime.transformers puts itself there


class Reader:
    """Someone who does what a page says, line by line.

    Args:
        capture: pytest's, of the file descriptors.
    """

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.code = 0

    def follow(self, steps: list[Step]) -> int:
        """Do every step, and say how many; the first that goes wrong fails, with page and line."""
        done = 0
        for step, after in zip(steps, [*steps[1:], None], strict=True):
            if step.kind == "file":
                Path(step.name).write_text(step.text, encoding="utf-8")
            elif step.kind == "python":
                self.run_python(step)
            else:
                output = self.run_command(step)
                told = "echo $?" in (step.text, after.text if after else "")
                if self.code and not told:
                    pytest.fail(f"{step.place}: `{step.text}` ended with {self.code}\n{output}")
                if step.shown is not None and step.shown != output.splitlines():
                    pytest.fail(f"{step.place}: `{step.text}` prints something else than the page shows\n{output}")
            done += 1
        return done

    def run_python(self, step: Step) -> None:
        code = step.text
        for shown, real in SUBSTITUTES.items():
            code = code.replace(shown, real)
        try:
            exec(compile(code, step.place, "exec"), self.names)  # the pages' code is the project's own
        except Exception as error:
            raise AssertionError(f"{step.place}: {type(error).__name__}: {error}") from error

    def run_command(self, step: Step) -> str:
        """Run a command, keep its exit code, and give what it printed."""
        if step.text == "echo $?":
            return str(self.code)
        if step.text.startswith("edgekit ") and not SHELL & set(step.text):
            self.capture.readouterr()
            self.code = main(shlex.split(step.text)[1:])
            printed = self.capture.readouterr()
            return (printed.err + printed.out).strip()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step.text],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.code = done.returncode
        return done.stdout.strip()


def chosen(page: str, *, slow: bool) -> list[Step]:
    """The steps of a page that are run, in the quick tests or in the slow ones."""
    return [
        step
        for step in STEPS[page]
        if step.text not in NOT_RUN and (step.kind == "file" or slow == (step.text in SLOW))
    ]


def has_commands(page: str, *, slow: bool) -> bool:
    return any(step.kind != "file" for step in chosen(page, slow=slow))


@pytest.mark.parametrize("page", [page for page in STEPS if has_commands(page, slow=False)])
def test_a_page_does_what_it_says(
    page: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if page == TFLITE and not INSTALLED:
        pytest.skip(REASON)
    steps = chosen(page, slow=False)
    if any(step.text == EMPTIES for step in steps):
        monkeypatch.setenv("EDGEKIT_CACHE", str(shutil.copytree(os.environ["EDGEKIT_CACHE"], tmp_path / "cache")))
    assert Reader(capfd).follow(steps) == len(steps)
    sys.modules.pop("net", None)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in STEPS if has_commands(page, slow=True)])
def test_a_page_does_the_slow_things_that_it_says(page: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps = chosen(page, slow=True)
    assert Reader(capfd).follow(steps) == len(steps)


def test_every_exception_is_still_in_a_page() -> None:
    commands = {step.text for steps in STEPS.values() for step in steps}
    assert (NOT_RUN.keys() | SLOW.keys()) - commands == set()
    assert {FIRST, EMPTIES} <= commands


def test_the_pages_have_commands_of_each_kind() -> None:
    kinds = [step.kind for steps in STEPS.values() for step in steps]
    assert {kind: kinds.count(kind) >= least for kind, least in (("command", 60), ("python", 8), ("file", 3))} == {
        "command": True,
        "python": True,
        "file": True,
    }
    assert sum(step.shown is not None for steps in STEPS.values() for step in steps) >= 6


def test_a_command_that_fails_is_told_with_page_and_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    step = Step("docs/page.md:7", "command", "edgekit targets show nothing")
    with pytest.raises(pytest.fail.Exception, match=r"docs/page.md:7: `edgekit targets show nothing` ended with 2"):
        Reader(capfd).follow([step])
    with pytest.raises(AssertionError, match=r"docs/page.md:9: ZeroDivisionError: division by zero"):
        Reader(capfd).follow([Step("docs/page.md:9", "python", "1 / 0")])
    shown = Step("docs/page.md:3", "command", "echo one | cat", ["two"])
    with pytest.raises(pytest.fail.Exception, match=r"docs/page.md:3: .* prints something else"):
        Reader(capfd).follow([shown])
