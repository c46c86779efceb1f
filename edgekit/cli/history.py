"""``edgekit history``: one metric over the results that ``bench --save`` kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from edgekit.cli import options, output

EXAMPLES = """
edgekit history ./results
edgekit history ./results --metric memory.peak
edgekit history ./results --json
"""


def complete_metric(incomplete: str) -> Iterator[str]:
    """Names of metrics, for the shell."""
    from edgekit.gate.metrics import METRICS

    return (name for name in METRICS if name.startswith(incomplete))


Metric = Annotated[str, typer.Option("--metric", metavar="NAME", help="Which figure.", autocompletion=complete_metric)]


def history(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A result of `bench --save`, or a folder of them.", show_default=False)
    ],
    *,
    json_: options.Json = False,
    metric: Metric = "latency.p50",
) -> None:
    """Show a metric over time, from results that `bench --save` kept.

    `edgekit bench history PATH` is the same. Results of several machines,
    runtimes or workloads stand apart: their figures are not compared.
    """
    from edgekit.gate.history import read_history

    found = read_history(path, metric)
    if json_:
        output.print_document(found)
        return
    from edgekit.render.history import history_view

    output.print_view(lambda width: history_view(found, width))
