"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.description import Feeding
    from edgekit.tasks.base import Workload

LIMITS, WORKLOAD, DATA, RUN = "Limits", "Workload", "Model and data", "Run"
CODE = "Model given as code or as an .onnx file"
# More samples, tokens or pixels a side than any device takes, and more threads than it has, are slips of the finger.
MOST, MOST_THREADS, MOST_SEED = 10**6, 1024, 2**32 - 1
UNITS_OF_TIME = {"s": 1, "m": 60, "h": 3600}
UNITS_OF_COUNTS = {"M": 10**6, "G": 10**9}


def complete_target(incomplete: str) -> Iterator[str]:
    """Target names for the shell."""
    from edgekit.target import target_names

    return (name for name in target_names() if name.startswith(incomplete))


def complete_recipe(incomplete: str) -> Iterator[str]:
    """Recipe names for the shell."""
    from edgekit.recipe import recipe_names

    return (name for name in recipe_names() if name.startswith(incomplete))


def complete_objective(incomplete: str) -> Iterator[str]:
    """Objectives of a search for the shell."""
    from edgekit.trials import OBJECTIVES

    return (name for name in OBJECTIVES if name.startswith(incomplete))


def complete_task(incomplete: str) -> Iterator[str]:
    """Task names for the shell."""
    from edgekit.tasks import TASKS

    return (name for name in TASKS if name.startswith(incomplete))


MODEL_HELP = "A transformers folder, a hub id, code (file.py:function), or an .onnx file."
PATH_HELP = (
    "An artifact; or a model: a transformers folder, a hub id, code (file.py:function), an .onnx or .tflite file."
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, also on failure.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Output = Annotated[str | None, typer.Option("--output", "-o", metavar="DIR", help="Where the artifact goes.")]
FormatName = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="onnx or tflite (the target's first).", rich_help_panel=WORKLOAD),
]
Lengths = Annotated[
    str | None,
    typer.Option(
        "--lengths", metavar="N,N", help="Lengths that a TFLite text model takes: 32,64,128.", rich_help_panel=WORKLOAD
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Measure elsewhere, or nowhere: local, emulated, browser, ssh://user@host, adb:SERIAL?tool=FILE,"
        " command:TEMPLATE; of compress also none.",
        rich_help_panel=WORKLOAD,
    ),
]
MadeFor = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help="What it is for: a name or a TOML file (what it was made for).",
        autocompletion=complete_target,
        rich_help_panel=WORKLOAD,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", metavar="N", min=1, max=MOST_THREADS, help="Threads of training (all).", rich_help_panel=RUN
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", min=0, max=MOST_SEED, help="Of every random choice (0).", rich_help_panel=RUN),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="TASK",
        help="What the model does; read from its config otherwise.",
        autocompletion=complete_task,
        rich_help_panel=DATA,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option("--metric", metavar="NAME", help="What is scored; the task's first otherwise.", rich_help_panel=DATA),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="OURS=YOURS,...",
        help="Where the data's columns have unusual names: text=sentence,label=y.",
        rich_help_panel=DATA,
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option("--max-length", metavar="N", min=1, max=MOST, help="Cut texts to N tokens.", rich_help_panel=DATA),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="R", help="Branch, tag or commit on the hub.", rich_help_panel=DATA),
]
Batch = Annotated[
    int | None,
    typer.Option("--batch", metavar="N", min=1, max=MOST, help="Samples at once (1).", rich_help_panel=WORKLOAD),
]
Tokens = Annotated[
    int | None,
    typer.Option("--tokens", metavar="N", min=1, max=MOST, help="Length of each text (128).", rich_help_panel=WORKLOAD),
]
Image = Annotated[
    int | None,
    typer.Option(
        "--image", metavar="N", min=1, max=MOST, help="Images of N x N pixels (model's).", rich_help_panel=WORKLOAD
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=MOST_THREADS,
        help="Threads of the measured inference (1).",
        rich_help_panel=WORKLOAD,
    ),
]


Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", help="Weights of the module: safetensors, .pt.", rich_help_panel=CODE),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="SHAPE", help="What it takes: 1x3x32x32, 1x16:int64 (as in the data).", rich_help_panel=CODE
    ),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", metavar="A,B,C", help="Of each channel of images scaled to 0..1.", rich_help_panel=CODE),
]
Std = Annotated[str | None, typer.Option("--std", metavar="A,B,C", help="Of each channel.", rich_help_panel=CODE)]
Preprocess = Annotated[
    str | None,
    typer.Option("--preprocess", metavar="FILE", help="TOML file of the pre-processing.", rich_help_panel=CODE),
]


LayoutName = Annotated[
    str | None,
    typer.Option(
        "--layout", metavar="ORDER", help="NCHW or NHWC: where an image's channels are.", rich_help_panel=CODE
    ),
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="FILE", help="Names of the classes, one a line; or A,B,C.", rich_help_panel=CODE),
]
StatePairs = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="OUT:IN",
        help="Of an .onnx file: the output OUT is the next call's IN. Repeatable.",
        rich_help_panel=CODE,
    ),
]


def read_feeding(
    weights: str | None,
    input_: str | None,
    mean: str | None,
    std: str | None,
    preprocess: str | None,
    layout: str | None,
    labels: str | None,
    state: list[str] | None,
) -> Feeding:
    """What was said of a model given as code or as an ``.onnx`` file; nothing where nothing was."""
    given = {
        "weights": weights,
        "input": input_,
        "mean": read_numbers(mean, "--mean"),
        "std": read_numbers(std, "--std"),
        "preprocess": preprocess,
        "layout": layout,
        "labels": read_labels(labels),
        "state": tuple(state) if state else None,
    }
    return cast("Feeding", {name: value for name, value in given.items() if value is not None})


def read_labels(text: str | None) -> tuple[str, ...] | None:
    """Names of classes: the lines of a file, or between commas.

    Raises:
        UsageError: no such file, or it is no text.
    """
    if text is None:
        return None
    file = Path(text).expanduser()
    if not file.is_file():
        if "," in text:
            return tuple(part.strip() for part in text.split(","))
        raise UsageError(
            f"there is no file of labels {text!r}",
            id="usage.no-file",
            hint="Give a file with one name a line, or names between commas: --labels cat,dog.",
        )
    from edgekit.bounds import MAX_LOCK_BYTES
    from edgekit.settings import read_bounded

    return tuple(line.strip() for line in read_bounded(file, "labels", MAX_LOCK_BYTES).splitlines() if line.strip())


def read_numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """``0.485,0.456,0.406`` as numbers.

    Raises:
        UsageError: not numbers.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is no list of numbers",
            id="usage.bad-value",
            hint=f"Write it as in {option} 0.485,0.456,0.406.",
        ) from error


def read_workload(batch: int | None, tokens: int | None, image: int | None) -> Workload | None:
    """What one inference is; None where nothing was said, so that a lock's or the usual one holds.

    Raises:
        UsageError: both a length of texts and a size of images.
    """
    if tokens is not None and image is not None:
        raise UsageError(
            "--tokens and --image were both given",
            id="usage.options-conflict",
            why="a workload is made of texts or of images",
        )
    given = {"batch": batch, "tokens": tokens, "image": image}
    if not any(given.values()):
        return None
    from edgekit.tasks.base import Workload

    return Workload.model_validate({name: value for name, value in given.items() if value is not None})


def read_share(text: str, option: str) -> float:
    """A share of a metric's scale: ``1%``, ``1pp`` or ``0.01``.

    Raises:
        UsageError: no number, or none from 0 up to 1.
    """
    number, scale = text.strip().lower(), 1.0
    for suffix in ("%", "pp"):
        if number.endswith(suffix):
            number, scale = number.removesuffix(suffix).rstrip(), 100.0
    try:
        share = float(number) / scale
    except ValueError:
        share = math.nan
    if 0 <= share < 1:  # false for NaN, too
        return share
    hint = f"If points are meant, write {option} {number}%." if 1 <= share < 100 and scale == 1 else ""
    raise UsageError(
        f"{option} {text!r} is no share of the metric's scale",
        id="usage.bad-value",
        why="allowed: points such as 1% or 0.5pp, or a number from 0 up to 1 such as 0.01",
        hint=hint,
    )


def read_seconds(text: str, option: str) -> float:
    """A time: ``90s``, ``30m``, ``1.5h``.

    Raises:
        UsageError: no time, or none above nothing.
    """
    number, unit = text.strip().lower()[:-1], text.strip().lower()[-1:]
    try:
        seconds = float(number) * UNITS_OF_TIME[unit]
    except (KeyError, ValueError):
        seconds = math.nan
    if 0 < seconds < math.inf:
        return seconds
    raise UsageError(
        f"{option} {text!r} is no time", id="usage.bad-value", why="allowed: 90s, 30m or 1h: a number with its unit"
    )


def read_count(text: str, option: str) -> int:
    """A number: ``500000000``, ``500M`` or ``0.5G``.

    Raises:
        UsageError: no number, or none above nothing.
    """
    written = text.strip().upper()
    scale = UNITS_OF_COUNTS.get(written[-1:], 1)
    try:
        count = float(written if scale == 1 else written[:-1]) * scale
    except ValueError:
        count = math.nan
    if 1 <= count < math.inf:
        return round(count)
    raise UsageError(
        f"{option} {text!r} is no number", id="usage.bad-value", why="allowed: a number such as 500000000, 500M or 0.5G"
    )


def read_lengths(text: str | None) -> list[str]:
    """``32,64,128`` as a setting of the export, as ``--set`` takes it."""
    return [] if text is None else [f"export.lengths=[{text}]"]


def read_pairs(given: Iterable[str] | None, option: str, example: str, *, several: bool = False) -> dict[str, str]:
    """``name=value`` options as a dict.

    Args:
        given: as often as the option was given.
        option: its name, for errors.
        example: one right use, for errors.
        several: whether one use may hold several pairs, split by commas.

    Raises:
        UsageError: no pair, or a name given twice.
    """
    pairs: dict[str, str] = {}
    for text in given or ():
        for part in text.split(",") if several else (text,):
            name, separator, value = (piece.strip() for piece in part.partition("="))
            if not name or not separator or not value:
                raise UsageError(
                    f"{option} {text!r} is no name=value",
                    id="usage.bad-value",
                    hint=f"Write it as in {option} {example}.",
                )
            if name in pairs and pairs[name] != value:
                raise UsageError(
                    f"{option} gives {name!r} twice",
                    id="usage.options-conflict",
                    why=f"as {pairs[name]!r} and as {value!r}",
                )
            pairs[name] = value
    return pairs
