"""The comparison with other tools, by stand-ins for them: their files, environments, costs, rows and the table."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import tiny

from edgekit.artifact import WHOLE, write_artifact
from edgekit.formats.onnx import describe_component
from edgekit.runtimes.measuring import Timing
from edgekit.tasks.base import Workload

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
SCRIPTS = ("run", "cases", "lines", "operator_table", "peers", "peer_recipes", "peer_table", "environments", "page")
PEERS = ("edgekit", "neural-compressor", "olive", "onnxruntime", "optimum")
PLACES = dict.fromkeys(("model", "data", "texts", "task", "target", "out", "peers"), "X")
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
PINS = "numpy==2.0.0\ntorch==2.13.0\n"
# A classifier of sorts, and a graph that takes something else.
GRAPH = """<ir_version: 8, opset_import: ["" : 17]>
graph (int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask, int64[batch, sequence] token_type_ids)
    => (float[batch, 2] logits) {
    seen = Add(attention_mask, token_type_ids)
    words = Mul(input_ids, seen)
    numbers = Cast<to = 1>(words)
    one = ReduceMean<axes = [1], keepdims = 1>(numbers)
    other = Neg(one)
    logits = Concat<axis = 1>(one, other)
}"""
BROKEN = """<ir_version: 8, opset_import: ["" : 17]>
graph (float[batch, 2] pixel_values) => (float[batch, 2] logits) { logits = Identity(pixel_values) }"""


@pytest.fixture
def load() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script of benchmarks/ as it imports its neighbours."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in SCRIPTS:
        sys.modules.pop(name, None)


# The peers' files


def test_these_are_the_peers(load: Any) -> None:
    assert tuple(load("peer_recipes").known_peers()) == PEERS
    names = load("peers").peer_names
    assert names("olive, optimum,") == ["olive", "optimum"]
    with pytest.raises(argparse.ArgumentTypeError, match=r"no peer 'nncf': edgekit, neural-compressor, "):
        names("olive,nncf")


@pytest.mark.parametrize("key", PEERS)
def test_a_peer_has_recipes_with_documentation_and_packages(key: str, load: Any) -> None:
    peer = load("peer_recipes").read_peer(FOLDER / "peers" / f"{key}.toml")
    assert len({recipe.name for recipe in peer.recipes}) == len(peer.recipes) > 0
    assert "int8" in {recipe.precision for recipe in peer.recipes}
    for recipe in peer.recipes:
        assert recipe.documentation.startswith("https://") or (ROOT / recipe.documentation).is_file()
        for command in recipe.commands:
            assert "{" not in command.format(**PLACES)
            assert all((FOLDER / "peers" / name).is_file() for name in re.findall(r"\{peers\}/(\S+)", command))
        assert recipe.commands
        assert recipe.result
    if key == "edgekit":
        assert peer.pins is None
        return
    pins = dict(line.split("==") for line in peer.pins.read_text(encoding="utf-8").splitlines())
    assert set(peer.packages) <= pins.keys()
    assert not any("+" in version for version in pins.values())  # no build that one index alone has
    assert not any(name.startswith("nvidia") for name in pins)


# Environments


class Pip:
    """Stands for the programs that make an environment."""

    def __init__(self, brings: Sequence[str] = ()) -> None:
        self.commands: list[Sequence[str]] = []
        self.brings = ["torch", *brings]

    def __call__(self, command: Sequence[str]) -> str:
        self.commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        report = {"install": [{"metadata": {"name": name}} for name in self.brings]}
        return json.dumps(report) if "--report" in command else ""


def test_an_environment_is_made_once_with_torch_first(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_INDEX", "https://index")
    make = load("environments").make_environment
    pins, folder, pip = tmp_path / "pins.txt", tmp_path / "made", Pip()
    pins.write_text(PINS, encoding="utf-8")
    programs = make(pins, folder, pip)
    assert programs == folder / "bin"
    made, tried, torch, rest = pip.commands
    assert made == (sys.executable, "-m", "venv", str(folder))
    assert torch[-3:] == ("--extra-index-url", "https://index", "torch==2.13.0")
    assert tried == (*torch, "--dry-run", "--report", "-")
    assert rest[-2:] == ("-r", str(pins))
    assert make(pins, folder, pip) == programs
    assert len(pip.commands) == 4
    pins.write_text(PINS.replace("2.0.0", "2.1.0"), encoding="utf-8")
    (folder / "of the old").touch()
    make(pins, folder, pip)
    assert len(pip.commands) == 8
    assert not (folder / "of the old").exists()


def test_cuda_libraries_are_refused(load: Any, tmp_path: Path) -> None:
    environments = load("environments")
    pins, pip = tmp_path / "pins.txt", Pip(("nvidia-cudnn-cu13", "sympy", "triton"))
    pins.write_text(PINS, encoding="utf-8")
    with pytest.raises(environments.EnvironmentFailed, match=r"torch==2.13.0 would bring nvidia-cudnn-cu13, triton: "):
        environments.make_environment(pins, tmp_path / "made", pip)
    assert len(pip.commands) == 2
    assert not (tmp_path / "made" / "pins.txt").exists()


def test_a_program_that_fails_says_why(load: Any) -> None:
    environments = load("environments")
    code = "import sys; print('ERROR: no such package', file=sys.stderr); print('a hint', file=sys.stderr); sys.exit(1)"
    with pytest.raises(environments.EnvironmentFailed, match=r"^ERROR: no such package$"):
        environments.run((sys.executable, "-c", code))
    with pytest.raises(environments.EnvironmentFailed, match=r"^python9 does not start: No such file or directory$"):
        environments.run(("/nowhere/python9", "-c", code))
    found = environments.installed(Path(sys.executable).parent, ["numpy"])
    assert list(found) == ["python", "numpy"]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


# What a recipe costs and leaves


@pytest.fixture
def job(load: Any, tmp_path: Path) -> Any:
    model, data, texts = tmp_path / "model", tmp_path / "data.csv", tmp_path / "texts.txt"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")
    data.write_text("text,label\na,0\n", encoding="utf-8")
    texts.write_text("a\n", encoding="utf-8")
    return load("peer_recipes").Job(model, data, texts, "text-classification", "x86-64-vnni")


def stand_in(load: Any, tmp_path: Path, *code: str, result: str = "*.onnx") -> tuple[Any, Any]:
    """A peer whose commands are lines of Python, in this environment."""
    recipes = load("peer_recipes")
    commands = []
    for number, text in enumerate(code):
        script = tmp_path / f"step{number}.py"
        script.write_text(text, encoding="utf-8")
        commands.append(f"python {script} {{model}} {{out}}")
    recipe = recipes.Recipe("dynamic", "https://docs", tuple(commands), result)
    return recipes.Peer("tool", "A tool", ("numpy",), (recipe,)), recipe


def make(load: Any, peer: Any, recipe: Any, job: Any, folder: Path, *, again: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = load("peer_recipes").make(
        peer, recipe, job, Path(sys.executable).parent, folder, again=again
    )
    return made


def test_a_recipe_is_measured_and_made_once(load: Any, job: Any, tmp_path: Path) -> None:
    wide = f"held = b'x' * {200 * 2**20}"
    counted = f"import pathlib, sys; pathlib.Path('made.onnx').touch(); open({str(tmp_path / 'n')!r}, 'a').write('x')"
    peer, recipe = stand_in(load, tmp_path, wide, counted)
    made = make(load, peer, recipe, job, tmp_path / "made")
    first, second = (step["peak_memory_bytes"] for step in made["steps"])
    assert 200 * 2**20 < made["peak_memory_bytes"] == first < 300 * 2**20
    assert second < 100 * 2**20
    assert made["seconds"] == sum(step["seconds"] for step in made["steps"]) > 0
    assert Path(made["result"]).name == "made.onnx"
    assert made["steps"][0]["command"].endswith("step0.py {model} {out}")
    assert make(load, peer, recipe, job, tmp_path / "made") == made
    assert (tmp_path / "n").read_text() == "x"
    make(load, peer, recipe, job, tmp_path / "made", again=True)
    assert (tmp_path / "n").read_text() == "xx"
    job.texts.write_text("b\n", encoding="utf-8")
    make(load, peer, recipe, job, tmp_path / "made")
    assert (tmp_path / "n").read_text() == "xxx"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; print('  50%\\r 100%'); sys.exit('cannot read ' + sys.argv[1])", "cannot read MODEL"),
        ("print('No model was made')", "it ended without an error and left 0 files called *.onnx"),
        ("for n in 'ab': open(n + '.onnx', 'w').close()", "it ended without an error and left 2 files called *.onnx"),
        ("import os; os.abort()", "ended by signal 6"),
    ],
)
def test_a_recipe_that_leaves_nothing_is_a_row_with_its_reason(
    code: str, reason: str, load: Any, job: Any, tmp_path: Path
) -> None:
    peer, _ = stand_in(load, tmp_path, code)
    (row,) = load("peers").peer_rows(peer, job, tmp_path / "folder", again=False)
    assert row["error"] == reason
    assert (row["peer"], row["recipe"], row["documentation"]) == ("tool", "dynamic", "https://docs")
    assert row["versions"]["numpy"]
    assert "seconds" not in row


def test_one_that_does_not_end_is_ended(load: Any, job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load("peer_recipes"), "LIMIT_SECONDS", 1)
    peer, recipe = stand_in(load, tmp_path, "import time; time.sleep(600)")
    with pytest.raises(load("peer_recipes").PeerFailed, match=r"^it did not end within 1 s$"):
        make(load, peer, recipe, job, tmp_path / "made")


def test_one_that_is_interrupted_does_not_go_on(
    load: Any, job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]  # of whatever it prints
        def communicate(self, input: Any = None, timeout: float | None = None) -> Any:
            if timeout is None:
                return super().communicate(input)
            started.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    peer, recipe = stand_in(load, tmp_path, "import time; time.sleep(600)")
    with pytest.raises(KeyboardInterrupt):
        make(load, peer, recipe, job, tmp_path / "made")
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_without_an_environment_every_recipe_is_a_row(
    load: Any, job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = load("peers")

    def fail(pins: Path, folder: Path) -> Path:
        raise peers.EnvironmentFailed(f"ERROR: no index in {tmp_path}")

    monkeypatch.setattr(peers, "make_environment", fail)
    peer = load("peer_recipes").known_peers()["optimum"]
    rows = list(peers.peer_rows(peer, job, tmp_path, again=False))
    assert [row["recipe"] for row in rows] == [recipe.name for recipe in peer.recipes]
    assert {row["error"] for row in rows} == {"no environment: ERROR: no index in ROOT"}


def test_what_is_missing_is_told_without_a_comparison(
    load: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    peers, broken = load("peers"), {"olive"}

    def environment_of(peer: Any, folder: Path) -> Any:
        if peer.key in broken:
            raise peers.EnvironmentFailed("ERROR: no index")

    monkeypatch.setattr(peers, "environment_of", environment_of)
    monkeypatch.setattr(peers, "find_copy", lambda key: str(tmp_path))
    monkeypatch.setattr("sys.argv", ["peers.py", "--check", "--peers", "olive,optimum", "--folder", str(tmp_path)])
    assert peers.main() == 0
    assert capsys.readouterr().err == "Olive: no environment: ERROR: no index\n"
    broken.add("optimum")
    assert peers.main() == 1
    monkeypatch.setattr(peers, "find_copy", lambda key: None if key == "sst2" else str(tmp_path))  # the hub has it
    with pytest.raises(SystemExit, match=r"^sst2 is not here, and other tools get no hub: see `path` in benchmarks/"):
        peers.main()


def test_the_last_line_is_what_was_said_last(load: Any) -> None:
    last_line = load("peer_recipes").last_line
    assert last_line("one\n 10%\r 20%\rfailed\n\n") == "failed"
    assert last_line("\n \n") == ""


def test_a_reason_names_no_folder_of_this_machine(load: Any, job: Any, tmp_path: Path) -> None:
    def reason(error: str) -> str:
        told: str = load("peer_recipes").reason(Exception(error), job, tmp_path / "root" / "made", tmp_path / "root")
        return told

    said = f"no\n {tmp_path}/root/environments/a/bin/x in {tmp_path}/root/made/y of {job.model}/z, {sys.prefix}/lib"
    assert reason(said) == "no ROOT/environments/a/bin/x in OUT/y of MODEL/z, ENVIRONMENT/lib"
    assert reason(f"{ROOT}/edgekit and {Path.home()}/.cache") == "EDGEKIT/edgekit and HOME/.cache"
    assert reason("x" * 290 + f" {job.model}" * 9).startswith("x" * 290 + " MODEL")
    assert len(reason("x" * 1000)) == 300


# Scores and times


def model_folder(folder: Path) -> Path:
    """What a model's folder holds beside its weights."""
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    words = {"vocab_size": tiny.VOCABULARY, "max_position_embeddings": 40}
    kind = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    tiny.tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(kind | shape | words), encoding="utf-8")
    return folder


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """One of edgekit's."""
    folder = model_folder(tmp_path / "artifact")
    onnx.save(onnx.parser.parse_model(GRAPH), folder / "model.onnx")
    part = describe_component(folder / "model.onnx")
    return write_artifact(folder, tiny.manifest(components={WHOLE: part})).path


def test_what_runs_is_scored_and_timed_and_what_does_not_says_why(
    load: Any, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from end_to_end.made import text_data

    peers, recipes = load("peers"), load("peer_recipes")
    monkeypatch.setattr(peers, "TIMING", Timing(seconds=0.0, rounds=9))
    monkeypatch.setattr(peers, "WORKLOAD", Workload(tokens=16))
    broken, partial = tmp_path / "broken.onnx", tmp_path / "partial.onnx"
    onnx.save(onnx.parser.parse_model(BROKEN), broken)
    weights = onnx.parser.parse_model(BROKEN)
    weights.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float32), "w"))
    onnx.save(weights, partial, save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    model = model_folder(tmp_path / "model")
    kind = "text-classification"
    job = recipes.Job(model, text_data(tmp_path / "data"), tmp_path / "texts.txt", kind, "host")
    peers.write_texts(job.data, tiny.task_for(model), job.texts)
    assert len(job.texts.read_text().splitlines()) == 128
    rows = []
    for peer, recipe, result in (
        ("edgekit", "FP32", artifact),
        ("edgekit", "ours", artifact),
        ("tool", "dynamic", artifact / "model.onnx"),
        ("tool", "static", broken),
        ("tool", "partial", partial),
    ):
        row = peers.base_row(recipes.Peer(peer, peer, (), ()), recipes.Recipe(recipe, "", (), ""), {})
        rows.append(row | {"result": str(result)})
    line = peers.measure(rows, job, tmp_path / "read")
    base, ours, tool, failed, without = line["rows"]
    assert (base["metric"], base["n"]) == ("accuracy", 16)
    assert base["quality"] == ours["quality"] == tool["quality"]
    assert base["size_bytes"] == tool["size_bytes"] == (artifact / "model.onnx").stat().st_size
    assert base["faster"] == [1.0, 1.0, 1.0]
    assert [one["n"] for one in tool["latency"]] == [27, 27]
    low, high = tool["faster"][1:]
    assert low <= tool["faster"][0] <= high
    assert ours["faster_than_best_peer"][0] > 0
    assert "faster_than_best_peer" not in tool
    assert failed["error"] == (
        "what it left does not run: the graph takes pixel_values in place of attention_mask, input_ids, token_type_ids"
    )
    assert without["error"] == "what it left does not run: [Errno 2] No such file or directory: 'ROOT/weights'"
    assert "p50_ms" not in failed
    assert line["protocol"]["threads"] == 1
    assert line["data"]["name"] == "data.csv"
    assert len(line["model"]) == len(line["data"]["digest"]) == 64
    assert str(tmp_path) not in json.dumps(line)


def test_an_artifact_of_edgekit_that_is_not_made_yet_is_a_row(load: Any, artifact: Path, tmp_path: Path) -> None:
    made, absent = load("peers").artifact_rows({"made": artifact, "sst2-vnni": tmp_path})
    assert (made["peer"], made["error"], made["seconds"]) == ("edgekit", "", None)
    assert absent["error"] == "there is no artifact: python benchmarks/run.py --case sst2-vnni"


# The table


def row(peer: str, recipe: str, p50_ms: float | None, quality: float = 0.9, **more: Any) -> dict[str, Any]:
    """A row as it is kept; without a latency it failed."""
    found = {
        "peer": peer,
        "title": peer.capitalize() if peer != "edgekit" else peer,
        "recipe": recipe,
        "precision": "int8",
        "documentation": f"https://{peer}/{recipe}",
        "commands": [f"{peer} {recipe} {{model}} -o {{out}}/q"],
        "versions": {"python": "3.11.2", peer: "1.0"},
        "error": "" if p50_ms else "Error: no | such <thing>",
    }
    if p50_ms:
        found |= {"p50_ms": p50_ms, "quality": quality, "metric": "accuracy", "n": 872, "split": "validation"}
        found |= {"size_bytes": 23.1e6, "seconds": 12.4, "peak_memory_bytes": 900e6}
        found |= {"faster": [30 / p50_ms, 29 / p50_ms, 31 / p50_ms]}
    return found | more


LINE = {
    "suite": "sst2",
    "target": "x86-64-vnni",
    "created": "2026-11-29T12:00:00+00:00",
    "host": {"processor": "A processor", "cores": 2, "system": "Linux"},
    "versions": {"onnxruntime": "1.32.0"},
    "workload": {"batch": 1, "tokens": 128, "image": None},
    "protocol": {"threads": 1},
    "warnings": ["the machine was busy"],
    "rows": [
        row("edgekit", "sst2-vnni", 2.0, 0.895, commands=[], faster_than_best_peer=[4.5, 4.4, 4.6], seconds=3600.0)
        | {"peak_memory_bytes": None},
        row("edgekit", "FP32", 30.0, 0.897, precision="fp32", documentation="docs/commands.md"),
        row("edgekit", "quantize", 13.0, 0.8945, seconds=5.6, faster_than_best_peer=[0.7, 0.6, 0.8]),
        row("olive", "auto", 14.0, 0.894),
        row("olive", "optimize", None),
        row("optimum", "FP32", 31.0, 0.897, precision="fp32"),
        row("optimum", "fast", 9.0, 0.8, seconds=20.0),
        row("optimum", "careful", 12.0, 0.8955),
        row("optimum", "neither", 13.0, 0.85),
    ],
}


def test_the_table_names_each_peers_fastest_and_most_accurate(load: Any) -> None:
    text = load("peer_table").render([LINE])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert (
        rows[0] == "| tool | recipe | which is its | size, MB | accuracy | p50, ms | x FP32 | made in, s | peak, MB |"
    )
    assert rows[2:] == [
        "| edgekit | sst2-vnni |  | 23.1 | 89.50 % | 2.00 | 15.00 | 3600 |  |",
        "| edgekit | FP32 |  | 23.1 | 89.70 % | 30.00 | 1.00 | 12 | 900 |",
        "| edgekit | quantize |  | 23.1 | 89.45 % | 13.00 | 2.31 | 6 | 900 |",
        "| Olive | auto | only one | 23.1 | 89.40 % | 14.00 | 2.14 | 12 | 900 |",
        "| Olive | optimize | fails: Error: no \\| such &lt;thing> | | | | | | |",
        "| Optimum | FP32 |  | 23.1 | 89.70 % | 31.00 | 0.97 | 12 | 900 |",
        "| Optimum | fast | fastest | 23.1 | 80.00 % | 9.00 | 3.33 | 20 | 900 |",
        "| Optimum | careful | most accurate | 23.1 | 89.55 % | 12.00 | 2.50 | 12 | 900 |",
    ]
    assert all(line.count("|") - line.count("\\|") == 10 for line in rows)


def test_the_table_says_how_edgekit_stands_to_the_fastest_peer(load: Any) -> None:
    text = load("peer_table").render([LINE])
    assert (
        "\nThe fastest artifact of a peer, Optimum's fast, takes 4.50 times as long as edgekit's sst2-vnni "
        "[4.40, 4.60].\n"
        "The fastest of those that lose at most 1.0 point, Optimum's careful, takes 6.00 times as long as it.\n"
        "The fastest artifact of a peer, Optimum's fast, takes 0.70 times as long as edgekit's quantize [0.60, 0.80].\n"
    ) in text
    assert (
        "the quickest recipe of each: edgekit's quantize 6 s and 900 MB, Olive's auto 12 s and 900 MB, "
        "Optimum's careful 12 s and 900 MB.\n"
    ) in text
    assert (
        "Measured 2026-11-29 on A processor (2 cores, Linux), ONNX Runtime 1.32.0, 1 thread, batch 1, 128 tokens, "
        "accuracy on 872 samples of validation. the machine was busy.\n"
    ) in text


def test_the_table_has_each_command_with_its_documentation(load: Any) -> None:
    text = load("peer_table").render([LINE])
    assert (
        "**Olive** (python 3.11.2, olive 1.0)\n\n- auto, as in <https://olive/auto>:\n  `olive auto MODEL -o OUT/q`\n"
        in text
    )
    assert "- FP32, as in [docs/commands.md](../docs/commands.md):\n  `edgekit FP32 MODEL -o OUT/q`\n" in text
    assert "- neither, as in <https://optimum/neither>:" in text
    assert "sst2-vnni, as in" not in text


def test_where_every_peer_failed_there_is_no_ratio(load: Any) -> None:
    table = load("peer_table")
    rows = [row("edgekit", "FP32", 30.0, precision="fp32"), row("olive", "auto", None)]
    assert table.best_peer(rows) is None
    text = table.render([LINE | {"rows": rows}])
    assert "fails: Error" in text
    assert "times as long" not in text


@pytest.mark.parametrize(("asked", "p50_ms", "code"), [("olive", None, 1), ("olive", 9.0, 0), ("edgekit", None, 0)])
def test_a_comparison_with_nothing_of_a_peer_ends_with_1(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str, p50_ms: float | None, code: int
) -> None:
    peers, results = load("peers"), tmp_path / "peers.jsonl"
    line = LINE | {"rows": [row("edgekit", "FP32", 30.0, precision="fp32"), row("olive", "auto", p50_ms)]}
    monkeypatch.setattr(peers, "compare", lambda *given, **more: results.write_text(json.dumps(line)) and line)
    monkeypatch.setattr("sys.argv", ["peers.py", "--peers", asked, "--results", str(results)])
    assert peers.main() == code


def test_the_page_keeps_what_stands_around_the_table(load: Any, tmp_path: Path) -> None:
    table = load("peer_table")
    page, results = tmp_path / "README.md", tmp_path / "peers.jsonl"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    front = shutil.copyfile(page, tmp_path / "front.md")
    table.write_table(results, page, front)
    assert front.read_text() == page.read_text()
    assert page.read_text() == f"before\n{BEGIN}\n\nNot measured yet.\n\n{END}\nafter\n"
    older = LINE | {"rows": [], "created": "2026-01-01"}
    results.write_text("".join(json.dumps(one) + "\n" for one in (older, LINE)), encoding="utf-8")
    table.write_table(results, page, front)
    assert "| FP32 ONNX | 30 ms |  | 23.1 MB | 89.7 % |\n| the fastest of 2 other tools, " in front.read_text()
    told = page.read_text()
    assert told.startswith(f"before\n{BEGIN}\n\n### sst2, for x86-64-vnni\n")
    assert told.endswith(f"\n\n{END}\nafter\n")
    assert told.count("### ") == 1
    assert "2026-01-01" not in told
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"README.md lacks the marks <!-- peers: begin --> and "):
        table.write_table(results, page, front)


def test_the_short_table_has_the_fastest_peer_and_what_edgekit_makes_of_it(load: Any) -> None:
    found = row("edgekit", "sst2-60m", 2.0, 0.9025, size_bytes=6.4e6)
    text = load("peer_table").short(LINE | {"rows": [*LINE["rows"], found]})
    assert text.splitlines()[2:] == [
        "| FP32 ONNX | 30 ms |  | 23.1 MB | 89.7 % |",
        "| the fastest of 2 other tools, Optimum's fast INT8 | 9 ms | 3.33x faster | 23.1 MB | 80.0 % |",
        "| `edgekit compress --recipe quantize` | 13 ms | 2.31x faster | 23.1 MB | 89.5 % |",
        "| `edgekit compress --max-drop 1% --time 60m` | 2 ms | 15.00x faster | 6.4 MB | 90.2 % |",
        "",
        "ONNX Runtime 1.32.0, 1 thread, batch 1, 128 tokens, A processor (2 cores), measured 2026-11-29.",
        "The machine was busy.",
    ]


def test_the_pages_show_what_the_results_hold(load: Any, tmp_path: Path) -> None:
    pages = [FOLDER / "README.md", ROOT / "README.md"]
    copies = [shutil.copyfile(page, tmp_path / f"{number}.md") for number, page in enumerate(pages)]
    load("peer_table").write_table(FOLDER / "results" / "peers.jsonl", *copies)
    assert [copy.read_text(encoding="utf-8") for copy in copies] == [page.read_text(encoding="utf-8") for page in pages]
