"""At least thirty wrong uses, each done as a user does it: exit code, id, the message, and what to do next."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from docs.reading import GENERATE
from docs.world import build_world, hasten

from edgekit.cli import main
from edgekit.error_catalogue import load_catalogue

TABLE = tomllib.loads(Path(__file__).with_name("wrong_uses.toml").read_text(encoding="utf-8"))["rows"]
USES = [use for rows in TABLE.values() for use in rows]
EXPORT = "compress ./my-model --data ./my-data --target x86-64 --recipe export -o out"
CODE = """
import torch

def fails(): raise RuntimeError("no such size")
def number(): return 3
def linear(): return torch.nn.Linear(4, 2)
"""
FILES = {
    "notes.txt": "not a model, and no data\n",
    "wrong.py": CODE,
    "taken/mine.txt": "mine",
    "header.csv": "text,label\n",
    "few.csv": "text,label\nw1,positive\nw2,negative\n",
    "moods.csv": "text,label\n" + "w1 w2,happy\nw3 w4,positive\n" * 20,
    "no-labels.csv": "text\n" + "w1 w2\n" * 40,
    "broken.jsonl": '{"text": "w1"\n',
    "broken.onnx": "no graph",
    "garbage.npz": "no archive",
    "z80.toml": 'schema = "edgekit.target/1"\nname = "z80"\narchitecture = "z80"\n',
    "ratoi.toml": 'schema = "edgekit.recipe/1"\nname = "mine"\n[[stages]]\nstage = "prune"\nratoi = 0.5\n',
    "only-distill.toml": 'schema = "edgekit.recipe/1"\nname = "only-distill"\n'
    + "".join(f'[[stages]]\nstage = "{name}"\n' for name in ("distill", "export", "verify")),
    "order.toml": 'schema = "edgekit.recipe/1"\nname = "order"\n[[stages]]\nstage = "quantize"\n',
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, torch_alone: object) -> Iterator[Path]:
    """A folder of what is right, by the names of docs/, and of what is wrong with it."""
    root = tmp_path_factory.mktemp("wrong")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setattr("sys.dont_write_bytecode", True)
        hasten(patch)
        build_world(root)
        patch.chdir(root)
        assert main(EXPORT.split()) == 0
        _spoil(root)
        yield root


def _spoil(root: Path) -> None:
    (root / "empty").mkdir()
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    names = ("bad-config", "no-weights", "corrupt", "other-size", "no-tokenizer", "adapter", "own-code", "masked")
    models = {name: Path(shutil.copytree(root / "my-model", root / name)) for name in names}
    (models["bad-config"] / "config.json").write_text("{", encoding="utf-8")
    (models["no-weights"] / "model.safetensors").unlink()
    _cut(models["corrupt"] / "model.safetensors")
    _change(models["other-size"] / "config.json", hidden_size=64, intermediate_size=128)
    for file in models["no-tokenizer"].glob("tokenizer*"):
        file.unlink()
    (models["adapter"] / "config.json").rename(models["adapter"] / "adapter_config.json")
    _change(models["own-code"] / "config.json", auto_map={"AutoModel": "mine.Model"})
    _change(models["masked"] / "config.json", architectures=["BertForMaskedLM"])
    _rename_classifier(models["masked"] / "model.safetensors")
    _spoil_graphs(root)
    artifacts = ("changed", "bad-manifest", "other-report")
    changed, manifest, report = (Path(shutil.copytree(root / "out", root / name)) for name in artifacts)
    _cut(changed / "model.onnx")
    (manifest / "manifest.json").write_text("{}", encoding="utf-8")
    _change(report / "report.json", schema="edgekit.report/9")


def _spoil_graphs(root: Path) -> None:
    """An operator that nobody knows, weights that are not there, and arrays of wrong names, shapes and types."""
    strange = onnx.load(root / "others.onnx")
    strange.graph.node[1].domain = "org.strange"
    onnx.save(strange, root / "strange.onnx")
    whole = onnx.load(root / "others.onnx")
    onnx.save_model(whole, root / "apart.onnx", save_as_external_data=True, location="apart.bin", size_threshold=0)
    (root / "apart.bin").unlink()
    pixels = np.load(root / "arrays.npz")["pixels"]
    np.savez(root / "named.npz", other=pixels)
    np.savez(root / "small.npz", pixels=pixels[:, :, :8])
    np.savez(root / "texts.npz", pixels=pixels[:, 0, 0, 0].astype(str))
    np.savez(root / "uneven.npz", pixels=pixels, label=np.zeros(7))


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def _change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


def _rename_classifier(file: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    save_file({name.replace("classifier", "cls"): tensor for name, tensor in tensors.items()}, file, {"format": "pt"})


@pytest.mark.parametrize(("what", "command", "code", "id_", "says"), USES, ids=[use[0] for use in USES])
def test_a_wrong_use_ends_with_its_code_and_says_what_to_do(
    what: str, command: str, code: int, id_: str, says: str, world: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    before = sorted(world.rglob("*"))
    result = run(*shlex.split(command), "--json")
    assert (result.code, result.error["exit_code"], result.error["id"]) == (code, code, id_), result.stderr
    assert result.error["what"].startswith(says)
    assert result.error["hint"], what
    assert f"error[{id_}]: {says[:30]}" in result.told
    assert "Traceback" not in result.stderr
    assert sorted(world.rglob("*")) == before


def test_a_recipe_names_its_unknown_key_and_the_nearest(world: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    result = run("recipes", "check", "ratoi.toml", "--json")
    assert result.error["why"] == "unknown key 'ratoi'; did you mean 'ratio'?"
    result = run("targets", "check", "z80.toml", "--json")
    assert "architecture: input should be 'x86_64', 'aarch64', 'armv7l' or 'wasm32'" in result.error["why"]
    assert "missing key 'runtime'" in result.error["why"]


def test_a_library_does_not_talk_into_the_error(world: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    result = run("eval", "./my-model", "--data", "broken.jsonl")
    assert result.code == 4
    assert "error[data.unreadable]: the data in 'broken.jsonl' cannot be read JSON parse error" in result.told
    assert "Failed to load" not in result.told


# A process in which every file that is written for the cache has no room: no disk is filled for a test.
DISK_FULL = """
import errno, sys
import edgekit.cache
from edgekit.cli import main

def put(self, key, folder, decided=None, known=None):
    raise OSError(errno.ENOSPC, "No space left on device", str(folder))

edgekit.cache.Cache.put = put
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_ends_in_5_and_says_how_to_make_room(world: Path, tmp_path: Path) -> None:
    done = _edgekit("compress ./my-model --recipe export --json -o none", world, DISK_FULL, EDGEKIT_CACHE=str(tmp_path))
    assert done.returncode == 5
    error = json.loads(done.stdout)["error"]
    assert error["id"] == "resource-limit.disk-full"
    assert error["what"].startswith("the disk is full while writing ")
    assert "`edgekit cache prune`" in error["hint"]
    assert not (world / "none").exists()


# A process that says when a stage is done, and waits before it puts that into the cache: there Python answers a signal.
WAITING = """
import sys, time
import edgekit.cache
from edgekit.cli import main, stopping

stopping.GRACE_SECONDS = 60.0  # a busy machine may take longer than the watcher waits

def put(self, key, folder, decided=None, known=None):
    print("it works", file=sys.stderr, flush=True)
    time.sleep(1000)

edgekit.cache.Cache.put = put
sys.exit(main())
"""


def test_ctrl_c_ends_in_130_and_the_same_command_goes_on(world: Path, tmp_path: Path) -> None:
    command = shlex.split("compress ./my-model --recipe export --json -o stopped")
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, *command],
        cwd=world,
        env=os.environ | {"EDGEKIT_CACHE": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert "it works\n" in process.stderr  # read as far as that
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=600) == 130
        told, printed = process.stderr.read(), process.stdout.read()
    assert "error[interrupted]: interrupted\n  hint: The same command again goes on where this one stopped." in told
    assert json.loads(printed)["error"]["id"] == "interrupted"
    assert not (world / "stopped").exists()


def _edgekit(command: str, folder: Path, script: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    start = ["-c", script] if script else ["-m", "edgekit"]
    return subprocess.run(
        [sys.executable, *start, *shlex.split(command)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_the_table_names_errors_of_the_catalogue_and_is_in_the_documentation() -> None:
    assert len(USES) >= 30
    assert {id_ for *_, id_, _ in USES} <= load_catalogue().keys()
    assert len({what for what, *_ in USES}) == len(USES)
    table = GENERATE.generate("wrong-uses", None)
    for what, command, code, id_, _ in USES:
        assert f"| {what} | `edgekit {command}` | {code} | [`{id_}`](#{id_}) |" in table
