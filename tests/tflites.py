"""TFLite files of tiny models, each exported when a test first asks for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgekit.artifact import WHOLE, Artifact, Component, Manifest
from edgekit.environment import version_of
from edgekit.formats.flatbuffer import PACKAGES
from edgekit.quantization.litert import Ranges
from edgekit.source import sha256_file
from edgekit.tasks.base import Batch, ComponentSpec, Task

INSTALLED = all(version_of(package) is not None for package in PACKAGES)
REASON = "needs the extra: edgekit[tflite]"
LENGTHS = {"bert": (8, 16)}


class Exported(NamedTuple):
    """A file, what it was made from, and its description."""

    spec: ComponentSpec
    file: Path
    component: Component
    task: Task | None

    def batches(self, count: int, size: int) -> list[Batch]:
        """Samples as the component takes them."""
        from tiny import batches

        if self.task is None:
            import numpy as np

            random = np.random.default_rng(0)
            images = random.normal(size=(count, 3, 16, 16)).astype(np.float32)
            return [{"images": images[start : start + size]} for start in range(0, count, size)]
        return [
            {name: values for name, values in batch.items() if name != "labels"}
            for batch in batches(self.task, count, size)
        ]

    def ranges(self) -> Ranges:
        """What its activations reach on eight samples."""
        from edgekit.quantization.litert import Calibrator

        calibrator = Calibrator(self.file, self.component, 1)
        for feeds in self.batches(8, 1):
            calibrator.add(feeds)
        return calibrator.ranges

    def reference(self, feeds: Batch) -> Any:
        """torch's answer."""
        from edgekit.runtimes.torch import TorchRunner

        return TorchRunner({WHOLE: self.spec}).run(WHOLE, feeds)["logits"]

    def artifact(self, file: Path | None = None, component: Component | None = None) -> Artifact:
        """The file in its folder, as an artifact."""
        from tiny import manifest

        file = file or self.file
        made: Manifest = manifest(format="tflite", components={WHOLE: component or self.component})
        return Artifact(file.parent, made)


class Files:
    """By name: a family of ``tiny``, ``pruned``, or a network of ``zoo``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, Exported] = {}
        self.sums: dict[str, str] = {}

    def __getitem__(self, name: str) -> Exported:
        if name not in self.made:
            self.made[name] = self._export(name)
            self.sums[name] = sha256_file(self.made[name].file)
        return self.made[name]

    def check(self) -> None:
        """Fail where a test wrote into a file that all share: it must make its own."""
        changed = [name for name, one in self.made.items() if sha256_file(one.file) != self.sums[name]]
        assert not changed, f"changed by a test: {changed}"

    def _export(self, name: str) -> Exported:
        from edgekit.formats.tflite import describe_component
        from edgekit.formats.tflite_export import export_component

        spec, task = self._spec(name)
        file = self.folder / f"{name}.tflite"
        export_component(spec, file, LENGTHS.get(name, (16,)))
        return Exported(spec, file, describe_component(file, spec.axes), task)

    def _spec(self, name: str) -> tuple[ComponentSpec, Task | None]:
        import tiny

        if name in (*tiny.ARCHITECTURES, "pruned"):
            layers = tiny.LAYERS if name == "pruned" else 1
            model = tiny.build("bert" if name == "pruned" else name, layers=layers)
            task = tiny.task_for(tiny.save(model, self.folder / name))
            model = task.load_model()
            if name == "pruned":
                tiny._prune(model, tiny.PRUNED["pruned"])
            return task.components(model)[WHOLE], task
        import torch
        import zoo

        torch.manual_seed(0)
        example = {"images": torch.randn(2, 3, 16, 16)}
        return ComponentSpec(getattr(zoo, name)().eval(), example, {"images": {0: "batch"}}, ("logits",)), None


def pretend_runtime(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Have edgekit find tflite-runtime in a folder, whose interpreter is LiteRT's: nothing is fetched for it."""
    package = folder / "tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f'import sys\n\n__version__ = "2.14.0"\nsys.path += {sys.path!r}\n')
    (package / "interpreter.py").write_text("from ai_edge_litert.interpreter import Interpreter\n")
    monkeypatch.setattr("edgekit.runtimes.tflite_runtime.environment", lambda cache=None: folder)
    return folder
