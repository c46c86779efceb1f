"""A target: one device, as plain facts in a TOML file.

``load_target`` takes the name of a shipped target, ``host`` for this machine, or the path of a TOML file.
Every field and its unit is explained in ``targets/README.md``.
"""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgekit.environment import Host, execution_providers, host, version_of
from edgekit.errors import UnknownNameError, UsageError
from edgekit.settings import Frozen, parse_toml, read_bounded

HOST = "host"

Precision = Literal["fp32", "fp16", "int8"]
Provider = Literal["cpu", "cuda", "tensorrt"]
# onnxruntime's names of what computes, in the order in which each takes the operators that those before it leave.
EXECUTION_PROVIDERS: dict[Provider, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
# What people call each runtime.
RUNTIME_NAMES = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT", "tflite-runtime": "tflite-runtime"}
# Under which name pip installs each runtime.
PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime"}


class IntegerScheme(Frozen):
    """How the target's kernels want INT8.

    Attributes:
        activations: ``u8`` or ``s8``.
        weights: ``s8`` or ``u8``.
        reduce_range: 7-bit weights, where the kernel adds products in 16 bits and would saturate.
        saturates: whether the kernel adds pairs of products in a saturating 16-bit integer.
        per_channel: one weight scale per output channel.
        biases: whether biases become 32-bit integers too; else they stay float.
    """

    activations: Literal["u8", "s8"] = "u8"
    weights: Literal["s8", "u8"] = "s8"
    reduce_range: bool = False
    saturates: bool = False
    per_channel: bool = True
    biases: bool = True


class RuntimeSpec(Frozen):
    """The runtime on the device.

    Attributes:
        name: in the table of runtimes.
        version: the oldest that is supported.
        provider: what computes in it.
        capability: the oldest compute capability of a GPU that it computes on; empty where it is no GPU.
    """

    name: Literal["onnxruntime", "litert", "tflite-runtime"] = "onnxruntime"
    version: str
    provider: Provider = "cpu"
    capability: str = Field("", pattern=r"^(\d+\.\d+)?$")


class Target(Frozen):
    """One device. See ``targets/README.md`` for every field."""

    schema_: Literal["edgekit.target/1"] = Field(alias="schema")
    name: str
    description: str
    architecture: Literal["x86_64", "aarch64", "armv7l", "wasm32"]
    features: tuple[str, ...] = ()
    system: Literal["", "Linux", "Android", "iOS"] = ""
    boards: tuple[str, ...] = ()
    runtime: RuntimeSpec
    formats: tuple[Literal["onnx", "tflite"], ...] = Field(("onnx", "tflite"), min_length=1)
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    opset: int = Field(23, ge=18, le=25)
    width_multiple: int = Field(8, ge=1, le=128)
    int8: IntegerScheme = IntegerScheme()
    reach: Literal["local", "emulated", "browser"] = "local"
    profiles: tuple[str, ...] = ()
    stand_in: str = ""
    sources: dict[str, str] = {}

    def differs_from(self, machine: Host) -> str | None:
        """Why ``machine`` is no such device, or None when it is one."""
        if machine.architecture != self.architecture:
            return f"the target is {self.architecture} and this machine is {machine.architecture}"
        if self.system not in ("", machine.system):
            return f"the target runs {self.system} and this machine runs {machine.system}"
        if self.boards and not machine.board.startswith(self.boards):
            return f"this machine is no {self.boards[0]}"
        absent = [feature for feature in self.features if not machine.has(feature)]
        return f"this machine's processor lacks {', '.join(absent)}" if absent else None

    def missing_on(self, machine: Host, runtime: str | None = None) -> str | None:
        """Why ``machine`` cannot measure this target, or None when it can.

        Args:
            machine: the machine.
            runtime: what runs the artifact; the target's own by default.
        """
        other = self.differs_from(machine)
        if other is not None:
            return other
        package = PACKAGES[runtime or self.runtime.name]
        installed = version_of(package)
        if installed is None:
            return f"{package} is not installed here"
        if runtime in (None, self.runtime.name) and _numbers(installed) < _numbers(self.runtime.version):
            return f"{self.runtime.name} {installed} is installed here, and the target needs {self.runtime.version}"
        return missing_gpu(self.runtime, machine)


def missing_gpu(runtime: RuntimeSpec, machine: Host) -> str | None:
    """What ``machine`` lacks of the GPU that a runtime computes on, or None; onnxruntime takes the first one."""
    if runtime.provider == "cpu":
        return None
    if not machine.cuda:
        return "no CUDA device"
    device, name = machine.cuda[0], EXECUTION_PROVIDERS[runtime.provider][0]
    if _numbers(device.capability) < _numbers(runtime.capability):
        return f"{device.name} is of compute capability {device.capability}, and the target needs {runtime.capability}"
    if name not in execution_providers():
        return f"the onnxruntime that is installed here has no {name}; onnxruntime-gpu has it"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (1, 32, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def target_names() -> list[str]:
    """Names of the shipped targets, and ``host``."""
    return sorted([HOST, *(entry.name.removesuffix(".toml") for entry in _shipped())])


def load_target(name: str | Path | Target) -> Target:
    """A target by name or by the path of its TOML file.

    Raises:
        UnknownNameError: no shipped target has this name.
        UsageError: the file is no valid target; every wrong key is named.
    """
    if isinstance(name, Target):
        return name
    text = str(name)
    if text == HOST:
        return detect_host()
    if text.endswith(".toml") or "/" in text:
        path = Path(text).expanduser()
        if not path.is_file():
            raise UsageError(
                f"there is no target file {text!r}",
                id="usage.no-file",
                hint=f"Give the path of a TOML file, or one of: {', '.join(target_names())}.",
            )
        return parse_target(read_bounded(path, "target"), text)
    for entry in _shipped():
        if entry.name == f"{text}.toml":
            return parse_target(entry.read_text(encoding="utf-8"), text)
    raise UnknownNameError(
        "target", text, target_names(), id="unknown-name.target", hint="`edgekit targets list` describes them."
    )


def parse_target(text: str, origin: str) -> Target:
    """Parse and check the TOML text of a target; ``origin`` names it in errors."""
    return parse_toml(Target, text, f"target {origin!r}")


def detect_host() -> Target:
    """This machine as a target, renamed ``host``.

    A target that names a board or a system is only taken on such a board or system, and comes first there; of the
    others it is the one that asks for most features. Ties go to the first by name.
    """
    here = host()
    shipped = (load_target(name) for name in target_names() if name != HOST)
    fitting = [target for target in shipped if target.runtime.provider == "cpu" and target.differs_from(here) is None]
    if not fitting:
        raise UsageError(
            f"no shipped target describes this machine ({here.architecture}, {here.processor})",
            id="usage.no-target-here",
            hint="Write a TOML file after targets/README.md and pass its path.",
        )
    best = max(fitting, key=lambda target: (bool(target.boards), bool(target.system), len(target.features)))
    return best.model_copy(update={"name": HOST, "description": f"this machine, as {best.name}: {here.processor}"})


def _shipped() -> list[Traversable]:
    folder = resources.files("edgekit.targets")
    return [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
