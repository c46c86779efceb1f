"""``edgekit costs``: what an inference costs, by the widths of an encoder's layers."""

from __future__ import annotations

from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output
from edgekit.cli.compress import SET_EXAMPLE, Data, Model, RecipeName, Set, TargetName

EXAMPLES = """
edgekit costs ./my-model --target host
edgekit costs ./my-model --target raspberry-pi-5 --device emulated
edgekit costs org/name --target x86-64-vnni -o costs.json
edgekit costs ./my-model --target host --set prune.hidden=0.67
"""
File = Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Write the table there, to share it.")]


def costs(
    model: Model,
    *,
    target: TargetName = "host",
    data: Data = None,
    recipe: RecipeName = None,
    set_: Set = None,
    out: File = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    task: options.TaskName = None,
    revision: options.Revision = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    image: options.Image = None,
    device: options.Device = None,
    threads: options.Threads = None,
    jobs: options.Jobs = None,
) -> None:
    """Measure what heads and neurons cost on a device, for pruning.

    About a dozen small encoders of the model's shape are made as the
    recipe would ship them, and timed together; where the device is
    emulated, their instructions are counted. The table stays in the
    cache. `compress --set prune.cost=measured` goes by it. With
    `--set prune.hidden=...` smaller hidden sizes are measured, too.
    """
    with output.work(quiet=quiet) as progress:
        table = edgekit.costs(
            model,
            output=out,
            progress=progress,
            target=target,
            data=data,
            recipe=recipe,
            settings=options.read_pairs(set_, "--set", SET_EXAMPLE),
            task=task,
            revision=revision,
            workload=options.read_workload(batch, tokens, image),
            device=device,
            threads=threads,
            jobs=jobs,
        )
    if json_:
        output.print_document(table.model_dump(mode="json", by_alias=True) | table.told())
    else:
        from edgekit.render.costs import costs_view

        output.print_view(lambda _: costs_view(table))
