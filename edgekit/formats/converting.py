"""Check an ONNX file, and bring it to a newer operator set: a program of its own.

    python converting.py SPEC.json

onnx's parser, checker and converter are native code that a graph of a stranger can bring down. So they run here, in a
process whose memory and time edgekit limits (``confinement.py``). SPEC names the file, and what is wanted: ``opset``
and ``into`` for a conversion. The answer is one JSON document on standard output: ``{"refused": ""}``, or with the
reason.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def check(file: str) -> None:
    """onnx's checker, with external data."""
    import onnx

    onnx.checker.check_model(file)


def convert(file: str, opset: int, into: str) -> None:
    """The graph in another operator set, with its shapes inferred, in a new file."""
    import onnx
    from onnx import version_converter

    model = version_converter.convert_version(onnx.load(file), opset)
    onnx.checker.check_model(model)
    onnx.save(model, into)


def main() -> None:
    """Do what the specification says and print the answer."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        spec: dict[str, Any] = json.load(stream)
    reason = ""
    try:
        if "opset" in spec:
            convert(spec["file"], spec["opset"], spec["into"])
        else:
            check(spec["file"])
    except Exception as error:  # noqa: BLE001  # whatever onnx has against the graph is the answer
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    json.dump({"refused": reason}, sys.stdout)


if __name__ == "__main__":
    main()
