"""``edgekit bench``: latency, size and memory of an artifact."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

import edgekit
from edgekit.cli import options, output

EXAMPLES = """
edgekit bench ./out
edgekit bench ./out --tokens 64 --threads 2
edgekit bench model.onnx --image 224 --json
"""


def bench(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="An artifact, an .onnx or a .tflite file.", show_default=False)
    ],
    *,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    image: options.Image = None,
    threads: options.Threads = None,
    provider: Annotated[
        Literal["cpu", "cuda", "tensorrt"],
        typer.Option("--provider", help="What computes in onnxruntime.", rich_help_panel=options.WORKLOAD),
    ] = "cpu",
) -> None:
    """Measure an artifact, an .onnx or a .tflite file on this machine: latency, size, memory."""
    workload = options.read_workload(batch, tokens, image)
    with output.work(quiet=quiet):
        record = edgekit.bench(path, threads=threads or 1, workload=workload, provider=provider)
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.records import bench_view

        output.print_view(lambda _: bench_view(record))
