"""Programs without edgekit that run a bundle's self-test: Python, C here and as an Arm program, Node, a page.

Each takes the folder of a bundle for its platform and a folder to work in, and returns what it ran with. ``Failed`` is
raised where something does not compile, install or pass; ``NotHere`` where a program is not installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgekit.bundle.platforms.c import EXAMPLE, HEADER, SOURCE
from edgekit.cache import Cache
from edgekit.devices.browser import served
from edgekit.devices.chromium import Chromium, find_chromium
from edgekit.devices.emulation.guest import SITE, emulator, guest_environment, make_prefix
from edgekit.devices.emulation.kinds import kind_of
from edgekit.devices.emulation.profiles import profile_of
from edgekit.devices.emulation.root import build_root, why_not

PASSED = "self-test passed\n"
CONTENT = "bundle"
ARM_COMPILER, ARM_PROFILE = "aarch64-linux-gnu-gcc", "cortex-a76"
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers")
PAGE_SECONDS = 300


class Failed(Exception):
    """The consumer says no."""


class NotHere(Exception):
    """Something that the consumer needs is not installed."""


def run(*command: str | Path, folder: Path, environment: dict[str, str] | None = None) -> str:
    """What a program prints."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(words[-3:])} ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}")
    return done.stdout


def passed(printed: str, runtime: str) -> str:
    """The runtime, where the self-test has passed."""
    if not printed.endswith(PASSED):
        raise Failed(printed[-800:])
    return runtime


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise NotHere(f"{program} is not installed")


def commands_of(readme: Path) -> list[str]:
    """The commands of the first block of a README."""
    _, _, rest = readme.read_text(encoding="utf-8").partition("```sh\n")
    return rest.partition("```")[0].strip().splitlines()


def library_in(site: Path, bundle: Path) -> Path:
    """The shared library of a bundle's runtime in an installed wheel: LiteRT's for a .tflite, else ONNX Runtime's."""
    place = "ai_edge_litert/libLiteRt.so" if is_tflite(bundle) else "onnxruntime/capi/libonnxruntime.so.*"
    found = sorted(site.glob(place))
    if not found:
        raise NotHere(f"no {place} in {site}")
    return found[0]


def is_tflite(bundle: Path) -> bool:
    return bool(list((bundle / CONTENT / "model").glob("*.tflite")))


def compile_example(bundle: Path, folder: Path, compiler: str, library: Path) -> Path:
    """The example of a bundle for C, linked with a library, in a folder of its own; warnings are errors."""
    needs(compiler)
    for name in (HEADER, SOURCE, EXAMPLE):
        shutil.copyfile(bundle / name, folder / name)
    name = "libLiteRt.so" if is_tflite(bundle) else "libonnxruntime.so.1"  # as the library calls itself
    (folder / name).symlink_to(library)
    # The library's own needs are found where the program runs.
    linked = [name, "-lm", "-pthread", f"-Wl,-rpath,{folder}", "-Wl,--allow-shlib-undefined"]
    run(compiler, *WARNINGS, "-O2", "-o", "example", EXAMPLE, SOURCE, *linked, folder=folder)
    return folder / "example"


def python(bundle: Path, folder: Path) -> str:
    """The package of a bundle in a process of its own, with the runtime that its model needs."""
    del folder
    runtime = "LiteRT" if is_tflite(bundle) else "onnxruntime"
    return passed(run(sys.executable, "-m", "edgekit_model", CONTENT, folder=bundle), f"{runtime} in Python")


def c_here(bundle: Path, folder: Path) -> str:
    """C by gcc, against the library in the wheel that is installed here."""
    import onnxruntime

    library = library_in(Path(onnxruntime.__file__).parents[1], bundle)
    program = compile_example(bundle, folder, "gcc", library)
    return passed(run(program, CONTENT, folder=bundle), f"gcc, {library.name}")


def c_on_arm64(bundle: Path, folder: Path) -> str:
    """The same for 64-bit Arm, against the library in the wheel for it, in edgekit's emulated processor."""
    needs(ARM_COMPILER)
    profile = profile_of(ARM_PROFILE)
    if reason := why_not(profile.kind):
        raise NotHere(reason)
    root = build_root(profile.kind, Cache()).path
    library = library_in(root / SITE, bundle)
    program = compile_example(bundle, folder, ARM_COMPILER, library)
    (folder / "prefix").mkdir()
    make_prefix(folder / "prefix", root, profile)
    command = (*emulator(root, folder / "prefix", profile), program, CONTENT)
    environment = dict(guest_environment(root, kind_of(profile.kind)))
    return passed(
        run(*command, folder=bundle, environment=environment), f"{ARM_COMPILER}, {library.name}, {profile.label}"
    )


def node(bundle: Path, folder: Path) -> str:
    """TypeScript in Node, by the commands of the bundle's README as they are printed."""
    needs("node", "npm")
    copy = shutil.copytree(bundle, folder / "bundle")
    printed = [run("sh", "-c", command, folder=copy) for command in commands_of(copy / "README.md")]
    return passed(printed[-2], f"onnxruntime-node in Node {run('node', '--version', folder=copy).strip()}")


def browser(bundle: Path, folder: Path) -> str:
    """The page in Chromium without a window: built by the README's commands, but for the last, which serves it."""
    needs("node", "npm")
    executable = find_chromium()
    if executable is None:
        raise NotHere("Chromium is not installed")
    copy = shutil.copytree(bundle, folder / "bundle")
    for command in commands_of(copy / "README.md")[:-1]:
        run("sh", "-c", command, folder=copy)
    state = "document.getElementById('selftest')?.dataset.state"
    with Chromium(executable) as opened, served(copy / "public") as address:
        opened.open(f"{address}/")
        opened.wait_for(f"['passed', 'failed'].includes({state})", PAGE_SECONDS)
        if opened.evaluate(state) != "passed":
            raise Failed(str(opened.evaluate("document.getElementById('problems')?.textContent")))
    return "onnxruntime-web, WebAssembly in Chromium"


# By name: the platform whose bundles it runs, and how.
CONSUMERS: dict[str, tuple[str, Callable[[Path, Path], str]]] = {
    "python": ("python", python),
    "c": ("c", c_here),
    "c on arm64": ("c", c_on_arm64),
    "node": ("node", node),
    "browser": ("web", browser),
}


def consume(name: str, bundle: Path) -> str:
    """What a consumer ran a bundle with.

    Raises:
        Failed: it did not compile, install or pass.
        NotHere: a program is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        return CONSUMERS[name][1](bundle, Path(folder))
