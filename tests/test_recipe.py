from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_request_keys import LOCK

from edgekit.error_catalogue import remedy
from edgekit.errors import UnknownNameError, UsageError
from edgekit.locks import lock_text
from edgekit.recipe import Limits, load_recipe, parse_recipe, recipe_names
from edgekit.settings import validate
from edgekit.stages import STAGES
from edgekit.target import load_target
from edgekit.tasks.base import Workload

FOLDER = Path(__file__).parents[1] / "edgekit" / "recipes"
HEAD = 'schema = "edgekit.recipe/1"\nname = "mine"\n'


def text(*stages: str, head: str = HEAD) -> str:
    return head + "".join(f'[[stages]]\nstage = "{stage}"\n' for stage in stages)


def test_every_file_is_a_recipe() -> None:
    assert recipe_names() == sorted(path.stem for path in FOLDER.glob("*.toml"))
    assert {"default", "gentle", "quantize", "static", "fp16", "export"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_is_called_as_its_file_and_ends_in_verify(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.name, recipe.lock) == (name, None)
    assert len(recipe.description) > 20
    assert [step.stage.name for step in recipe.steps][-1] == "verify"
    assert all(isinstance(step.settings, step.stage.settings) for step in recipe.steps)
    assert load_recipe(recipe) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_spelled_out_is_the_same_recipe(name: str) -> None:
    import tomli_w

    recipe = load_recipe(name)
    again = parse_recipe(tomli_w.dumps(cast("dict[str, Any]", recipe.as_dict())), name)
    assert again.as_dict() == recipe.as_dict()
    assert again.steps == recipe.steps


@pytest.mark.parametrize("name", sorted(STAGES))
def test_every_setting_of_every_stage_has_a_default_and_a_description(name: str) -> None:
    fields = STAGES[name].settings.model_fields
    assert [key for key, field in fields.items() if field.is_required() or not field.description] == []
    assert STAGES[name].name == name
    assert STAGES[name].settings() == STAGES[name].settings.model_validate({})


def test_every_stage_stands_in_a_shipped_recipe() -> None:
    used = {step.stage.name for name in recipe_names() for step in load_recipe(name).steps}
    assert used == set(STAGES)


def test_the_smallest_recipe_trains_as_the_default_does() -> None:
    default, smallest = load_recipe("default"), load_recipe("smallest")
    assert [step for step in smallest.steps if step.stage.name in ("prune", "distill")] == list(default.steps[:2])
    assert smallest.limits == default.limits


@pytest.mark.parametrize("training", ["prune", "distill"])
def test_nothing_is_trained_after_the_vocabulary_was_pruned(training: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text("prune", "vocabulary", training, "export", "verify"), "mine")
    assert caught.value.what == f"stage 3 of 'mine' ({training}) comes after vocabulary"
    assert caught.value.hint == "Put vocabulary right before export."
    assert caught.value.id == "usage.stage-order"
    names = ["prune", "distill", "vocabulary", "export", "verify"]
    assert [step.stage.name for step in parse_recipe(text(*names), "mine").steps] == names


def test_a_stage_that_takes_another_format_is_an_error_that_lists_those_that_fit() -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text("quantize", "verify"), "mine")
    assert caught.value.what == "stage 1 of 'mine' (quantize) takes graph and gets torch"
    assert caught.value.why == "stages that take torch: prune, distill, vocabulary, export"
    with pytest.raises(UsageError) as caught:
        parse_recipe(text("export", "distill", "verify"), "mine")
    assert caught.value.what == "stage 2 of 'mine' (distill) takes torch and gets graph"
    assert caught.value.why == "stages that take graph: optimize, quantize, verify"


@pytest.mark.parametrize("stages", [("export",), ("export", "verify", "quantize"), ("export", "verify", "verify")])
def test_a_recipe_ends_in_one_verify(stages: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="does not end in verify, after one export") as caught:
        parse_recipe(text(*stages), "mine")
    assert caught.value.why == f"its stages: {', '.join(stages)}"


def test_an_unknown_stage_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse_recipe(text("export", "quantise", "verify"), "mine")
    assert caught.value.what == "there is no stage 'quantise'"
    assert caught.value.hint == "Did you mean 'quantize'?"


def test_a_stage_without_a_name_is_an_error() -> None:
    with pytest.raises(UsageError, match="recipe 'mine', stage 1 does not say which stage it is") as caught:
        parse_recipe(HEAD + "[[stages]]\nratio = 0.5\n", "mine")
    assert caught.value.why == f"allowed: stage = one of {', '.join(STAGES)}"


def test_an_unknown_setting_of_a_file_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text("prune").rstrip() + "\nratoi = 0.5\n" + text("export", "verify", head=""), "mine")
    assert caught.value.what == "recipe 'mine', stage 1 (prune) is not valid"
    assert caught.value.why == "unknown key 'ratoi'; did you mean 'ratio'?"


def test_an_unknown_limit_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text("export", "verify", head=HEAD + "[limits]\nmax_dorp = 0.01\n"), "mine")
    assert caught.value.why == "unknown key 'limits.max_dorp'; did you mean 'max_drop'?"


def test_a_recipe_without_stages_is_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(HEAD + "stages = []\n", "mine")
    assert caught.value.why.startswith("stages: list should have at least 1 item")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("prune.ratio", "0.5", 0.5),
        ("prune.ratio", "0", 0.0),
        ("prune.importance", "fisher", "fisher"),
        ("prune.importance", '"fisher"', "fisher"),
        ("prune.samples", "64", 64),
        ("distill.dropout", "true", True),
        ("optimize.rewrites", '["attention"]', ("attention",)),
        ("optimize.rewrites", "[]", ()),
        ("quantize.scheme", "s8s8", "s8s8"),
    ],
)
def test_a_setting_is_changed(key: str, value: str, expected: object) -> None:
    recipe = load_recipe("default", {key: value})
    stage, setting = key.split(".")
    (step,) = [step for step in recipe.steps if step.stage.name == stage]
    assert getattr(step.settings, setting) == expected


def test_a_setting_holds_for_every_stage_of_that_name() -> None:
    recipe = load_recipe("gentle", {"prune.importance": "magnitude"})
    found = [step.settings.model_dump()["importance"] for step in recipe.steps if step.stage.name == "prune"]
    assert found == ["magnitude", "magnitude"]
    assert load_recipe("gentle").as_dict() != recipe.as_dict()


@pytest.mark.parametrize(
    ("key", "what", "hint"),
    [
        (
            "prun.ratio",
            "there is no stage 'prun'",
            "Did you mean 'prune'? These are the stages of the recipe 'default'.",
        ),
        ("prune.rato", "there is no setting of prune 'rato'", "Did you mean 'ratio'?"),
        ("ratio", "--set ratio=0.5 does not say which setting", remedy("usage.bad-value")),
        ("prune.", "--set prune.=0.5 does not say which setting", remedy("usage.bad-value")),
    ],
)
def test_a_mistyped_setting_gets_the_nearest(key: str, what: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("default", {key: "0.5"})
    assert (caught.value.what, caught.value.hint) == (what, hint)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prune.ratio", "1.5", "ratio: input should be less than 1, or 'auto'"),
        ("prune.ratio", "half", "ratio: input should be a valid number, unable to parse string as a number, or 'auto'"),
        ("quantize.scheme", "u4s4", "scheme: input should be 'auto', 'u8s8', 's8s8' or 'u8u8'"),
        ("distill.epochs", "nan", "epochs: input should be a finite number, or 'auto'"),
        ("optimize.rewrites", '["atention"]', "rewrites.0: "),
    ],
)
def test_a_value_that_is_not_allowed_is_an_error(key: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("default", {key: value})
    assert caught.value.what == f"--set {key}={value} is not valid"
    assert caught.value.why.startswith(message)


def test_a_mistyped_recipe_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_recipe("quantise")
    assert caught.value.hint == "Did you mean 'quantize'? `edgekit recipes list` describes them."


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no recipe file"):
        load_recipe(tmp_path / "none.toml")


def test_a_lock_is_a_recipe_with_what_was_decided(tmp_path: Path) -> None:
    decisions = {"keep.quantize": {"kept": False, "reason": "slower", "figure": None}, "optimize.model": {"a": 1.5}}
    recipe = load_recipe("default", {"prune.ratio": "0.5"})
    request = SimpleNamespace(
        target=load_target("arm64"),
        source=SimpleNamespace(digest="s" * 64),
        data=SimpleNamespace(digest="d" * 64),
        seed=3,
        jobs=2,
        threads=1,
        workload=Workload(tokens=16),
        recipe=recipe,
        limits=Limits(max_drop=0.02),
    )
    workshop = SimpleNamespace(request=request, decisions=SimpleNamespace(known=decisions))
    (tmp_path / "recipe.lock.toml").write_text(lock_text(cast("Any", workshop)))
    locked = load_recipe(tmp_path / "recipe.lock.toml")
    assert locked.steps == recipe.steps
    assert locked.limits.max_drop == 0.02
    assert locked.lock is not None
    assert (locked.lock.seed, locked.lock.jobs, locked.lock.target) == (3, 2, "arm64")
    assert locked.lock.workload == Workload(tokens=16)
    assert locked.lock.decisions == {
        "keep.quantize": {"kept": False, "reason": "slower"},  # TOML has no null
        "optimize.model": {"a": 1.5},
    }
    assert tomllib.loads((tmp_path / "recipe.lock.toml").read_text())["schema"] == "edgekit.recipe/1"


@pytest.mark.parametrize(
    ("settings", "open_"),
    [
        ({}, set()),
        ({"prune.budget": "2.5"}, set()),  # as it is
        ({"prune.budget": "2.0"}, {"prune.widths", "keep.prune", "keep.distill", "optimize.model", "keep.optimize"}),
        ({"optimize.seconds": "1"}, {"optimize.model", "keep.optimize"}),
        ({"optimize.seconds": "1", "verify.golden": "5"}, {"optimize.model", "keep.optimize"}),
    ],
)
def test_what_a_lock_decided_is_open_again_from_the_stage_on_that_changes(
    settings: dict[str, str], open_: set[str]
) -> None:
    """A choice of widths for one budget, or of so many layers, is none for another."""
    decided = ("prune.widths", "keep.prune", "keep.distill", "optimize.model", "keep.optimize", "reference")
    lock = LOCK.model_copy(update={"decisions": dict.fromkeys(decided, True)})
    recipe = load_recipe("default", {"prune.cost": "measured", "prune.budget": "2.5"})
    locked = load_recipe(replace(recipe, lock=lock), settings).lock
    assert locked is not None
    assert locked.decisions.keys() == set(decided) - open_


@pytest.mark.parametrize("limit", ["max_ms", "max_mb", "time"])
def test_a_limit_is_a_finite_number(limit: str) -> None:
    with pytest.raises(UsageError, match="is not valid") as refused:
        validate(Limits, {limit: float("inf")}, "a limit")
    assert f"{limit}: input should be a finite number" in str(refused.value)


@pytest.mark.parametrize("setting", ["prune.budget", "distill.epochs", "optimize.seconds"])
def test_a_setting_is_a_finite_number(setting: str) -> None:
    with pytest.raises(UsageError, match=f"{setting}=inf is not valid\n.*input should be a finite number"):
        load_recipe("default", {setting: "inf"})


def test_what_is_set_is_all_that_is_said() -> None:
    (quantize,) = [
        step.settings
        for step in load_recipe("default", {"quantize.tolerance": "0.01"}).steps
        if step.stage.name == "quantize"
    ]
    assert quantize.model_fields_set == {"tolerance"}
