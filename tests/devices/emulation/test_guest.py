from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgekit.devices.emulation.guest import Call, guest_environment, guest_failure, make_call, make_prefix, run_guest
from edgekit.devices.emulation.kinds import kind_of
from edgekit.devices.emulation.profiles import profile_of
from edgekit.errors import HostError, ModelError, ResourceLimitError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As much of a root as the command line looks at."""
    for folder in ("host/lib", "guest/usr/bin", "guest/lib", "guest/usr/lib/python3/dist-packages", "site"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    return tmp_path / "root"


def prefix(tmp_path: Path, root: Path, profile: str) -> Path:
    folder = tmp_path / profile
    folder.mkdir()
    make_prefix(folder, root, profile_of(profile))
    return folder


def test_two_profiles_share_a_root_and_see_their_own_processors(tmp_path: Path, root: Path) -> None:
    one, other = (prefix(tmp_path, root, name) for name in ("cortex-a53", "cortex-a76"))
    for folder, part in ((one, "0xd03"), (other, "0xd0b")):
        assert sorted(path.name for path in folder.iterdir()) == ["lib", "proc", "sys", "usr"]
        assert (folder / "usr").resolve() == (root / "guest" / "usr").resolve()
        assert part in (folder / "proc" / "cpuinfo").read_text()
        assert (folder / "sys/devices/system/cpu/possible").read_text() == "0-3\n"
    assert not (root / "guest" / "proc").exists()


def test_the_command_names_the_emulator_its_libraries_and_the_guest(tmp_path: Path, root: Path) -> None:
    call = make_call(root, tmp_path, profile_of("cortex-a76"), "/here/python", ["-d", "plugin", "--", "run.py", "a b"])
    assert call.command[:4] == ("/bin/sh", "-c", 'ulimit -c 0; exec "$@"', "sh")
    assert call.command[4:] == (
        *(f"{root}/host/lib/ld-linux-x86-64.so.2", "--library-path", f"{root}/host/lib", f"{root}/host/qemu"),
        *("-cpu", "cortex-a76", "-L", str(tmp_path), "-d", "plugin"),
        *(f"{root}/guest/usr/bin/python3.11", "-P", "run.py", "a b"),
    )


def test_a_processor_of_this_machines_kind_runs_its_python(tmp_path: Path, root: Path) -> None:
    call = make_call(root, tmp_path, profile_of("haswell"), "/here/python", ["--", "run.py"])
    assert call.command[-3:] == ("/here/python", "-P", "run.py")


def test_the_guest_sees_nothing_of_this_machines_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    seen = guest_environment(root, kind_of("arm64"))
    assert seen["PYTHONPATH"] == f"{root}/site:{root}/guest/usr/lib/python3/dist-packages"
    assert (seen["PYTHONHASHSEED"], seen["OMP_NUM_THREADS"], seen.get("SECRET")) == ("0", "1", None)
    here = guest_environment(root, kind_of("x86-64"))  # which runs this machine's Python
    assert (here["PATH"], here["PYTHONHASHSEED"], here.get("SECRET")) == (os.environ["PATH"], "0", None)


def python(*lines: str) -> Call:
    return Call((sys.executable, "-c", "\n".join(lines)), {})


def test_what_it_printed_comes_back() -> None:
    assert run_guest(python("print('{}')"), 600, "toy, emulated") == "{}\n"


def test_a_hanging_guest_is_stopped() -> None:
    with pytest.raises(HostError, match="the measuring process on toy, emulated hung and was stopped"):
        run_guest(python("import time", "time.sleep(60)"), 0.5, "toy, emulated")


@pytest.mark.parametrize(
    ("signal", "why"),
    [("SIGILL", "does not have"), ("SIGSEGV", "reached for memory"), ("SIGABRT", "")],
)
def test_a_guest_that_dies_says_of_what(signal: str, why: str) -> None:
    killing = ("import os, signal", f"os.kill(os.getpid(), signal.{signal})")
    with pytest.raises(HostError, match=f"the process on toy, emulated died with {signal}") as raised:
        run_guest(python(*killing), 600, "toy, emulated")
    assert why in raised.value.why
    assert raised.value.id == "environment.guest-died"


def test_a_killed_guest_ran_out_of_memory() -> None:
    with pytest.raises(ResourceLimitError, match="the process on toy, emulated was killed"):
        run_guest(python("import os", "os.kill(os.getpid(), 9)"), 600, "toy, emulated")


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert guest_failure(-200, "", "toy").what == "the process on toy died with signal 200"


def test_a_refused_model_is_the_models_error() -> None:
    refusing = ("import sys", "sys.stderr.write('x\\nonnxruntime.Fail: no kernel\\n')", "sys.exit(1)")
    with pytest.raises(ModelError, match=r"onnxruntime\.Fail: no kernel"):
        run_guest(python(*refusing), 600, "toy, emulated")
