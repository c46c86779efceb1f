"""What an artifact was made of and how, in the forms that other tools read: made on demand from its sealed files.

- A bill of materials: CycloneDX 1.6 in JSON (ECMA-424), with the model card and the parts of a machine-learning model.
- Provenance: an in-toto Statement v1 with SLSA's predicate ``https://slsa.dev/provenance/v1``.

Neither lies in the artifact: both follow from its manifest, lock, report and sums, and the same artifact gives the same
bytes. Neither is signed by being made; ``edgekit sign`` signs the artifact.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgekit.artifact import MANIFEST, SUMS, Artifact, open_artifact, read_kept
from edgekit.bounds import MAX_LOCK_BYTES
from edgekit.errors import ArtifactError, UnknownNameError
from edgekit.recipe import LOCK_FILE, Lock
from edgekit.report import Report, load_report
from edgekit.sealing import check_seal
from edgekit.settings import first_wrong, load_toml
from edgekit.source import sha256_file

Document = dict[str, Any]
CYCLONEDX_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
# What names the build in SLSA's terms: `edgekit compress`, whose parameters are those of the lock.
BUILD_TYPE, BUILDER = "urn:edgekit:compress:1", "urn:edgekit:{version}"
# The digest of a model or of data is sha256 over the names and sha256 of its files, not over one file's bytes.
FILES_DIGEST = "edgekit_files_sha256"


def attest(path: str | Path, form: str) -> Document:
    """A document on an artifact that is as it was sealed.

    Args:
        path: the artifact.
        form: a key of ``FORMS``.

    Raises:
        VerificationError: it is not as it was sealed.
        ArtifactError: it is no sealed artifact.
        UnknownNameError: there is no such form.
    """
    if form not in FORMS:
        raise UnknownNameError("form of attestation", form, FORMS, id="unknown-name.form")
    root = Path(path).expanduser()
    check_seal(root)
    return FORMS[form](open_artifact(root), load_report(root))


def bill_of_materials(artifact: Artifact, report: Report) -> Document:
    """The CycloneDX document of an artifact."""
    manifest, source = artifact.manifest, artifact.manifest.source
    files = [_file(artifact.path / name, name) for name in sorted(_sealed(artifact))]
    tools = [_package(name, version) for name, version in sorted(manifest.tools.items())]
    origins = [_model("source", source)] + ([_model("teacher", manifest.teacher)] if manifest.teacher else [])
    data = [_data(manifest.data)] if manifest.data else []
    parts = [*origins, *data, *files, *tools]
    return {
        "$schema": CYCLONEDX_SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, _seal(artifact))}",
        "version": 1,
        "metadata": {
            "timestamp": report.created,
            "tools": {"components": [{"type": "application", "name": "edgekit", "version": report.edgekit}]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "artifact",
                "name": f"{source.get('name')}-{manifest.target}" if manifest.target else str(source.get("name")),
                "version": _seal(artifact)[:12],
                "hashes": [_hash(_seal(artifact))],
                **_licences(source),
                "modelCard": _model_card(artifact, report),
            },
        },
        "components": parts,
        "dependencies": [
            {"ref": "artifact", "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }


def provenance(artifact: Artifact, report: Report) -> Document:
    """The in-toto statement on how an artifact was made.

    Raises:
        ArtifactError: it has no valid lock.
    """
    recipe, held = _read_lock(artifact)
    manifest = artifact.manifest
    models = [manifest.source] + ([manifest.teacher] if manifest.teacher else [])
    dependencies: list[Document] = [
        {"name": str(model.get("name")), "digest": {FILES_DIGEST: _said(model, "digest")}} for model in models
    ]
    if manifest.data:
        dependencies.append(
            {"name": _said(manifest.data, "name"), "digest": {FILES_DIGEST: _said(manifest.data, "digest")}}
        )
    dependencies += [
        {"name": name, "uri": _purl(name, version), "annotations": {"version": version}}
        for name, version in sorted(held["versions"].items())
    ]
    said = ("target", "seed", "jobs", "threads", "workload")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(_sealed(artifact).items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"recipe": recipe, **{name: held[name] for name in said}},
                "internalParameters": {
                    "decisions": held["decisions"],
                    "numeric_level": held["numeric_level"],
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER.format(version=report.edgekit),
                    "version": {"edgekit": report.edgekit, "python": report.host.python},
                },
                "metadata": {"finishedOn": report.created},
            },
        },
    }


def _read_lock(artifact: Artifact) -> tuple[Document, Document]:
    """The recipe of an artifact, and what its lock holds beside it.

    Raises:
        ArtifactError: it has no valid lock.
    """
    file = artifact.path / LOCK_FILE
    content = read_kept(file, MAX_LOCK_BYTES)
    try:
        recipe = load_toml(content.decode("utf-8"))
        lock = Lock.model_validate(recipe.pop("lock", None))
    except ValueError as error:  # pydantic's is one
        raise ArtifactError(
            f"{str(file)!r} is no valid lock", id="artifact.invalid-file", why=first_wrong(error)
        ) from error
    return recipe, lock.model_dump(mode="json", exclude_none=True)


FORMS: dict[str, Callable[[Artifact, Report], Document]] = {"cyclonedx": bill_of_materials, "in-toto": provenance}


def _sealed(artifact: Artifact) -> dict[str, str]:
    """Every file of an artifact and its sha256: those of the seal, and the seal itself."""
    lines = (artifact.path / SUMS).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)} | {SUMS: _seal(artifact)}


def _seal(artifact: Artifact) -> str:
    return sha256_file(artifact.path / SUMS)


def _model_card(artifact: Artifact, report: Report) -> Document:
    manifest, quality = artifact.manifest, report.quality
    parts = manifest.components.values()
    card: Document = {
        "modelParameters": {
            "task": manifest.task,
            "modelArchitecture": str(manifest.source.get("architecture")),
            "inputs": [{"format": _tensor(tensor)} for part in parts for tensor in part.inputs],
            "outputs": [{"format": _tensor(tensor)} for part in parts for tensor in part.outputs],
            **({"datasets": [{"ref": "data"}]} if manifest.data else {}),
        },
        "properties": [
            {"name": "edgekit:format", "value": manifest.format},
            {"name": "edgekit:precision", "value": ", ".join(dict.fromkeys(part.precision for part in parts))},
            *({"name": "edgekit:stage", "value": f"{one.stage} {one.version}"} for one in manifest.stages),
        ],
    }
    if quality is not None:
        figures = {quality.metric: quality.after, f"{quality.metric} of the original": quality.before}
        card["quantitativeAnalysis"] = {
            "performanceMetrics": [
                {"type": name, "value": repr(value), "slice": quality.split} for name, value in figures.items()
            ]
        }
    return card


def _tensor(tensor: Any) -> str:
    return f"{tensor.name}: {tensor.dtype}[{', '.join(map(str, tensor.shape))}]"


def _model(ref: str, record: Mapping[str, str | None]) -> Document:
    return {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": str(record.get("name")),
        **({"version": record["commit"]} if record.get("commit") else {}),
        **_licences(record),
        "properties": [{"name": f"edgekit:{FILES_DIGEST}", "value": _said(record, "digest")}],
    }


def _data(record: Mapping[str, str]) -> Document:
    properties = [{"name": f"edgekit:{FILES_DIGEST}", "value": _said(record, "digest")}]
    return {"type": "data", "bom-ref": "data", "name": _said(record, "name"), "properties": properties}


def _said(record: Mapping[str, str | None], key: str) -> str:
    """What a manifest says of a model or of data.

    Raises:
        ArtifactError: it does not say it.
    """
    found = record.get(key)
    if found is None:
        raise ArtifactError(
            f"{MANIFEST} names a model or data without its {key}",
            id="artifact.invalid-file",
            why="an attestation says what an artifact was made of",
        )
    return found


def _file(path: Path, name: str) -> Document:
    return {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": [_hash(sha256_file(path))]}


def _package(name: str, version: str) -> Document:
    purl = _purl(name, version)
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _purl(name: str, version: str) -> str:
    """The package's URL: https://github.com/package-url/purl-spec."""
    return f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version, safe='')}"


def _licences(record: Mapping[str, str | None]) -> Document:
    """By name, since a model's card calls its licence what it likes."""
    return {"licenses": [{"license": {"name": record["licence"]}}]} if record.get("licence") else {}


def _hash(digest: str) -> Document:
    return {"alg": "SHA-256", "content": digest}
