"""The tests' own footing."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import (  # type: ignore[import-not-found]
    ASSETS,
    asset_path,
    pytest_collection_modifyitems,
    pytest_runtest_setup,
)


def test_nothing_of_the_users_is_touched() -> None:
    from edgekit.cache import default_root

    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "caches" in str(default_root())
    assert not default_root().is_relative_to(Path.home() / ".cache")


def test_an_asset_that_is_not_in_the_table_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"no asset 'minilm' in assets.toml: minilm-sst2, "):
        asset_path("minilm")


@pytest.mark.parametrize("key", [key for key in tomllib.loads(ASSETS.read_text()) if key != "schema"])
def test_an_asset_is_found_or_skipped_with_the_reason(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEKIT_ASSETS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="EDGEKIT_ASSETS is not set"):
        asset_path(key)
    monkeypatch.setenv("EDGEKIT_ASSETS", str(tmp_path))
    place = tomllib.loads(ASSETS.read_text())[key]["path"]
    with pytest.raises(pytest.skip.Exception, match=f"EDGEKIT_ASSETS has no {place}"):
        asset_path(key)
    (tmp_path / place).mkdir(parents=True)
    assert asset_path(key) == tmp_path / place


def test_what_takes_long_comes_first() -> None:
    items: list[Any] = [SimpleNamespace(path=Path("tests", name)) for name in ("a.py", "cli/b.py", "docs/c.py", "d.py")]
    pytest_collection_modifyitems(items)
    assert [item.path.name for item in items] == ["c.py", "a.py", "b.py", "d.py"]


def test_torch_has_one_thread_whatever_ran_before() -> None:
    import torch

    torch.set_num_threads(2)
    pytest_runtest_setup(SimpleNamespace(iter_markers=lambda name: ()))
    assert torch.get_num_threads() == 1
