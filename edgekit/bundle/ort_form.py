"""Convert an ONNX file to ONNX Runtime's own format: a program of its own.

    python -P ort_form.py GRAPH FOLDER arm|any

ONNX Runtime writes parts of the file in the order of hash tables, whose order follows the addresses that the process
was given. So the process asks Linux for addresses that are not random and starts again: equal graphs then give equal
files. The answer is one JSON document on standard output: ``{"refused": ""}``, or with the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import sys
from pathlib import Path

ADDR_NO_RANDOMIZE = 0x0040000  # of personality(2)
STARTED = "EDGEKIT_ORT_FORM_STARTED"


def start_again() -> None:
    """The same process with fixed addresses; as it is where the system does not give them."""
    if sys.platform != "linux" or STARTED in os.environ:
        return
    if ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE) != -1:
        os.environ[STARTED] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def convert(graph: Path, folder: Path, platform: str) -> None:
    """Write ``FOLDER/NAME.ort`` and the list of its operators.

    ``arm`` lets operators on signed integers be fused. Neither form has convolutions laid out for the registers of the
    processor here: onnxruntime's ``amd64`` would, and so would not serve another one.
    """
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

    target = "arm" if platform == "arm" else None
    convert_onnx_models_to_ort(graph, folder, [OptimizationStyle.Fixed], target_platform=target)


def main() -> None:
    """Do what the arguments say and print the answer."""
    start_again()
    graph, folder, platform = sys.argv[1:]
    reason = ""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            convert(Path(graph), Path(folder), platform)
    except Exception as error:  # noqa: BLE001  # whatever onnxruntime has against the graph is the answer
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    json.dump({"refused": reason}, sys.stdout)


if __name__ == "__main__":
    main()
