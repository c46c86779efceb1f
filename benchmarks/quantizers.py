"""Compare the two quantizers on real models, each pair interleaved in one process, and print the table.

    pip install 'edgekit[inc]'
    python benchmarks/quantizers.py                      every case whose assets are here
    python benchmarks/quantizers.py --case minilm-sst2   one of them
    python benchmarks/quantizers.py --bf16               what mixed bf16 gives in torch, and what onnxruntime says to it

Assets are found as `benchmarks/assets.toml` says. ResNet-20 needs `--resnet-weights` and `--resnet-data` beside it.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from run import HERE, find_asset

import edgekit
from edgekit.errors import ModelError
from edgekit.formats.onnx import export_component
from edgekit.runtimes.ort import open_session
from edgekit.tasks import bind_task
from edgekit.tasks.base import TaskOptions, Workload

METHODS = ("auto", "static")
ASSETS = {"minilm-sst2": "sst2", "fashion-mnist-vit": "fashion-mnist"}
RESNET = "resnet20"
# Rounds of one inference each; the first tenth is warm-up.
ROUNDS = 100
# The pixels that the weights were trained on: the mean and deviation of ImageNet.
SCALED = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def given(name: str, arguments: argparse.Namespace) -> tuple[str | None, dict[str, Any]]:
    """A case's model, and what `compress` is told beside it."""
    if name == RESNET:
        source = f"{HERE / 'models' / 'resnet20.py'}:resnet20" if arguments.resnet_weights else None
        return source, {"data": arguments.resnet_data, "weights": arguments.resnet_weights, **SCALED}
    options: dict[str, Any] = {"data": find_asset(ASSETS[name])}
    if name == "fashion-mnist-vit":
        options["workload"] = edgekit.Workload(image=28)
    return find_asset(name), options


def compare(source: str, options: dict[str, Any], target: str, method: str) -> list[dict[str, Any]]:
    """The figures of both engines; the second's latency is over the first's."""
    with tempfile.TemporaryDirectory() as folder:
        report = edgekit.compress(
            source,
            target=target,
            recipe="quantize",
            settings={"quantize.engine": "both", "quantize.method": method},
            output=Path(folder) / "out",
            **options,
        )
    details: Any = next(stage.details for stage in report.stages if stage.stage == "quantize")
    return [row | {"used": row["engine"] == details["engine"]} for row in details["engines"]]


def line(name: str, method: str, row: dict[str, Any]) -> str:
    """A row of the table."""
    if "failed" in row:
        return f"{name:18} {method:7} {row['engine']:18} {row['failed']}"
    ratio, low, high = row.get("slowdown", (1, 1, 1))
    drop = "-" if row["drop"] is None else f"{row['drop'] * 100:+.2f}"
    latency = f"{row['p50_ms']:7.3f} ms (n {row['samples']})  x {ratio:.3f} [{low:.3f}, {high:.3f}]"
    used = "used" if row["used"] else ""
    size = f"{row['size_bytes'] / 1e6:6.2f} MB"
    return f"{name:18} {method:7} {row['engine']:18} {size}  {latency}  {drop:>6} points lost  {used}"


def mixed_bf16(source: str) -> None:
    """torch in float32 and in mixed bf16, interleaved on one thread; then its ONNX in onnxruntime."""
    import torch
    from neural_compressor.torch.quantization import MixedPrecisionConfig, convert

    torch.set_num_threads(1)
    task = bind_task("text-classification", Path(source), TaskOptions())
    spec = task.components(task.load_model())["model"]
    modules = {
        "float32": spec.module,
        "bf16": convert(copy.deepcopy(spec.module), MixedPrecisionConfig(dtype="bf16")),
    }
    feeds = {name: torch.from_numpy(values) for name, values in task.workload_feeds(Workload())["model"].items()}
    taken: dict[str, list[float]] = {name: [] for name in modules}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, module in modules.items():
                began = time.perf_counter()
                module(**feeds)
                taken[name].append(1000 * (time.perf_counter() - began))
    kept = {name: samples[ROUNDS // 10 :] for name, samples in taken.items()}
    ratio = statistics.median(a / b for a, b in zip(kept["float32"], kept["bf16"], strict=True))
    for name, samples in kept.items():
        print(f"torch, {name:8} {statistics.median(samples):7.2f} ms (n {len(samples)})")
    print(f"bf16 is {ratio:.2f}x as fast in torch")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bf16.onnx"
        export_component(replace(spec, module=modules["bf16"]), file, 23)
        try:
            open_session(file, 1)
        except ModelError as error:
            print(f"{error.what}: {error.why}")
        else:
            print("onnxruntime loads it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[*ASSETS, RESNET], action="append")
    parser.add_argument("--target", default="host", help="what this machine can measure")
    parser.add_argument("--resnet-weights", type=Path)
    parser.add_argument("--resnet-data", type=Path)
    parser.add_argument("--bf16", action="store_true", help="mixed bf16 of the MiniLM instead")
    arguments = parser.parse_args()
    if arguments.bf16:
        source = find_asset("minilm-sst2")
        if source is None:
            raise SystemExit("the MiniLM is not here; benchmarks/assets.toml says how to get it")
        mixed_bf16(source)
        return
    for name in arguments.case or [*ASSETS, RESNET]:
        source, options = given(name, arguments)
        if source is None or options["data"] is None:
            print(f"{name}: left out, since its model or data is not here", file=sys.stderr)
            continue
        for method in METHODS:
            for row in compare(source, options, arguments.target, method):
                print(line(name, method, row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
