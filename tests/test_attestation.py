"""The bill of materials and the provenance of an artifact, in the forms that their schemas ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sealed import LOCK, sealed_artifact

import edgekit
from edgekit.attestation import FORMS
from edgekit.bounds import MAX_LOCK_BYTES
from edgekit.errors import ArtifactError, UnknownNameError, VerificationError
from edgekit.sealing import seal
from edgekit.source import sha256_file

FILES = ["SHA256SUMS", "golden/model.safetensors", "manifest.json", "model.onnx", "recipe.lock.toml", "report.json"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sealed_artifact(tmp_path / "out").path


def properties(part: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in part["properties"]}


@pytest.mark.parametrize(
    "changes", [{}, {"data": {}, "target": None}, {"teacher": {"name": "big", "digest": "7" * 64}}]
)
def test_the_bill_of_materials_is_valid_by_the_schema(tmp_path: Path, changes: dict[str, Any]) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    artifact = sealed_artifact(tmp_path / "out", **changes)
    text = json.dumps(edgekit.attest(artifact.path, "cyclonedx"))
    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(text) is None


def test_the_bill_of_materials_names_every_file_the_origin_and_the_packages(root: Path) -> None:
    bill = edgekit.attest(root, "cyclonedx")
    parts = {part["bom-ref"]: part for part in bill["components"]}
    files = {part["name"]: part["hashes"][0]["content"] for part in parts.values() if part["type"] == "file"}
    assert files == {name: sha256_file(root / name) for name in FILES}
    assert parts["source"]["licenses"] == [{"license": {"name": "apache-2.0"}}]
    assert parts["source"]["version"] == "c"
    assert properties(parts["source"]) == {"edgekit:edgekit_files_sha256": "5" * 64}
    assert properties(parts["data"]) == {"edgekit:edgekit_files_sha256": "d" * 64}
    packages = [part["purl"] for part in parts.values() if part["type"] == "library"]
    assert packages == ["pkg:pypi/onnx-ir@1.1.0", "pkg:pypi/torch@2.13.0%2Bcpu"]
    whole = bill["metadata"]["component"]
    assert (whole["name"], whole["version"]) == ("minilm-arm64", sha256_file(root / "SHA256SUMS")[:12])
    card = whole["modelCard"]
    assert card["modelParameters"]["inputs"] == [{"format": "input_ids: int64[batch, sequence]"}]
    assert card["quantitativeAnalysis"]["performanceMetrics"][0]["value"] == "0.9106"
    assert {one["ref"] for one in bill["dependencies"]} == {"artifact", *parts}


def test_provenance_has_the_files_the_recipe_and_what_went_in(root: Path) -> None:
    statement = edgekit.attest(root, "in-toto")
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert subjects == {name: sha256_file(root / name) for name in FILES}
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"]["recipe"]["stages"] == [{"stage": "export"}]
    assert (build["externalParameters"]["target"], build["externalParameters"]["seed"]) == ("arm64", 3)
    assert build["internalParameters"]["decisions"]["keep.quantize"]["kept"] is True
    assert [one.get("digest") or one["uri"] for one in build["resolvedDependencies"]] == [
        {"edgekit_files_sha256": "5" * 64},
        {"edgekit_files_sha256": "d" * 64},
        "pkg:pypi/torch@2.13.0%2Bcpu",
    ]
    run = statement["predicate"]["runDetails"]
    assert run["builder"]["id"] == "urn:edgekit:0.1.0"
    assert run["metadata"] == {"finishedOn": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_artifact_gives_the_same_document_and_is_not_changed(root: Path, form: str) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert edgekit.attest(root, form) == edgekit.attest(root, form)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_artifact_is_not_attested(root: Path, form: str) -> None:
    (root / "model.onnx").write_bytes(b"other")
    with pytest.raises(VerificationError, match="not as it was sealed"):
        edgekit.attest(root, form)


@pytest.mark.parametrize(
    "lock",
    [
        b"lock = 1\n",
        b"name = 'x'\n",
        b"[lock]\nversions = {a = 1}\n",
        LOCK.replace("2.13.0+cpu", "\\u001b[2J").encode(),
        LOCK.replace('"2.13.0+cpu"', "2.13").encode(),
        b"[lock",
        b"\xff\xfe",
        b"#" * (MAX_LOCK_BYTES + 1),
        None,
    ],
)
def test_a_lock_that_is_none_is_not_attested(root: Path, lock: bytes | None) -> None:
    file = root / "recipe.lock.toml"
    file.unlink() if lock is None else file.write_bytes(lock)
    seal(root)
    with pytest.raises(ArtifactError, match=r"recipe\.lock\.toml") as caught:
        edgekit.attest(root, "in-toto")
    assert caught.value.id == ("artifact.invalid-file" if lock is not None else "artifact.not-an-artifact")


def test_an_unknown_form_is_named(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="there is no form of attestation 'spdx'"):
        edgekit.attest(root, "spdx")


@pytest.mark.parametrize("form", ["cyclonedx", "in-toto"])
@pytest.mark.parametrize(
    "changes", [{"source": {"name": "x"}}, {"data": {"name": "x"}}, {"data": {"digest": "d" * 64}}]
)
def test_a_manifest_that_does_not_say_what_went_in_is_not_attested(
    tmp_path: Path, form: str, changes: dict[str, Any]
) -> None:
    sealed_artifact(tmp_path / "out", **changes)
    with pytest.raises(ArtifactError, match="names a model or data without its") as caught:
        edgekit.attest(tmp_path / "out", form)
    assert caught.value.id == "artifact.invalid-file"
