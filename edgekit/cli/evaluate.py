"""``edgekit eval``: the metric of any model or artifact on any data."""

from __future__ import annotations

from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output
from edgekit.cli.compress import COLUMNS_EXAMPLE
from edgekit.cli.options import DATA, MOST, MOST_SEED, MOST_THREADS

EXAMPLES = """
edgekit eval ./out --data ./my-data
edgekit eval org/name --data data.csv --split test --json
edgekit eval ./out --data ./my-data --device ssh://pi@raspberrypi.local
"""


Path = Annotated[str, typer.Argument(metavar="PATH", help=options.PATH_HELP, show_default=False)]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="DATA",
        help="A folder, a file, or a hub id of a data set.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME",
        help="Which part; the evaluation split of compress otherwise.",
        rich_help_panel=DATA,
    ),
]
Batch = Annotated[int | None, typer.Option("--batch", metavar="N", min=1, max=MOST, help="Samples at once (1).")]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        max=MOST,
        help="Samples, evenly spread over the part (all; 128 on a device).",
        rich_help_panel=DATA,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Compare the answers there, too: as for compress, but for adb.",
        rich_help_panel=options.WORKLOAD,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", min=0, max=MOST_SEED, help="As for compress, where the split is drawn (0)."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, max=MOST_THREADS, help="Threads to run on (all).")
]


def evaluate(
    path: Path,
    *,
    data: Data,
    split: Split = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    task: options.TaskName = None,
    metric: options.Metric = None,
    columns: options.Columns = None,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    weights: options.Weights = None,
    input_: options.Input = None,
    mean: options.Mean = None,
    std: options.Std = None,
    preprocess: options.Preprocess = None,
    layout: options.LayoutName = None,
    labels: options.Labels = None,
    state: options.StatePairs = None,
    threads: Threads = None,
    batch: Batch = None,
    seed: Seed = None,
    limit: Limit = None,
    device: Device = None,
    target: options.MadeFor = None,
) -> None:
    """Score a model folder or an artifact on labelled data, in its own runtime on this machine.

    With --device, samples also run there, and the answers are compared.
    Where this machine is not the target, a warning says so.
    """
    pairs = options.read_pairs(columns, "--columns", COLUMNS_EXAMPLE, several=True)
    with output.work(quiet=quiet) as progress:
        record = edgekit.evaluate(
            path,
            data,
            split=split,
            task=task,
            metric=metric,
            columns=pairs,
            max_length=max_length,
            threads=threads,
            revision=revision,
            seed=seed or 0,
            batch=batch or 1,
            limit=limit,
            device=device,
            target=target,
            progress=progress,
            **options.read_feeding(weights, input_, mean, std, preprocess, layout, labels, state),
        )
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.records import eval_view

        output.print_view(lambda _: eval_view(record))
