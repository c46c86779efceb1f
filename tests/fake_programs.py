"""apt-get, dpkg-deb, pip, gcc and qemu for tests: they make small files, and keep what they were asked for."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What the emulator's packages bring, as far as a root copies it.
EMULATOR = ("usr/bin/qemu-aarch64", "usr/bin/qemu-arm", "usr/bin/qemu-x86_64", "lib/x86_64-linux-gnu/libc.so.6")


class Programs:
    """Stands for ``subprocess.run``.

    Attributes:
        asked: every command, in order.
        failing: programs that end with an error: what they say on stderr.
        regions: what the emulator's plugin writes.
    """

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.failing: dict[str, str] = {}
        self.regions = "edgekit-region 300 fmla:0\n"

    def __call__(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        self.asked.append(words)
        name = self.name(words)
        if name in self.failing:
            return subprocess.CompletedProcess(words, 100, "", self.failing[name])
        getattr(self, f"_{name}", lambda words, folder: None)(words, Path(options.get("cwd") or "."))
        return subprocess.CompletedProcess(words, 0, "", "")

    @staticmethod
    def name(words: list[str]) -> str:
        """Which program a command is: ``update``, ``download``, ``extract``, ``pip``, ``gcc`` or ``qemu``."""
        if words[0] == "apt-get":
            return "update" if "update" in words else "download"
        return {"dpkg-deb": "extract", "gcc": "gcc", "/bin/sh": "qemu"}.get(words[0], "pip")

    def _download(self, words: list[str], folder: Path) -> None:
        # as apt-get does, into the folder that it runs in; the deb's name says where it was found
        for package in words[words.index("download") + 1 :]:
            name, _, architecture = package.partition(":")
            (folder / f"{name}_1_{architecture}.deb").write_text(package)

    def _extract(self, words: list[str], folder: Path) -> None:
        package, place = Path(words[2]).name.partition("_")[0], Path(words[3])
        files = EMULATOR if package == "qemu-user" else (f"usr/share/{package}",)
        for file in files:
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_text(package)
        if package.startswith("lib") and words[2].endswith("armhf.deb"):
            (place / "usr/lib/arm-linux-gnueabihf").mkdir(parents=True, exist_ok=True)

    def _pip(self, words: list[str], folder: Path) -> None:
        place = Path(words[words.index("--dest") + 1])
        with zipfile.ZipFile(place / "onnxruntime-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("onnxruntime/__init__.py", "")

    def _gcc(self, words: list[str], folder: Path) -> None:
        Path(words[words.index("-o") + 1]).write_bytes(b"\x7fELF")

    def _qemu(self, words: list[str], folder: Path) -> None:
        if "-D" in words:
            Path(words[words.index("-D") + 1]).write_text(self.regions)
