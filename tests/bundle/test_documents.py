from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.artifact import CARD, Artifact
from edgekit.bounds import MAX_CARD_BYTES
from edgekit.bundle.build import make_bundle
from edgekit.bundle.documents import LICENCES, TOOLS, write_documents
from edgekit.bundle.platforms import PLATFORMS
from edgekit.bundle.platforms.base import coordinates
from edgekit.errors import ArtifactError

PACKAGES = sorted({package for versions in coordinates().values() for package in versions})


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_licence_or_is_a_tool(package: str) -> None:
    assert (package in LICENCES) != (package in TOOLS)


def test_the_tables_name_no_package_that_is_not_used() -> None:
    assert sorted([*LICENCES, *TOOLS]) == PACKAGES


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_notice_names_what_the_code_runs_with(bundles: Callable[[str, str], Path], platform: str) -> None:
    lines = (bundles(platform, "bert") / "NOTICE").read_text(encoding="utf-8").splitlines()
    named = {line.removeprefix("- ").partition(": ")[0] for line in lines if line.startswith("- ")}
    other = {runtime.package for form, runtime in PLATFORMS[platform].runtimes.items() if form == "tflite"}
    assert named == coordinates()[platform].keys() - set(TOOLS) - other
    assert any("onnxruntime" in name for name in named)


@pytest.mark.parametrize(("content", "why"), [(b"\xff\xfe", "utf-8"), (b" " * (MAX_CARD_BYTES + 1), "allowed: ")])
def test_a_card_that_is_no_text_or_too_large_is_refused(
    artifacts: Callable[[str], Artifact], tmp_path: Path, content: bytes, why: str
) -> None:
    copy = Path(shutil.copytree(artifacts("bert").path, tmp_path / "artifact"))
    (copy / CARD).write_bytes(content)
    with pytest.raises(ArtifactError, match=CARD) as caught:
        write_documents(Artifact(copy, artifacts("bert").manifest), (), tmp_path)
    assert (caught.value.id, caught.value.exit_code) == ("artifact.invalid-file", 4)
    assert why in caught.value.why


def test_a_file_outside_the_artifact_does_not_come_into_a_bundle(
    artifacts: Callable[[str], Artifact], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(artifacts("bert").path, tmp_path / "artifact"))
    (tmp_path / "private.txt").write_text("a key")
    (copy / CARD).symlink_to(tmp_path / "private.txt")
    with pytest.raises(ArtifactError, match="is no plain file"):
        make_bundle(copy, "python", tmp_path / "out")
    assert not (tmp_path / "out").exists()
