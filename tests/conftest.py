"""What every test stands on: a cache of its own, no network, one thread, and the assets of the benchmarks."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import scripts

# Read by transformers, huggingface_hub and datasets when they are imported, so set before any of them is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # transformers says at import that torchvision is not installed
# A shell lets its jobs in the background ignore Ctrl-C, and so would the commands that tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "benchmarks" / "assets.toml"
# Folders of tests that compress whole models.
LONG = ("docs", "end_to_end")


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches in a temporary folder; nothing of the user's is read or written."""
    home = tmp_path_factory.mktemp("caches")
    patch = pytest.MonkeyPatch()
    patch.setenv("EDGEKIT_CACHE", str(home / "edgekit"))
    patch.setenv("HF_DATASETS_CACHE", str(home / "datasets"))
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("OMP_NUM_THREADS", "1")
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def translations() -> Iterator[None]:
    """torch's list of what it writes for its operators in ONNX, made once.

    Each export makes it anew, from the source of some 500 functions, which is a tenth of the time of a small one.
    """
    with pytest.MonkeyPatch.context() as patch:
        if "torch" in sys.modules:
            from torch.onnx._internal.exporter import _registration

            apis = _registration.onnxscript_apis
            patch.setattr(apis, "get_torchlib_ops", functools.cache(apis.get_torchlib_ops))
        yield


@pytest.fixture(scope="session")
def torch_alone() -> Any:
    """torch with one thread: the same sums in the same order, and a machine that stays usable."""
    import torch

    torch.set_num_threads(1)
    return torch


def asset_path(key: str) -> Path:
    """Where the copy of an asset lies.

    Skips the test where there is no copy; a key that is not in the table is a mistake of the test.
    """
    table = tomllib.loads(ASSETS.read_text(encoding="utf-8"))
    if key not in table or key == "schema":
        pytest.fail(f"no asset {key!r} in {ASSETS.name}: {', '.join(name for name in table if name != 'schema')}")
    root = os.environ.get("EDGEKIT_ASSETS")
    if not root:
        pytest.skip(f"the asset {key!r} is needed, and EDGEKIT_ASSETS is not set")
    path = Path(root).expanduser() / table[key]["path"]
    if not path.exists():
        pytest.skip(f"the asset {key!r} is needed, and EDGEKIT_ASSETS has no {table[key]['path']}")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that no process waits for it at the end."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_collection_finish() -> None:
    """What is imported by now stays: no garbage collection has to look at it again, which takes half a second."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "torch" in sys.modules:  # a run sets its own number of threads, and the next test would sum in another order
        sys.modules["torch"].set_num_threads(1)
    for mark in item.iter_markers("asset"):
        asset_path(*mark.args)


@pytest.fixture
def asset(request: pytest.FixtureRequest) -> Path:
    """The path of the one asset that the test is marked with."""
    (mark,) = request.node.iter_markers("asset")
    return asset_path(*mark.args)


@pytest.fixture
def load() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script of benchmarks/ by its name."""
    with scripts() as imported:
        yield imported


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> Iterator[Any]:
    """Tasks and graphs of tiny models by name, each exported when a test first asks for it."""
    from tiny import Exported

    made = Exported(tmp_path_factory.mktemp("exported"))
    yield made
    made.check()


@pytest.fixture(scope="session")
def tflites(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> Iterator[Any]:
    """TFLite files of tiny models by name, each exported when a test first asks for it."""
    from tflites import INSTALLED, REASON, Files

    if not INSTALLED:
        pytest.skip(REASON)
    made = Files(tmp_path_factory.mktemp("tflites"))
    yield made
    made.check()


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of small tokenizers by name, each trained when a test first asks for it."""
    from vocabularies import Tokenizers

    return Tokenizers(tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture
def assets(request: pytest.FixtureRequest) -> dict[str, Path]:
    """The paths of all assets that the test is marked with, by key."""
    return {mark.args[0]: asset_path(*mark.args) for mark in request.node.iter_markers("asset")}
