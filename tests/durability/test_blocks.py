"""What the scripts of this folder keep of their work: what was wrong once is not gone when it does not come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from world import Blocks
blocks = Blocks("kills", seed=1)
for word in sys.argv[2:]:
    name, _, problem = word.partition(":")
    blocks.add(name, [problem] if problem else [])
again = Blocks("kills", seed=1)
assert all(again.is_done(name) == (not again.done[name]["problems"]) for name in "ab")
again.finish()
"""


def finished(folder: Path, *blocks: str) -> tuple[int, Any]:
    """Exit code and figures of a script that did these blocks, each with what was wrong in it behind a colon."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(HERE), *blocks],
        env=os.environ | {"DURABILITY_RESULTS": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_what_was_wrong_once_stays_wrong(tmp_path: Path) -> None:
    code, found = finished(tmp_path / "right", "a", "b")
    assert (code, found["problems"], found["blocks"]) == (0, [], 2)
    code, found = finished(tmp_path / "again", "a:it was lost", "b", "a")
    assert (code, found["problems"]) == (1, ["a, at an earlier attempt: it was lost"])
    code, found = finished(tmp_path / "wrong", "a:it was lost", "a:and again", "b")
    assert (code, found["problems"]) == (1, ["a: and again", "a, at an earlier attempt: it was lost"])
