"""A TFLite graph that is run by whichever interpreter: one file, needing only Python, numpy and a TFLite runtime.

It is used here with LiteRT, on devices by ``devices/runner.py``, and in processes of their own by ``graph_child.py``.
"""

from __future__ import annotations

from typing import Any

BATCH = "batch"


class DoesNotFit(ValueError):
    """Feeds that are larger than every signature."""


class Graph:
    """A graph with its signatures.

    Args:
        interpreter: of any TFLite runtime, loaded with the file.
        component: ``inputs``, ``outputs`` and ``signatures`` as in a manifest.
    """

    def __init__(self, interpreter: Any, component: dict[str, Any]) -> None:
        self._interpreter = interpreter
        self._inputs = {spec["name"]: spec["shape"] for spec in component["inputs"]}
        self._outputs = {spec["name"]: spec["shape"] for spec in component["outputs"]}
        self._signatures: dict[str, dict[str, int]] = component["signatures"] or {"": {}}
        self._runners: dict[str, Any] = {}

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """Run the smallest signature that the feeds fit into, several samples one by one where its batch is fixed.

        Places behind a sample are zeros, and are cut off the outputs again. Floats that an integer input is fed are
        quantized by its scale, and integer outputs that have a scale come back as float32.

        Raises:
            DoesNotFit: no signature is large enough.
            ValueError: an input is missing, or two disagree on a dimension.
        """
        import numpy as np

        sizes = self._sizes(feeds)
        parts = [self.call(key, part) for key, part in self.parts(feeds)]
        return {
            name: self._cut(
                np.concatenate([part[name] for part in parts], shape.index(BATCH))
                if BATCH in shape
                else parts[0][name],
                shape,
                sizes,
            )
            for name, shape in self._outputs.items()
        }

    def parts(self, feeds: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """The calls that feeds become: each a signature, empty where the file has none, and what it is fed.

        Raises:
            DoesNotFit: no signature is large enough.
            ValueError: an input is missing, or two disagree on a dimension.
        """
        sizes = self._sizes(feeds)
        key = self._fitting(sizes)
        fixed = self._signatures[key]
        samples = sizes.get(BATCH, 1)
        step = fixed.get(BATCH, samples)
        return [
            (key, {name: self._fill(value, self._inputs[name], fixed, start) for name, value in feeds.items()})
            for start in range(0, samples, step)
        ]

    def _sizes(self, feeds: dict[str, Any]) -> dict[str, int]:
        """The free dimensions of the feeds, by name."""
        if feeds.keys() != self._inputs.keys():
            raise ValueError(f"inputs {sorted(feeds)} were given, the graph takes {sorted(self._inputs)}")
        sizes: dict[str, int] = {}
        for name, value in feeds.items():
            shape = self._inputs[name]
            if len(shape) != value.ndim:
                raise ValueError(f"{name!r} has the shape {list(value.shape)}, allowed: {list(shape)}")
            for dim, size in _pairs(shape, value):
                if dim != size and (not isinstance(dim, str) or sizes.setdefault(dim, size) != size):
                    raise ValueError(f"{name!r} has the shape {list(value.shape)}, allowed: {list(shape)}")
        return sizes

    def _fitting(self, sizes: dict[str, int]) -> str:
        """The smallest signature whose fixed dimensions, without the batch, hold the feeds."""
        inner = {
            key: {dim: size for dim, size in fixed.items() if dim != BATCH} for key, fixed in self._signatures.items()
        }
        order = sorted(inner, key=lambda key: sum(inner[key].values()))
        for key in order:
            if all(sizes[dim] <= size for dim, size in inner[key].items()):
                return key
        given = {dim: size for dim, size in sizes.items() if dim != BATCH}
        raise DoesNotFit(f"{_spell(given)} was given, the graph takes up to {_spell(inner[order[-1]])}")

    @staticmethod
    def _fill(value: Any, shape: list[Any], fixed: dict[str, int], start: int) -> Any:
        """The samples of a feed from ``start`` on that one call takes, with zeros behind where a call is larger."""
        import numpy as np

        if BATCH in fixed and BATCH in shape:
            axis = shape.index(BATCH)
            value = np.take(value, range(start, min(start + fixed[BATCH], value.shape[axis])), axis)
        short = [(0, max(fixed.get(dim, size) - size, 0)) for dim, size in _pairs(shape, value)]
        return np.pad(value, short) if any(behind for _, behind in short) else np.ascontiguousarray(value)

    @staticmethod
    def _cut(value: Any, shape: list[Any], sizes: dict[str, int]) -> Any:
        """An output without the places behind the samples."""
        return value[tuple(slice(sizes.get(dim, size)) for dim, size in _pairs(shape, value))]

    def call(self, key: str, feeds: dict[str, Any]) -> dict[str, Any]:
        """Run one of ``parts``."""
        if not key:
            return self._call_whole(feeds)
        if key not in self._runners:
            runner = self._interpreter.get_signature_runner(key)
            self._runners[key] = runner, runner.get_input_details(), runner.get_output_details()
        runner, inputs, outputs = self._runners[key]
        found = runner(**{name: _quantized(value, inputs[name]) for name, value in feeds.items()})
        return {name: _dequantized(found[name], outputs[name]) for name in self._outputs}

    def _call_whole(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """Run a file without signatures, whose inputs and outputs are named as their tensors."""
        inputs = {detail["name"]: detail for detail in self._interpreter.get_input_details()}
        for name, value in feeds.items():
            if tuple(inputs[name]["shape"]) != value.shape:
                self._interpreter.resize_tensor_input(inputs[name]["index"], value.shape)
        self._interpreter.allocate_tensors()
        for name, value in feeds.items():
            self._interpreter.set_tensor(inputs[name]["index"], _quantized(value, inputs[name]))
        self._interpreter.invoke()
        return {
            detail["name"]: _dequantized(self._interpreter.get_tensor(detail["index"]), detail)
            for detail in self._interpreter.get_output_details()
        }


def _pairs(shape: list[Any], value: Any) -> list[tuple[Any, int]]:
    """Each dimension's name or size, and what it is in an array."""
    return list(zip(shape, value.shape))  # noqa: B905  # Python 3.9, which some devices have, knows no `strict`


def _spell(sizes: dict[str, int]) -> str:
    return ", ".join(f"{dim} {size}" for dim, size in sizes.items()) or "no free dimension"


def _quantized(value: Any, detail: dict[str, Any]) -> Any:
    """A feed as the input's type; floats go by its scale where it has one."""
    import numpy as np

    dtype, (scale, zero) = np.dtype(detail["dtype"]), detail["quantization"]
    if scale and dtype.kind in "iu" and value.dtype.kind == "f":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(value / scale) + zero, limits.min, limits.max).astype(dtype)
    return value.astype(dtype, copy=False)


def _dequantized(value: Any, detail: dict[str, Any]) -> Any:
    import numpy as np

    scale, zero = detail["quantization"]
    return (value.astype(np.float32) - zero) * np.float32(scale) if scale and value.dtype.kind in "iu" else value


def open_interpreter(graph: str, threads: int, runtime: str) -> tuple[Any, str]:
    """An interpreter of one runtime, ``litert`` or ``tflite-runtime``, and the name and version of its package.

    Raises:
        ImportError: it is not installed; another one that is would answer otherwise.
    """
    if runtime == "tflite-runtime":
        import tflite_runtime
        from tflite_runtime.interpreter import Interpreter

        name = f"tflite-runtime {tflite_runtime.__version__}"
    else:
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        name = f"ai-edge-litert {ai_edge_litert.__version__}"
    return Interpreter(model_path=graph, num_threads=threads), name
