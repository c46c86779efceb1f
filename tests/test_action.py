"""The steps of action.yml, run as a runner runs them, with edgekit itself and stand-ins for pip and GitHub's client."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import foreign
import pytest
import yaml

from edgekit.gate.exports.markdown import MOST_CHARACTERS

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "run" in step}
EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")
# How a runner starts `shell: bash` (docs.github.com, "Workflow syntax").
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
# Stands for GitHub's client: notes what it was asked, and tells pages of earlier comments through --jq as that does.
GH = """#!/bin/bash
printf '%s\\n' "$*" >> "$CALLS"
if [ "$4" = --jq ]; then for page in pages/*.json; do jq -r "$5" "$page"; done; fi
"""
BOT = "github-actions[bot]"


@dataclass
class Runner:
    """A runner's folder, with what its steps see."""

    folder: Path
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def evaluate(self, expression: str) -> str:
        """The expressions of action.yml, each by itself: one that is not here is an error."""
        given = {name: one.get("default", "") for name, one in ACTION["inputs"].items()} | self.inputs
        known = {
            "github.action_path": str(ROOT),
            "inputs.folder || format('{0}/edgekit', runner.temp)": given["folder"] or str(self.folder / "edgekit"),
            "github.token": "a token",
            "github.event.pull_request.number": "7",
            **{f"inputs.{name}": value for name, value in given.items()},
            **{f"steps.gate.outputs.{name}": value for name, value in self.outputs.items()},
        }
        return known[expression]

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """One step; its outputs are those of the next ones."""
        step = STEPS[name]
        assert step["shell"] == "bash"
        environment = {
            key: EXPRESSION.sub(lambda match: self.evaluate(match[1]), value) for key, value in step["env"].items()
        }
        output = self.folder / "output"
        script = self.folder / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        done = subprocess.run(
            [*BASH, str(script)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={
                **os.environ,
                **environment,
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "GITHUB_OUTPUT": str(output),
                "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
                "GITHUB_REPOSITORY": "owner/name",
                "CALLS": str(self.folder / "calls"),
            },
        )
        if output.exists():
            lines = output.read_text(encoding="utf-8").splitlines()
            self.outputs = dict(line.split("=", 1) for line in lines)
        return done

    def comment(self, *pages: list[dict[str, Any]]) -> str:
        """The step that comments, beside pages of earlier comments; the last of what it asked for."""
        shutil.rmtree(self.folder / "pages", ignore_errors=True)
        (self.folder / "pages").mkdir()
        for number, page in enumerate(pages or [[]]):
            (self.folder / "pages" / f"{number}.json").write_text(json.dumps(page), encoding="utf-8")
        done = self.run("Comment")
        assert done.returncode == 0, done.stderr
        return self.calls[-1]

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Two models, of which ``large.onnx`` has more weights, and programs by the names that the steps use."""
    foreign.conv_net(tmp_path / "small.onnx")
    foreign.conv_net(tmp_path / "large.onnx")
    grow(tmp_path / "large.onnx")
    programs = {
        # -P: the folder `edgekit` that the step makes here would be taken for the package of an editable installation.
        "edgekit": f'#!/bin/bash\nexec "{sys.executable}" -P -m edgekit "$@"\n',
        "python": '#!/bin/bash\nprintf \'%s\\n\' "python $*" >> "$CALLS"\n',
        "gh": GH,
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    return Runner(tmp_path)


def grow(file: Path) -> None:
    """Make a model's file a tenth larger, and its answers the same."""
    import onnx

    model = onnx.load(file)
    prop = model.metadata_props.add()
    prop.key, prop.value = "filler", "x" * (file.stat().st_size // 10)
    onnx.save(model, file)


def gate(runner: Runner, model: str, baseline: str) -> subprocess.CompletedProcess[str]:
    runner.inputs = {"model": model, "baseline": baseline, "gate": "size=1%", "budget": "1s"}
    return runner.run("Measure")


def test_what_a_caller_gives_reaches_no_script_as_text() -> None:
    for step in STEPS.values():
        assert "${{" not in step["run"]
    given: set[str] = set()
    for step in STEPS.values():
        given |= {match for value in step["env"].values() for match in EXPRESSION.findall(value)}
    named = {name for expression in given for name in re.findall(r"inputs\.([a-z-]+)", expression)}
    conditions = " ".join(step.get("if", "") for step in ACTION["runs"]["steps"])
    named |= set(re.findall(r"inputs\.([a-z-]+)", conditions)) | {"python-version"}
    assert named == ACTION["inputs"].keys()


@pytest.mark.parametrize(
    ("inputs", "installed"),
    [
        ({}, str(ROOT)),
        ({"extras": "tflite,sign"}, f"{ROOT}[tflite,sign]"),
        ({"package": "edgekit[tflite]"}, "edgekit[tflite]"),
    ],
)
def test_edgekit_is_installed_with_the_small_torch(runner: Runner, inputs: dict[str, str], installed: str) -> None:
    runner.inputs = inputs
    assert runner.run("Install edgekit").returncode == 0
    index = "https://download.pytorch.org/whl/cpu"
    assert runner.calls == [f"python -m pip install --extra-index-url {index} {installed}"]


def test_every_extra_that_the_action_names_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (named,) = re.findall(r"; (\w+) for models in TFLite", ACTION["inputs"]["extras"]["description"])
    assert named in project["optional-dependencies"]


@pytest.mark.slow
def test_a_model_that_is_no_worse_passes_and_is_told_in_a_new_comment(runner: Runner) -> None:
    done = gate(runner, "small.onnx", "small.onnx")
    assert done.returncode == 0, done.stderr
    folder = Path(runner.outputs["folder"])
    assert runner.outputs["verdict"] == "pass"
    assert "::notice title=edgekit bench::small.onnx beside small.onnx: pass (pass: size)." in done.stderr
    comment = (folder / "comment.md").read_text(encoding="utf-8")
    assert comment.splitlines()[1] == "### edgekit bench: pass"
    assert (runner.folder / "summary.md").read_text(encoding="utf-8") == comment
    assert runner.comment() == posted(folder)
    assert (folder / "body.md").read_text(encoding="utf-8").partition("\n")[2] == comment


@pytest.mark.slow
def test_a_larger_model_fails(runner: Runner) -> None:
    done = gate(runner, "large.onnx", "small.onnx")
    assert done.returncode == 1, done.stderr
    folder = Path(runner.outputs["folder"])
    assert runner.outputs["verdict"] == "regression"
    assert "::error title=edgekit bench::size: " in done.stderr
    record: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert record["verdict"] == "regression"
    assert '<failure type="regression"' in (folder / "junit.xml").read_text(encoding="utf-8")


def test_a_baseline_in_the_folder_of_results_is_kept(runner: Runner) -> None:
    kept = runner.folder / "results" / "result.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    runner.inputs = {"model": "small.onnx", "baseline": "results/result.json", "folder": "results"}
    done = runner.run("Measure")
    assert done.returncode == 2
    assert "'results/result.json' is read by this command" in done.stderr
    assert kept.read_text() == "{}"


def posted(folder: Path) -> str:
    return f"api --silent --method POST repos/owner/name/issues/7/comments -F body=@{folder / 'body.md'}"


def comment_of(number: int, body: str, login: str = BOT) -> dict[str, Any]:
    return {"id": number, "user": {"login": login}, "body": body}


@pytest.mark.skipif(shutil.which("jq") is None, reason="GitHub's client has jq in it, and there is none here")
def test_an_earlier_comment_of_the_same_model_and_place_is_replaced(runner: Runner) -> None:
    folder = runner.folder / "edgekit"
    folder.mkdir()
    (folder / "comment.md").write_text("<!-- edgekit bench: model.onnx -->\n### edgekit bench: pass\n")
    runner.inputs, runner.outputs = {"model": "a/model.onnx"}, {"folder": str(folder)}

    def written() -> str:
        return (folder / "body.md").read_text(encoding="utf-8")

    assert runner.comment() == posted(folder)
    ours = written()
    assert ours.splitlines()[1:] == ["<!-- edgekit bench: model.onnx -->", "### edgekit bench: pass"]
    patched = f"api --silent --method PATCH repos/owner/name/issues/comments/42 -F body=@{folder / 'body.md'}"
    theirs = [comment_of(40, ours, "somebody"), comment_of(41, "I like <!-- edgekit bench: model.onnx -->")]
    assert runner.comment(theirs, [comment_of(42, ours), comment_of(43, ours)], [comment_of(44, ours)]) == patched
    assert runner.comment(theirs) == posted(folder)
    for inputs in ({"model": "b/model.onnx"}, {"target": "arm64"}, {"device": "emulated"}):
        runner.inputs = {"model": "a/model.onnx", **inputs}
        assert runner.comment([comment_of(42, ours)]) == posted(folder)
        assert written() != ours


@pytest.mark.skipif(shutil.which("jq") is None, reason="GitHub's client has jq in it, and there is none here")
def test_the_longest_comment_is_one_that_github_takes(runner: Runner) -> None:
    folder = runner.folder / "edgekit"
    folder.mkdir()
    (folder / "comment.md").write_text("x" * MOST_CHARACTERS)
    runner.inputs, runner.outputs = {"model": "model.onnx"}, {"folder": str(folder)}
    assert runner.comment() == posted(folder)
    assert MOST_CHARACTERS < len((folder / "body.md").read_text(encoding="utf-8")) <= 65_536


@pytest.mark.skipif(shutil.which("jq") is None, reason="GitHub's client has jq in it, and there is none here")
def test_an_earlier_comment_does_not_stand_where_nothing_was_measured(runner: Runner) -> None:
    folder = runner.folder / "edgekit"
    folder.mkdir()
    (folder / "comment.md").write_text("### edgekit bench: pass\n")
    runner.inputs, runner.outputs = {"model": "model.onnx"}, {"folder": str(folder)}
    runner.comment()
    earlier = comment_of(42, (folder / "body.md").read_text(encoding="utf-8"))
    (folder / "comment.md").unlink()
    assert runner.comment([earlier]).endswith(f"issues/comments/42 -F body=@{folder / 'body.md'}")
    marker, title, *_ = (folder / "body.md").read_text(encoding="utf-8").splitlines()
    assert earlier["body"].startswith(marker)
    assert title == "### edgekit bench: nothing was measured"
    runner.outputs = {"folder": ""}  # the installation failed before the step that measures
    elsewhere = runner.comment([earlier]).partition("issues/comments/42 -F body=@")[2]
    assert Path(elsewhere).read_text(encoding="utf-8").splitlines()[1] == title
    assert Path(elsewhere).parent != folder


@pytest.mark.skipif(shutil.which("jq") is None, reason="GitHub's client has jq in it, and there is none here")
def test_a_model_that_is_not_there_leaves_no_comment(runner: Runner) -> None:
    done = gate(runner, "missing.onnx", "small.onnx")
    assert done.returncode == 4
    assert "there is nothing at 'missing.onnx'" in " ".join(done.stderr.split())
    assert runner.comment().startswith("api repos/owner/name/issues/7/comments --paginate --jq ")
