"""The processors that can be emulated: what qemu is told, and what their system would say of them.

qemu 7.2 hands its guest this machine's own ``/proc/cpuinfo``, in which an ARM build of onnxruntime finds no ARM
processor and dies. So each profile has the text of its own. Part and variant have to be those that qemu reports in
the identification register (``target/arm/cpu64.c`` and ``cpu_tcg.c`` of qemu 7.2), or kernels are chosen that are not
there.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import UnknownNameError

# Each profile is a board of four equal cores. One is used: instructions are counted on one thread.
CORES = 4
ARM_IMPLEMENTER = 0x41
_INT8 = ("smlal", "umlal", "smull", "umull")
_CORTEX_A53 = "fp asimd evtstrm crc32 cpuid"
_CORTEX_A76 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"  # Pi 5's own
)
_HASWELL = (
    "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 syscall nx rdtscp "
    "lm rep_good nopl cpuid pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm "
    "abm fsgsbase bmi1 avx2 smep bmi2 erms xsaveopt"
)


@dataclass(frozen=True)
class Profile:
    """One processor.

    Attributes:
        name: as reports and commands name it.
        kind: what of machine it is, see ``kinds.py``.
        cpu: qemu's ``-cpu``.
        system: ``/proc/cpuinfo`` of one core, without the line of its number.
        kernels: instructions of ``opcodes.py`` that it has.
        means: which devices have it.
        source: where the facts are from.
    """

    name: str
    kind: str
    cpu: str
    system: tuple[tuple[str, str], ...]
    kernels: tuple[str, ...]
    means: str
    source: str

    @property
    def label(self) -> str:
        return f"{self.name}, emulated"

    @property
    def cpuinfo(self) -> str:
        """The text of ``/proc/cpuinfo`` that the guest reads."""
        lines = [f"{key}\t: {value}" for key, value in self.system]
        return "".join("\n".join([f"processor\t: {core}", *lines]) + "\n\n" for core in range(CORES))


def _arm(features: str, part: int, variant: int, revision: int, architecture: int = 8) -> tuple[tuple[str, str], ...]:
    return (
        ("BogoMIPS", "108.00"),
        ("Features", features),
        ("CPU implementer", f"{ARM_IMPLEMENTER:#04x}"),
        ("CPU architecture", str(architecture)),
        ("CPU variant", f"{variant:#x}"),
        ("CPU part", f"{part:#05x}"),
        ("CPU revision", str(revision)),
    )


_TABLE = (
    Profile(
        name="cortex-a53",
        kind="arm64",
        cpu="cortex-a53",
        system=_arm(_CORTEX_A53, 0xD03, 0x0, 4),
        kernels=("fmla", *_INT8),
        means="Raspberry Pi 3, and many phones' small cores: NEON without dot products",
        source="Cortex-A53 TRM (DDI 0500) 4.3.1, MIDR 0x410FD034; features as Linux on a Pi 3 lists them",
    ),
    Profile(
        name="cortex-a72",
        kind="arm64",
        cpu="cortex-a72",
        system=_arm(_CORTEX_A53, 0xD08, 0x0, 3),
        kernels=("fmla", *_INT8),
        means="Raspberry Pi 4: NEON without dot products",
        source="Cortex-A72 TRM (100095) 4.3.1, MIDR 0x410FD083; features as Linux on a Pi 4 lists them",
    ),
    Profile(
        name="cortex-a76",
        kind="arm64",
        cpu="cortex-a76",
        system=_arm(_CORTEX_A76, 0xD0B, 0x4, 1),
        kernels=("fmla", "fmla16", *_INT8, "sdot", "udot"),
        means="Raspberry Pi 5, phones since about 2018: INT8 dot products (Armv8.2 DotProd)",
        source="Cortex-A76 TRM (100798) B2.90, MIDR 0x414FD0B1; features as Linux on a Pi 5 lists them",
    ),
    Profile(
        name="i8mm",
        kind="arm64",
        # with SVE and SME, INT8 results of qemu 7.2 are wrong
        cpu="max,sve=off,sme=off",
        system=_arm(f"{_CORTEX_A76} i8mm bf16", 0xD49, 0x0, 0),
        kernels=("fmla", "fmla16", *_INT8, "sdot", "udot", "usdot", "sudot", "smmla", "ummla", "usmmla"),
        means="phones since about 2021 and Neoverse N2: INT8 matrix products (FEAT_I8MM)",
        source="Neoverse N2 TRM (102099), part 0xD49; qemu's cpu `max` without SVE and SME",
    ),
    Profile(
        name="cortex-a7",
        kind="armhf",
        cpu="cortex-a7",
        system=_arm(
            "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm", 0xC07, 0x0, 5, 7
        ),
        kernels=("vmlal", "vmull", "vmla", "vfma"),
        means="Raspberry Pi 2, and 32-bit boards with NEON (Armv7-A)",
        source="Cortex-A7 TRM (DDI 0464) 4.3.1, MIDR 0x410FC075; features as Linux on a Pi 2 lists them",
    ),
    Profile(
        name="haswell",
        kind="x86-64",
        # what follows the name is of no use to a process, and qemu would warn that it has it not
        cpu="Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid",
        system=(
            ("vendor_id", "GenuineIntel"),
            ("cpu family", "6"),
            ("model", "60"),
            ("model name", "Intel Core Processor (Haswell, no TSX)"),
            ("stepping", "1"),
            ("flags", _HASWELL),
        ),
        kernels=("vpmaddubsw", "vpmaddwd", "vfmadd"),
        means="x86-64 with AVX2 and without VNNI: u8s8 sums saturate there",
        source="qemu 7.2, target/i386/cpu.c, Haswell-noTSX: family 6, model 60, stepping 1",
    ),
)
PROFILES = {profile.name: profile for profile in _TABLE}


def profile_of(name: str) -> Profile:
    """A profile by its name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in PROFILES:
        raise UnknownNameError("profile of an emulated processor", name, PROFILES, id="unknown-name.emulation")
    return PROFILES[name]
