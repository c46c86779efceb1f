"""A signal ends a command also where Python cannot answer it, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import ends

from edgekit.cli import stopping
from edgekit.cli.failures import raise_on_signals

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the watcher is for Linux")

# Kinds of commands that compute without an end, and processor time after which they certainly do.
BUSY, FEW_TICKS = ("native", "with_child"), 10
# `edgekit attest` in a process of its own, in which something else takes the place of the attesting.
COMMAND = """
import atexit, collections, itertools, os, signal, subprocess, sys, time, edgekit
from edgekit.cli import main, stopping

def ready(*words):
    print("ready", *words, file=sys.stderr, flush=True)

def native(*given):
    ready()
    collections.deque(itertools.repeat(0), maxlen=0)  # for ever, in C, with the interpreter's lock held

def with_child(*given):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    ready(child.pid)
    collections.deque(itertools.repeat(0), maxlen=0)

def deaf(*given):
    told = False
    while True:
        try:
            if not told:
                told = True
                ready()
            time.sleep(1000)
        except BaseException:
            pass  # as an exception in a destructor would be

def polite(*given):
    try:
        ready()
        time.sleep(1000)
    finally:
        print("closed", file=sys.stderr)

def leaving(*given):
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
    polite(*given)

kind = sys.argv.pop()
if kind in ("polite", "leaving"):
    stopping.GRACE_SECONDS = 60.0  # a busy machine may take longer than the watcher waits
edgekit.attest = globals()[kind]
sys.argv[1:] = ["attest", "x", *sys.argv[1:]]
sys.exit(main())
"""


def start(kind: str, *options: str) -> tuple[subprocess.Popen[str], list[str]]:
    """A command that is at work, and what it said beside."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *options, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    word, *words = process.stderr.readline().split()
    assert word == "ready"
    if kind in BUSY:
        begun = used(process)
        while process.poll() is None and used(process) < begun + FEW_TICKS:  # it is where Python does not answer by now
            time.sleep(0.01)
    return process, words


def used(process: subprocess.Popen[str]) -> int:
    """Ticks of processor time that a process used in its own code (proc(5), utime)."""
    return int(Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11])


def stop(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Send a signal; how it ended and what it said."""
    process.send_signal(number)
    _, told = process.communicate(timeout=600)
    return process.returncode, told


@pytest.mark.parametrize("kind", ["native", "deaf"])
@pytest.mark.parametrize(("number", "id"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_command_that_does_not_answer_is_ended_by_the_signal(kind: str, number: int, id: str) -> None:
    process, _ = start(kind)
    code, told = stop(process, number)
    assert code == -number  # which a shell shows as 130 or 143
    assert told.startswith(f"error[{id}]: ")
    assert "while native code did not answer" in told
    assert "The same command again goes on where this one stopped." in told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_answers_closes_what_is_open(number: int, code: int) -> None:
    process, _ = start("polite")
    ended, told = stop(process, number)
    assert ended == code
    assert told.startswith("closed\nerror[")
    assert "native code" not in told


def test_a_signal_that_comes_while_a_stopped_command_ends_is_no_traceback() -> None:
    process, _ = start("leaving")
    ended, told = stop(process, signal.SIGINT)
    assert ended == -signal.SIGINT
    assert told.startswith("closed\nerror[interrupted]: interrupted")
    assert "Traceback" not in told


def test_children_go_with_the_command() -> None:
    process, (child,) = start("with_child")
    stop(process, signal.SIGTERM)
    assert ends(int(child))


def test_a_second_signal_ends_it_at_once() -> None:
    process, _ = start("deaf")
    process.send_signal(signal.SIGINT)
    assert stop(process, signal.SIGINT)[0] == -signal.SIGINT


def test_the_watcher_goes_with_its_block() -> None:
    script = (
        "import os; from edgekit.cli.stopping import ended_by_signals\n"
        "with ended_by_signals():\n    print(len(os.listdir('/proc/self/fd')))\n"
        "try:\n    os.waitpid(-1, os.WNOHANG); print('left')\nexcept ChildProcessError:\n    print('gone')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["gone"]


def test_children_of_children_are_found() -> None:
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '100']); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        found = stopping._children(os.getpid())
        assert {process.pid, grandchild} <= set(found)
        for one in (grandchild, process.pid):
            os.kill(one, signal.SIGKILL)


def test_a_document_tells_the_end_where_one_was_asked_for() -> None:
    process, _ = start("native", "--json")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGTERM
    found = json.loads(out)
    assert (found["schema"], found["error"]["id"], found["error"]["exit_code"]) == (
        "edgekit.error/1",
        "terminated",
        143,
    )
    assert found["error"]["what"] == "stopped by SIGTERM, while native code did not answer"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_the_watcher_is_forked_is_not_lost(number: signal.Signals) -> None:
    script = """
import os, signal, sys
from edgekit.cli.failures import Terminated, raise_on_signals
from edgekit.cli.stopping import ended_by_signals

parent = os.getpid()
os.register_at_fork(after_in_parent=lambda: os.kill(parent, int(sys.argv[1])))
try:
    with raise_on_signals(), ended_by_signals():
        print("went on")
except (Terminated, KeyboardInterrupt):
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", script, str(int(number))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_a_finalizer_swallows_is_sent_once_more(number: signal.Signals) -> None:
    script = """
import os, signal, sys, time, weakref
from edgekit.cli.failures import Terminated, raise_on_signals
from edgekit.cli.stopping import ended_by_signals

class Thing:
    pass

def stop(reference):
    os.kill(os.getpid(), int(sys.argv[1]))

try:
    with raise_on_signals(), ended_by_signals():
        thing = Thing()
        reference = weakref.ref(thing, stop)
        del thing
        print("went on")
        time.sleep(600)
except (Terminated, KeyboardInterrupt) as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script, str(int(number))], capture_output=True, text=True, check=False)
    told = {signal.SIGTERM: "Terminated", signal.SIGINT: "KeyboardInterrupt"}[number]
    assert (done.returncode, done.stdout, done.stderr) == (0, f"went on\n{told}\n", "")


def test_what_else_is_dropped_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)

    class Thing:
        def __del__(self) -> None:
            raise ValueError

    with raise_on_signals():
        Thing()
    assert [type(one.exc_value) for one in heard] == [ValueError]
