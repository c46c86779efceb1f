"""Devices for tests: the real runner on this machine, with what an emulator would add."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.devices.base import SPEC, Device
from edgekit.devices.local import LocalDevice


@dataclass
class Emulator(Device):
    """Runs everything here, and counts an instruction for each byte of the graph times a factor.

    Attributes:
        label: as reports name it.
        dearer: factors on the instructions of graphs in which these bytes occur.
        asked: what was asked for, in order.
    """

    label: str = "toy-a76, emulated"
    dearer: dict[bytes, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    timed: bool = False

    @property
    def fingerprint(self) -> str:
        return f"{self.label} {sorted(self.dearer.items())}"

    def execute(self, folder: Path, seconds: float) -> str:
        spec = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        self.asked.append(spec["what"])
        answer = json.loads(LocalDevice().execute(folder, seconds))
        if spec["what"] == "instructions":
            graphs = {name: (folder / subject["graph"]).read_bytes() for name, subject in spec["subjects"].items()}
            answer["instructions"] = {name: [self._count(graph)] * spec["count"] for name, graph in graphs.items()}
            answer["kernels"] = {name: {"sdot": 7} for name in graphs}
            assert [name for name in graphs for _ in range(spec["count"])] == answer.pop("regions")
        return json.dumps(answer)

    def _count(self, graph: bytes) -> int:
        factors = [factor for part, factor in self.dearer.items() if part in graph]
        return int(len(graph) * max(factors, default=1.0))
