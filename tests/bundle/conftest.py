from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle.bundles import artifact_of, bundle_of, make_artifact, sums

from edgekit.artifact import Artifact


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """Artifacts by family, each made once."""
    made: dict[str, Artifact] = {}

    def make(family: str) -> Artifact:
        if family not in made:
            made[family] = make_artifact(family, tmp_path_factory.mktemp(family))
        return made[family]

    return make


@pytest.fixture(scope="session")
def bundles(
    artifacts: Callable[[str], Artifact], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], Path]]:
    """Bundles by platform and family, each made once; who changes one copies it first."""
    made: dict[tuple[str, str], Path] = {}
    known: dict[Path, dict[str, str]] = {}

    def make(platform: str, family: str) -> Path:
        if (platform, family) not in made:
            out = tmp_path_factory.mktemp("bundle") / f"{platform}-{family}"
            made[platform, family] = bundle_of(artifacts(family), platform, out)
            known[out] = sums(out)
        return made[platform, family]

    yield make
    assert [out.name for out in known if sums(out) != known[out]] == []  # a test changed what all share


@pytest.fixture
def copied(bundles: Callable[[str, str], Path], tmp_path: Path) -> Callable[[str, str], Path]:
    """A copy of a bundle, to be broken."""

    def copy(platform: str, family: str) -> Path:
        return Path(shutil.copytree(bundles(platform, family), tmp_path / f"{platform}-{family}", symlinks=True))

    return copy


@pytest.fixture(scope="session")
def library() -> Path:
    """ONNX Runtime's shared library, in its wheel."""
    import onnxruntime

    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not found:
        pytest.skip("the wheel of onnxruntime has no libonnxruntime.so.*")
    return found[0]


@pytest.fixture(scope="session")
def lite_bundles(tflites: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Artifact, Path]]:
    """Artifacts of .tflite files with their bundles by platform and family, each made once."""
    made: dict[tuple[str, str], tuple[Artifact, Path]] = {}

    def make(platform: str, family: str) -> tuple[Artifact, Path]:
        if (platform, family) not in made:
            folder = tmp_path_factory.mktemp(f"{platform}-{family}")
            artifact = artifact_of(tflites, family, folder / "artifact")
            made[platform, family] = artifact, bundle_of(artifact, platform, folder / "out")
        return made[platform, family]

    return make
