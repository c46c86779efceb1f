from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from edgekit.cache import find_damage
from edgekit.formats.foreign_tflite import resolve_tflite


def test_a_copy_that_fails_leaves_nothing_and_the_next_one_is_whole(
    tflites: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, destination: Path) -> None:
        destination.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tflites["Residual"].file
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", fail)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            resolve_tflite(file, {}, None, images=False)
    assert not any((tmp_path / "cache" / "tmp").iterdir())
    kept = Path(resolve_tflite(file, {}, None, images=False).path)
    assert find_damage(kept) is None
    assert (kept / "model.tflite").read_bytes() == file.read_bytes()
