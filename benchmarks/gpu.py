"""Measure a model on this machine's GPU and append each figure to `benchmarks/results/gpu.jsonl`.

    python benchmarks/gpu.py                                                    the MiniLM on SST-2
    python benchmarks/gpu.py --model fashion-mnist-vit --data fashion-mnist --image 28

FP32, FP16 and INT8 through onnxruntime's CUDA and TensorRT providers; FP32 and FP16 through torch: eager, compiled, and
as a CUDA graph. An artifact is measured whether or not a run would keep it. What cannot be measured stands in the file
with its reason. Assets are found by key, as `benchmarks/assets.toml` says.

Exit codes: 0, something was measured; 1, there is a CUDA device, and nothing could be measured; 3, there is no CUDA
device here; 4, an asset is not here.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_yardstick import MODES, time_torch
from lines import append
from run import ARTIFACTS, HERE, find_asset

import edgekit
from edgekit.environment import code_digest, host, versions
from edgekit.runtimes.gpu_graph import NO_TF32
from edgekit.runtimes.measuring import Timing
from edgekit.target import load_target
from edgekit.tasks import bind_task
from edgekit.tasks.base import TaskOptions, Workload

RESULTS = HERE / "results" / "gpu.jsonl"
PROVIDERS = ("cuda", "tensorrt")
# Recipes without training: what differs between the figures is the precision alone.
RECIPES = {"fp32": "export", "fp16": "fp16", "int8": "static"}
NOTHING_MEASURED, NO_DEVICE, NO_ASSET = 1, 3, 4
TIMING = Timing(seconds=20.0, rounds=30)


def base_row(model: str, runtime: str, precision: str, workload: Workload) -> dict[str, Any]:
    """What every row says."""
    device = host().cuda[0]
    return {
        "schema": "edgekit.gpu/1",
        "model": model,
        "runtime": runtime,
        "precision": precision,
        "workload": workload.model_dump(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "code": code_digest(),
        "gpu": device.model_dump(),
        "host": host().processor,
        "versions": versions(),
    }


def provider_row(
    model: str, source: str, data: str, provider: str, precision: str, workload: Workload
) -> dict[str, Any]:
    """An artifact of one precision, made for a provider and measured in it."""
    row = base_row(model, f"onnxruntime, {provider}", precision, workload)
    if precision not in load_target(provider).precisions:
        return row | {"reason": f"the target {provider} does not take {precision}"}
    out = ARTIFACTS / f"{model}-{provider}-{precision}"
    report = edgekit.compress(
        source,
        data=data,
        target=provider,
        recipe=RECIPES[precision],
        max_drop=1.0,
        workload=workload,
        keep_stages=True,
        output=out,
    )
    first, last = report.ledger[0], report.ledger[-1]
    row |= {
        "reason": report.not_measured_because,
        "kept": last.kept,
        "metric": {"before": first.metric, "after": last.metric},
        "devices": [check.model_dump() for check in report.devices],
    }
    if not report.measured:
        return row
    record = edgekit.bench(
        out / "stages" / f"{len(report.ledger) - 1}-{last.stage}", workload=workload, provider=provider
    )
    return row | {"protocol": record.protocol.model_dump(), "metrics": [one.model_dump() for one in record.metrics]}


def torch_rows(model: str, source: str, precision: str, workload: Workload) -> Iterator[dict[str, Any]]:
    """The original in torch, in each of the yardstick's modes."""
    base = base_row(model, "torch", precision, workload)
    if precision == "int8":
        yield base | {"reason": "torch has no INT8 of its own for this model on a GPU"}
        return
    kind = tomllib.loads((HERE / "assets.toml").read_text(encoding="utf-8"))[model]["task"]
    task = bind_task(kind, Path(source), TaskOptions())
    spec = task.components(task.load_model())["model"]
    timings, failed = time_torch(spec.module, task.workload_feeds(workload)["model"], precision, TIMING)
    for mode in MODES:
        if mode in failed:
            yield base | {"runtime": f"torch, {mode}", "reason": failed[mode]}
            continue
        metrics = [one.model_dump() for one in timings.measurements(mode, "model")]
        protocol = {"workload": workload.model_dump(), **vars(TIMING), "clock": timings.clock}
        yield base | {"runtime": f"torch, {mode}", "reason": "", "protocol": protocol, "metrics": metrics}


def rows(model: str, source: str, data: str, workload: Workload) -> Iterator[dict[str, Any]]:
    """Every figure, one after the other."""
    for precision in RECIPES:
        for provider in PROVIDERS:
            yield provider_row(model, source, data, provider, precision, workload)
        yield from torch_rows(model, source, precision, workload)


def p50_of(row: dict[str, Any]) -> float | None:
    """The row's median latency in milliseconds."""
    found = [one["value"] for one in row.get("metrics", ()) if one["name"] == "latency.p50"]
    return found[0] if found else None


def main() -> int:
    os.environ.setdefault(*NO_TF32)  # before torch is loaded
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm-sst2", help="key of a model folder in assets.toml")
    parser.add_argument("--data", default="sst2", help="key of its data")
    parser.add_argument("--image", type=int, help="side of an image, for a model of images")
    arguments = parser.parse_args()
    if not host().cuda:
        print("not measured: no CUDA device", file=sys.stderr)
        return NO_DEVICE
    source, data = find_asset(arguments.model), find_asset(arguments.data)
    if source is None or data is None:
        absent = arguments.model if source is None else arguments.data
        print(f"{absent} is not here; benchmarks/assets.toml says how to get it", file=sys.stderr)
        return NO_ASSET
    workload = Workload(image=arguments.image) if arguments.image else Workload()
    measured = 0
    for row in rows(arguments.model, source, data, workload):
        append(RESULTS, row)
        value = p50_of(row)
        said = f"not measured: {row['reason']}" if value is None else f"{value:8.3f} ms"
        print(f"{row['runtime']:22} {row['precision']:5} {said}", flush=True)
        measured += value is not None
    return 0 if measured else NOTHING_MEASURED


if __name__ == "__main__":
    sys.exit(main())
