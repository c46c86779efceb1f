from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from edgekit.tasks.base import Task


@pytest.fixture
def bert(tmp_path: Path, torch_alone: Any) -> Task:
    return tiny.task_for(tiny.save(tiny.build("bert"), tmp_path / "bert"))
