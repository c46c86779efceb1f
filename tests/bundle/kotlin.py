"""The Kotlin of a bundle on a Java machine, where a compiler is named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgekit.bundle.platforms.base import coordinates

Probe = Callable[..., str]
# The folder with kotlin-compiler.jar and what it needs; and jars with org.json and with ONNX Runtime's classes.
COMPILER, JARS = "EDGEKIT_KOTLIN", "EDGEKIT_KOTLIN_JARS"
# What AndroidBundle.kt uses of Android itself, whose SDK is not here.
DECLARED = {
    "Context.kt": """
package android.content
abstract class Context {
    abstract val applicationContext: Context
    abstract val assets: android.content.res.AssetManager
}
""",
    "AssetManager.kt": """
package android.content.res
abstract class AssetManager : AutoCloseable {
    abstract fun open(name: String): java.io.InputStream
    abstract fun openFd(name: String): AssetFileDescriptor
}
abstract class AssetFileDescriptor : java.io.Closeable {
    abstract val fileDescriptor: java.io.FileDescriptor
    abstract val startOffset: Long
    abstract val declaredLength: Long
}
""",
    "Bitmap.kt": """
package android.graphics
abstract class Bitmap {
    abstract val width: Int
    abstract val height: Int
    abstract fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int)
}
""",
}


def jars() -> list[str]:
    """The jars that are named; skips the test where they or the compiler are not."""
    if not all((os.environ.get(COMPILER), os.environ.get(JARS), shutil.which("java"))):
        pytest.skip(f"java is not installed, or {COMPILER} and {JARS} name no compiler")
    return os.environ[JARS].split(os.pathsep)


def compile_sources(files: Sequence[Path], out: Path, path: Sequence[str]) -> None:
    """Compile Kotlin with warnings as errors, by the version that build files pin; Android's SDK is declared by hand.

    Args:
        files: the sources.
        out: where the classes go.
        path: folders and jars with the classes that they use.
    """
    lib = Path(os.environ[COMPILER])
    for name, text in DECLARED.items():
        (out / name).write_text(text, encoding="utf-8")
    compiler = os.pathsep.join(map(str, sorted(lib.glob("*.jar"))))
    known = os.pathsep.join([str(lib / "kotlin-stdlib.jar"), *path])
    options = ["-version", "-no-stdlib", "-no-reflect", "-Werror", "-classpath", known, "-d", str(out)]
    command = ["java", "-cp", compiler, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", *options]
    sources = [*files, *(out / name for name in DECLARED)]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"kotlinc-jvm (\S+)", done.stderr) == [coordinates()["android"]["kotlin"]]


def compile_probe(code: Path, out: Path, path: Sequence[str], *options: str) -> Probe:
    """A function that asks ``KotlinProbe.kt`` something of a bundle's folder, and gives what it prints.

    Args:
        code: the folder with a bundle's Kotlin.
        out: where the classes go.
        path: folders and jars with the classes that it uses.
        options: of the Java machine.
    """
    compile_sources([*sorted(code.glob("*.kt")), Path(__file__).with_name("KotlinProbe.kt")], out, path)
    known = os.pathsep.join([str(out), str(Path(os.environ[COMPILER]) / "kotlin-stdlib.jar"), *path])

    def ask(folder: Path, what: str, lines: Sequence[object] = ()) -> str:
        given = "".join(f"{json.dumps(line)}\n" for line in lines)
        command = ["java", *options, "-cp", known, "KotlinProbeKt", str(folder), what]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ask
