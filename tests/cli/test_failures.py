from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.cache import listeners, name_damage
from edgekit.cli import output
from edgekit.errors import (
    ArtifactError,
    DataError,
    EdgekitError,
    HostError,
    ModelError,
    ResourceLimitError,
    UnknownNameError,
    UsageError,
    VerificationError,
)


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


TORCH_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried ..."
)
MAPPED = [
    (VerificationError("model.onnx: changed"), 1, "verification"),
    (UsageError("no such key"), 2, "usage"),
    (UnknownNameError("target", "amr64", ["arm64"]), 2, "unknown-name"),
    (HostError("no runtime"), 3, "environment"),
    (PermissionError(errno.EACCES, "Permission denied", "/out"), 3, "environment"),
    (ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"), 3, "environment"),
    (ModelError("no config.json"), 4, "model"),
    (DataError("no label column"), 4, "data"),
    (ArtifactError("not an artifact"), 4, "artifact"),
    (ResourceLimitError("too big"), 5, "resource-limit"),
    (MemoryError(), 5, "resource-limit"),
    (OutOfMemoryError("CUDA out of memory"), 5, "resource-limit"),
    (TORCH_CPU, 5, "resource-limit"),
    (OSError(errno.ENOSPC, "No space left on device", "/out/model.onnx"), 5, "resource-limit"),
    (OSError(errno.EDQUOT, "Quota exceeded"), 5, "resource-limit"),
    (EdgekitError("a promise was broken"), 70, "internal"),
    (ValueError("surprise"), 70, "internal"),
    (OSError(errno.EIO, "Input/output error"), 3, "environment"),
    (OSError(errno.EROFS, "Read-only file system", "/out"), 3, "environment"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5000), 2, "usage"),
    (OSError(errno.EBADF, "Bad file descriptor"), 70, "internal"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 70, "internal"),
    (EOFError("cut short"), 70, "internal"),
    (ModuleNotFoundError("No module named 'edgekit.lost'", name="edgekit.lost"), 70, "internal"),
    (KeyboardInterrupt(), 130, "interrupted"),
]


@pytest.mark.parametrize(("error", "code", "kind"), MAPPED, ids=lambda value: type(value).__name__)
def test_every_error_ends_in_its_exit_code_and_one_document(error, code, kind, run, pretend, recorder):
    pretend(verify=recorder(error))
    result = run("verify", "out", "--json")
    assert result.code == code
    assert (result.error["kind"], result.error["exit_code"]) == (kind, code)
    assert set(result.error) == {"id", "kind", "exit_code", "what", "why", "hint"}
    assert result.error["id"].partition(".")[0] == kind
    assert result.stderr.startswith(f"error[{result.error['id']}]: ")
    assert "Traceback" not in result.stderr


def test_error_is_told_as_what_why_and_hint(run, pretend, recorder):
    why = "first\nsecond " + "word " * 20
    pretend(verify=recorder(ModelError("'x' is [red]no[/red] model", why=why, hint="Save it again.")))
    result = run("verify", "x")
    assert result.code == 4
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[:2] == ["error[model]: 'x' is [red]no[/red] model", "  first"]
    assert lines[-1] == "  hint: Save it again."
    assert all(line.startswith("  ") for line in lines[1:])
    assert max(map(len, lines)) <= 80


def test_disk_full_names_the_file(run, pretend, recorder):
    pretend(verify=recorder(OSError(errno.ENOSPC, "No space left on device", "/out/model.onnx")))
    assert "the disk is full while writing '/out/model.onnx'" in run("verify", "x").told


def test_disk_full_while_a_file_is_copied_names_the_one_that_is_written(run, pretend, recorder):
    error = OSError(errno.ENOSPC, "No space left on device", "/mine/model.onnx", None, "/cache/model.onnx")
    pretend(verify=recorder(error))
    assert "the disk is full while writing '/cache/model.onnx'" in run("verify", "x").told


def test_disk_full_says_how_much_is_free(run, pretend, recorder, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_234_567 if path == tmp_path else 0))
    pretend(verify=recorder(OSError(errno.EDQUOT, "Disk quota exceeded", tmp_path / "a" / "model.onnx")))
    assert "Disk quota exceeded" in run("verify", "x").told
    assert "1.2 MB are free there" in run("verify", "x").told


def test_native_code_that_finds_the_disk_full_is_told_as_that(run, pretend, recorder):
    pretend(verify=recorder(RuntimeError('I/O error: Os { code: 28, message: "No space left on device" }')))
    result = run("verify", "x")
    assert result.code == 5
    assert "error[resource-limit.disk-full]: the disk is full" in result.told


def test_internal_error_says_how_to_see_the_traceback(run, pretend, recorder):
    pretend(verify=recorder(ValueError("surprise")))
    result = run("verify", "x")
    assert "error[internal]: edgekit failed: ValueError: surprise" in result.told
    assert "EDGEKIT_DEBUG=1 shows the traceback" in result.told


def test_traceback_is_shown_with_the_variable_and_stdout_stays_json(run, pretend, recorder, monkeypatch):
    pretend(verify=recorder(ValueError("surprise")))
    monkeypatch.setenv("EDGEKIT_DEBUG", "1")
    result = run("verify", "x", "--json")
    assert result.code == 70
    assert "Traceback (most recent call last)" in result.stderr
    assert result.error["what"] == "edgekit failed: ValueError: surprise"


def test_sigterm_ends_in_143_and_says_how_to_go_on(run, pretend, recorder):
    before = signal.getsignal(signal.SIGTERM)
    pretend(verify=recorder(lambda: signal.raise_signal(signal.SIGTERM)))
    result = run("verify", "x", "--json")
    assert result.code == 143
    assert result.error["kind"] == "terminated"
    assert result.error["hint"] == "The same command again goes on where this one stopped."
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_a_library_makes_of_a_signal_is_still_told_as_the_signal(run, pretend, number, code):
    def export(*given, **options):
        try:
            signal.raise_signal(number)
        except BaseException:  # noqa: BLE001  # as libraries do
            raise ModelError("torch cannot export this model") from None

    pretend(verify=export)
    result = run("verify", "x")
    assert result.code == code
    assert "torch" not in result.stderr
    assert "The same command again goes on where this one stopped." in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_to_a_running_command_ends_it_with_its_code(number, code):
    script = (
        "import sys, time, edgekit; from edgekit.cli import main, stopping;"
        "stopping.GRACE_SECONDS = 60.0;"  # a busy machine may take longer than the watcher waits
        "edgekit.verify = lambda *given: (sys.stderr.write('ready\\n'), sys.stderr.flush(), time.sleep(1000));"
        "sys.exit(main(['verify', 'x']))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(timeout=600) == code
        assert process.stderr.read().startswith("error[interrupted]" if code == 130 else "error[terminated]")


def test_mistyped_command_suggests_the_nearest(run):
    result = run("compres", "model")
    assert result.code == 2
    assert "there is no `edgekit` command 'compres'" in result.told
    assert "Did you mean 'compress' or" in result.told


def test_mistyped_command_of_a_group_is_json_too(run):
    result = run("targets", "lst", "--json")
    assert result.code == 2
    assert result.error["kind"] == "unknown-name"
    assert result.error["hint"].startswith("Did you mean 'list' or 'setup'?")


@pytest.mark.parametrize(
    ("given", "meant"), [("--traget", "--target"), ("--max-dorp", "--max-drop"), ("--keep-stage", "--keep-stages")]
)
def test_mistyped_option_suggests_the_nearest(given, meant, run):
    result = run("compress", "model", given, "x", "--json")
    assert result.code == 2
    assert result.error["what"] == f"there is no `edgekit compress` option {given!r}"
    assert f"Did you mean '{meant}'" in result.error["hint"]


def test_mistyped_target_suggests_the_nearest(run):
    result = run("targets", "show", "amr64", "--json")
    assert result.code == 2
    assert result.error["what"] == "there is no target 'amr64'"
    assert "Did you mean 'arm64'" in result.error["hint"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("compress",), "missing argument 'MODEL'"),
        (("eval", "x"), "missing option '--data'"),
        (("bench", "x", "--batch", "0"), "invalid value for '--batch'"),
        (("bench", "x", "--threads", "many"), "invalid value for '--threads'"),
        (("verify", "x", "y"), "y"),
    ],
)
def test_usage_error_of_typer_is_told_in_edgekits_manner(arguments, what, run):
    plain = run(*arguments)
    assert plain.code == 2
    assert plain.stdout == ""
    assert plain.stderr.startswith("error[usage.command-line]: ")
    assert f"`edgekit {arguments[0]} --help` explains it." in plain.told
    document = run(*arguments, "--json")
    assert document.code == 2
    assert what in document.error["what"]
    assert document.error["kind"] == "usage"


def test_json_after_a_double_dash_is_an_input_and_no_option(run, pretend, recorder):
    pretend(load=recorder(ModelError("no model")))
    result = run("predict", "x", "--", "--json")
    assert result.code == 4
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("targets", "list"), ("targets", "list", "--json"), ("--help",), ("bundle", "--help"), ("--version",)]
)
def test_closed_output_ends_quietly(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "edgekit", *arguments],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=600,
        )
    finally:
        os.close(writing)
    assert result.returncode == 141
    assert result.stderr == b""


def test_what_is_damaged_in_the_cache_is_told(run, pretend):
    def load(*given, **options):
        name_damage("object abc is damaged (\x1b[2J changed); it is made again")
        raise ModelError("no model", id="model.missing")

    pretend(load=load)
    result = run("predict", "x", "y")
    assert result.code == 4
    warned, told = result.stderr.splitlines()[:2]
    assert warned == "warning: cache: object abc is damaged (\\x1b[2J changed); it is made again"
    assert told == "error[model.missing]: no model"
    assert listeners == []


def test_a_reader_that_has_gone_is_seen_with_nothing_left_to_write(monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        output.end_if_closed()
        os.close(reading)
        with pytest.raises(output.OutputClosed):
            output.end_if_closed()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("targets list >&-", 0),
        ("targets list <&-", 0),
        ("nonsense 2>&-", 2),
        ("targets list <&- >&- 2>&-", 0),
        ("targets list > /dev/full", 5),
        ("--help > /dev/full 2>&1", 5),
        ("targets list --json > /dev/full 2>&1", 5),
        ("nonsense --json > /dev/full 2>&1", 2),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_streams_that_are_closed_or_full_change_no_exit_code(words, code):
    command = ["sh", "-c", f"'{sys.executable}' -m edgekit {words}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "x", "y", "--threads"),
        ("inspect", "x", "--tokens"),
        ("eval", "x", "--data", "y", "--seed"),
        ("compress", "x", "--batch"),
    ],
)
def test_numbers_that_no_device_takes_are_refused(words, run):
    result = run(*words, "9" * 40)
    assert (result.code, result.stdout) == (2, "")
    assert words[-1] in result.stderr


@pytest.mark.parametrize(
    "words", [("verify", "b\udcff"), ("predict", "x", "caf\udce9"), ("eval", "x", "--data", "\udcff.csv")]
)
def test_words_that_are_not_utf_8_are_refused(words, run):
    result = run(*words)
    assert (result.code, result.stdout) == (2, "")
    assert "is not UTF-8" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the C library has no name there")
def test_what_native_code_prints_and_keeps_back_is_not_in_the_document():
    script = (
        "import ctypes; from edgekit.cli import output\n"
        "with output.work(quiet=True): ctypes.CDLL(None).printf(b'native words')\n"
        "output.print_document({'a': 1})"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=600, env=environment
    )
    assert (json.loads(result.stdout), result.stderr) == ({"a": 1}, "native words")


def test_stdout_that_lacks_a_letter_gets_it_escaped():
    script = (
        "import sys, types, edgekit; from edgekit.cli import main;"
        "edgekit.load = lambda path, **options: types.SimpleNamespace(predict=lambda inputs: [[('gut', 0.9)]]);"
        "sys.exit(main(['predict', 'x', 'sch\\u00f6n']))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=600, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert "sch\\xf6n" in result.stdout
