"""The documents of ``doctor`` and ``env``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgekit.settings import Frozen

# ok, or: worth knowing, not there and not needed, a gap that does not stop a run, a gap that does.
State = Literal["ok", "note", "absent", "warning", "failed"]


class Check(Frozen):
    """One thing that was looked at.

    Attributes:
        group: what it belongs to.
        name: what was looked at.
        state: how it is; only ``failed`` stops a run.
        found: what is there.
        fix: what to do, where there is a gap.
        package: whether it is about one of the packages that edgekit needs.
    """

    group: str
    name: str
    state: State
    found: str
    fix: str = ""
    package: bool = False


class DoctorRecord(Frozen):
    """All checks of this machine; ``passed`` is whether nothing that a run needs is missing."""

    schema_: Literal["edgekit.doctor/1"] = Field("edgekit.doctor/1", alias="schema")
    edgekit: str
    passed: bool
    checks: tuple[Check, ...]


class EnvRecord(Frozen):
    """What a bug report needs. It holds no names of people or machines, and no paths.

    Attributes:
        edgekit: its version.
        python: implementation and version.
        system: operating system, release and distribution.
        processor: its model.
        architecture: as the kernel says.
        features: instruction-set extensions that a target or a runtime asks for.
        gpus: CUDA devices, by name and compute capability.
        cores: processors that this process may use.
        memory_bytes: installed, or what the control group allows.
        memory_available_bytes: free for this process; None where that cannot be told.
        packages: version of each that edgekit needs or can use; None where it is absent.
        targets: for each shipped target, whether this machine can measure it.
        settings: variables that are set: the value of a switch or a number, of anything else that it is set.
    """

    schema_: Literal["edgekit.env/1"] = Field("edgekit.env/1", alias="schema")
    edgekit: str
    python: str
    system: str
    processor: str
    architecture: str
    features: tuple[str, ...]
    gpus: tuple[str, ...] = ()
    cores: int
    memory_bytes: int
    memory_available_bytes: int | None
    packages: dict[str, str | None]
    targets: dict[str, bool]
    settings: dict[str, str]
