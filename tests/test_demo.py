from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from edgekit import demo as module
from edgekit.cache import Cache
from edgekit.demo import DATA, MODEL
from edgekit.progress import Silent

FILES = {f"{DATA}/train.parquet", f"{MODEL}/config.json", f"{MODEL}/model.safetensors"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty one, and a model and data that take no time."""

    def write_data(folder: Path) -> None:
        folder.mkdir()
        (folder / "train.parquet").write_text("digits")

    def train_model(data: Path, folder: Path, *rest: object) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text("weights")

    monkeypatch.setattr(module, "write_data", write_data)
    monkeypatch.setattr(module, "train_model", train_model)
    return Cache(tmp_path / "cache")


def prepare(cache: Cache) -> set[str]:
    """What lies in the demo's folder once it is prepared."""
    model, data = module._prepared(cache, 1, Silent())
    assert (model.parent, model.name, data.name) == (data.parent, MODEL, DATA)
    assert not any((cache.root / "tmp").iterdir())
    return {path.relative_to(model.parent).as_posix() for path in model.parent.rglob("*") if path.is_file()}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_copy_that_is_broken_off_is_made_anew(
    cache: Cache, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile = shutil.copyfile

    def failing(source: Path, destination: Path) -> None:
        copyfile(source, destination)
        if destination.name == "model.safetensors":  # after config.json
            os.truncate(destination, 3)
            raise error

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", failing)
        with pytest.raises(type(error)):
            prepare(cache)
    assert not (cache.root / "demo").exists()
    assert not any((cache.root / "tmp").iterdir())
    assert prepare(cache) == FILES


def test_a_training_that_fails_leaves_nothing_and_a_whole_copy_is_taken_again(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_model", fail)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            prepare(cache)
    assert not any((cache.root / "tmp").iterdir())
    assert prepare(cache) == FILES
    monkeypatch.setattr(module, "train_model", fail)
    monkeypatch.setattr(module, "copy_object", fail)
    assert prepare(cache) == FILES
