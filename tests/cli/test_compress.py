from __future__ import annotations

import inspect
import logging
import os
import shlex
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
from cli.samples import DROP, make_report

import edgekit
from edgekit.errors import UsageError
from edgekit.report import LimitVerdict, Report
from edgekit.tasks.base import Workload

EVERYTHING = shlex.split(
    "compress model --data d --target arm64 --task text-classification --recipe mine.toml --set prune.ratio=0.5"
    " --set quantize.scheme=s8s8 --max-drop 1% --max-ms 5 --max-mb 8"
    " --max-instructions 0.5G --time 30m --objective size --strict --metric f1 --batch 2 --tokens 64 --threads 3"
    " --jobs 4 --device adb:x --format tflite --lengths 16,32"
    " --columns text=sentence,label=y --columns sentence2=b --max-length 99 --revision main --keep-stages -o out"
    " --student s.json --weights w.pt --input 1x3x8x8 --mean 0.5,0.4,0.3 --std 1,2,3 --preprocess p.toml"
    " --seed 7 --json --costs costs.json"
)
EXPECTED = {
    "data": "d",
    "target": "arm64",
    "task": "text-classification",
    "recipe": "mine.toml",
    "settings": {"prune.ratio": "0.5", "quantize.scheme": "s8s8", "export.lengths": "[16,32]"},
    "format": "tflite",
    "max_drop": 0.01,
    "max_ms": 5.0,
    "max_mb": 8.0,
    "max_instructions": 500_000_000,
    "time": 1800.0,
    "objective": "size",
    "strict": True,
    "metric": "f1",
    "workload": Workload(batch=2, tokens=64),
    "threads": 3,
    "jobs": 4,
    "device": "adb:x",
    "columns": {"text": "sentence", "label": "y", "sentence2": "b"},
    "max_length": 99,
    "revision": "main",
    "output": "out",
    "seed": 7,
    "student": "s.json",
    "weights": "w.pt",
    "input": "1x3x8x8",
    "mean": (0.5, 0.4, 0.3),
    "std": (1.0, 2.0, 3.0),
    "preprocess": "p.toml",
    "costs": "costs.json",
}
PLAN = {
    "schema": "edgekit.plan/1",
    "source": {"name": "minilm-sst2"},
    "target": "arm64",
    "task": "text-classification",
    "measured": False,
    "not_measured_because": "no device",
    "devices": ("toy-a76, emulated",),
    "emulation": SimpleNamespace(devices=("toy-a76, emulated",), seconds=300.0, download_bytes=100_000_000),
    "workload": {"batch": 1, "tokens": 128, "image": None},
    "output": "artifacts/x",
    "steps": (
        SimpleNamespace(stage="prune", settings={"ratio": 0.5}, cached=True, seconds=None),
        SimpleNamespace(stage="distill", settings={"epochs": 3}, cached=False, seconds=1500.0),
    ),
    "seconds": 1900.0,
    "disk_bytes": 400_000_000,
    "disk_free_bytes": 90_000_000_000,
    "notes": ("a note",),
}


def test_every_option_reaches_the_api(run, pretend, recorder, tmp_path):
    compress = recorder(make_report(tmp_path / "out"))
    pretend(compress=compress)
    assert run(*EVERYTHING).code == 0
    assert compress.arguments == ("model",)
    given = dict(compress.keywords)
    assert hasattr(given.pop("progress"), "advance")
    assert given == EXPECTED | {"keep_stages": True}


def test_what_was_not_said_is_left_to_the_recipe_or_its_lock(run, pretend, recorder, tmp_path):
    compress = recorder(make_report(tmp_path / "out"))
    pretend(compress=compress)
    assert run("compress", "model").code == 0
    assert compress.keywords["target"] == "host"
    assert compress.keywords["recipe"] is None
    assert "weights" not in compress.keywords
    assert compress.keywords["max_drop"] is None
    assert [compress.keywords[name] for name in ("workload", "threads", "jobs", "seed")] == [None] * 4


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compress", EVERYTHING),
        ("plan", [part for part in EVERYTHING if part != "--keep-stages"] + ["--dry-run"]),
        ("evaluate", ["eval", "out", "--data", "d"]),
        ("bench", ["bench", "out"]),
        ("verify", ["verify", "out"]),
        ("load", ["predict", "out", "text"]),
    ],
)
def test_public_function_takes_what_the_command_line_passes(name, arguments, run, pretend, recorder):
    signature = inspect.signature(getattr(edgekit, name))
    recorded = recorder(UsageError("far enough"))
    pretend(**{name: recorded})
    assert run(*arguments).code == 2
    signature.bind(*recorded.arguments, **recorded.keywords)


def test_result_is_told_on_stdout(run, pretend, recorder, tmp_path):
    pretend(compress=recorder(make_report(tmp_path / "out")))
    result = run("compress", "model")
    assert result.code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("minilm-sst2 for x86-64-vnni: 6.1x faster, 5.3x smaller")
    assert str(tmp_path / "out") in result.stdout


def test_document_is_the_report_with_verdict_and_place(run, pretend, recorder, tmp_path):
    pretend(compress=recorder(make_report(tmp_path / "out", cached=True)))
    result = run("compress", "model", "--json")
    assert result.code == 0
    document = result.document
    assert document["schema"] == "edgekit.report/1"
    assert document["passed"] is True
    assert document["cached"] is True
    assert document["artifact"] == {
        "path": str(tmp_path / "out"),
        "size_bytes": 17_100_000,
        "folder_bytes": 18_000_000,
    }
    assert Report.model_validate_json(result.stdout).metric == pytest.approx(0.9106)


@pytest.mark.parametrize("as_json", [True, False])
def test_missed_limit_exits_with_1_and_still_gives_the_result(as_json, run, pretend, recorder, tmp_path):
    missed = DROP.model_copy(update={"value": 0.02, "met": False, "proven": False})
    pretend(compress=recorder(make_report(tmp_path / "out", limits=(missed,))))
    result = run("compress", "model", *["--json"] * as_json)
    assert result.code == 1
    if as_json:
        assert result.document["passed"] is False
    else:
        assert "missed  max drop  2.0 pp of 1.0 pp lost" in result.stdout


def test_lengths_that_two_options_give_are_refused(run, pretend, recorder):
    pretend(compress=recorder(None))
    result = run("compress", "model", "--lengths", "32", "--set", "export.lengths=[64]")
    assert result.code == 2
    assert "--set gives 'export.lengths' twice" in result.stderr
    assert "as '[64]' and as '[32]'" in result.stderr


@pytest.mark.parametrize("proven", [False, None])  # the bound lies beyond the limit, or there is none
def test_strict_run_exits_with_1_when_a_limit_is_met_but_not_proven(run, pretend, recorder, tmp_path, proven):
    unproven = DROP.model_copy(update={"proven": proven})
    pretend(compress=recorder(make_report(tmp_path / "out", limits=(unproven,), strict=True)))
    result = run("compress", "model", "--strict")
    assert result.code == 1
    assert "not proven  max drop" in result.stdout


def test_strict_run_asks_no_proof_that_another_device_agrees(run, pretend, recorder, tmp_path):
    agreement = {"limit": "agreement_on_the_device", "bound": 0.99, "value": 1.0, "met": True, "proven": None}
    pretend(compress=recorder(make_report(tmp_path / "out", limits=(DROP, LimitVerdict(**agreement)), strict=True)))
    assert run("compress", "model", "--strict").code == 0


def test_dry_run_prints_the_plan_and_compresses_nothing(run, pretend, recorder):
    plan = recorder(SimpleNamespace(**PLAN))
    pretend(plan=plan)
    result = run(*[part for part in EVERYTHING if part not in ("--keep-stages", "--json")], "--dry-run")
    assert result.code == 0
    assert plan.keywords == EXPECTED | {"keep_stages": False}
    assert "Plan: minilm-sst2 for arm64" in result.stdout
    assert "prune     ratio 0.5   cached" in result.stdout
    assert "distill   epochs 3    about 25 min" in result.stdout
    assert "400 MB needed, 90.0 GB free" in result.stdout
    said = " ".join(result.stdout.split())
    assert "not measured: no device; instructions are counted on toy-a76, emulated" in said
    assert "about 5 min, on toy-a76, emulated; first about 100 MB are downloaded to set it up" in said


def test_dry_run_prints_the_plan_as_json(run, pretend, recorder):
    steps = [vars(step) for step in PLAN["steps"]]
    pretend(plan=recorder({**PLAN, "steps": steps, "emulation": vars(PLAN["emulation"])}))
    result = run("compress", "model", "--dry-run", "--json")
    assert result.document["schema"] == "edgekit.plan/1"
    assert result.document["steps"][0]["stage"] == "prune"


def work_and(report: Report):
    """A run of two steps, which prints on stdout all the while, as libraries and child processes do."""

    def compress(_model: str, **keywords) -> Report:
        progress = keywords["progress"]
        progress.start("prune", 3)
        sys.stdout.write("a library prints\n")
        os.write(1, b"native code prints\n")
        subprocess.run([sys.executable, "-c", "print('a child prints')"], check=True)
        progress.advance(3, "ratio 0.5")
        progress.finish("45.2 MB")
        progress.start("export")
        progress.finish()
        return report

    return compress


def test_stdout_holds_only_the_document_whatever_libraries_print(run, pretend, tmp_path):
    pretend(compress=work_and(make_report(tmp_path / "out")))
    result = run("compress", "model", "--json")
    assert result.document["schema"] == "edgekit.report/1"
    assert all(text in result.stderr for text in ("a library prints", "native code prints", "a child prints"))


def test_each_finished_step_is_a_line_on_stderr_without_a_terminal(run, pretend, tmp_path, monkeypatch):
    monkeypatch.setattr("edgekit.cli.progress.time", SimpleNamespace(monotonic=lambda: 7.0))
    pretend(compress=work_and(make_report(tmp_path / "out")))
    lines = run("compress", "model").stderr.splitlines()
    steps = [line for line in lines if line.startswith(("prune", "export"))]
    assert steps == ["prune: 45.2 MB (0.0 s)", "export (0.0 s)"]


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_silences_progress_and_keeps_the_result(option, run, pretend, tmp_path):
    pretend(compress=work_and(make_report(tmp_path / "out")))
    result = run("compress", "model", option)
    assert "prune" not in result.stderr
    assert result.stdout.startswith("minilm-sst2 for")


def test_wrong_max_drop_is_found_before_anything_runs(run, pretend, recorder):
    compress = recorder(None)
    pretend(compress=compress)
    result = run("compress", "model", "--max-drop", "1", "--json")
    assert result.code == 2
    assert result.error["hint"] == "If points are meant, write --max-drop 1%."
    assert compress.keywords is None


def test_warnings_and_logs_of_libraries_are_calmed_and_come_back_with_the_variable(run, pretend, monkeypatch, tmp_path):
    def compress(_model: str, **_keywords: object) -> Report:
        warnings.warn("a library warns", UserWarning, stacklevel=1)
        log, handler = logging.getLogger("library"), logging.StreamHandler()
        log.addHandler(handler)
        log.warning("a library logs")
        log.critical("a library quotes \x1b]0;owned\x07 what it was given")
        log.removeHandler(handler)
        logging.getLogger("edgekit.workshop").info("a stage is done")
        return make_report(tmp_path / "out")

    pretend(compress=compress)
    assert run("compress", "model").stderr == ""
    monkeypatch.setenv("EDGEKIT_DEBUG", "1")
    with pytest.warns(UserWarning, match="a library warns"):
        assert "a stage is done" in run("compress", "model").stderr
