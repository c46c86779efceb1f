"""Flutter: sources are parsed, and the project file is read; there is no Dart compiler here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle.bundles import FAMILIES
from bundle.parsing import faults, sources

from edgekit.bundle.platforms.base import coordinates
from edgekit.bundle.platforms.flutter import LIBRARY, SOURCES

yaml: Any = pytest.importorskip("yaml", reason="PyYAML, which transformers brings, is not installed")
Bundles = Callable[[str, str], Path]


@pytest.mark.parametrize("family", FAMILIES)
def test_sources_parse(family: str, bundles: Bundles) -> None:
    found = sources(bundles("flutter", family), ".dart")
    assert {path.name for path in found} == {LIBRARY, *SOURCES}
    assert [fault for path in found for fault in faults(path)] == []


def test_each_import_is_a_file_or_a_dependency(bundles: Bundles) -> None:
    folder = bundles("flutter", "bert")
    project = yaml.safe_load((folder / "pubspec.yaml").read_text(encoding="utf-8"))
    for path in sources(folder, ".dart"):
        for name in re.findall(r"^(?:import|export) '(.*?)'", path.read_text(encoding="utf-8"), re.MULTILINE):
            if name.startswith("package:"):
                assert name.removeprefix("package:").partition("/")[0] in project["dependencies"]
            elif not name.startswith("dart:"):
                assert (path.parent / name).is_file(), (path.name, name)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_project_names_every_folder_of_assets_and_the_versions_of_the_table(family: str, bundles: Bundles) -> None:
    folder = bundles("flutter", family)
    project = yaml.safe_load((folder / "pubspec.yaml").read_text(encoding="utf-8"))
    versions = coordinates()["flutter"]
    assert project["dependencies"]["flutter_onnxruntime"] == versions["flutter_onnxruntime"]
    assert project["environment"] == {"sdk": versions["dart"], "flutter": versions["flutter"]}
    bundle = json.loads((folder / "assets/bundle/bundle.json").read_text(encoding="utf-8"))
    needed = {f"{(Path('assets/bundle') / name).parent.as_posix()}/" for name in ("bundle.json", *bundle["files"])}
    assert set(project["flutter"]["assets"]) == needed
    assert all((folder / name).is_dir() for name in needed)
