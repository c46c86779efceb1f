"""``edgekit compress``: the main job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import edgekit
from edgekit.cli import options, output
from edgekit.cli.options import DATA, LIMITS, RUN, complete_objective, complete_recipe, complete_target
from edgekit.errors import LIMIT_MISSED_EXIT_CODE

if TYPE_CHECKING:
    from edgekit.planning import Plan
    from edgekit.report import Report
    from edgekit.request import RunOptions

EXAMPLES = """
edgekit compress ./my-model --data ./my-data --target arm64 --max-drop 1%
edgekit compress org/name --data org/data --set prune.ratio=0.5 -o out
edgekit compress ./my-model --data sents.csv --columns text=body,label=y
edgekit compress ./my-model --data ./my-data --set prune.cost=measured
edgekit compress ./my-model --data ./my-data --dry-run
edgekit compress ./my-model --data ./my-data --max-ms 5 --time 30m --dry-run
edgekit compress net.py:make --weights net.safetensors --data ./my-images
edgekit compress others.onnx --data arrays.npz --target x86-64-vnni
"""
SET_EXAMPLE = "prune.ratio=0.5"
COLUMNS_EXAMPLE = "text=sentence,label=y"


Model = Annotated[str, typer.Argument(metavar="MODEL", help=options.MODEL_HELP, show_default=False)]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DATA", help="A folder, a file, or a hub id of a data set.", rich_help_panel=DATA),
]
TargetName = Annotated[
    str,
    typer.Option(
        "--target", metavar="TARGET", help="The device: a name or a TOML file.", autocompletion=complete_target
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="RECIPE",
        help="The stages: a name or a TOML file (default; with --student distill).",
        autocompletion=complete_recipe,
    ),
]
Student = Annotated[
    str | None,
    typer.Option("--student", metavar="MODEL", help="Teach this model: a folder, a config.json, or file.py:function."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe: prune.ratio=0.5. Repeatable."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan with its time and disk, do nothing.")]
MaxDrop = Annotated[
    str | None,
    typer.Option(
        "--max-drop", metavar="POINTS", help="Most of the metric to lose: 1%, 1pp or 0.01.", rich_help_panel=LIMITS
    ),
]
MaxMs = Annotated[
    float | None,
    typer.Option("--max-ms", metavar="MS", min=0, help="Highest p50 of an inference.", rich_help_panel=LIMITS),
]
MaxMb = Annotated[
    float | None, typer.Option("--max-mb", metavar="MB", min=0, help="Largest model files.", rich_help_panel=LIMITS)
]
MaxInstructions = Annotated[
    str | None,
    typer.Option(
        "--max-instructions", metavar="N", help="Of an emulated inference: 500M or 0.5G.", rich_help_panel=LIMITS
    ),
]
Time = Annotated[
    str | None,
    typer.Option("--time", metavar="TIME", help="For the search: 90s, 30m or 1h (60m).", rich_help_panel=LIMITS),
]
Objective = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="WHAT",
        help="The search makes least: latency, size, instructions or energy.",
        autocompletion=complete_objective,
        rich_help_panel=LIMITS,
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Limits must be proven at 95%, not just met.", rich_help_panel=LIMITS)
]
Costs = Annotated[
    str | None,
    typer.Option("--costs", metavar="FILE", help="A table of `edgekit costs`, not one made here.", rich_help_panel=RUN),
]
KeepStages = Annotated[bool, typer.Option("--keep-stages", help="Keep each stage's artifact too.", rich_help_panel=RUN)]


def compress(
    model: Model,
    *,
    data: Data = None,
    target: TargetName = "host",
    recipe: RecipeName = None,
    student: Student = None,
    set_: Set = None,
    out: options.Output = None,
    dry_run: DryRun = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    max_drop: MaxDrop = None,
    max_ms: MaxMs = None,
    max_mb: MaxMb = None,
    max_instructions: MaxInstructions = None,
    time: Time = None,
    objective: Objective = None,
    strict: Strict = False,
    task: options.TaskName = None,
    metric: options.Metric = None,
    columns: options.Columns = None,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    image: options.Image = None,
    weights: options.Weights = None,
    input_: options.Input = None,
    mean: options.Mean = None,
    std: options.Std = None,
    preprocess: options.Preprocess = None,
    format_: options.FormatName = None,
    lengths: options.Lengths = None,
    device: options.Device = None,
    layout: options.LayoutName = None,
    labels: options.Labels = None,
    state: options.StatePairs = None,
    threads: options.Threads = None,
    jobs: options.Jobs = None,
    seed: options.Seed = None,
    keep_stages: KeepStages = False,
    costs: Costs = None,
) -> None:
    """Prune, distill, export and quantize a model for one device, and prove what it cost.

    The artifact, the report and the verdict on every limit land in one
    folder. Without a recipe, a limit on latency, size, instructions or
    time starts a search for one that keeps all of them. A killed run goes
    on where it stopped when the same command is given again. Exits with 1
    when a limit is missed.
    """
    chosen: RunOptions = {
        "data": data,
        "target": target,
        "task": task,
        "recipe": recipe,
        "student": student,
        "settings": options.read_pairs([*(set_ or ()), *options.read_lengths(lengths)], "--set", SET_EXAMPLE),
        "max_drop": None if max_drop is None else options.read_share(max_drop, "--max-drop"),
        "max_ms": max_ms,
        "max_mb": max_mb,
        "max_instructions": None
        if max_instructions is None
        else options.read_count(max_instructions, "--max-instructions"),
        "time": None if time is None else options.read_seconds(time, "--time"),
        "objective": objective,
        "strict": strict,
        "metric": metric,
        "workload": options.read_workload(batch, tokens, image),
        "format": format_,
        "device": device,
        "threads": threads,
        "jobs": jobs,
        "columns": options.read_pairs(columns, "--columns", COLUMNS_EXAMPLE, several=True),
        "max_length": max_length,
        "revision": revision,
        "keep_stages": keep_stages,
        "costs": costs,
        "seed": seed,
        **options.read_feeding(weights, input_, mean, std, preprocess, layout, labels, state),
    }
    if dry_run:
        with output.work(quiet=quiet):
            plan = edgekit.plan(model, output=out, **chosen)
        print_plan(plan, json_=json_)
        return
    with output.work(quiet=quiet) as progress:
        report = edgekit.compress(model, output=out, progress=progress, **chosen)
    print_report(report, json_=json_)


def print_plan(plan: Plan, *, json_: bool) -> None:
    """Print what a run would do."""
    if json_:
        output.print_document(plan)
    else:
        from edgekit.render.records import plan_view

        output.print_view(lambda _: plan_view(plan))


def print_report(report: Report, *, json_: bool) -> None:
    """Print the result of a run; as JSON, with whether it passed and where it lies.

    Raises:
        typer.Exit: with 1, when a limit was missed.
    """
    if json_:
        artifact = report.artifact
        place = {
            "path": str(artifact.path),
            "size_bytes": artifact.size_bytes,
            "folder_bytes": artifact.folder_bytes,
        }
        result = {"passed": report.passed, "cached": report.cached, "artifact": place}
        output.print_document(report.model_dump(mode="json", by_alias=True) | result)
    else:
        from edgekit.render.terminal import report_view

        output.print_view(lambda width: report_view(report, width=width))
    if not report.passed:
        raise typer.Exit(LIMIT_MISSED_EXIT_CODE)
