"""``edgekit bench``: latency, size and memory of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

import edgekit
from edgekit.cli import exports, options, output

if TYPE_CHECKING:
    from edgekit.gate.record import BenchRecord

EXAMPLES = """
edgekit bench ./out
edgekit bench ./out --tokens 64 --threads 2
edgekit bench model.onnx --image 224 --json
edgekit bench new.onnx --baseline old.onnx
edgekit bench ./new --baseline ./old --data ./my-data --strict
edgekit bench ./out --save results/today.json
edgekit bench new.onnx --baseline old.onnx --junit junit.xml
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


GATE = "Gate"
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="OLD",
        help="What it must not be worse than: a model that is measured beside it, or a result that --save wrote here.",
        rich_help_panel=GATE,
    ),
]
Gate = Annotated[
    str | None,
    typer.Option(
        "--gate",
        metavar="METRIC=MARGIN,...",
        help="How much worse each may be (latency.p50=1%,size=1%; with data accuracy=-0.5pp).",
        rich_help_panel=GATE,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Labelled samples that both answer: a folder, a file, or a hub id.",
        rich_help_panel=GATE,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="TIME", help="For the times, at most: 60s (10s without a baseline).", rich_help_panel=GATE
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit with 6 where nothing can be told, or a gated metric cannot be measured.",
        rich_help_panel=GATE,
    ),
]


def complete_preset(incomplete: str) -> Iterator[str]:
    """Names of presets, for the shell."""
    from edgekit.gate.protocol import PRESETS

    return (name for name in PRESETS if name.startswith(incomplete))


Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="How long: quick (10 s), mlperf-mobile (60 s, 1024 inferences), tiny (five processes of 10 s, no budget).",
        autocompletion=complete_preset,
        rich_help_panel=GATE,
    ),
]
Save = Annotated[
    str | None, typer.Option("--save", metavar="FILE.json", help="Keep the result, the document of --json.")
]


def bench(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="An artifact, an .onnx or a .tflite file.", show_default=False)
    ],
    *,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    save: Save = None,
    baseline: Baseline = None,
    gate: Gate = None,
    data: Data = None,
    budget: Budget = None,
    preset: Preset = None,
    strict: Strict = False,
    junit: exports.Junit = None,
    markdown: exports.Markdown = None,
    github: exports.Github = False,
    export: exports.Export = None,
    seed: options.Seed = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    image: options.Image = None,
    threads: options.Threads = None,
    device: options.Device = None,
    target: options.MadeFor = None,
    provider: Provider = None,
) -> None:
    """Measure an artifact, an .onnx or a .tflite file: latency, size, memory.

    With --baseline, tell whether it is worse: both are measured beside each
    other. Exit code 0 for a pass or an improvement, 1 for a regression, 6
    with --strict where nothing can be told or a gated metric cannot be
    measured, 7 where they cannot be compared.

    On this machine, unless --device says where; where this machine is not
    the target, a warning says so. An emulated device has no latency: the
    instructions of one inference are counted.
    """
    workload = options.read_workload(batch, tokens, image)
    files = exports.read_exports(junit, markdown, export)
    kept = None if save is None else exports.read_save(save)
    exports.check_apart([*files.values(), *([] if kept is None else [kept])], (path, baseline, data))
    with output.work(quiet=quiet) as progress:
        record = edgekit.bench(
            path,
            baseline=baseline,
            gate=gate,
            data=data,
            budget_s=None if budget is None else options.read_seconds(budget, "--budget"),
            preset=preset,
            threads=threads or 1,
            workload=workload,
            provider=provider,
            device=device,
            target=target,
            seed=seed or 0,
            progress=progress,
        )
    if kept is not None:
        record.save(kept)
    exports.write_exports(record, files)
    if github:
        exports.tell_github(record, strict=strict)
    print_record(record, json_=json_)
    from edgekit.gate.verdict import exit_code

    raise typer.Exit(exit_code(record, strict=strict))


def print_record(record: BenchRecord, *, json_: bool) -> None:
    """Print what was measured."""
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.bench import bench_view

        output.print_view(lambda _: bench_view(record))
