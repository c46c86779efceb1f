from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bundle.documents import LICENCES, TOOLS
from edgekit.bundle.platforms import PLATFORMS
from edgekit.bundle.platforms.base import coordinates

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
