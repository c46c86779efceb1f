"""Scripts of benchmarks/, imported as they import their neighbours, and forgotten behind a test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / "benchmarks"


@contextmanager
def scripts() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script by its name."""
    names = {file.stem for file in FOLDER.glob("*.py")}
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(FOLDER))  # and nothing else: onnxruntime.transformers puts itself there
        for name in names & sys.modules.keys():
            if Path(sys.modules[name].__file__ or "").parent == FOLDER:
                del sys.modules[name]
