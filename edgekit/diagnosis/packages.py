"""The packages that edgekit needs, as its own metadata lists them, beside what is installed."""

from __future__ import annotations

import re
from importlib import metadata
from typing import NamedTuple

from edgekit.environment import version_of

NAME = "edgekit"
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w.-]+)['"]""")
_BOUND = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*([\w.*+!-]+)")
# Packages whose modules have another name than the package.
MODULES = {
    "huggingface-hub": "huggingface_hub",
    "model-signing": "model_signing",
    "onnx-ir": "onnx_ir",
    "pillow": "PIL",
    "protobuf": "google.protobuf",
    "pyopenssl": "OpenSSL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "tomli-w": "tomli_w",
    "torch-pruning": "torch_pruning",
}


class Requirement(NamedTuple):
    """A package that edgekit names.

    Attributes:
        name: of the package.
        wanted: its tested range, as ``>=2.10,<3``; empty for any.
        extra: the extra that it belongs to; empty where edgekit cannot do without it.
    """

    name: str
    wanted: str
    extra: str = ""

    @property
    def spelled(self) -> str:
        """As pip takes it."""
        return f'"{self.name}{self.wanted}"' if self.wanted else self.name

    @property
    def module(self) -> str:
        return MODULES.get(self.name, self.name)


def requirements() -> list[Requirement]:
    """What edgekit's metadata lists; empty where edgekit is not installed."""
    try:
        lines = metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:
        return []
    return [read_requirement(line) for line in lines]


def wanted_python() -> str:
    """The range of Python versions; empty where edgekit is not installed."""
    try:
        return str(metadata.metadata(NAME)["Requires-Python"] or "")
    except metadata.PackageNotFoundError:
        return ""


def read_requirement(line: str) -> Requirement:
    """A requirement as metadata spell it: ``torch<3,>=2.10`` or ``ruff>=0.12; extra == "dev"``.

    Raises:
        ValueError: it is none.
    """
    match = _REQUIREMENT.fullmatch(line)
    if match is None:
        raise ValueError(f"{line!r} is no requirement")
    name, wanted, marker = match[1], match[2], match[3] or ""
    extra = _EXTRA.search(marker)
    # the lower bound first, as people write it
    bounds = sorted(("".join(bound) for bound in _BOUND.findall(wanted)), key=lambda bound: bound.startswith("<"))
    return Requirement(name, ",".join(bounds), extra[1] if extra else "")


def misfit(version: str, wanted: str) -> str | None:
    """``older`` or ``newer`` where a version lies outside a range, ``other`` where it is excluded by itself; else None.

    Only the numbers are compared: 2.13.0+cpu is 2.13.0.
    """
    have = _numbers(version)
    for sign, text in _BOUND.findall(wanted):
        bound = _numbers(text)
        if sign in (">=", ">", "~=") and (have < bound or (sign == ">" and have == bound)):
            return "older"
        if sign in ("<", "<=") and (have > bound or (sign == "<" and have == bound)):
            return "newer"
        if sign == "~=" and have[: len(_given(text)) - 1] > bound[: len(_given(text)) - 1]:
            return "newer"
        same = have[: len(_given(text))] == tuple(_given(text))
        if (sign == "==" and not same) or (sign == "!=" and same):
            return "other"
    return None


def installed(requirement: Requirement) -> str | None:
    """The installed version."""
    return version_of(requirement.name)


def _given(version: str) -> list[int]:
    release = version.partition("+")[0]
    return [int(part) for part in re.findall(r"\d+", release)]


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers, of equal length, so that 3 and 3.0 are the same."""
    return tuple((_given(version) + [0] * 6)[:6])
