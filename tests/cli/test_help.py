from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from edgekit.cli import COMMANDS, GROUPS

CATALOGUE = ("list", "show", "check")
SUBCOMMANDS = {
    "targets": (*CATALOGUE, "setup", "remove"),
    "recipes": CATALOGUE,
    "cache": ("ls", "verify", "prune"),
    "bundle": ("make", "check"),
}
EVERY_COMMAND = [(name,) for name in COMMANDS] + [(group, name) for group in GROUPS for name in SUBCOMMANDS[group]]
HEAVY = {"torch", "transformers", "onnx", "onnxruntime", "datasets", "numpy", "PIL", "sklearn", "pydantic"}
COMPRESS_OPTIONS = shlex.split(
    "--data --target --task --recipe --set --max-drop --max-ms --max-mb --max-instructions --time --objective --strict"
    " --metric --batch --tokens --image --threads --jobs --columns --max-length --revision --keep-stages --costs"
    " --output -o --seed --dry-run --json --quiet -q"
)


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def test_commands_are_those_of_the_documentation():
    assert list(COMMANDS) == [
        "compress",
        "eval",
        "bench",
        "history",
        "profile",
        "predict",
        "costs",
        "sign",
        "attest",
        "verify",
        "report",
        "inspect",
        "doctor",
        "env",
        "demo",
    ]
    assert list(GROUPS) == ["targets", "recipes", "cache", "bundle"]
    assert list(SUBCOMMANDS) == list(GROUPS)


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_help_shows_json_and_examples_within_80_columns(command, run):
    result = run(*command, "--help")
    assert result.code == 0
    assert result.stderr == ""
    assert "--json" in result.stdout
    examples = result.stdout.partition("Examples:")[2].splitlines()
    given = [line.strip() for line in examples if line.strip()]
    assert given != []
    assert all(line.startswith(f"edgekit {' '.join(command)}") and line.count("edgekit ") == 1 for line in given)
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_help_of_compress_names_every_option(run):
    text = run("compress", "--help").stdout
    assert [option for option in COMPRESS_OPTIONS if option not in text] == []


@pytest.mark.parametrize("group", GROUPS)
def test_group_without_a_command_shows_its_help(group, run):
    result = run(group)
    assert result.code == 0
    assert all(name in result.stdout for name in SUBCOMMANDS[group])


def test_nothing_at_all_shows_every_command_and_the_exit_codes(run):
    result = run()
    assert result.code == 0
    assert all(name in result.stdout for name in (*COMMANDS, *GROUPS))
    assert "143 SIGTERM" in result.stdout


def test_version_is_one_line(run):
    result = run("--version")
    assert result.code == 0
    assert result.stdout.startswith("edgekit ")
    assert len(result.stdout.splitlines()) == 1


def test_help_imports_nothing_heavy():
    result = start("-X", "importtime", "-m", "edgekit", "--help")
    assert result.returncode == 0
    imported = {
        line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")
    }
    assert "edgekit.cli" in imported
    assert imported & HEAVY == set()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("edgekit comp", {"compress"}),
        ("edgekit compress --target arm", {"arm64", "arm64-dotprod", "arm64-i8mm", "armv7"}),
        ("edgekit targets show x86", {"x86-64", "x86-64-amx", "x86-64-vnni"}),
        ("edgekit compress --task text", {"text-classification"}),
        ("edgekit compress --max-d", {"--max-drop"}),
    ],
)
def test_shell_completion_offers_names(words, expected):
    last = str(len(words.split()) - 1)
    result = start("-m", "edgekit", _EDGEKIT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=last)
    assert set(result.stdout.split()) == expected


def test_shell_completion_offers_recipes():
    words = "edgekit compress --recipe defau"
    result = start("-m", "edgekit", _EDGEKIT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="3")
    assert result.stdout.split() == ["default"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(shell: str):
    # Not --show-completion: it asks the process tree for the user's shell, and below make that is a plain sh.
    result = start("-m", "edgekit", _EDGEKIT_COMPLETE=f"source_{shell}")
    assert result.returncode == 0
    assert "_EDGEKIT_COMPLETE" in result.stdout
