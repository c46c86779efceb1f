from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from edgekit import environment
from edgekit.environment import (
    COMPUTING_PACKAGES,
    KERNEL_VARIABLES,
    CudaDevice,
    Host,
    cuda_devices,
    execution_providers,
    host,
    numeric_level,
    version_of,
    versions,
)

HERE = Host(
    architecture="x86_64",
    processor="a processor",
    features=("avx2", "avx_vnni", "fma"),
    cores=2,
    memory_bytes=1_000,
    system="Linux",
    python="3.11.9",
)


@pytest.mark.parametrize(
    ("content", "board"), [(b"Raspberry Pi 4 Model B Rev 1.4\0", "Raspberry Pi 4 Model B Rev 1.4"), (None, "")]
)
def test_a_board_is_called_as_its_device_tree_does(
    content: bytes | None, board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "model").write_bytes(content)
    monkeypatch.setattr(environment, "BOARD_FILE", tmp_path / "model")
    monkeypatch.setattr(environment, "host", host.__wrapped__)
    assert environment.host().board == board


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    code = "from edgekit.environment import host; print(host().fingerprint)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == host().fingerprint
    assert len(host().fingerprint) == 64


@pytest.mark.parametrize(
    "change", [{"cores": 4}, {"processor": "another"}, {"features": ("avx2",)}, {"memory_bytes": 2_000}]
)
def test_the_fingerprint_changes_with_the_machine(change: dict[str, object]) -> None:
    assert HERE.model_copy(update=change).fingerprint != HERE.fingerprint
    assert HERE.model_copy().fingerprint == HERE.fingerprint


def test_what_a_machine_does_not_have_leaves_its_fingerprint_as_it_was() -> None:
    told = json.dumps(HERE.model_dump(exclude={"cuda", "board"}), separators=(",", ":"))
    assert HERE.fingerprint == hashlib.sha256(told.encode()).hexdigest()
    card = CudaDevice(name="a card", capability="8.9")
    assert HERE.model_copy(update={"cuda": (card,)}).fingerprint != HERE.fingerprint


class Driver:
    """libcuda of a machine with two cards."""

    def __init__(self, failing: int = 0) -> None:
        self.failing = failing

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self.failing

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = f"card {device.value}".encode()
        assert size == len(name)
        return 0

    def cuDeviceGetAttribute(self, number: Any, attribute: int, device: Any) -> int:
        number._obj.value = {75: 8, 76: 6}[attribute] + device.value
        return 0


def test_cards_are_as_their_driver_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: {"libcuda.so.1": Driver()}[name])
    assert [(card.name, card.capability) for card in cuda_devices()] == [("card 0", "8.6"), ("card 1", "9.7")]
    monkeypatch.setattr("ctypes.CDLL", lambda name: Driver(failing=100))  # CUDA_ERROR_NO_DEVICE
    assert cuda_devices() == ()


def test_without_a_driver_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Driver:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", absent)
    assert cuda_devices() == ()


def test_the_build_for_gpus_counts_as_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "onnxruntime-gpu":
            raise metadata.PackageNotFoundError(name)
        return "1.31.1"

    monkeypatch.setattr(metadata, "version", version)
    assert (version_of("onnxruntime"), version_of("onnx")) == ("1.31.1", None)


def test_the_providers_are_those_of_the_installed_onnxruntime() -> None:
    assert "CPUExecutionProvider" in execution_providers()


@pytest.mark.parametrize(
    ("feature", "there"),
    [("avx2", True), ("avx512_vnni", False), ("avx512_vnni|avx_vnni", True), ("amx_tile|sve", False)],
)
def test_a_feature_is_one_or_any_of_several(feature: str, there: bool) -> None:
    assert HERE.has(feature) is there


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= host().cores <= (os.cpu_count() or 1)
    assert host().memory_bytes > 2**28
    assert list(host().features) == sorted(set(host().features))


def test_versions_are_of_the_packages_that_compute() -> None:
    assert set(versions()) <= set(COMPUTING_PACKAGES)
    assert {"edgekit", "torch", "onnxruntime", "numpy"} <= set(versions())
    assert version_of("no-such-package-at-all") is None


def test_the_numeric_level_tells_sums_that_saturate_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    haswell = host().model_copy(update={"architecture": "x86_64", "features": ("avx2", "fma")})
    alder_lake = haswell.model_copy(update={"features": ("avx2", "avx_vnni", "fma")})
    levels = []
    for machine in (haswell, alder_lake):
        monkeypatch.setattr("edgekit.environment.host", lambda machine=machine: machine)
        levels.append(numeric_level())
    assert levels[0].startswith("x86_64-avx2-saturating-py")
    assert levels[1].startswith("x86_64-avx2-py")


@pytest.mark.parametrize("name", KERNEL_VARIABLES)
def test_a_variable_that_changes_kernels_is_another_numeric_level(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    levels = [numeric_level()]
    for value in ("default", "AVX2"):
        monkeypatch.setenv(name, value)
        levels.append(numeric_level())
    assert len(set(levels)) == 3
    assert levels[1] == f"{levels[0]} {name}=default"


def test_a_gpu_is_another_numeric_level(monkeypatch: pytest.MonkeyPatch) -> None:
    here = host()
    device = CudaDevice(name="A100", capability="8.0")
    monkeypatch.setattr(environment, "host", lambda: here.model_copy(update={"cuda": (device,)}))
    assert "-A100-py" in numeric_level()


def test_the_numeric_level_names_architecture_and_python() -> None:
    assert numeric_level().startswith(f"{host().architecture}-")
    assert numeric_level().endswith(f"-py{sys.version_info.major}.{sys.version_info.minor}")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that the digest is taken of; that of the package itself is known before."""
    environment.code_digest()
    copied = tmp_path / "edgekit"
    shutil.copytree(environment.PACKAGE_ROOT, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(environment, "PACKAGE_ROOT", copied)
    return copied


def digest() -> str:
    return environment.code_digest.__wrapped__()


def test_the_code_digest_is_of_the_contents_alone(package: Path) -> None:
    assert digest() == environment.code_digest()
    (package / "cache.py").touch()
    (package / "notes.md").write_text("no code")
    assert digest() == environment.code_digest()


@pytest.mark.parametrize("name", ["cli/__init__.py", "render/ledger.py", "inspection/graphs.py", "diagnosis/doctor.py"])
def test_the_code_digest_ignores_what_only_presents(package: Path, name: str) -> None:
    (package / name).write_text("changed = True")
    (package / name).with_name("added.py").write_text("added = True")
    assert digest() == environment.code_digest()


@pytest.mark.parametrize("name", ["cache.py", "stages/prune.py", "devices/runner.py", "api.py", "tasks/added.py"])
def test_the_code_digest_changes_with_the_code_that_computes(package: Path, name: str) -> None:
    (package / name).write_text("changed = True")
    assert digest() != environment.code_digest()


def test_the_code_digest_changes_with_a_name(package: Path) -> None:
    (package / "judgement.py").rename(package / "judgements.py")
    assert digest() != environment.code_digest()


@pytest.mark.parametrize("name", ["cli/x.py", "gate/x.py", "cache.py"])
def test_the_whole_digest_is_of_all_code(package: Path, name: str) -> None:
    before = environment.code_digest.__wrapped__(whole=True)
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text("x = 1\n")
    assert environment.code_digest.__wrapped__(whole=True) != before
