"""The script that shows bundles on every platform, as far as it goes without compilers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle.bundles import flip
from scripts import scripts

from edgekit.artifact import Artifact
from edgekit.bundle.platforms import PLATFORMS


def row(**changes: Any) -> dict[str, Any]:
    return {"platform": "c", "same_bytes": True, "problems": [], "consumers": []} | changes


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"same_bytes": False}, ["toy, c: two builds differ"]),
        ({"problems": ["sums: a: changed"]}, ["toy, c: sums: a: changed"]),
        ({"consumers": [{"consumer": "c", "passed": False, "why": "no"}]}, ["toy, c: c: no"]),
        ({"consumers": [{"consumer": "c", "passed": None, "why": "gcc is not installed"}]}, []),
    ],
)
def test_what_is_not_as_it_has_to_be_is_told(changed: dict[str, Any], told: list[str]) -> None:
    with scripts() as load:
        wrong = load("bundles").wrong
        assert list(wrong({"name": "toy", "platforms": [row(**changed)]})) == told
        assert list(wrong({"name": "toy", "platforms": [{"platform": "c", "refused": "no"}]})) == [
            "toy: no platform takes it"
        ]


def test_each_consumer_takes_the_bundles_of_a_platform() -> None:
    with scripts() as load:
        assert {platform for platform, _ in load("bundle_consumers").CONSUMERS.values()} <= PLATFORMS.keys()


def test_a_bundle_is_built_twice_checked_and_run(artifacts: Callable[[str], Artifact], tmp_path: Path) -> None:
    with scripts() as load:
        bundles = load("bundles")
        case = bundles.measure(artifacts("vit").path, ["python"], tmp_path)
        (found,) = case["platforms"]
        assert (found["same_bytes"], found["problems"], found["samples"]) == (True, [], 8)
        assert [(one["passed"], one["with"]) for one in found["consumers"]] == [(True, "onnxruntime in Python")]
        assert "sound, same bytes  python passed (onnxruntime in Python)" in bundles.line(found)
        flip(tmp_path / "python-1/bundle/labels.txt", 0)
        (broken,) = bundles.consumed("python", tmp_path / "python-1")
        assert broken["passed"] is False
        assert "labels.txt: changed" in broken["why"]
