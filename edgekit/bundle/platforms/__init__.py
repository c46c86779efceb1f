"""The table of platforms that a bundle can be made for."""

from __future__ import annotations

from edgekit.bundle.platforms.base import Platform
from edgekit.bundle.platforms.c import C
from edgekit.bundle.platforms.node import NODE
from edgekit.bundle.platforms.python import PYTHON

PLATFORMS: dict[str, Platform] = {platform.name: platform for platform in (PYTHON, C, NODE)}
