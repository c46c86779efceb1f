"""A recipe: which stages run, with which settings, and the limits that the result must keep. TOML, with a version.

``recipe.lock.toml``, which every run leaves in its output, is a recipe with everything resolved and what was decided by
measurement: with it as the recipe, the run repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from edgekit.bounds import MAX_LOCK_BYTES
from edgekit.errors import UnknownNameError, UsageError
from edgekit.settings import Frozen, load_toml, parse_toml, read_bounded, validate
from edgekit.stages import STAGES
from edgekit.stages.base import Stage, StageSettings
from edgekit.tasks.base import Workload

LOCK_FILE = "recipe.lock.toml"


class Limits(Frozen):
    """What the result must keep.

    Attributes:
        max_drop: largest loss of the metric, on its scale of 1, against the original on the same samples.
        max_ms: highest p50 of one inference of the workload, in milliseconds.
        max_mb: largest model files, in megabytes of 10^6 bytes.
        max_instructions: most instructions of one inference on any emulated device.
        time: seconds that the run may take.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    max_drop: float | None = Field(None, ge=0, le=1)
    max_ms: float | None = Field(None, gt=0)
    max_mb: float | None = Field(None, gt=0)
    max_instructions: int | None = Field(None, gt=0)
    time: float | None = Field(None, gt=0)

    @property
    def on_cost(self) -> bool:
        """Whether any of them is on what an inference or the model costs."""
        return any(limit is not None for limit in (self.max_ms, self.max_mb, self.max_instructions))


class Lock(Frozen):
    """What a run was, so that it can be repeated.

    Attributes:
        target: name of the target.
        source, data: digests.
        seed, jobs, threads, workload: as they were.
        numeric_level: architecture and widest vectors of the processor that computed.
        versions: of every package that computes.
        decisions: what was decided by measurement.
    """

    target: str
    source: str
    data: str = ""
    seed: int
    jobs: int
    threads: int
    workload: Workload
    numeric_level: str
    versions: dict[str, str]
    decisions: dict[str, JsonValue] = {}


class _File(Frozen):
    """The file as it stands."""

    schema_: Literal["edgekit.recipe/1"] = Field(alias="schema")
    name: str
    description: str = ""
    limits: Limits = Limits()
    stages: list[dict[str, JsonValue]] = Field(min_length=1)
    lock: Lock | None = None


@dataclass(frozen=True)
class Step:
    """A stage with its settings."""

    stage: Stage
    settings: StageSettings


@dataclass(frozen=True)
class Recipe:
    """Stages in order, and limits.

    Attributes:
        name: as it is called.
        description: one sentence.
        limits: of the result.
        steps: the stages.
        lock: of the run that it repeats, or None.
    """

    name: str
    description: str
    limits: Limits
    steps: tuple[Step, ...]
    lock: Lock | None = None

    def as_dict(self) -> dict[str, JsonValue]:
        """The recipe as its file has it, every setting spelled out; TOML leaves out one that has no value."""
        values: dict[str, JsonValue] = {
            "schema": "edgekit.recipe/1",
            "name": self.name,
            "description": self.description,
        }
        values["limits"] = self.limits.model_dump(mode="json", exclude_none=True)
        values["stages"] = [
            {"stage": step.stage.name, **step.settings.model_dump(mode="json", exclude_none=True)}
            for step in self.steps
        ]
        return values


def recipe_names() -> list[str]:
    """Names of the recipes that come with edgekit."""
    folder = resources.files("edgekit.recipes")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str | Path | Recipe, settings: Mapping[str, str] | None = None) -> Recipe:
    """A recipe by name or by the path of its TOML file, with settings changed.

    Args:
        name: a shipped recipe, a file, or a recipe that was loaded.
        settings: ``stage.key`` to a value as TOML writes it; it holds for every stage of that name.

    Raises:
        UnknownNameError: no such recipe, stage or setting.
        UsageError: not valid; every wrong key is named.
    """
    recipe = name if isinstance(name, Recipe) else _load(str(name))
    for key, value in (settings or {}).items():
        recipe = _change(recipe, key, value)
    check_chain(recipe)
    return recipe


def _load(name: str) -> Recipe:
    if name.endswith(".toml") or "/" in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise UsageError(
                f"there is no recipe file {name!r}",
                id="usage.no-file",
                hint=f"Give a TOML file, or one of: {', '.join(recipe_names())}.",
            )
        return parse_recipe(read_bounded(path, "recipe", MAX_LOCK_BYTES), name)
    if name not in recipe_names():
        raise UnknownNameError(
            "recipe", name, recipe_names(), id="unknown-name.recipe", hint="`edgekit recipes list` describes them."
        )
    return parse_recipe(resources.files("edgekit.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8"), name)


def parse_recipe(text: str, origin: str) -> Recipe:
    """Parse and check the TOML text of a recipe; ``origin`` names it in errors."""
    file = parse_toml(_File, text, f"recipe {origin!r}")
    steps = tuple(read_step(table, f"recipe {origin!r}, stage {number}") for number, table in enumerate(file.stages, 1))
    recipe = Recipe(file.name, file.description, file.limits, steps, file.lock)
    check_chain(recipe)
    return recipe


def read_step(values: Mapping[str, JsonValue], origin: str) -> Step:
    """A stage with its settings, as a recipe's table has it; ``origin`` names it in errors."""
    name = values.get("stage")
    if not isinstance(name, str):
        raise UsageError(
            f"{origin} does not say which stage it is",
            id="usage.invalid-settings",
            why=f"allowed: stage = one of {', '.join(STAGES)}",
        )
    if name not in STAGES:
        raise UnknownNameError("stage", name, STAGES, id="unknown-name.stage")
    stage = STAGES[name]
    rest = {key: value for key, value in values.items() if key != "stage"}
    return Step(stage, validate(stage.settings, rest, f"{origin} ({name})"))


def _change(recipe: Recipe, key: str, value: str) -> Recipe:
    name, dot, setting = key.partition(".")
    present = {step.stage.name for step in recipe.steps}
    if not dot or not setting:
        raise UsageError(
            f"--set {key}={value} does not say which setting",
            id="usage.bad-value",
            why="allowed: STAGE.SETTING=VALUE, as in prune.ratio=0.5",
        )
    if name not in present:
        raise UnknownNameError(
            "stage", name, present, id="unknown-name.stage", hint=f"These are the stages of the recipe {recipe.name!r}."
        )
    fields = STAGES[name].settings.model_fields
    if setting not in fields:
        raise UnknownNameError(f"setting of {name}", setting, fields, id="unknown-name.setting")
    steps = tuple(
        step
        if step.stage.name != name
        else Step(
            step.stage,
            validate(
                step.stage.settings,
                {**step.settings.model_dump(exclude_unset=True), setting: _value(value)},
                f"--set {key}={value}",
            ),
        )
        for step in recipe.steps
    )
    return Recipe(recipe.name, recipe.description, recipe.limits, steps, _still_locked(recipe, steps))


def _still_locked(recipe: Recipe, steps: tuple[Step, ...]) -> Lock | None:
    """The lock of a recipe without what was decided in the first stage that another setting changes, and behind it."""
    pairs = enumerate(zip(recipe.steps, steps, strict=True))
    first = next((at for at, (was, now) in pairs if was.settings.model_dump() != now.settings.model_dump()), None)
    if recipe.lock is None or first is None:
        return recipe.lock
    open_ = {step.stage.name for step in steps[first:]}
    decided = recipe.lock.decisions.items()
    kept = {name: value for name, value in decided if name.removeprefix("keep.").partition(".")[0] not in open_}
    return recipe.lock.model_copy(update={"decisions": kept})


def _value(text: str) -> object:
    """A value as TOML writes it; anything else is a string."""
    try:
        return load_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def check_chain(recipe: Recipe) -> None:
    """Check that each stage takes what the one before it makes.

    Raises:
        UsageError: the stages cannot follow each other so; says which could.
    """
    at, closed = "torch", ""
    for number, step in enumerate(recipe.steps, 1):
        if step.stage.accepts != at:
            fitting = ", ".join(name for name, stage in STAGES.items() if stage.accepts == at)
            raise UsageError(
                f"stage {number} of {recipe.name!r} ({step.stage.name}) takes {step.stage.accepts} and gets {at}",
                id="usage.stage-order",
                why=f"stages that take {at}: {fitting}",
            )
        if closed and step.stage.produces == "torch" and not step.stage.closes:
            raise UsageError(
                f"stage {number} of {recipe.name!r} ({step.stage.name}) comes after {closed}",
                id="usage.stage-order",
                why=f"{closed} is the last that changes a model in torch",
                hint=f"Put {closed} right before export.",
            )
        at, closed = step.stage.produces, step.stage.name if step.stage.closes else closed
    names = [step.stage.name for step in recipe.steps]
    if names[-1] != "verify" or names.count("verify") > 1 or names.count("export") != 1:
        raise UsageError(
            f"the recipe {recipe.name!r} does not end in verify, after one export",
            id="usage.stage-order",
            why=f"its stages: {', '.join(names)}",
            hint="A run always exports once and verifies what it leaves.",
        )
