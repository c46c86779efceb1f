"""Flutter: sources are parsed, by Dart's own parser where it can be had; there is no Dart compiler here."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle.bundles import FAMILIES, run
from bundle.parsing import faults, sources

from edgekit.bundle.platforms.base import coordinates
from edgekit.bundle.platforms.flutter import LIBRARY, SOURCES
from edgekit.devices.browser import served
from edgekit.devices.chromium import Chromium, find_chromium

yaml: Any = pytest.importorskip("yaml", reason="PyYAML, which transformers brings, is not installed")
Bundles = Callable[[str, str], Path]
FORMATTER = "@wasm-fmt/dart_fmt"


@pytest.mark.parametrize("family", FAMILIES)
def test_sources_parse(family: str, bundles: Bundles) -> None:
    found = sources(bundles("flutter", family), ".dart")
    assert {path.name for path in found} == {LIBRARY, *SOURCES}
    assert [fault for path in found for fault in faults(path)] == []


@pytest.mark.slow
def test_darts_own_formatter_takes_the_sources(bundles: Bundles, tmp_path: Path) -> None:
    """`dart format` as WebAssembly: it parses with the parser of Dart's analyzer, and gives back what it understood."""
    executable = find_chromium()
    if executable is None or shutil.which("npm") is None:
        pytest.skip("Chromium or npm is not installed")
    done = run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"{FORMATTER}@0.4.0", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    files = sources(bundles("flutter", "bert"), ".dart")
    texts = [path.read_text(encoding="utf-8") for path in files]
    with Chromium(executable) as browser, served(tmp_path / "node_modules" / FORMATTER) as address:
        browser.open(f"{address}/package.json")
        script = f"""
import('{address}/dart_fmt_web.js').then(async ({{ default: init, format }}) => {{
  await init();
  const one = (text) => {{ try {{ return [format(text, 'a.dart', {{ line_width: 120 }})]; }}
                          catch (error) {{ return String(error); }} }};
  return {json.dumps([*texts, "void f() { return 1 +; }"])}.map(one);
}})"""
        browser.wait_for("document.readyState === 'complete'", 60)
        *found, wrong = browser.evaluate(script, seconds=300)
    assert isinstance(wrong, str)  # it does refuse what is no Dart
    assert "Could not format" in wrong
    assert [(path.name, one) for path, one in zip(files, found, strict=True) if isinstance(one, str)] == []


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
