"""Check an ONNX file, and bring it to a newer operator set: a program of its own.

    python converting.py SPEC.json

onnx's parser, checker and converter are native code that a graph of a stranger can bring down. So they run here, in a
process whose memory and time edgekit limits (``confinement.py``). SPEC names the file, and what is wanted: ``opset``
and ``into`` for a conversion. The answer is one JSON document on standard output: ``{"refused": "", "external": 0}``,
with the reason, and with the number of tensors that lie in other files, wherever in the file they are named.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any


def check(file: str, external: int) -> None:
    """onnx's checker, which reads a file itself, slowly, and has to where tensors lie in others."""
    import onnx

    if external:
        onnx.checker.check_model(file)
    else:
        with open(file, "rb") as stream:
            onnx.checker.check_model(stream.read())


def look_at_tensors(file: str) -> int:
    """How many tensors of a file lie in other files: of its graphs, their functions, and what it has for training.

    Raises:
        ValueError: one has more or fewer elements than its shape, which onnx's checker does not see; or it has sparse
            tensors, which nothing in edgekit reads, and a runtime spells out.
    """
    import onnx

    found = 0
    for one in messages(onnx.load(file, load_external_data=False)):
        if one.DESCRIPTOR.name == "SparseTensorProto":
            raise ValueError("it has sparse tensors, which are not read")
        if one.DESCRIPTOR.name == "TensorProto":
            external = one.data_location == onnx.TensorProto.EXTERNAL
            found += external
            if not external:
                check_size(one)
    return found


def check_size(tensor: Any) -> None:
    """See that a tensor has as many elements as its shape says.

    Raises:
        ValueError: it has not.
    """
    import onnx

    try:
        onnx.numpy_helper.to_array(tensor)
    except ValueError as error:
        raise ValueError(f"the tensor {tensor.name!r}: {error}") from error
    except (TypeError, KeyError):
        pass  # a type of numbers that numpy does not know; the checker has its own rules for these


def messages(whole: Any) -> Iterator[Any]:
    """A protobuf message and all in it, but for what is inside tensors."""
    waiting = [whole]
    while waiting:
        one = waiting.pop()
        yield one
        if one.DESCRIPTOR.name != "TensorProto":
            for field, value in one.ListFields():
                if field.message_type is not None:
                    waiting += [value] if hasattr(value, "DESCRIPTOR") else value


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
    reason, external = "", 0
    try:
        if "opset" in spec:
            convert(spec["file"], spec["opset"], spec["into"])
        else:
            external = look_at_tensors(spec["file"])
            check(spec["file"], external)
    except Exception as error:  # noqa: BLE001  # whatever onnx has against the graph is the answer
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    json.dump({"refused": reason, "external": external}, sys.stdout)


if __name__ == "__main__":
    main()
