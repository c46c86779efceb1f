"""Setting up and removing what `edgekit targets setup` and `edgekit targets remove` name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgekit.cache import Cache
from edgekit.devices.emulation.kinds import KINDS
from edgekit.devices.emulation.profiles import PROFILES
from edgekit.devices.emulation.root import build_root, find_root, remove_root, verify_root
from edgekit.errors import UnknownNameError, UsageError
from edgekit.progress import Progress, Silent
from edgekit.settings import Frozen
from edgekit.target import HOST, load_target, target_names

# How else a kind may be called: as targets are.
ALIASES = {"armv7": "armhf"}

State = Literal["made", "sound", "made again"]


class Emulator(Frozen):
    """What was set up.

    Attributes:
        kind: what of machine it is.
        profiles: the processors that it can be.
        path: its folder in the cache.
        size_bytes: of all its files.
        contents: the packages and wheels that it was made of.
        state: whether it was made now, was there and is as it was made, or was damaged and is made again.
    """

    kind: str
    profiles: tuple[str, ...]
    path: str
    size_bytes: int
    contents: tuple[str, ...]
    state: State


class SetUp(Frozen):
    """What ``targets setup`` prints."""

    schema_: Literal["edgekit.setup/1"] = Field("edgekit.setup/1", alias="schema")
    emulators: tuple[Emulator, ...]


class Removal(Frozen):
    """What ``targets remove`` prints: kinds, and the bytes that each freed."""

    schema_: Literal["edgekit.removal/1"] = Field("edgekit.removal/1", alias="schema")
    freed_bytes: dict[str, int]


def setup_names() -> tuple[str, ...]:
    """Everything that can be set up by name."""
    return tuple(dict.fromkeys([*KINDS, *ALIASES, *PROFILES, *_emulated_targets()]))


def _emulated_targets() -> list[str]:
    """The targets that name processors to emulate."""
    return [name for name in target_names() if name != HOST and load_target(name).profiles]


def kinds_for(name: str) -> tuple[str, ...]:
    """The kinds of machine that a name needs: a kind, a profile or a target.

    Raises:
        UnknownNameError: there is no such name.
        UsageError: it is a target that nothing emulates.
    """
    plain = ALIASES.get(name, name)
    if plain in KINDS:
        return (plain,)
    if plain in PROFILES:
        return (PROFILES[plain].kind,)
    if plain not in target_names():
        raise UnknownNameError("target or processor to set up", name, setup_names(), id="unknown-name.emulation")
    target = load_target(plain)
    kinds = tuple(dict.fromkeys(PROFILES[profile].kind for profile in target.profiles if profile in PROFILES))
    if not kinds:
        raise UsageError(
            f"the target {name!r} cannot be emulated",
            id="usage.target-mismatch",
            why=f"allowed: {', '.join(setup_names())}",
        )
    return kinds


def set_up(names: list[str], cache: Cache, progress: Progress | None = None) -> SetUp:
    """Make what several names need; what is there is hashed, and made again where it is damaged.

    Raises:
        UsageError: a name that there is not, before anything is made.
        HostError: this machine cannot have it, or a step failed.
    """
    told = progress or Silent()
    kinds = dict.fromkeys(kind for name in names for kind in kinds_for(name))
    return SetUp(emulators=tuple(_set_up(kind, cache, told) for kind in kinds))


def _set_up(kind: str, cache: Cache, told: Progress) -> Emulator:
    state: State = "made"
    root = find_root(kind, cache)
    if root is not None:
        told.start(f"verify {kind}")
        problem = verify_root(root)
        told.finish(problem or "sound")
        state = "sound"
        if problem is not None:
            remove_root(kind, cache)
            state, root = "made again", None
    if root is None:
        root = build_root(kind, cache, told)
    return Emulator(
        kind=kind,
        profiles=tuple(name for name, profile in PROFILES.items() if profile.kind == kind),
        path=str(root.path),
        size_bytes=root.size_bytes,
        contents=root.contents,
        state=state,
    )


def remove(names: list[str], cache: Cache) -> Removal:
    """Remove what several names need, in every version that is there.

    Raises:
        UsageError: a name that there is not, before anything is removed.
        HostError: a process uses it.
    """
    kinds = dict.fromkeys(kind for name in names for kind in kinds_for(name))
    return Removal(freed_bytes={kind: remove_root(kind, cache) for kind in kinds})
