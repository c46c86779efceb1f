"""What a pruning of a tiny encoder aims at, unless a test says otherwise."""

from __future__ import annotations

from typing import Any

import tiny

from edgekit.pruning import Aim
from edgekit.tasks.base import Task

TOKENS = 16


def aim_for(task: Task, **values: Any) -> Aim:
    """Nothing is to go but what ``values`` say."""
    usual: dict[str, Any] = {
        "ratio": 0.0,
        "layers": 1.0,
        "floor": 0.0,
        "multiple": 4,
        "importance": "taylor",
        "tokens": TOKENS,
        "task": task,
        "batches": lambda what: iter(tiny.batches(task, 24)),
    }
    return Aim(**(usual | values))
