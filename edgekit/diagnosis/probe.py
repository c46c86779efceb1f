"""Imports packages in a process of its own and says what came of it, as one JSON document on standard output.

    python probe.py MODULE...

A package that was built for another processor ends the process that imports it: here, only this one.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def try_import(name: str) -> str | None:
    """Why a module cannot be imported, or None."""
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001  # a broken package may raise anything, and all of it is the answer
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return None


def about_torch() -> dict[str, Any]:
    """What torch computes with."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"cuda": torch.version.cuda, "devices": devices, "vectors": torch.backends.cpu.get_cpu_capability()}


def about_onnxruntime() -> dict[str, Any]:
    """What onnxruntime computes with."""
    import onnxruntime

    return {"providers": onnxruntime.get_available_providers()}


def main() -> None:
    """Import what the arguments name, one after the other; each answer is printed at once."""
    for name in sys.argv[1:]:
        answer: dict[str, Any] = {"module": name, "error": try_import(name)}
        about = {"torch": about_torch, "onnxruntime": about_onnxruntime}.get(name)
        if about is not None and answer["error"] is None:
            answer |= about()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
