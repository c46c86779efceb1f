"""A signature holds for one key and for every file; model-signing's own command agrees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sealed import sealed_artifact

import edgekit
from edgekit import signing
from edgekit.errors import HostError, UsageError, VerificationError
from edgekit.sealing import check_seal, seal
from edgekit.signing import check_signature, signature_path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sealed_artifact(tmp_path / "out").path


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key and its public one."""
    pytest.importorskip("model_signing")
    return make_keys(tmp_path / "keys")


def make_keys(folder: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def model_signing(*arguments: str) -> int:
    """Its own command."""
    command = [sys.executable, "-P", "-m", "model_signing", *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_a_signature_holds_and_the_artifact_stays_as_it_was(root: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    file = edgekit.sign(root, private)
    assert file == signature_path(root) == root.with_name("out.sig")
    check_signature(root, public, file)
    check_seal(root)


def test_model_signing_accepts_ours_and_we_accept_its(root: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = map(str, keys)
    ours, theirs = edgekit.sign(root, private, output=tmp_path / "ours.sig"), tmp_path / "theirs.sig"
    verify = ("verify", "key", str(root), "--public_key", public, "--signature")
    assert model_signing(*verify, str(ours)) == 0
    assert model_signing("sign", "key", str(root), "--private_key", private, "--signature", str(theirs)) == 0
    check_signature(root, Path(public), theirs)
    (root / "model.onnx").write_bytes(b"other")
    assert model_signing(*verify, str(ours)) != 0


@pytest.mark.parametrize("change", ["changed", "removed", "added", "added for git"])
def test_what_was_changed_and_sealed_again_is_found(root: Path, keys: tuple[Path, Path], change: str) -> None:
    private, public = keys
    file = edgekit.sign(root, private)
    if change == "changed":
        (root / "model.onnx").write_bytes(b"evil" * 50)
    elif change == "removed":
        (root / "golden" / "model.safetensors").unlink()
    else:
        (root / ("more" if change == "added" else ".gitattributes")).write_text("x")
    seal(root)
    with pytest.raises(VerificationError, match="does not hold for"):
        check_signature(root, public, file)


def test_another_key_is_told(root: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    file = edgekit.sign(root, keys[0])
    _, other = make_keys(tmp_path / "other")
    with pytest.raises(VerificationError, match="does not hold for") as caught:
        check_signature(root, other, file)
    assert caught.value.id == "verification.signature"


def test_every_damaged_byte_of_a_signature_is_an_error_of_ours(root: Path, keys: tuple[Path, Path]) -> None:
    file = edgekit.sign(root, keys[0])
    content = file.read_bytes()
    for position in range(0, len(content), max(1, len(content) // 40)):
        file.write_bytes(content[:position])
        with pytest.raises(VerificationError):
            check_signature(root, keys[1], file)
    file.write_bytes(content)
    check_signature(root, keys[1], file)


def test_a_missing_signature_is_told(root: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(VerificationError, match=r"there is no signature .*out\.sig"):
        edgekit.verify(root, keys[1])


def test_a_changed_artifact_is_not_signed(root: Path, keys: tuple[Path, Path]) -> None:
    (root / "model.onnx").write_bytes(b"other")
    with pytest.raises(VerificationError, match="not as it was sealed"):
        edgekit.sign(root, keys[0])


def test_a_signature_does_not_go_into_what_it_signs(root: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="would lie inside what it signs"):
        edgekit.sign(root, keys[0], output=root / "out.sig")
    check_seal(root)


@pytest.mark.parametrize("kind", ["missing", "no key", "the other one"])
def test_what_is_no_key_is_told(root: Path, keys: tuple[Path, Path], kind: str, tmp_path: Path) -> None:
    key = {"missing": tmp_path / "nothing.pem", "no key": tmp_path / "text", "the other one": keys[1]}[kind]
    if kind == "no key":
        key.write_text("hello")
    with pytest.raises(UsageError, match="there is no key" if kind == "missing" else "no private key that can be used"):
        edgekit.sign(root, key)
    assert not signature_path(root).exists()


def test_without_the_package_the_extra_is_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(HostError, match=r"pip install 'edgekit\[sign\]'"):
        signing.sign_folder(root, tmp_path / "key", tmp_path / "out.sig")


def test_a_signature_without_a_key_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="a signature was named without a key"):
        edgekit.verify(root, signature="out.sig")
