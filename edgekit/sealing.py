"""``SHA256SUMS``: what closes a directory, and by which every change to it is found.

It covers every file of the directory, is written last, and ``sha256sum -c`` takes it.
"""

from __future__ import annotations

from pathlib import Path

from edgekit.artifact import MANIFEST, SUMS, is_plain, open_artifact, walk, write_text
from edgekit.bounds import MAX_SUMS_BYTES
from edgekit.errors import ArtifactError, VerificationError
from edgekit.source import sha256_file


def seal(root: Path) -> dict[str, str]:
    """Write ``SHA256SUMS`` over every file of the directory, in the format of ``sha256sum``, as its last file.

    Returns:
        The sum of each file by its name.
    """
    sums = {path.relative_to(root).as_posix(): sha256_file(path) for path in walk(root) if path != root / SUMS}
    write_text(root / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    return sums


def find_tampering(root: Path) -> list[str]:
    """What in a sealed directory is not as it was sealed: one line for each file changed, missing or added.

    Raises:
        ArtifactError: the directory was never sealed, or its list of sums cannot be read.
    """
    sums = root / SUMS
    if not sums.is_file():
        raise ArtifactError(f"{str(root)!r} is not sealed", id="artifact.not-sealed", why=f"it has no {SUMS}")
    if sums.is_symlink() or sums.stat().st_size > MAX_SUMS_BYTES:
        return [f"{SUMS}: {'changed' if sums.is_symlink() else f'more than {MAX_SUMS_BYTES} bytes'}"]
    expected: dict[str, str] = {}
    for number, line in enumerate(sums.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        digest, separator, name = line.partition("  ")
        if len(digest) != 64 or not separator or not name:
            return [f"{SUMS}: line {number} is not a sum and a name"]
        if name in expected:
            return [f"{SUMS}: line {number} names {name!r} again"]
        expected[name] = digest
    present = {path.relative_to(root).as_posix(): path for path in walk(root)}
    present.pop(SUMS)
    problems = [f"{name}: missing" for name in sorted(expected.keys() - present.keys())]
    problems += [f"{name}: added" for name in sorted(present.keys() - expected.keys())]
    problems += [
        f"{name}: changed"
        for name in sorted(expected.keys() & present.keys())
        if not is_plain(present[name]) or sha256_file(present[name]) != expected[name]
    ]
    sealed = open_artifact(root).manifest.files if not problems else {}
    problems += [f"{name}: not what {MANIFEST} says" for name, digest in sealed.items() if expected.get(name) != digest]
    return problems


def check_seal(root: Path) -> None:
    """See that a sealed directory is as it was sealed.

    Raises:
        VerificationError: it is not; every file is named.
        ArtifactError: there is none, or it was never sealed.
    """
    if not root.is_dir():
        raise ArtifactError(f"there is no directory {str(root)!r}", id="artifact.missing")
    problems = find_tampering(root)
    if problems:
        raise VerificationError(
            f"{str(root)!r} is not as it was sealed", id="verification.changed", why="\n".join(problems)
        )
