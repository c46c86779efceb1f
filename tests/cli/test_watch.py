"""Commands that read files, watched from outside: their end is told, whatever it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ends

from edgekit.cli import watch

# A command line whose work is what stands in WORK.
SCRIPT = """
import os, signal, sys, time
import edgekit.cli as cli

cli.watch.LATER_SECONDS = 0.5
cli.watch.LAST_WORDS_SECONDS = cli.stopping.GRACE_SECONDS = 60.0  # a busy machine may take longer than these are
{before}

def work(given, stopping):
    {work}

cli._finish = work
sys.argv = ["edgekit", *{words!r}]
sys.exit(cli.main())
"""


def script(work: str, *words: str, before: str = "") -> str:
    return SCRIPT.format(work=work, words=list(words), before=before)


def watched(
    work: str, *words: str, folder: Path, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script(work, *words, before=before)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_only_commands_that_read_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch.threading, "active_count", lambda: 1)
    assert watch.wanted(["inspect", "x.onnx"])
    assert watch.wanted(["compress", "x"])
    assert not watch.wanted(["recipes", "x"])
    assert not watch.wanted(["--help"])
    assert not watch.wanted([])
    monkeypatch.setattr(watch.threading, "active_count", lambda: 2)
    assert not watch.wanted(["inspect", "x.onnx"])


def test_a_crash_is_told_as_an_error_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"")
    done = watched("os.kill(os.getpid(), signal.SIGSEGV)", "inspect", "x.onnx", "--json", folder=tmp_path)
    assert done.returncode == 4
    assert done.stderr.startswith("error[model.crashes]: the process that reads or runs 'x.onnx' crashed")
    assert json.loads(done.stdout)["error"]["id"] == "model.crashes"


def test_what_takes_too_long_to_read_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"")
    done = watched("time.sleep(100)", "inspect", "x.onnx", folder=tmp_path, EDGEKIT_MODEL_SECONDS="0.5")
    assert done.returncode == 5
    assert done.stderr.startswith("error[resource-limit.model-time]: 'x.onnx' gave no answer in 1 s")


def test_memory_is_limited_from_outside(tmp_path: Path) -> None:
    done = watched("return len(bytearray(2 * 1024**3))", "verify", "x", folder=tmp_path, EDGEKIT_MODEL_MB="1000")
    assert "MemoryError" in done.stderr


def test_exit_codes_and_output_pass_through(tmp_path: Path) -> None:
    done = watched("print('answer'); return 3", "predict", "x", "y", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "answer\n", "")


def test_a_text_that_is_longer_than_a_name_is_a_text(tmp_path: Path) -> None:
    done = watched("return len(given[2]) // 1000", "predict", "x", "w" * 5000, folder=tmp_path)
    assert (done.returncode, done.stderr) == (5, "")


def test_files_of_a_folder_count_for_its_time(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"12")
    (tmp_path / "b.bin").write_bytes(b"345")
    assert [watch._size_bytes(path) for path in (tmp_path, tmp_path / "a.bin", tmp_path / "none")] == [5, 2, 0]


def test_a_wrong_limit_is_a_wrong_use(tmp_path: Path) -> None:
    done = watched("return 0", "inspect", "x", folder=tmp_path, EDGEKIT_MODEL_SECONDS="long")
    assert done.returncode == 2
    assert done.stderr.startswith("error[usage.bad-value]: EDGEKIT_MODEL_SECONDS is 'long'")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_reach_the_command(number: int, code: int, tmp_path: Path) -> None:
    ready = "signal.signal({0}, lambda *_: sys.exit({1})); print('ready', flush=True); time.sleep(100)"
    command = [sys.executable, "-c", script(ready.format(int(number), code), "inspect", "x")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(timeout=600) == code


def test_the_command_ends_with_whoever_waits_for_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", script("print(os.getpid(), flush=True); time.sleep(100)", "inspect", "x")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait(timeout=600)
        assert ends(child)


def test_why_native_code_gave_up_is_heard(tmp_path: Path) -> None:
    work = "os.write(2, b'memory allocation of 99 bytes failed\\n'); os.kill(os.getpid(), signal.SIGABRT)"
    done = watched(work, "inspect", "x", folder=tmp_path)
    assert done.returncode == 5
    told = done.stderr.splitlines()
    assert told[0] == "memory allocation of 99 bytes failed"
    assert told[1].startswith("error[resource-limit.model-memory]: ")


def test_what_native_code_says_does_not_steer_the_terminal(tmp_path: Path) -> None:
    said = [
        b"unused '\x1b]0;owned\x07\xc2\x9b2J\xe2\x80",
        b"\xaex', \xc3\xbcber \xe2\x82\xac, \xff\n\t1 %\r2 %\n\xe2\x82",
    ]
    work = f"[(os.write(2, part), time.sleep(0.2)) for part in {said!r}]; return 0"
    script_ = script(work, "inspect", "x")
    done = subprocess.run([sys.executable, "-c", script_], cwd=tmp_path, capture_output=True, timeout=600, check=True)
    first = rb"unused '\x1b]0;owned\x07\x9b2J\u202ex', " + "über €".encode() + rb", \xff"
    assert done.stderr == first + b"\n\t1 %\r2 %\n" + rb"\xe2\x82"


def test_what_python_says_goes_straight_to_stderr(tmp_path: Path) -> None:
    work = "print(os.fstat(sys.stderr.fileno()).st_ino, os.fstat(2).st_ino, file=sys.stderr); return 0"
    straight, through = watched(work, "inspect", "x", folder=tmp_path).stderr.split()
    assert straight != through


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_had_to_be_killed_was_stopped_and_took_no_memory(number: int, code: int, tmp_path: Path) -> None:
    work = "signal.signal({0}, lambda *_: os.kill(os.getpid(), 9)); print('ready', flush=True); time.sleep(100)"
    command = [sys.executable, "-c", script(work.format(int(number)), "inspect", "x")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, told = process.communicate(timeout=600)
        assert (process.returncode, told) == (code, "")


def test_what_takes_too_long_goes_with_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"")
    work = (
        "from edgekit.confinement import limits_for, start;"
        " p = start([sys.executable, '-c', 'while True: pass'], limits_for(0));"
        " print(p.pid, flush=True); open('begun', 'w').close(); time.sleep(100)"
    )
    clock = (  # whose time is over once the worker has begun, which may be before it is first looked at
        "from itertools import count; from types import SimpleNamespace; looks = count()\n"
        "over = lambda: next(looks) > 0 and os.path.exists('begun')\n"
        "cli.watch.time = SimpleNamespace(monotonic=lambda: 1000.0 if over() else 0.0)"
    )
    done = watched(work, "inspect", "x.onnx", folder=tmp_path, before=clock, EDGEKIT_MODEL_SECONDS="3")
    assert done.returncode == 5
    assert "gave no answer in 4 s" in done.stderr
    assert ends(int(done.stdout))


@pytest.mark.parametrize("words", [("inspect", "x"), ("doctor",)])
def test_where_no_process_can_be_started_an_error_says_so(words: tuple[str, ...], tmp_path: Path) -> None:
    script = (
        "import errno, os, sys\n"
        "def none():\n    raise BlockingIOError(errno.EAGAIN, 'Resource temporarily unavailable')\n"
        "os.fork = none\n"
        f"import edgekit.cli as cli\nsys.argv = ['edgekit', *{list(words)!r}, '--json']\nsys.exit(cli.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 5
    assert done.stderr.startswith("error[resource-limit.processes]: no process can be started beside this one")
    assert json.loads(done.stdout)["error"]["id"] == "resource-limit.processes"


def test_the_end_of_the_terminal_ends_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-c", script("print('ready', flush=True); time.sleep(100)", "inspect", "x")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=600) == 129


@pytest.mark.parametrize("to_group", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_counts_once(number: int, to_group: bool, tmp_path: Path) -> None:
    work = """
    def tidy(*_):
        time.sleep(0.5)
        print("tidied", flush=True)
        sys.exit(7)
    signal.signal({0}, tidy)
    cli.stopping._reset_when_called({0})
    time.sleep(2 * cli.watch.POLL_SECONDS)
    print("ready", flush=True)
    time.sleep(600)
    """
    command = [sys.executable, "-c", script(work.format(int(number)), "inspect", "x")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if to_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.communicate(timeout=600)[0] == "tidied\n"
        assert process.returncode == 7


def test_a_command_is_waited_for_where_children_are_ignored(tmp_path: Path) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", script("print('answer'); return 3", "inspect", "x")]
    done = subprocess.run(
        [sys.executable, "-c", ignoring, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "answer\n", "")
