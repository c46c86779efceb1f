"""Energy by the counters of a machine. It is sent to devices beside the runner, and needs nothing but Python."""

from __future__ import annotations

import glob
import os


class Meter:
    """Counters of energy in microjoules, where this process may read them.

    RAPL's packages (Linux: Documentation/power/powercap/powercap.rst), else the energy counters of hwmon
    (Documentation/hwmon/sysfs-interface.rst). They count the whole processor, whoever uses it. What a package is a part
    of (``psys``) or consists of (the cores that amd_energy has beside the sockets) is not counted a second time.

    Args:
        root: ``/``; another folder in tests.
    """

    def __init__(self, root: str = "/") -> None:
        self.uj: dict[str, list[float | None]] = {}
        packages = sorted(glob.glob(os.path.join(root, "sys/class/powercap/intel-rapl:[0-9]*/energy_uj")))
        sensors = sorted(glob.glob(os.path.join(root, "sys/class/hwmon/hwmon*/energy*_input")))
        self._files = [file for file in packages if self._named(file, "name").startswith("package")]
        self._files = self._files or [file for file in sensors if not self._named(file, "label").startswith("Ecore")]

    def _named(self, file: str, what: str) -> str:
        """What a counter says that it is; empty where it says nothing."""
        folder, name = os.path.split(file)
        beside = what if what == "name" else name.replace("_input", f"_{what}")
        try:
            with open(os.path.join(folder, beside), encoding="utf-8") as stream:
                return stream.read().strip()
        except OSError:
            return ""

    def read(self) -> float:
        """All counters together."""
        total = 0.0
        for file in self._files:
            with open(file, encoding="ascii") as stream:
                total += float(stream.read())
        return total

    def readable(self) -> bool:
        """Whether there are counters, and this process may read them."""
        try:
            self.read()
        except (OSError, ValueError):
            return False
        return bool(self._files)

    def note(self, name: str, before: float, inferences: int) -> None:
        """Keep what each inference of a block took; nothing is known where a counter stood still or began anew."""
        used = self.read() - before
        self.uj.setdefault(name, []).append(used / inferences if used > 0 else None)
