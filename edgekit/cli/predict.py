"""``edgekit predict``: labels with scores, from raw text or an image file."""

from __future__ import annotations

from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output

EXAMPLES = """
edgekit predict ./out "a gripping film" "two hours too long"
edgekit predict ./out photo.jpg --top 3
"""
SCHEMA = "edgekit.predict/1"
TOP = 5


def predict(
    path: Annotated[str, typer.Argument(metavar="PATH", help=options.PATH_HELP, show_default=False)],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Texts, or image files.", show_default=False)],
    *,
    top: Annotated[
        int | None,
        typer.Option(
            "--top", metavar="N", min=1, max=options.MOST, help=f"The N best labels ({TOP}; all with --json)."
        ),
    ] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    task: options.TaskName = None,
    weights: options.Weights = None,
    input_: options.Input = None,
    mean: options.Mean = None,
    std: options.Std = None,
    preprocess: options.Preprocess = None,
    layout: options.LayoutName = None,
    labels: options.Labels = None,
    state: options.StatePairs = None,
    threads: options.Threads = None,
) -> None:
    """Answer raw inputs: the labels of each with their scores, best first."""
    with output.work(quiet=quiet):
        feeding = options.read_feeding(weights, input_, mean, std, preprocess, layout, labels, state)
        answers = edgekit.load(path, task=task, threads=threads or 1, **feeding).predict(inputs)
    if json_:
        predictions = [
            {"input": text, "labels": [{"label": label, "score": score} for label, score in answer[:top]]}
            for text, answer in zip(inputs, answers, strict=True)
        ]
        output.print_document({"schema": SCHEMA, "path": path, "predictions": predictions})
    else:
        from edgekit.render.records import predictions_view

        shown = [answer[: top or TOP] for answer in answers]
        output.print_view(lambda _: predictions_view(inputs, shown))
