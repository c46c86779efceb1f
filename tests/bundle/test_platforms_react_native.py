"""React Native: its own file is checked by TypeScript, against the packages' own types where npm gives them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle.bundles import run

from edgekit.bundle.platforms.base import coordinates
from edgekit.bundle.platforms.react_native import OWN, SHARED

Bundles = Callable[[str, str], Path]
# What native.ts uses of React Native itself, which is large; and a package without types.
DECLARED = """
declare module "react-native" { export const Platform: { OS: "android" | "ios" }; }
declare module "text-encoding-polyfill";
"""


def test_imports_are_written_as_metro_finds_them(bundles: Bundles) -> None:
    folder = bundles("react-native", "bert")
    packages = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    for name in (*SHARED, OWN):
        text = (folder / "src" / name).read_text(encoding="utf-8")
        for imported in re.findall(r'from "(.*?)"', text):
            if imported.startswith("."):
                assert (folder / "src" / f"{imported}.ts").is_file(), (name, imported)
            else:
                assert imported in {*packages, "react-native"}
    versions = coordinates()["react-native"]
    assert all(versions[package] == version for package, version in packages.items())


@pytest.mark.slow
def test_the_code_is_correctly_typed(copied: Callable[[str, str], Path]) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = copied("react-native", "bert")
    done = run("npm", "install", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", folder=folder)
    assert done.returncode == 0, done.stderr
    (folder / "src/declared.d.ts").write_text(DECLARED, encoding="utf-8")
    checked = run("npx", "tsc", "--noEmit", folder=folder)
    assert checked.returncode == 0, checked.stdout
