from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit import environment
from edgekit.environment import COMPUTING_PACKAGES, Host, host, numeric_level, version_of, versions

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


def test_the_numeric_level_names_architecture_and_python() -> None:
    assert numeric_level().startswith(f"{host().architecture}-")
    assert numeric_level().endswith(f"-py{sys.version_info.major}.{sys.version_info.minor}")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that the digest is taken of."""
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
