"""What holds for the package as a whole."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edgekit

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edgekit"
FRAMEWORKS = ("torch", "transformers", "onnx", "onnxruntime", "datasets", "numpy")
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))
PICKLING_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
PICKLING_CALLS = {"torch.load", "torch.save", "torch.jit.load", "torch.jit.save", "pandas.read_pickle"}
# Written in two parts, so that this file does not find itself.
OF_THE_WORKPLACE = ("/wor" + "k/", ".libr" + "ary/")  # without the stroke, Gradle and Swift have such words, too


def test_every_folder_with_code_or_data_is_packaged() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent for pattern in ("*.py", "*.toml") for path in PACKAGE.rglob(pattern)}
    found = {".".join(path.relative_to(ROOT).parts) for path in folders}
    assert listed == found | {"edgekit.targets"}


def test_targets_and_recipes_are_found_as_data_of_the_package() -> None:
    from importlib import resources

    for package, name in (("edgekit.targets", "arm64.toml"), ("edgekit.recipes", "default.toml")):
        assert resources.files(package).joinpath(name).read_text(encoding="utf-8").startswith('schema = "edgekit.')


@pytest.mark.parametrize("name", edgekit.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(edgekit, name)
    assert callable(value)
    assert value.__name__ == name
    assert value.__doc__


def test_the_public_names_are_those_that_can_be_found() -> None:
    assert edgekit.__all__ == sorted(edgekit._HOMES)
    assert dir(edgekit) == edgekit.__all__
    with pytest.raises(AttributeError, match="module 'edgekit' has no attribute 'nothing'"):
        _ = edgekit.nothing


def test_the_version_is_the_projects() -> None:
    assert edgekit.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize(("given", "then"), [(None, "1"), ("0", "0")])
def test_the_runtime_reports_nothing_unless_its_user_says_so(given: str | None, then: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    code = "import os\nimport edgekit\nfrom edgekit.confinement import surroundings\n"
    code += "print(os.environ['ORT_DISABLE_TELEMETRY'], surroundings()['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | ({} if given is None else {"ORT_DISABLE_TELEMETRY": given}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [then, then]


@pytest.mark.parametrize("statement", ["import edgekit", "import edgekit.cli", "from edgekit import EdgekitError"])
def test_importing_loads_no_framework(statement: str) -> None:
    code = f"import sys\n{statement}\nprint(sorted(set(sys.modules) & {set(FRAMEWORKS)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def pickling(path: Path) -> list[str]:
    """Where a source file reads or writes pickles."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            safe = {"allow_pickle": False, "weights_only": True}[node.arg]
            if not (isinstance(node.value, ast.Constant) and node.value.value is safe):
                found.append(f"line {node.value.lineno}: {node.arg}={ast.unparse(node.value)}")
        found += [
            f"line {node.lineno}: {name}"
            for name in names
            if name.split(".")[0] in PICKLING_MODULES or name in PICKLING_CALLS
        ]
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_no_source_reads_or_writes_pickles(name: str) -> None:
    found = [line.partition(": ")[2] for line in pickling(ROOT / name)]
    # the guarded loader reads torch's own format, with weights_only=True
    assert found == (["torch.load"] if name == "edgekit/checkpoint.py" else [])


def test_pickles_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import pickle\nfrom torch import load\nimport torch\ntorch.save(1, 'x')\nnp.load(f, allow_pickle=True)\n"
    )
    assert pickling(tmp_path / "bad.py") == [
        "line 1: pickle",
        "line 2: torch.load",
        "line 4: torch.save",
        "line 5: allow_pickle=True",
    ]


def tracked() -> list[str]:
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("words", OF_THE_WORKPLACE)
def test_no_file_names_the_place_where_it_was_written(words: str) -> None:
    files = tracked()
    if not files:
        pytest.skip("this is no git checkout")
    assert len(files) > 100
    assert [name for name in files if words.encode() in (ROOT / name).read_bytes()] == []


def test_files_stay_short() -> None:
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 450} == {}
