from __future__ import annotations

import errno
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.diagnosis import examine
from edgekit.diagnosis.conditions import GOOD_MEMORY, check_network, check_quiet, check_room
from edgekit.diagnosis.doctor import check_installation, check_processor, check_runtimes
from edgekit.diagnosis.machine import Kernel, Memory
from edgekit.diagnosis.packages import Requirement
from edgekit.diagnosis.records import Check
from edgekit.diagnosis.surroundings import Surroundings, cannot_write, import_all, is_on, nearest_existing, reach_hub
from edgekit.environment import Host
from edgekit.target import HOST, target_names

HERE = Host(
    architecture="x86_64",
    processor="a processor",
    features=("avx2", "avx512_vnni", "fma"),
    cores=4,
    memory_bytes=8_000_000_000,
    system="Linux",
    python="3.11.9",
)
GOOD: dict[str, dict[str, Any]] = {
    "torch": {"error": None, "cuda": None, "devices": [], "vectors": "AVX2"},
    "onnxruntime": {"error": None, "providers": ["CPUExecutionProvider"]},
}


class Machine(Kernel):
    """A kernel that says what a test wants."""

    def __init__(self, **said: Any) -> None:
        said = {"memory": Memory(8 * 10**9, 6 * 10**9, False), "quota": None, "governors": {"performance"}} | said
        object.__setattr__(self, "said", said)

    def memory(self) -> Memory | None:
        return self.said["memory"]  # type: ignore[attr-defined, no-any-return]

    def quota_cores(self) -> float | None:
        return self.said["quota"]  # type: ignore[attr-defined, no-any-return]

    def governors(self) -> set[str]:
        return self.said["governors"]  # type: ignore[attr-defined, no-any-return]

    def turbo(self) -> bool | None:
        return self.said.get("turbo", False)  # type: ignore[attr-defined, no-any-return]

    def threads_share_cores(self) -> bool | None:
        return self.said.get("smt", False)  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def around(tmp_path: Path) -> Callable[..., Surroundings]:
    """Surroundings where all is well, but for what a test changes."""

    def make(**changes: Any) -> Surroundings:
        well: dict[str, Any] = {
            "host": HERE,
            "kernel": Machine(),
            "variables": {},
            "cache": tmp_path / "cache",
            "folder": tmp_path,
            "temporary": tmp_path,
            "imports": lambda modules: {module: GOOD.get(module, {"error": None}) for module in modules},
            "hub": lambda endpoint: None,
            "load": lambda: (0.01, 0.0),
        }
        return Surroundings(**(well | changes))

    return make


def named(checks: Iterator[Check] | tuple[Check, ...]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_machine_where_all_is_well_passes(
    around: Callable[..., Surroundings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.diagnosis.conditions.free_bytes", lambda path: 10**10)
    record = examine(around())
    assert record.passed
    assert {check.state for check in record.checks} <= {"ok", "absent", "note", "warning"}
    assert [check.name for check in record.checks if check.state == "warning"] == []
    assert {check.name for check in record.checks if check.package} >= {"torch", "onnx", "numpy"}


def test_a_warning_does_not_fail_and_a_failure_does(
    around: Callable[..., Surroundings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.diagnosis.conditions.free_bytes", lambda path: 10**10)
    assert examine(around(hub=lambda endpoint: "no route")).passed
    assert not examine(around(kernel=Machine(memory=Memory(10**9, 10**8, False)))).passed


@pytest.mark.parametrize(
    ("needed", "error", "state", "found", "fix"),
    [
        (
            Requirement("no-such-package", ">=2,<3"),
            None,
            "failed",
            "not installed; needs >=2,<3",
            'pip install "no-such-package>=2,<3"',
        ),
        (Requirement("numpy", ">=99"), None, "failed", "is older than >=99", 'pip install "numpy>=99"'),
        (Requirement("numpy", ">=0.1,<1"), None, "warning", "is newer than >=0.1,<1", 'pip install "numpy>=0.1,<1"'),
        (
            Requirement("numpy", ">=1"),
            "ImportError: libm",
            "failed",
            "cannot be imported: ImportError: libm",
            "pip install --force-reinstall",
        ),
        (Requirement("numpy", ">=1"), None, "ok", "(>=1)", ""),
    ],
)
def test_a_package(
    needed: Requirement, error: str | None, state: str, found: str, fix: str, around: Callable[..., Surroundings]
) -> None:
    check = named(check_installation(around(), [needed], {needed.module: {"error": error}}))[needed.name]
    assert (check.state, check.package) == (state, True)
    assert found in check.found
    assert fix in check.fix


def test_an_old_python_fails(around: Callable[..., Surroundings]) -> None:
    old = around(host=HERE.model_copy(update={"python": "3.9.2"}))
    check = named(check_installation(old, [Requirement("numpy", "")], {}))["Python"]
    assert (check.state, check.found) == ("failed", "3.9.2; needs >=3.11")
    assert check.fix == "Make an environment with Python >=3.11."


def test_without_an_installation_the_ranges_are_unknown(around: Callable[..., Surroundings]) -> None:
    (check,) = check_installation(around(), [], {})
    assert (check.state, check.fix) == ("warning", "pip install .")


@pytest.mark.parametrize(
    ("members", "state", "found"),
    [
        (["numpy", "onnx"], "ok", "numpy, onnx"),
        (["numpy", "no-such-package"], "warning", "lacks no-such-package"),
        (["no-such-package"], "absent", "not installed; optional"),
        (["no-such-package", "numpy"], "absent", "not installed; optional"),
    ],
)
def test_an_extra(members: list[str], state: str, found: str, around: Callable[..., Surroundings]) -> None:
    needed = [Requirement(name, "", "tflite") for name in members] + [Requirement("ruff", "", "dev")]
    checks = named(check_installation(around(), needed, {}))
    assert (checks["extra tflite"].state, checks["extra tflite"].found) == (state, found)
    assert "extra dev" not in checks


def test_the_targets_that_fit_this_machine(around: Callable[..., Surroundings]) -> None:
    checks = named(check_processor(around()))
    assert {f"target {name}" for name in target_names() if name != HOST} <= set(checks)
    assert checks["target x86-64-vnni"].state == "ok"
    assert checks["target arm64"].found == "no latency here: the target is aarch64 and this machine is x86_64"
    assert checks["instruction set"].found == "avx2, fma, avx512_vnni"
    assert "target host" not in checks


def test_a_machine_that_no_target_fits_is_told_what_to_do(around: Callable[..., Surroundings]) -> None:
    strange = around(host=HERE.model_copy(update={"architecture": "riscv64", "features": ()}))
    checks = named(check_processor(strange))
    assert checks["target host"].state == "warning"
    assert "--target ./mine.toml" in checks["target host"].fix
    assert checks["instruction set"].state == "note"


def test_the_runtimes() -> None:
    answers = GOOD | {"torch": {"error": None, "cuda": "13.0", "devices": ["a card"], "vectors": "AVX2"}}
    checks = named(check_runtimes(answers))
    assert checks["onnxruntime"].found.endswith(", runs on CPU")
    assert checks["torch"].found.endswith("CUDA 13.0: a card, kernels for AVX2")
    assert checks["TFLite"].state in ("ok", "absent")
    assert "without CUDA" in named(check_runtimes(GOOD))["torch"].found
    broken = named(check_runtimes({"onnxruntime": {"error": "ImportError"}}))["onnxruntime"]
    assert (broken.state, "cannot be imported" in broken.found) == ("failed", True)


@pytest.mark.parametrize(
    ("memory", "state", "found"),
    [
        (Memory(8 * 10**9, 6 * 10**9, False), "ok", "6.0 GB of 8.0 GB available"),
        (Memory(4 * 10**9, 2 * 10**9, True), "warning", "that the control group allows available; better 4.0 GB"),
        (Memory(10**9, 5 * 10**8, False), "failed", "0.5 GB of 1.0 GB available; at least 1.0 GB"),
        (None, "note", "does not say"),
    ],
)
def test_memory(memory: Memory | None, state: str, found: str, around: Callable[..., Surroundings]) -> None:
    check = named(check_room(around(kernel=Machine(memory=memory))))["memory"]
    assert check.state == state
    assert found in check.found
    assert GOOD_MEMORY == 4e9


@pytest.mark.parametrize(("free", "state"), [(10**10, "ok"), (10**9, "warning"), (10**8, "failed")])
def test_disks(free: int, state: str, around: Callable[..., Surroundings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.diagnosis.conditions.free_bytes", lambda path: free)
    checks = named(check_room(around()))
    assert checks["disk: cache"].state == state
    assert checks["disk: working folder"].found == "on the same disk as the cache"
    if state != "ok":
        assert "edgekit cache prune" in checks["disk: cache"].fix


def test_a_cache_that_cannot_be_written_fails(around: Callable[..., Surroundings], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = named(check_room(around(cache=tmp_path / "file" / "cache")))["cache can be written"]
    assert check.state == "failed"
    assert "is a file" in check.found
    assert "EDGEKIT_CACHE" in check.fix
    assert not (tmp_path / "cache").exists()  # looking makes nothing


def test_a_folder_that_may_not_be_written_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**kwargs: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    assert cannot_write(tmp_path / "a" / "b") is None
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert cannot_write(tmp_path) == "Read-only file system"


@pytest.mark.parametrize(
    ("said", "load", "name", "state"),
    [
        ({"governors": {"powersave"}}, (0.0, 0.0), "clock governor", "warning"),
        ({"governors": set()}, (0.0, 0.0), "clock governor", "note"),
        ({"turbo": True}, (0.0, 0.0), "turbo", "note"),
        ({"smt": True}, (0.0, 0.0), "SMT", "note"),
        ({"quota": 1.5}, (0.0, 0.0), "processor limit", "warning"),
        ({}, (0.9, 0.0), "other processes", "warning"),
        ({}, (0.0, 0.2), "other virtual machines", "warning"),
        ({}, None, "other processes", "note"),
    ],
)
def test_what_disturbs_measurements(
    said: dict[str, Any],
    load: tuple[float, float] | None,
    name: str,
    state: str,
    around: Callable[..., Surroundings],
) -> None:
    checks = named(check_quiet(around(kernel=Machine(**said), load=lambda: load)))
    assert checks[name].state == state
    assert bool(checks[name].fix) == (state == "warning")


def test_a_quiet_machine_has_nothing_to_mend(around: Callable[..., Surroundings]) -> None:
    checks = named(check_quiet(around()))
    assert {check.state for check in checks.values()} == {"ok"}
    assert checks["other processes"].found == "use 1% of the processors now"
    assert "processor limit" not in checks


def test_offline_mode_is_told_and_nobody_is_asked(around: Callable[..., Surroundings]) -> None:
    def ask(endpoint: str) -> str:
        raise AssertionError(endpoint)

    (check,) = check_network(around(variables={"HF_HUB_OFFLINE": "1"}, hub=ask))
    assert (check.state, "HF_HUB_OFFLINE" in check.found) == ("note", True)


@pytest.mark.parametrize(("problem", "state"), [(None, "ok"), ("no route", "warning")])
def test_the_hub(problem: str | None, state: str, around: Callable[..., Surroundings]) -> None:
    (check,) = check_network(around(variables={"HF_ENDPOINT": "https://mirror"}, hub=lambda endpoint: problem))
    assert check.state == state
    assert check.found.startswith("https://mirror")


@pytest.mark.parametrize(("value", "on"), [("1", True), ("TRUE", True), ("yes", True), ("0", False), (None, False)])
def test_a_switch(value: str | None, on: bool) -> None:
    assert is_on(value) is on


@pytest.fixture
def server() -> Iterator[str]:
    """A server that refuses everything, which is a sign of life."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *arguments: object) -> None:
            pass

    running = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()
    thread.join()


def test_any_answer_of_the_hub_will_do(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("edgekit.diagnosis.surroundings.HUB_SECONDS", 60.0)
    assert reach_hub(server) is None
    assert reach_hub("http://127.0.0.1:1") is not None
    assert reach_hub("file:///etc/hostname") == "its address is neither http nor https"


def test_imports_are_tried_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ends_it.py").write_text("import os\nos._exit(7)\n")
    (tmp_path / "talks.py").write_text("print('hello', 1)\nprint('{}')\n")
    (tmp_path / "lacks_something.py").write_text("import nothing_of_this_name\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answers = import_all(["json", "ends_it", "lacks_something", "talks"])
    assert [answers[name]["error"] for name in ("json", "ends_it", "lacks_something", "talks")] == [
        None,
        "it ended the process with code 7",
        "ModuleNotFoundError: No module named 'nothing_of_this_name'",
        None,
    ]
