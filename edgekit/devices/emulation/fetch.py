"""Getting what a root is made of: Debian's packages by apt-get, wheels by pip; nothing of the system here is changed.

apt-get runs with a state of its own: lists, cache and sources lie in the scratch folder. What the system's own settings
would run after an update is left out. Signatures are checked against Debian's keyring, as always.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from edgekit.devices.emulation.kinds import KEYRING, MIRROR, PYTHON, SUITE, Kind
from edgekit.errors import HostError, ResourceLimitError

# A download that stands still for so long is given up; apt-get and pip have shorter limits for each connection.
MOST_SECONDS = 1800
APT_SETTINGS = """\
#clear APT::Architectures;
#clear APT::Update;
#clear Acquire::IndexTargets;
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "amd64";
APT::Architectures {{ {architectures} }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::IndexTargets::deb::Packages {{
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  flatMetaKey "Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
  flatDescription "$(RELEASE) Packages";
  Optional "0";
}};
Debug::NoLocking "1";
"""


def run(command: Sequence[str], what: str, folder: Path, seconds: float = MOST_SECONDS) -> str:
    """Run a program of this machine to its end; what it printed.

    Args:
        command: the program and its arguments.
        what: the step, as its error names it: ``fetching Debian packages``.
        folder: where it runs.
        seconds: it is stopped after so long.

    Raises:
        HostError: it is not there, hung, or failed; the reason is its own last line.
        ResourceLimitError: the disk is full.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
        )
    except FileNotFoundError as error:
        raise HostError(f"{what} failed", id="environment.cannot-emulate", why=f"no {command[0]} here") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(
            f"{what} hung and was stopped", id="environment.setup-failed", why=f"no end after {seconds:.0f} s"
        ) from error
    if done.returncode == 0:
        return done.stdout
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any("No space left on device" in line for line in lines):
        raise ResourceLimitError(f"{what} failed: the disk is full", id="resource-limit.disk-full")
    told = [line for line in lines if line.startswith(("E:", "ERROR:")) or "error" in line.lower()] or lines
    why = told[-1] if told else f"{command[0]} ended with code {done.returncode}"
    raise HostError(f"{what} failed", id="environment.setup-failed", why=why)


def prepare_apt(folder: Path, architectures: Sequence[str]) -> list[str]:
    """Make a state for apt-get in an empty folder, and read the lists of packages; the beginning of its commands."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n", encoding="utf-8")
    listed = " ".join(f'"{name}";' for name in architectures)
    (folder / "apt.conf").write_text(APT_SETTINGS.format(folder=folder, architectures=listed), encoding="utf-8")
    command = ["apt-get", "--quiet", "--config-file", str(folder / "apt.conf")]
    run([*command, "update", "--error-on=any"], "reading Debian's lists of packages", folder)
    return command


def download_packages(apt: Sequence[str], packages: Sequence[str], folder: Path) -> list[Path]:
    """Download packages, named as ``libc6:arm64``, into a folder."""
    folder.mkdir(parents=True)
    run([*apt, "download", *packages], "fetching Debian packages", folder)
    found = sorted(folder.glob("*.deb"))
    if len(found) != len(packages):
        raise HostError(
            "fetching Debian packages failed",
            id="environment.setup-failed",
            why=f"{len(packages)} were asked for, and {len(found)} came",
        )
    return found


def unpack_packages(files: Sequence[Path], folder: Path) -> None:
    """Unpack packages into a folder; none of their scripts is run."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        run(["dpkg-deb", "--extract", str(file), str(folder)], f"unpacking {file.name}", folder)


def download_wheels(kind: Kind, folder: Path) -> list[Path]:
    """Download the wheels of a kind, for its platforms and its Python, without what they depend on."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, "--dest", str(folder)]
    command += [part for platform in kind.platforms for part in ("--platform", platform)]
    run([*command, *kind.wheels], f"fetching wheels ({', '.join(kind.wheels)})", folder)
    return sorted(folder.glob("*.whl"))


def unpack_wheels(files: Sequence[Path], folder: Path) -> None:
    """Unpack wheels into a folder that PYTHONPATH can name."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(folder)
