"""The benchmark of quantization alone, with stand-ins for the tools: rounds in turns, ratios, the table."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from scripts import FOLDER

MEASURED = FOLDER / "peers" / "measured.py"
BEGIN, END = "<!-- quantize-only: begin -->", "<!-- quantize-only: end -->"


@pytest.fixture
def script(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script with two tools that copy the graph; ``script.codes`` has what each runs, ``script.order`` who ran."""
    module, recipes = load("quantize_only"), load("peer_recipes")
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "model.onnx").write_bytes(b"graph")
    module.order, module.codes = tmp_path / "order", {}

    def peer(name: str) -> Any:
        command = f"python {tmp_path / name}.py {{graph}}/model.onnx {{out}}/made.onnx"
        recipe = recipes.Recipe("quantize only", f"https://{name}", (command,), "made.onnx")
        text = module.codes.get(name, "import shutil; shutil.copy(*sys.argv[1:])")
        start = f"import sys; open({str(module.order)!r}, 'a').write({name[0]!r})\n"
        (tmp_path / f"{name}.py").write_text(start + text, encoding="utf-8")
        return recipes.Peer(name, name.capitalize(), ("numpy",), (), quantize_only=(recipe,))

    monkeypatch.setattr(module, "known_peers", lambda: {name: peer(name) for name in ("edgekit", "olive")})
    job = recipes.Job(tmp_path / "model", tmp_path / "data", tmp_path / "texts", "text-classification", "host")
    monkeypatch.setattr(module, "job_of", lambda suite, folder: job)
    monkeypatch.setattr(module, "graph_folder", lambda job, folder: tmp_path / "graph")
    return module


def test_tools_run_in_turns_and_are_told_apart_by_their_medians(script: Any, tmp_path: Path) -> None:
    script.codes = {"olive": f"held = b'x' * {100 * 2**20}; import shutil, time; shutil.copy(*sys.argv[1:])"}
    line = script.compare("sst2", ["olive"], tmp_path / "folder", 3)
    assert script.order.read_text() == "eooeeo"
    own, olive = line["rows"]
    assert (own["error"], olive["error"]) == ("", "")
    assert len(own["seconds"]) == len(olive["peak_memory_bytes"]) == 3
    assert min(olive["peak_memory_bytes"]) > 100 * 2**20 > max(own["peak_memory_bytes"])
    assert line["ratios"]["olive"]["peak_memory_bytes"] < 0.5
    assert own["size_bytes"] == 5
    assert own["commands"] == [f"python {tmp_path / 'edgekit'}.py {{graph}}/model.onnx {{out}}/made.onnx"]
    assert not list((tmp_path / "folder").glob("tmp*"))


def test_a_tool_that_fails_has_its_reason_and_no_ratio(script: Any, tmp_path: Path) -> None:
    script.codes = {"olive": "sys.exit('cannot | read ' + sys.argv[1])"}
    line = script.compare("sst2", ["olive"], tmp_path / "folder", 2)
    assert line["rows"][1]["error"] == "cannot | read GRAPH/model.onnx"
    assert line["ratios"] == {}
    assert script.order.read_text() == "eoe"
    assert "| Olive | fails: cannot / read GRAPH/model.onnx | | | |" in script.table(line)


def test_the_graph_is_made_once_and_again_of_another_model(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module, made = load("quantize_only"), []

    def run_recipe(peer: Any, recipe: Any, job: Any, programs: Path, out: Path) -> None:
        made.append(out)
        (out / "result").mkdir()
        for name in ("config.json", "model.onnx"):
            (out / "result" / name).write_text(f"{len(made)}", encoding="utf-8")

    monkeypatch.setattr(module, "run_recipe", run_recipe)
    model, folder = tmp_path / "model", tmp_path / "folder"
    model.mkdir()
    folder.mkdir()
    job = load("peer_recipes").Job(model, tmp_path / "data", tmp_path / "texts", "text-classification", "host")
    for text, graph in (("{}", "1"), ("{}", "1"), ('{"another": 1}', "2")):
        (model / "config.json").write_text(text, encoding="utf-8")
        assert (module.graph_folder(job, folder) / "model.onnx").read_text(encoding="utf-8") == graph
    monkeypatch.setattr(module, "code_digest", lambda: "other code")
    assert (module.graph_folder(job, folder) / "model.onnx").read_text(encoding="utf-8") == "3"
    assert not list(folder.glob("tmp*"))


def test_the_table_has_the_shares_and_the_commands(script: Any, tmp_path: Path) -> None:
    row = {"documentation": "https://docs", "commands": ["tool {graph} -o {out}"], "error": ""}
    rows = [
        row | {"peer": "edgekit", "title": "edgekit", "seconds": [3.0, 9.0, 2.0], "peak_memory_bytes": [300e6] * 3},
        row | {"peer": "olive", "title": "Olive", "seconds": [6.0, 8.0, 7.0], "peak_memory_bytes": [900e6] * 3},
    ]
    line = {
        "suite": "sst2", "target": "host", "created": "2026-01-02", "host": {"processor": "a processor", "cores": 2},
        "graph_bytes": 91e6, "rounds": 3, "rows": rows, "ratios": script.ratios(rows),
    }  # fmt: skip
    results, page = tmp_path / "r.jsonl", tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n", encoding="utf-8")
    script.write(results, page)
    assert "Not measured yet." in page.read_text()
    results.write_text(json.dumps(line) + "\n", encoding="utf-8")
    script.write(results, page)
    text = page.read_text()
    assert "| edgekit | 3.0 | 300 |  |  |" in text
    assert "| Olive | 7.0 | 900 | 0.43 | 0.33 |" in text
    assert "- **Olive**, as in <https://docs>: `tool GRAPH -o OUT`" in text


def test_the_page_shows_what_the_results_hold(load: Any, tmp_path: Path) -> None:
    module = load("quantize_only")
    page = tmp_path / "README.md"
    page.write_text((FOLDER / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    module.write(module.RESULTS, page)
    assert page.read_text(encoding="utf-8") == (FOLDER / "README.md").read_text(encoding="utf-8")


def test_edgekit_olive_and_optimum_have_the_job(load: Any) -> None:
    able = [name for name, peer in load("peer_recipes").known_peers().items() if peer.quantize_only]
    assert able == ["edgekit", "olive", "optimum"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_memory_is_that_of_all_processes_together(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; held = b'x' * (60 * 2**20)\n"
        "if len(sys.argv) < 2: subprocess.run([sys.executable, __file__, 'child'], check=True)\n"
        "else: print('held', flush=True); sys.stdin.read()\n"
    )
    file = tmp_path / "parent.py"
    file.write_text(code, encoding="utf-8")
    measured, peaks = runpy.run_path(str(MEASURED)), list[int]()

    class Ended(threading.Event):
        """Of a command that lasts for one look."""

        def wait(self, timeout: float | None = None) -> bool:
            return bool(peaks)

    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(file)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        measured["watch"](process.pid, Ended(), peaks)
        process.communicate()
    assert len(peaks) == 1
    assert peaks[0] > 120 * 2**20  # of either alone it is 60 and a little


def test_a_command_is_measured_and_its_exit_code_kept(tmp_path: Path) -> None:
    code = "import sys; held = b'x' * (60 * 2**20); sys.exit(7)"
    command = [sys.executable, "-I", str(MEASURED), str(tmp_path / "out.json"), sys.executable, "-c", code]
    assert subprocess.run(command, check=False).returncode == 7
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["peak_memory_bytes"] > 60 * 2**20
    assert min(found["seconds"], found["processor_seconds"]) > 0
