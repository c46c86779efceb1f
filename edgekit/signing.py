"""Signatures of artifacts, by model-signing (OpenSSF): a Sigstore bundle beside the folder, made and checked offline.

The bundle holds an in-toto statement with the sha256 of every file. A key is an elliptic one (P-256, P-384 or P-521) in
PEM. The signature lies beside the artifact and not in it, since ``SHA256SUMS`` covers every file there. What is signed
here, model-signing's own command accepts, and the other way round.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artifact import write_bytes
from edgekit.bounds import MAX_SUMS_BYTES
from edgekit.errors import HostError, UsageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIX = ".sig"


def signature_path(root: Path) -> Path:
    """Where the signature of an artifact lies: ``out.sig`` beside ``out``."""
    resolved = root.resolve()
    return resolved.with_name(resolved.name + SUFFIX)


def sign_folder(root: Path, key: Path, file: Path) -> None:
    """Sign every file of a folder.

    Args:
        root: the folder.
        key: a private key, without a password.
        file: the signature, outside the folder.

    Raises:
        UsageError: there is no key, or it is none of this kind; the signature would lie inside.
        HostError: model-signing is not installed.
    """
    if file.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"the signature {str(file)!r} would lie inside what it signs",
            id="usage.output-sealed",
            why="every file there is covered by the seal and by the signature",
        )
    signer = _load(lambda signing: signing.signing.Config().use_elliptic_key_signer(private_key=key), key, "private")
    made = file.with_name(f".{file.name}.new")
    try:
        signer.set_hashing_config(_every_file()).sign(root, made)
        write_bytes(file, made.read_bytes())
    finally:
        made.unlink(missing_ok=True)


def check_signature(root: Path, key: Path, file: Path) -> None:
    """See that a signature is of a key and of a folder as it is now.

    Args:
        root: the folder.
        key: a public key.
        file: the signature.

    Raises:
        VerificationError: it is not, or there is none.
        UsageError: there is no key, or it is none of this kind.
        HostError: model-signing is not installed.
    """
    verifier = _load(
        lambda signing: signing.verifying.Config().use_elliptic_key_verifier(public_key=key), key, "public"
    )
    if not file.is_file():
        raise VerificationError(
            f"there is no signature {str(file)!r}", id="verification.signature", why="it was asked for by --key"
        )
    if file.stat().st_size > MAX_SUMS_BYTES:
        raise VerificationError(
            f"the signature {str(file)!r} has {file.stat().st_size} bytes",
            id="verification.signature",
            why=f"allowed: {MAX_SUMS_BYTES}",
        )
    from cryptography.exceptions import InvalidSignature

    try:
        verifier.verify(root, file)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, InvalidSignature) as error:
        # model-signing raises ValueError for what differs, and whatever its parsers do for a damaged bundle
        raise VerificationError(
            f"the signature {str(file)!r} does not hold for {str(root)!r}",
            id="verification.signature",
            why=(str(error).strip() or "it is of another key, or was changed").splitlines()[0],
        ) from error


def _every_file() -> Any:
    """Every file counts: model-signing leaves out what belongs to git unless it is told not to."""
    import model_signing

    return model_signing.hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)


def _load(open_with: Callable[[Any], Any], key: Path, kind: str) -> Any:
    """A signer or verifier with its key."""
    try:
        import model_signing
    except ModuleNotFoundError as error:
        raise HostError(
            "the package 'model-signing' is not installed",
            id="environment.no-package",
            why=str(error),
            hint="Install it with the extra: pip install 'edgekit[sign]'.",
        ) from error
    if not key.is_file():
        raise UsageError(f"there is no key {str(key)!r}", id="usage.no-file")
    try:
        return open_with(model_signing)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{str(key)!r} is no {kind} key that can be used",
            id="usage.bad-value",
            why=f"allowed: an elliptic {kind} key in PEM (P-256, P-384, P-521) without a password",
            hint="openssl ecparam -name prime256v1 -genkey -noout -out private.pem;"
            " openssl ec -in private.pem -pubout -out public.pem",
        ) from error
