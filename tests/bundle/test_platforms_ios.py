"""iOS: the C is the one that is tested as C, and what is Swift is parsed: there is no Swift compiler here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle.bundles import FAMILIES, run
from bundle.parsing import calls, faults, sources

from edgekit.bundle.platforms.base import coordinates
from edgekit.bundle.platforms.c import HEADER, SOURCE, source
from edgekit.bundle.platforms.ios import CORE, IOS, SWIFT

Bundles = Callable[[str, str], Path]


@pytest.mark.parametrize("family", FAMILIES)
def test_sources_and_the_manifest_parse(family: str, bundles: Bundles) -> None:
    found = sources(bundles("ios", family), ".swift")
    assert {path.name for path in found} == {"Package.swift", "EdgekitModel.swift", "SelfTestTests.swift"}
    assert [fault for path in found for fault in faults(path)] == []


def test_each_target_has_its_folder_and_the_resource_is_in_its_own(bundles: Bundles) -> None:
    folder = bundles("ios", "bert")
    manifest = (folder / "Package.swift").read_text(encoding="utf-8")
    versions = coordinates()["ios"]
    assert manifest.startswith(f"// swift-tools-version: {versions['swift-tools']}\n")
    assert f'exact: "{versions["onnxruntime-swift-package-manager"]}"' in manifest
    targets = re.findall(r'\.target\(\s*name: "(\w+)"', manifest)
    tests = re.findall(r'\.testTarget\(\s*name: "(\w+)"', manifest)
    assert sorted(path.name for path in (folder / "Sources").iterdir()) == sorted(targets)
    assert sorted(path.name for path in (folder / "Tests").iterdir()) == sorted(tests)
    (resource,) = re.findall(r'\.copy\("(\w+)"\)', manifest)
    assert IOS.content == f"{SWIFT}/{resource}"
    assert (folder / SWIFT / resource / "bundle.json").is_file()


# The parameters of Swift's PackageDescription that matter here, in the order in which they have to be given:
# https://docs.swift.org/package-manager/PackageDescription/PackageDescription.html
TARGET = ["name", "dependencies", "path", "exclude", "sources", "resources", "publicHeadersPath", "cSettings"]
PARAMETERS = {
    "Package": [
        "name",
        "defaultLocalization",
        "platforms",
        "pkgConfig",
        "providers",
        "products",
        "dependencies",
        "targets",
    ],
    ".iOS": [""],
    ".macOS": [""],
    ".library": ["name", "type", "targets"],
    ".package": ["name", "url", "exact"],
    ".product": ["name", "package", "moduleAliases", "condition"],
    ".target": TARGET,
    ".testTarget": TARGET,
    ".copy": [""],
}


def test_the_manifest_gives_parameters_that_there_are_in_their_order(bundles: Bundles) -> None:
    found = calls(bundles("ios", "bert") / "Package.swift")
    assert {name for name, _ in found} == PARAMETERS.keys()
    for name, labels in found:
        places = [PARAMETERS[name].index(label) for label in labels]
        assert places == sorted(set(places)), (name, labels)


def test_swift_calls_the_functions_that_the_header_declares(bundles: Bundles) -> None:
    folder = bundles("ios", "bert")
    header = (folder / CORE / "include" / HEADER).read_text(encoding="utf-8")
    code = (folder / SWIFT / "EdgekitModel.swift").read_text(encoding="utf-8")
    called = set(re.findall(r"\b(edgekit_\w+)\(", code)) - {"edgekit_prediction"}
    declared = set(re.findall(r"\b(edgekit_\w+)\(", header))
    assert called == declared
    assert (folder / CORE / SOURCE).read_text(encoding="utf-8") == source()


def test_the_core_compiles_as_the_package_lays_it_out(bundles: Bundles) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    core = bundles("ios", "bert") / CORE
    done = run("gcc", "-std=c11", "-Wall", "-Werror", "-Iinclude", "-fsyntax-only", SOURCE, folder=core)
    assert done.returncode == 0, done.stderr
