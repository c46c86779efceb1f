"""``edgekit bench``: latency, size and memory of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output

EXAMPLES = """
edgekit bench ./out
edgekit bench ./out --tokens 64 --threads 2
edgekit bench model.onnx --image 224 --json
edgekit bench ./out --profile
edgekit bench ./out --device ssh://pi@raspberrypi.local
edgekit bench model.onnx --target raspberry-pi-5 --device emulated
"""


def complete_provider(incomplete: str) -> Iterator[str]:
    """Names of what computes in onnxruntime, for the shell."""
    from edgekit.target import EXECUTION_PROVIDERS

    return (name for name in EXECUTION_PROVIDERS if name.startswith(incomplete))


Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="What computes in onnxruntime: cpu (here), cuda, tensorrt.",
        autocompletion=complete_provider,
        rich_help_panel=options.WORKLOAD,
    ),
]


Profile = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="Also the time of each kind of operator, and the fraction of this machine's INT8 limit.",
        rich_help_panel=options.WORKLOAD,
    ),
]


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
    device: options.Device = None,
    target: options.MadeFor = None,
    provider: Provider = None,
    profile: Profile = False,
) -> None:
    """Measure an artifact, an .onnx or a .tflite file: latency, size, memory.

    On this machine, unless --device says where; where this machine is not
    the target, a warning says so. An emulated device has no latency: the
    instructions of one inference are counted.
    """
    workload = options.read_workload(batch, tokens, image)
    with output.work(quiet=quiet) as progress:
        record = edgekit.bench(
            path,
            threads=threads or 1,
            workload=workload,
            provider=provider,
            device=device,
            target=target,
            profile=profile,
            progress=progress,
        )
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.records import bench_view

        output.print_view(lambda _: bench_view(record))
