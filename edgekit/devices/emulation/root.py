"""Roots: what an emulated processor runs with, made once in the cache, checked by hash, and removable.

    roots/KIND-DIGEST/
      root.json   what it was made of, and the sha256 of every file
      host/       qemu, its libraries, the compiled plugin
      guest/      a small Debian of the other architecture with Python; absent where this machine's own is run
      site/       the guest's wheels

A root is made in the cache's scratch folder and moved into place when it is whole and a program has run in it. So what
is interrupted leaves nothing that counts; of two who make the same root, the second keeps what the first put there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.artifact import walk, write_text
from edgekit.cache import Cache
from edgekit.devices.emulation import fetch
from edgekit.devices.emulation.guest import (
    GUEST,
    HOST,
    PLUGIN,
    QEMU,
    SITE,
    Call,
    guest_environment,
    make_call,
    make_prefix,
    run_guest,
)
from edgekit.devices.emulation.kinds import EMULATOR_PACKAGES, KEYRING, Kind, kind_of
from edgekit.devices.emulation.plugin import compile_plugin, plugin_arguments, read_regions
from edgekit.devices.emulation.profiles import PROFILES
from edgekit.devices.runner import BEGIN_MARK, END_MARK
from edgekit.errors import HostError
from edgekit.marks import mark, used_entries
from edgekit.placing import write_through
from edgekit.progress import Progress, Silent
from edgekit.source import sha256_file

PLACE, MANIFEST, SCHEMA = "roots", "root.json", "edgekit.root/1"
STEPS = 6
TRIAL_SECONDS = 300
# Imports what the runner will import, which leaves its byte code beside it, and marks a region that must be counted.
TRIAL = """\
import contextlib, importlib, os
for name in {modules!r}:
    importlib.import_module(name)
for number in ({begin}, {end}):
    with contextlib.suppress(ProcessLookupError):
        os.getpgid(number)
"""


@dataclass(frozen=True)
class Root:
    """A root that is there.

    Attributes:
        kind: what of machine it is.
        path: its folder.
        size_bytes: of all its files.
        contents: the packages and wheels that it was made of, by file name.
    """

    kind: str
    path: Path
    size_bytes: int
    contents: tuple[str, ...]


def root_name(kind: Kind) -> str:
    """Name of a kind's root in the cache: another one when it would be made of other things."""
    return f"{kind.name}-{kind.digest[:16]}"


def find_root(kind: str, cache: Cache) -> Root | None:
    """The finished root of a kind, or None; its files are not hashed, see ``verify_root``."""
    name = root_name(kind_of(kind))
    folder = cache.root / PLACE / name
    record = read_manifest(folder)
    if record is None:
        return None
    mark(cache.root, f"{PLACE}/{name}")
    with contextlib.suppress(OSError):  # when it was last used; a cache that may only be read
        os.utime(folder / MANIFEST)
    return Root(kind, folder, int(record["size_bytes"]), tuple(record["contents"]))


def why_not(kind: str) -> str | None:
    """Why the root of a kind cannot be made on this machine, or None; what only the network knows is not asked."""
    wanted = kind_of(kind)
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"emulation runs on Linux on x86-64, and this is {platform.system()} on {platform.machine()}"
    for program, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("gcc", "gcc")):
        if shutil.which(program) is None:
            return f"{program} is not here: install {package}" + (" and libc6-dev" if program == "gcc" else "")
    if not KEYRING.is_file():
        return f"{KEYRING} is not here, which proves what Debian's mirror sends: install debian-archive-keyring"
    if wanted.wheels and importlib.util.find_spec("pip") is None:
        return "pip is not in this environment: run `python -m ensurepip`"
    return None


def build_root(kind: str, cache: Cache, progress: Progress | None = None) -> Root:
    """The root of a kind: the one that is there, or a new one.

    Args:
        kind: one of ``KINDS``.
        cache: where it goes.
        progress: told how far it is.

    Raises:
        HostError: this machine cannot have it, or a step failed; the reason is the failing program's own.
        ResourceLimitError: the disk is full.
    """
    found = find_root(kind, cache)
    if found is not None:
        return found
    reason = why_not(kind)
    if reason is not None:
        raise HostError(f"{kind} cannot be emulated on this machine", id="environment.cannot-emulate", why=reason)
    told, wanted = progress or Silent(), kind_of(kind)
    scratch = cache.scratch()
    try:
        told.start(f"set up {kind}", STEPS)
        made, contents = _make(wanted, scratch, told)
        size_bytes = _write_manifest(made, wanted, contents)
        _put(made, cache.root / PLACE / root_name(wanted))
        told.finish(f"{size_bytes / 1e6:.0f} MB")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found = find_root(kind, cache)
    if found is None:
        raise HostError(
            f"the root of {kind} is gone", id="environment.setup-failed", why="something else removed it meanwhile"
        )
    return found


def _make(kind: Kind, scratch: Path, told: Progress) -> tuple[Path, list[str]]:
    """Everything of a root but its manifest; its folder, and the names of what it was made of."""
    made = scratch / "root"
    made.mkdir()
    architectures = ["amd64", *([kind.debian] if kind.debian else [])]
    apt = fetch.prepare_apt(scratch / "apt", architectures)
    told.advance(note="packages")
    debs = fetch.download_packages(apt, [f"{name}:amd64" for name in EMULATOR_PACKAGES], scratch / "emulator")
    fetch.unpack_packages(debs, scratch / "unpacked")
    _install_emulator(scratch / "unpacked", made, kind)
    told.advance(note="plugin")
    compile_plugin(made / PLUGIN)
    told.advance(note="guest")
    if kind.debian:
        guest = fetch.download_packages(apt, [f"{name}:{kind.debian}" for name in kind.packages], scratch / "debs")
        fetch.unpack_packages(guest, made / GUEST)
        for link, leads_to in kind.links:
            (made / GUEST / link).symlink_to(leads_to)
        debs = [*debs, *guest]
    told.advance(note="wheels")
    if kind.wheels:
        wheels = fetch.download_wheels(kind, scratch / "wheels")
        fetch.unpack_wheels(wheels, made / SITE)
        debs = [*debs, *wheels]
    told.advance(note="trial")
    _try_out(made, kind)
    told.advance()
    return made, [file.name for file in debs]


def _install_emulator(unpacked: Path, made: Path, kind: Kind) -> None:
    """Copy the one emulator and the libraries, flat, under the names that it asks for."""
    (made / HOST / "lib").mkdir(parents=True)
    shutil.copy2(unpacked / "usr" / "bin" / kind.program, made / QEMU)
    for folder in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
        for library in sorted((unpacked / folder).glob("*.so*")):
            if library.is_file():
                shutil.copy2(library, made / HOST / "lib" / library.name)


def _try_out(made: Path, kind: Kind) -> None:
    """Run a program on the kind's first profile, with the plugin.

    Raises:
        HostError: it does not run, or is not counted.
    """
    profile = next(profile for profile in PROFILES.values() if profile.kind == kind.name)
    program = TRIAL.format(modules=kind.modules, begin=BEGIN_MARK, end=END_MARK)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        prefix, log = Path(name) / "prefix", Path(name) / "log"
        prefix.mkdir()
        make_prefix(prefix, made, profile)
        arguments = [*plugin_arguments(made / PLUGIN, log, kind), "--", "-c", program]
        call = make_call(made, prefix, profile, sys.executable, arguments)
        environment = dict(guest_environment(made, kind))
        if kind.debian:  # byte code lies in the root, and is hashed with it
            del environment["PYTHONDONTWRITEBYTECODE"]
        run_guest(Call(call.command, environment), TRIAL_SECONDS, profile.label)
        regions = read_regions(log.read_text(encoding="utf-8", errors="replace") if log.exists() else "")
    if len(regions) != 1 or regions[0].instructions < 1:
        raise HostError(
            f"the emulator of {kind.name} runs and does not count",
            id="environment.setup-failed",
            why=f"one region was marked, and {len(regions)} were seen",
        )


def _write_manifest(made: Path, kind: Kind, contents: list[str]) -> int:
    """Write what every file is; the bytes of all of them."""
    files, links, size_bytes = {}, {}, 0
    for path in walk(made):
        name = path.relative_to(made).as_posix()
        if path.is_symlink():
            links[name] = os.readlink(path)
        else:
            files[name] = sha256_file(path)
            size_bytes += path.stat().st_size
    record = {"schema": SCHEMA, "kind": kind.name, "digest": kind.digest, "size_bytes": size_bytes}
    record |= {"contents": contents, "files": files, "links": links}
    write_text(made / MANIFEST, json.dumps(record, indent=1, sort_keys=True) + "\n")
    return size_bytes


def _put(made: Path, place: Path) -> None:
    """Move a finished root into its place, unless one is there; all of it is on the disk by then."""
    write_through(made)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(place)
    except OSError:
        if read_manifest(place) is None:  # what is there is no root
            shutil.rmtree(place, ignore_errors=True)
            made.rename(place)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What a root says of itself, or None where there is none that can be read."""
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sound = record["schema"] == SCHEMA and all(isinstance(record[key], dict) for key in ("files", "links"))
        return dict(record) if sound and isinstance(record["size_bytes"], int) and record["contents"] else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def find_root_damage(folder: Path) -> str | None:
    """What of a root is not as it was made, or None: every file is hashed."""
    record = read_manifest(folder)
    if record is None:
        return f"{MANIFEST} cannot be read"
    return next(_damages(folder, record), None)


def _damages(folder: Path, record: dict[str, Any]) -> Iterator[str]:
    present = {path.relative_to(folder).as_posix(): path for path in walk(folder)}
    del present[MANIFEST]
    if different := present.keys() ^ (record["files"].keys() | record["links"].keys()):
        yield f"{min(different)} is missing or was added"
    for name, path in present.items():
        try:
            link = os.readlink(path) if path.is_symlink() else None
            if link != record["links"].get(name) or (link is None and sha256_file(path) != record["files"].get(name)):
                yield f"{name} changed"
        except OSError:
            yield f"{name} cannot be read"


def verify_root(root: Root) -> str | None:
    """What of a root is not as it was made, or None."""
    return find_root_damage(root.path)


def remove_root(kind: str, cache: Cache) -> int:
    """Remove every root of a kind, those of earlier recipes too, but what other processes use; bytes that were freed.

    Raises:
        HostError: another process uses one of them.
    """
    freed, used = 0, used_entries(cache.root)
    for folder in sorted((cache.root / PLACE).glob(f"{kind_of(kind).name}-*")):
        if processes := used.get(f"{PLACE}/{folder.name}"):
            raise HostError(
                f"the root of {kind} is in use",
                id="environment.in-use",
                why=f"by process {', '.join(map(str, processes))}",
            )
        freed += sum(path.lstat().st_size for path in walk(folder))
        away = cache.scratch() / folder.name
        folder.rename(away)
        shutil.rmtree(away.parent, ignore_errors=True)
    return freed
