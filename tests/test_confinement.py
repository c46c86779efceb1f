"""Processes with limits: what they may see and take, and what their ends mean. Real processes, small limits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from processes import ends

from edgekit import confinement
from edgekit.confinement import Limits, death, lacks_memory, limits_for, run, surroundings
from edgekit.errors import ModelError, ResourceLimitError, UsageError

ROOMY = Limits(600.0, 4 * 1024**3, 60)


def python(code: str, limits: Limits = ROOMY) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-I", "-S", "-c", code], limits)


def test_a_process_sees_no_secret_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = python("import json, os; print(json.dumps(dict(os.environ)))")
    seen = json.loads(done.stdout)
    assert "secret" not in seen.values()
    assert seen["OMP_NUM_THREADS"] == "1"
    assert seen.keys() <= surroundings().keys() | {"LC_CTYPE", "PWD", "OLDPWD", "SHLVL", "_"}  # Python's, a shell's
    assert surroundings({"PYTHONPATH": "x"})["PYTHONPATH"] == "x"


def test_memory_is_limited() -> None:
    done = python("print(len(bytearray(2 * 1024**3)))", Limits(600.0, 512 * 1024**2))
    assert done.returncode == 1
    error = death("'x.onnx'", done.returncode, done.stderr, Limits(600.0, 512 * 1024**2))
    assert isinstance(error, ResourceLimitError)
    assert (error.id, error.exit_code) == ("resource-limit.model-memory", 5)
    assert error.what == "'x.onnx' asked for more memory than the 512 MiB that it may have"


def test_processor_time_is_limited() -> None:
    done = python("while True: pass", Limits(600.0, 512 * 1024**2, 1))
    error = death("'x.onnx'", done.returncode, done.stderr, Limits(600.0, 1, 1))
    assert isinstance(error, ResourceLimitError)
    assert error.id == "resource-limit.model-time"


def test_a_process_that_hangs_is_stopped() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        python("import time; time.sleep(60)", Limits(0.3, 512 * 1024**2))


def test_a_crash_is_an_error_of_the_model() -> None:
    done = python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    error = death("'x.tflite'", done.returncode, done.stderr, ROOMY)
    assert isinstance(error, ModelError)
    assert (error.id, error.exit_code) == ("model.crashes", 4)
    assert error.why == "it was ended by SIGSEGV; edgekit itself is unharmed"


def test_an_end_that_says_why_is_left_to_whoever_asked() -> None:
    assert death("'x'", 0, "", ROOMY) is None
    assert death("'x'", 1, "ValueError: no graph", ROOMY) is None
    assert isinstance(death("'x'", -signal.SIGABRT, "std::bad_alloc", ROOMY), ResourceLimitError)
    assert isinstance(death("'x'", -signal.SIGKILL, "", ROOMY), ResourceLimitError)


def test_what_runtimes_say_when_they_get_no_memory_is_known() -> None:
    assert lacks_memory("Failed to allocate memory for requested buffer of size 274877906944")
    assert lacks_memory("std::bad_alloc")
    assert not lacks_memory("the shape does not fit")


def test_limits_grow_with_the_file_and_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "available_memory_bytes", lambda: 3 * 1024**3)
    assert limits_for(0) == Limits(120.0, 3 * 1024**3)
    assert limits_for(2_000_000_000).seconds == 220.0
    assert limits_for(0, once=True).cpu_seconds is not None
    assert limits_for(0, trains=True).memory_bytes == 2 * limits_for(0).memory_bytes
    monkeypatch.setenv("EDGEKIT_MODEL_SECONDS", "7")
    monkeypatch.setenv("EDGEKIT_MODEL_MB", "500")
    assert limits_for(0) == Limits(7.0, 500_000_000)
    for wrong in ("many", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("EDGEKIT_MODEL_SECONDS", wrong)
        with pytest.raises(UsageError, match=f"EDGEKIT_MODEL_SECONDS is '{wrong}'"):
            limits_for(0)


OUTLIVED = """
import sys, threading, time
from edgekit.confinement import Limits, start

def begin():
    process = start([sys.executable, "-I", "-S", "-c", "while True: pass"], Limits(600.0, 2**32, None))
    print(process.pid, flush=True)
    kept.append(process)

kept = []
thread = threading.Thread(target=begin)
thread.start()
thread.join()
time.sleep(0.2)
print(kept[0].poll(), flush=True)
time.sleep(600)
"""


def test_a_process_that_computes_without_an_end_ends_with_whoever_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", OUTLIVED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = int(process.stdout.readline())
        assert process.stdout.readline() == "None\n"  # not with the thread that began it
        process.kill()
        process.wait(timeout=600)
        assert ends(started)


def test_nothing_stays_open_for_a_process_that_ended() -> None:
    script = (  # in a process of its own: here, threads of other tests may open and close files meanwhile
        "import gc, os, sys\n"
        "from edgekit.confinement import Limits, run\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        "done = [run([sys.executable, '-I', '-S', '-c', ''], Limits(60.0, 2**32)) for _ in range(3)]\n"
        "gc.collect()\n"
        "print([one.returncode for one in done], len(os.listdir('/proc/self/fd')) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 0, 0] 0\n"


def test_rust_without_memory_is_known() -> None:
    told = "memory allocation of 4398046511104 bytes failed"
    assert isinstance(death("'x'", -signal.SIGABRT, told, ROOMY), ResourceLimitError)
