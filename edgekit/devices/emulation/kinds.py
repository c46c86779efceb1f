"""What an emulated processor needs on this machine, by kind: which packages of Debian, which wheels, which emulator.

Debian 12 is used whatever the system here is: its python3.11, its qemu 7.2 and its C library are one tested set, and
the emulator is started with its own C library. What was tried on it, and its traps, stands beside each entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.cache import cache_key
from edgekit.devices.emulation.opcodes import A32, A64, X86, Opcode
from edgekit.environment import version_of
from edgekit.errors import UnknownNameError
from edgekit.source import sha256_file

PLUGIN_SOURCE = Path(__file__).with_name("plugin.c")
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PYTHON = "3.11"
# Raised when a root is laid out in another way.
LAYOUT = 1

# The emulator and every library that it asks for, with the C library that they were built with.
EMULATOR_PACKAGES = (
    "qemu-user",
    *("libc6", "libgcc-s1", "libcapstone4", "liburing2", "libnuma1", "zlib1g", "libglib2.0-0", "libpcre2-8-0"),
    *("libgnutls30", "libp11-kit0", "libidn2-0", "libunistring2", "libtasn1-6", "libnettle8", "libhogweed6"),
    *("libgmp10", "libffi8"),
)
PYTHON_PACKAGES = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libstdc++6"),
    *("zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libuuid1", "libcrypt1"),
)
# pip does not take a tag for its older ones: each is named. 2.36 is Debian 12's C library.
_GLIBC = (36, 35, 34, 31, 28, 27, 26, 24, 17)


@dataclass(frozen=True)
class Kind:
    """A kind of emulated machine.

    Attributes:
        name: as commands and profiles name it.
        program: the emulator's name in its package.
        getpgid: number of the system call that marks a region there; from the kernel's tables of system calls.
        opcodes: the instructions that tell kernels.
        debian: Debian's name of the architecture; empty where the guest runs this machine's own Python.
        packages: of the guest.
        wheels: what pip is asked for, and for which platforms.
        platforms: the tags of wheels that run there.
        links: what the packages' own scripts would link on installation: link and what it leads to.
        modules: what is imported to see that it works.
        download_bytes, size_bytes: about what is fetched and what a root takes, as seen with onnxruntime 1.27 to 1.32.
    """

    name: str
    program: str
    getpgid: int
    opcodes: tuple[Opcode, ...]
    debian: str = ""
    packages: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ("numpy", "onnxruntime")
    download_bytes: int = 0
    size_bytes: int = 0

    @property
    def digest(self) -> str:
        """sha256 of everything that decides what a root is made of."""
        emulator = (SUITE, MIRROR, self.program, *EMULATOR_PACKAGES, sha256_file(PLUGIN_SOURCE))
        links = (" ".join(link) for link in self.links)
        guest = (self.debian, *self.packages, *self.wheels, *self.platforms, *links, *self.modules)
        return cache_key(LAYOUT, [*emulator], [*guest])


def _arm64() -> Kind:
    litert = version_of("ai-edge-litert")
    wheels = [f"onnxruntime=={version_of('onnxruntime')}", "numpy"]
    return Kind(
        name="arm64",
        program="qemu-aarch64",
        getpgid=155,
        opcodes=A64,
        debian="arm64",
        packages=PYTHON_PACKAGES,
        wheels=(*wheels, f"ai-edge-litert=={litert}") if litert else tuple(wheels),
        platforms=(*(f"manylinux_2_{minor}_aarch64" for minor in _GLIBC), "manylinux2014_aarch64"),
        modules=("numpy", "onnxruntime", *(["ai_edge_litert.interpreter"] if litert else [])),
        download_bytes=100_000_000,
        size_bytes=255_000_000,
    )


def _armhf() -> Kind:
    # No index has numpy's wheel for armv7l: Debian's numpy 1.24 is used, which tflite-runtime (numpy < 2) takes.
    library = "usr/lib/arm-linux-gnueabihf"
    return Kind(
        name="armhf",
        program="qemu-arm",
        getpgid=132,
        opcodes=A32,
        debian="armhf",
        packages=(*PYTHON_PACKAGES, "python3-numpy", "libblas3", "liblapack3", "libgfortran5"),
        wheels=("tflite-runtime==2.14.0",),
        platforms=tuple(f"manylinux_2_{minor}_armv7l" for minor in _GLIBC),
        links=tuple((f"{library}/lib{name}.so.3", f"{name}/lib{name}.so.3") for name in ("blas", "lapack")),
        modules=("numpy", "tflite_runtime.interpreter"),
        download_bytes=55_000_000,
        size_bytes=105_000_000,
    )


def _x86_64() -> Kind:
    return Kind(
        name="x86-64",
        program="qemu-x86_64",
        getpgid=121,
        opcodes=X86,
        download_bytes=30_000_000,
        size_bytes=36_000_000,
    )


KINDS = {"arm64": _arm64, "armhf": _armhf, "x86-64": _x86_64}


def kind_of(name: str) -> Kind:
    """A kind by its name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in KINDS:
        raise UnknownNameError("kind of emulated machine", name, KINDS, id="unknown-name.emulation")
    return KINDS[name]()
