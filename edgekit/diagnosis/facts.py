"""What ``env`` tells: enough to repeat a fault elsewhere, and nothing of who and where.

No user, host or home, no path: of variables only a switch or a number is told, of all others that they are set.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping

from edgekit.diagnosis.doctor import TFLITE_PACKAGES, known_features
from edgekit.diagnosis.packages import requirements
from edgekit.diagnosis.records import EnvRecord
from edgekit.diagnosis.surroundings import Surroundings
from edgekit.environment import version_of
from edgekit.target import HOST, load_target, target_names

OWN_PREFIX = "EDGEKIT_"
OTHERS = (
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HF_HOME", "OMP_NUM_THREADS", "GOMP_SPINCOUNT"),
    *("CUDA_VISIBLE_DEVICES", "TMPDIR", "XDG_CACHE_HOME"),
)
# What may be shown: a switch or a small number says nothing of a person or a place.
SHOWN = re.compile(r"on|off|yes|no|true|false|\d{1,6}", re.IGNORECASE)
SET = "set"


def describe_environment(around: Surroundings | None = None) -> EnvRecord:
    """The facts of a bug report.

    Args:
        around: where to look.
    """
    place = around or Surroundings()
    here, memory = place.host, place.kernel.memory()
    named = [one.name for one in requirements() if one.extra != "dev"]
    return EnvRecord(
        edgekit=version_of("edgekit") or "not installed",
        python=f"{platform.python_implementation()} {here.python}",
        system=describe_system(),
        processor=here.processor,
        architecture=here.architecture,
        features=tuple(known_features(place)),
        gpus=tuple(f"{device.name}, {device.capability}" for device in here.cuda),
        cores=here.cores,
        memory_bytes=memory.total if memory else here.memory_bytes,
        memory_available_bytes=memory.available if memory else None,
        packages={name: version_of(name) for name in sorted({*named, *TFLITE_PACKAGES})},
        targets={name: load_target(name).missing_on(here) is None for name in target_names() if name != HOST},
        settings=read_settings(place.variables),
    )


def describe_system() -> str:
    """Operating system, its release as numbers alone (the rest may be anybody's), distribution and C library."""
    parts = [f"{platform.system()} {'.'.join(re.findall(r'[0-9]+', platform.release())[:2])}".strip()]
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    distribution = f"{release.get('ID', '')} {release.get('VERSION_ID', '')}".strip()
    library = " ".join(platform.libc_ver()).strip()
    return ", ".join([*parts, *(part for part in (distribution, library) if part)])


def read_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that change what edgekit does, without what they hold unless it is a switch or a number."""
    names = sorted(name for name in variables if name.startswith(OWN_PREFIX) or name in OTHERS)
    return {name: variables[name] if SHOWN.fullmatch(variables[name]) else SET for name in names if variables[name]}
