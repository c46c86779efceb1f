"""ONNX Runtime for browsers: fetched once from the npm registry into the cache, held by its sum."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tarfile
from pathlib import Path

from edgekit.cache import Cache, folders_in
from edgekit.errors import HostError
from edgekit.progress import Progress, Silent

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# sha512 of the package as the registry states it: `npm view onnxruntime-web@1.30.0 dist.integrity`.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
SECONDS = 600
# Of its object in the cache.
KEY = hashlib.sha256(f"{PACKAGE} {INTEGRITY} {' '.join(FILES)}".encode()).hexdigest()


def provide(cache: Cache, progress: Progress | None = None) -> Path:
    """The folder with the runtime's files, fetched where it is not there.

    Raises:
        HostError: npm is not there, does not reach its registry, or gives something else.
    """
    found = cache.get(KEY)
    if found is not None:
        return found
    told = progress or Silent()
    told.start(f"fetch {PACKAGE} {VERSION}", None)
    with folders_in(cache.scratch()) as new:
        package, made = _pack(new()), new()
        with tarfile.open(package) as archive:
            for name in FILES:
                content = archive.extractfile(f"package/dist/{name}")
                assert content is not None  # a package of this sum has these files
                (made / name).write_bytes(content.read())
        found = cache.put(KEY, made)
    told.finish()
    return found


def _pack(folder: Path) -> Path:
    command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError as error:
        raise HostError(
            "there is no npm here",
            id="environment.no-tool",
            hint=f"Install it: {PACKAGE} {VERSION}, which runs models in a browser, comes from its registry.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise _not_had(f"no answer in {SECONDS} s") from error
    packages = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(packages) != 1:
        raise _not_had((done.stderr.strip().splitlines() or [f"npm ended with code {done.returncode}"])[-1])
    digest = base64.b64encode(hashlib.sha512(packages[0].read_bytes()).digest()).decode("ascii")
    if f"sha512-{digest}" != INTEGRITY:
        raise _not_had("the package has another sum than the one that is expected")
    return packages[0]


def _not_had(why: str) -> HostError:
    return HostError(
        f"{PACKAGE} {VERSION} cannot be fetched",
        id="environment.no-network",
        why=why,
        hint="npm has to reach its registry once; what it gave is kept in the cache.",
    )
