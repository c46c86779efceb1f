"""``edgekit inspect``: what a model is made of."""

from __future__ import annotations

from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output

EXAMPLES = """
edgekit inspect ./my-model
edgekit inspect model.onnx --image 224
edgekit inspect ./out --tokens 64 --json
"""


def inspect(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="An artifact, an .onnx or .tflite file, a transformers folder or a hub id.",
            show_default=False,
        ),
    ],
    *,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    image: options.Image = None,
) -> None:
    """Tell what a model is made of: inputs, outputs, parameters, layers, operators, quantization.

    Work and peak memory are estimates for one workload, each with its
    rule; nothing is run. The JSON document lists every layer.
    """
    workload = options.read_workload(batch, tokens, image)
    with output.work(quiet=quiet):
        record = edgekit.inspect(path, workload=workload)
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.inspection import inspect_view

        output.print_view(lambda _: inspect_view(record))
