"""This machine and this installation, as facts: processor, instruction sets, memory, versions, code."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

PACKAGE_ROOT = Path(__file__).parent
# Devicetree Specification 0.4, 2.3.2 `model`; where Linux shows it: Documentation/ABI/testing/sysfs-firmware-ofw
BOARD_FILE = Path("/proc/device-tree/model")
COMPUTING_PACKAGES = (
    "edgekit",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "safetensors",
    "pillow",
    "neural-compressor",
    "torchao",
    "torch-pruning",
    "optuna",
    "protobuf",
    "litert-torch",
    "litert-converter",
    "ai-edge-quantizer",
    "ai-edge-litert",
)
# Folders whose code decides nothing about an artifact: what they tell may change without a rebuild.
PRESENTATION_FOLDERS = ("cli", "render", "gate", "inspection", "diagnosis")
# What a processor calls its extensions, by architecture, where edgekit's name differs from the kernel's.
FEATURE_NAMES = {"asimd": "neon", "asimddp": "dotprod"}

# Builds of a package that bring the same modules under another name.
OTHER_BUILDS = {"onnxruntime": "onnxruntime-gpu"}

# Extensions that decide on kernels of float32 and bfloat16, the best first.
WIDEST = ("amx_tile", "avx512_bf16", "avx512f", "avx2", "sve", "neon")
# Variables by which libraries take other kernels than the processor has.
KERNEL_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
# The forms of 8-bit dot products that onnxruntime has kernels for on x86-64 (onnxruntime/core/mlas/lib/platform.cpp).
VNNI = "avx512_vnni|avx_vnni"
SPIN_COUNT = "30000"
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of the CUDA driver's interface (cuda.h).
CAPABILITY_ATTRIBUTES = (75, 76)


class CudaDevice(BaseModel):
    """A GPU as its driver names it.

    Attributes:
        name: the model's name.
        capability: its compute capability, such as ``9.0``.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    capability: str


class Host(BaseModel):
    """One machine, described without names, addresses or paths.

    Attributes:
        architecture: ``x86_64`` or ``aarch64`` as the kernel says.
        processor: the model's name.
        features: instruction-set extensions, sorted, in the names that target files use.
        cores: logical processors that this process may use.
        memory_bytes: installed memory.
        system: operating system and its release's major part.
        python: version of the interpreter.
        board: what a single-board computer calls itself, as ``Raspberry Pi 4 Model B Rev 1.4``; empty elsewhere.
        cuda: its CUDA devices, in the driver's order.
    """

    model_config = ConfigDict(frozen=True)

    architecture: str
    processor: str
    features: tuple[str, ...]
    cores: int
    memory_bytes: int
    system: str
    python: str
    board: str = ""
    cuda: tuple[CudaDevice, ...] = ()

    @property
    def fingerprint(self) -> str:
        """sha256 of all of it: results of two machines with different fingerprints are never compared."""
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    @property
    def record(self) -> dict[str, JsonValue]:
        """All of it with the fingerprint, as records of measurements hold it."""
        return {"fingerprint": self.fingerprint, **self.model_dump(mode="json")}

    def has(self, feature: str) -> bool:
        """Whether one extension, or one of several joined by ``|``, is there."""
        return any(name in self.features for name in feature.split("|"))

    @property
    def saturates(self) -> bool:
        """Whether onnxruntime's INT8 kernels add products in a saturating int16 here: x86-64 without VNNI."""
        return self.architecture == "x86_64" and not self.has(VNNI)


@cache
def host() -> Host:
    """The machine that this process runs on."""
    processor, features = _processor()
    return Host(
        architecture=platform.machine(),
        processor=processor,
        features=tuple(sorted(features)),
        cores=available_cores(),
        memory_bytes=_memory_bytes(),
        system=platform.system(),
        python=platform.python_version(),
        board=_board(),
        cuda=cuda_devices(),
    )


def available_cores() -> int:
    """Processors that this process may use (the affinity mask counts, where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> tuple[str, set[str]]:
    name, features = platform.processor() or "unknown", set[str]()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return name, features
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware"):
            name = value.strip()
        if key.strip() in ("flags", "Features"):
            features.update(FEATURE_NAMES.get(flag, flag) for flag in value.split())
    return name, features


def _board() -> str:
    """The model in the device tree, which ends with a zero byte; PCs have no device tree."""
    try:
        return BOARD_FILE.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def available_memory_bytes() -> int:
    """What a process here may still take: free memory and swap, and less where a container's limit is nearer."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        found = sizes["MemAvailable"] + sizes["SwapFree"]
    except (OSError, KeyError, ValueError, IndexError):
        return _memory_bytes()
    return min([found, *_left_in_group()])


def _left_in_group() -> list[int]:
    """What the memory limit of this process' control group (version 2) leaves; empty where it has none."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
        place = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        folder = Path("/sys/fs/cgroup") / place
        limit, used = ((folder / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        return [int(limit) - int(used)]
    except (OSError, StopIteration, ValueError):  # no such files, or no limit: "max"
        return []


def cuda_devices() -> tuple[CudaDevice, ...]:
    """The GPUs that the CUDA driver shows to this process; none where there is no driver. No framework is loaded."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_cuda_device(driver, index) for index in range(count.value))


def _cuda_device(driver: ctypes.CDLL, index: int) -> CudaDevice:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    numbers = [ctypes.c_int() for _ in CAPABILITY_ATTRIBUTES]
    for number, attribute in zip(numbers, CAPABILITY_ATTRIBUTES, strict=True):
        driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
    return CudaDevice(name=name.value.decode(), capability=".".join(str(number.value) for number in numbers))


def execution_providers() -> tuple[str, ...]:
    """What the installed onnxruntime was built to compute with; nothing where it is absent."""
    try:
        import onnxruntime
    except ImportError:
        return ()
    return tuple(onnxruntime.get_available_providers())


def version_of(package: str) -> str | None:
    """The installed version of a package or of another build of it, read without importing; None where it is absent."""
    for name in (package, OTHER_BUILDS.get(package)):
        if name is not None:
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
    return None


@cache
def versions() -> dict[str, str]:
    """Versions of every package that can change the bytes of an artifact."""
    found = {name: version_of(name) for name in COMPUTING_PACKAGES}
    return {name: version for name, version in found.items() if version is not None}


@cache
def code_digest(*, whole: bool = False) -> str:
    """sha256 over the source of the package.

    Args:
        whole: with what only presents results.
    """
    digest = hashlib.sha256()
    for path in sorted(PACKAGE_ROOT.rglob("*.py")):
        relative = path.relative_to(PACKAGE_ROOT)
        if relative.parts[0] in PRESENTATION_FOLDERS and not whole:
            continue
        digest.update(relative.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def spin_briefly() -> None:
    """Let OpenMP's threads sleep soon when they wait, unless the user said how long; only before torch is loaded.

    Their default is to spin for milliseconds, so that one other busy process on the machine makes training several
    times slower: on two cores, a step waits for a thread that the system has taken off its core. See libgomp's manual,
    GOMP_SPINCOUNT.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def numeric_level() -> str:
    """What decides which kernels compute: architecture, widest vectors, and whether sums of 8-bit products saturate.

    The last bits of a trained weight hang on the vectors; all of an INT8 graph's answers on the sums, which saturate on
    x86-64 without VNNI. A GPU trains in the place of the processor, and variables make libraries take other kernels.
    """
    here = host()
    widest = next((f for f in WIDEST if here.has(f)), "baseline")
    sums = "-saturating" if here.saturates else ""
    gpu = f"-{here.cuda[0].name}" if here.cuda else ""
    level = f"{here.architecture}-{widest}{sums}{gpu}-py{sys.version_info.major}.{sys.version_info.minor}"
    return " ".join([level, *(f"{name}={os.environ[name]}" for name in KERNEL_VARIABLES if name in os.environ)])
