"""A graph that is run for another process: one file, needing only Python, numpy and a runtime.

    python graph_child.py

It reads frames on standard input and answers each on standard output. A frame is a length, 8 bytes, and so many bytes.
The first one is JSON: the graph, its component as the manifest describes it, the threads, the runtime. Every other has
named arrays (``pack_arrays``), one call. An answer begins with one byte, ``DONE``, ``REFUSED`` or ``TOO_LARGE``, and
then has what came out, as JSON and arrays likewise, or the reason. A runtime that does not survive the graph takes this
process along, and no other.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import IO, Any

# What an answer begins with: done, the runtime refuses, and a sample is larger than every signature.
DONE, REFUSED, TOO_LARGE = b"+", b"-", b">"
LENGTH_BYTES = 8

Call = Callable[[dict[str, Any]], dict[str, Any]]


def open_graph(spec: dict[str, Any]) -> tuple[Call, str]:
    """The graph as a function of named arrays, and the name and version of the runtime."""
    if spec["runtime"] == "onnxruntime":
        return open_onnx(spec["graph"], spec["threads"])
    from tflite_graph import Graph, open_interpreter  # type: ignore[import-not-found, unused-ignore]

    interpreter, runtime = open_interpreter(spec["graph"], spec["threads"], spec["runtime"])
    interpreter.allocate_tensors()  # where an operator that the runtime lacks shows
    return Graph(interpreter, spec["component"]).run, runtime


def open_onnx(graph: str, threads: int) -> tuple[Call, str]:
    """An ONNX graph in a session on the processor."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True)), f"onnxruntime {ort.__version__}"


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame of a stream; None where it has ended."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    size = int.from_bytes(head, "big")
    content = stream.read(size)
    return content if len(content) == size else None


def write_frame(stream: IO[bytes], content: bytes) -> None:
    """Write a frame."""
    stream.write(len(content).to_bytes(LENGTH_BYTES, "big") + content)
    stream.flush()


def pack_arrays(arrays: Any) -> bytes:
    """Named arrays as a line of JSON with the name, the type and the shape of each, and the bytes of all behind it.

    It is no ``.npz``: numpy reads the header of an array as a piece of Python, and where two threads do so at once,
    Python 3.11.7 may fail, as may those before it (github.com/python/cpython/issues/106905).

    Raises:
        ValueError: one has objects, such as texts of any length.
    """
    import numpy as np

    given = {name: np.asarray(value) for name, value in arrays.items()}
    for name, value in given.items():
        _check_plain(name, value.dtype)
    head = [[name, value.dtype.str, value.shape] for name, value in given.items()]
    return b"".join([json.dumps(head).encode(), b"\n", *(value.tobytes() for value in given.values())])


def unpack_arrays(content: bytes) -> dict[str, Any]:
    """What ``pack_arrays`` packed.

    Raises:
        ValueError: it is something else.
    """
    import numpy as np

    head, _, body = content.partition(b"\n")
    found: dict[str, Any] = {}
    place = 0
    for name, kind, shape in json.loads(head):
        _check_plain(name, np.dtype(kind))
        values = np.ndarray(tuple(shape), np.dtype(kind), body, place)
        found[name], place = values.copy(), place + values.nbytes
    return found


def _check_plain(name: str, kind: Any) -> None:
    if kind.hasobject:
        raise ValueError(f"{name!r} has objects, which are not passed on")


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Open the graph of the first frame, and run it on every other until there are no more."""
    run: Call | None = None
    while True:
        content = read_frame(source)
        if content is None:
            return
        try:
            if run is None:
                run, runtime = open_graph(json.loads(content))
                answer = json.dumps({"runtime": runtime}).encode()
            else:
                answer = pack_arrays(run(unpack_arrays(content)))
        except ImportError:
            raise  # no fault of the graph
        except Exception as error:  # noqa: BLE001  # each runtime has classes of its own for what it refuses
            kind = TOO_LARGE if type(error).__name__ == "DoesNotFit" else REFUSED
            write_frame(sink, kind + (str(error).strip() or type(error).__name__).encode(errors="replace"))
        else:
            write_frame(sink, DONE + answer)


if __name__ == "__main__":
    # What it imports lies beside this file, and not in a package; `python -P` looks nowhere.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a runtime prints is no answer
    serve(sys.stdin.buffer, answers)
