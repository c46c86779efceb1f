"""The same call again is answered from the cache, with the same bytes; what is damaged there is noticed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import foreign
import pytest
from end_to_end.made import SHORT, WORKLOAD, events, model_folder, text_data

import edgekit
from edgekit.artifact import open_artifact
from edgekit.progress import Silent
from edgekit.request import resolve_request
from edgekit.source import sha256_file

pytestmark = pytest.mark.usefixtures("device")

# Has the turn of a run, and is writing something in the cache until it is killed.
WRITER = """
import sys
from pathlib import Path
from edgekit.cache import Cache
from edgekit.turns import turn
cache = Cache(Path(sys.argv[1]))
with turn(cache.root, sys.argv[2]):
    (cache.scratch() / "half").write_text("written")
    print("mine", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def compress(folder: Path) -> edgekit.Report:
    """One call, the same every time."""
    return edgekit.compress(
        folder / "model",
        data=folder / "data.csv",
        target="x86-64-vnni",
        recipe="quantize",
        settings={key: SHORT[key] for key in ("optimize.seconds", "quantize.tolerance")},
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=folder / "out",
    )


def flip_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_second_call_computes_nothing_and_a_damaged_object_is_made_again(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model_folder("bert", tmp_path / "model", layers=1)
    text_data(tmp_path, 80)
    out = tmp_path / "out"
    first = compress(tmp_path)
    assert not first.cached
    sums, log = (out / "SHA256SUMS").read_bytes(), events(cache)
    stages = [event["stage"] for event in log if event["event"] == "stage.done"]
    assert sorted(stages) == ["export", "optimize", "quantize", "verify", "verify"]  # the baseline is verified too
    objects = {path.name for path in (cache / "objects").iterdir()}

    second = compress(tmp_path)
    assert second.cached
    assert second.created == first.created
    assert (out / "SHA256SUMS").read_bytes() == sums
    assert events(cache) == log
    assert {path.name for path in (cache / "objects").iterdir()} == objects

    shutil.rmtree(out)
    assert compress(tmp_path).cached
    assert (out / "SHA256SUMS").read_bytes() == sums
    edgekit.verify(out)

    flip_byte(out / "config.json")  # an output that was changed is put right
    assert compress(tmp_path).cached
    edgekit.verify(out)

    model = sha256_file(out / "model.onnx")
    (finished,) = [path.parent for path in (cache / "objects").glob("*/report.json")]
    (quantized,) = [
        path.parent
        for path in (cache / "objects").glob("*/details.json")
        if open_artifact(path.parent).manifest.stages[-1].stage == "quantize"
    ]
    for folder in (finished, quantized):
        flip_byte(folder / "model.onnx")
    with caplog.at_level(logging.WARNING, logger="edgekit.cache"):
        third = compress(tmp_path)
    damaged = [record.getMessage() for record in caplog.records if record.name == "edgekit.cache"]
    assert damaged == [
        f"cache: object {folder.name[:12]} is damaged (model.onnx changed); it is made again"
        for folder in (finished, quantized)
    ]
    assert not third.cached
    again = [event["stage"] for event in events(cache)[len(log) :] if event["event"] == "stage.done"]
    assert again == ["quantize"]
    assert sha256_file(out / "model.onnx") == model
    edgekit.verify(out)


def test_other_settings_are_another_run(cache: Path, tmp_path: Path) -> None:
    model_folder("bert", tmp_path / "model", layers=1)
    done: list[bool] = []
    for rewrites in ("[]", '["attention"]', "[]"):
        report = edgekit.compress(
            tmp_path / "model",
            target="x86-64-vnni",
            recipe="export",
            settings={"optimize.rewrites": rewrites},
            workload=WORKLOAD,
            jobs=1,
            output=tmp_path / "out",
        )
        done.append(report.cached)
    assert done == [False, False, True]
    stages = [event["stage"] for event in events(cache) if event["event"] == "stage.done"]
    assert stages.count("export") == 1
    assert stages.count("optimize") == 2


@pytest.mark.usefixtures("cache")
def test_a_lock_holds_what_stages_decided_that_came_from_the_cache(tmp_path: Path) -> None:
    given = {
        "source": model_folder("bert", tmp_path / "model", layers=1),
        "target": "x86-64-vnni",
        "recipe": "export",
        "settings": {"optimize.seconds": "0.2"},
        "workload": WORKLOAD,
        "jobs": 1,
    }
    edgekit.compress(**given, output=tmp_path / "first")
    report = edgekit.compress(**given, strict=True, output=tmp_path / "second")  # another run of the same stages
    assert not report.cached
    locks = [edgekit.load_recipe(tmp_path / name / "recipe.lock.toml").lock for name in ("first", "second")]
    decided = [dict(lock.decisions)["optimize.model"] for lock in locks if lock is not None]
    assert len(decided) == 2
    assert decided[0] == decided[1]


def test_a_run_removes_what_a_process_leaves_that_dies_while_it_waits_for_it(cache: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"target": "x86-64-vnni", "recipe": "export", "device": "none", "jobs": 1}
    model = foreign.conv_net(tmp_path / "net.onnx")
    command = [sys.executable, "-c", WRITER, str(cache), resolve_request(model, **options).run_key()]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "mine\n"
    waited = []

    class Killing(Silent):
        def start(self, what: str, total: int | None) -> None:
            if what.startswith("wait for another process"):
                waited.append(len(list((cache / "tmp").glob("*/half"))))
                writer.kill()
                writer.communicate()
            super().start(what, total)

    edgekit.compress(model, **options, output=tmp_path / "out", progress=Killing())
    assert waited == [1]
    assert list((cache / "tmp").iterdir()) == []
