"""LiteRT in a process of its own, asked through pipes: what stands in for its Java classes starts it.

    python answers.py LOG FILE THREADS

The first line on standard output describes the entry points. Then each line on standard input, ``{"key": ...,
"inputs": {name: values}}``, gets a line with the values of the outputs, and LOG a line with the key.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def described(details: dict[str, Any]) -> dict[str, Any]:
    """Types and shapes by name, as LiteRT's Java classes call them."""
    return {
        name: {"type": np.dtype(one["dtype"]).name.upper(), "shape": one["shape"].tolist()}
        for name, one in details.items()
    }


def say(document: dict[str, Any]) -> None:
    """One line, at once."""
    sys.stdout.write(f"{json.dumps(document)}\n")
    sys.stdout.flush()


def main() -> None:
    """Answer until nothing is asked any more."""
    log, file, threads = sys.argv[1:]
    interpreter = Interpreter(model_path=file, num_threads=int(threads))
    runners = {key: interpreter.get_signature_runner(key) for key in interpreter.get_signature_list()}
    sides = {
        key: {"inputs": runner.get_input_details(), "outputs": runner.get_output_details()}
        for key, runner in runners.items()
    }
    told = {key: {side: described(details) for side, details in both.items()} for key, both in sides.items()}
    say(told)
    for line in sys.stdin:
        asked = json.loads(line)
        details = sides[asked["key"]]["inputs"]
        feeds = {
            name: np.asarray(values, details[name]["dtype"]).reshape(details[name]["shape"])
            for name, values in asked["inputs"].items()
        }
        found = runners[asked["key"]](**feeds)
        say({name: values.ravel().tolist() for name, values in found.items()})
        with Path(log).open("a", encoding="utf-8") as stream:
            stream.write(f"{asked['key']}\n")


if __name__ == "__main__":
    main()
