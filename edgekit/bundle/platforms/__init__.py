"""The table of platforms that a bundle can be made for."""

from __future__ import annotations

from edgekit.bundle.platforms.android import ANDROID
from edgekit.bundle.platforms.base import Platform
from edgekit.bundle.platforms.c import C
from edgekit.bundle.platforms.flutter import FLUTTER
from edgekit.bundle.platforms.ios import IOS
from edgekit.bundle.platforms.node import NODE
from edgekit.bundle.platforms.python import PYTHON
from edgekit.bundle.platforms.react_native import REACT_NATIVE
from edgekit.bundle.platforms.web import WEB

PLATFORMS: dict[str, Platform] = {
    platform.name: platform for platform in (PYTHON, C, NODE, WEB, REACT_NATIVE, ANDROID, IOS, FLUTTER)
}
