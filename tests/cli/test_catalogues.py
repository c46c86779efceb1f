from __future__ import annotations

import tomllib

import pytest

from edgekit.devices.means import Means
from edgekit.errors import UsageError
from edgekit.recipe import load_recipe, recipe_names
from edgekit.target import load_target, target_names


class Recipe:
    """As much of a recipe as the command line looks at."""

    name = "default"
    description = "everything that helps"

    def as_dict(self):
        stages = [{"stage": "prune", "ratio": 0.5, "samples": None}]
        return {"name": self.name, "limits": {"max_drop": 0.01, "max_ms": None}, "stages": stages}


@pytest.fixture
def recipe(pretend_module, recorder):
    """A pretended `edgekit.recipe` with one recipe; the recorder of ``load_recipe``."""
    load_recipe = recorder(Recipe())
    pretend_module("recipe", recipe_names=lambda: ["default"], load_recipe=load_recipe)
    return load_recipe


def test_targets_list_names_every_target(run):
    result = run("targets", "list")
    assert result.code == 0
    assert [line.split()[0] for line in result.stdout.splitlines() if line[:1].isalnum()][1:] == target_names()
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_targets_list_says_why_one_cannot_be_measured(run):
    rows = {row["name"]: row for row in run("targets", "list", "--json").document["targets"]}
    assert set(rows) == set(target_names())
    assert all(row["measured"] == (row["not_measured_because"] == "") for row in rows.values())
    assert any("this machine" in row["not_measured_because"] for row in rows.values())
    assert all((row["measures"] == "latency") == row["measured"] for row in rows.values())
    assert all((row["measures"] == "instructions") == bool(row["emulated"]) for row in rows.values())


@pytest.mark.parametrize(
    ("means", "told"),
    [
        (Means("latency"), "latency"),
        (
            Means("instructions", ("cortex-a53", "cortex-a76"), set_up=True, not_timed_because="it is no Arm"),
            "answers and instructions, emulated on cortex-a53 and cortex-a76; no latency: it is no Arm",
        ),
        (
            Means("instructions", ("cortex-a7",), set_up=False, not_timed_because="it is no Arm"),
            "answers and instructions after `targets setup`, emulated on cortex-a7; no latency: it is no Arm",
        ),
        (Means("nothing", not_timed_because="it is no Arm"), "nothing: it is no Arm"),
        (
            Means("nothing", not_timed_because="it is no Arm", not_emulated_because="gcc is not here"),
            "nothing: it is no Arm; gcc is not here",
        ),
    ],
)
def test_targets_list_and_show_tell_what_can_be_measured(means, told, run, monkeypatch):
    monkeypatch.setattr("edgekit.devices.means.find_means", lambda target: means)
    monkeypatch.setenv("COLUMNS", "80")
    listed = " ".join(run("targets", "list").stdout.split())
    assert told.split()[0] in listed
    assert run("targets", "show", "arm64").stdout.startswith(f"# measured here: {told}\n")
    shown = run("targets", "show", "arm64", "--json").document
    assert (shown["measures"], shown["emulated"], shown["set_up"]) == (
        means.measures,
        list(means.processors),
        means.set_up,
    )


def test_targets_list_still_lists_where_the_host_is_unknown(run, monkeypatch):
    def unknown():
        raise UsageError("no shipped target describes this machine")

    monkeypatch.setattr("edgekit.target.detect_host", unknown)
    rows = {row["name"]: row for row in run("targets", "list", "--json").document["targets"]}
    assert rows["host"]["not_measured_because"] == "no shipped target describes this machine"
    assert len(rows) == len(target_names())


@pytest.mark.parametrize("name", target_names())
def test_targets_show_prints_toml_that_defines_the_target(name, run, tmp_path):
    result = run("targets", "show", name)
    assert result.code == 0
    assert result.stdout.startswith(
        ("# measured here: latency\n", "# measured here: answers and ", "# measured here: no")
    )
    assert "[sources]" in result.stdout
    file = tmp_path / "mine.toml"
    file.write_text(result.stdout, encoding="utf-8")
    assert load_target(file) == load_target(name)
    checked = run("targets", "check", str(file))
    assert checked.code == 0
    assert checked.stdout == f"{file}: the target {name!r} is valid\n"


def test_targets_show_gives_the_facts_as_json(run):
    document = run("targets", "show", "arm64", "--json").document
    assert document["schema"] == "edgekit.target/1"
    assert document["architecture"] == "aarch64"


def test_targets_check_names_every_wrong_key(run, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('schema = "edgekit.target/1"\nnaem = "x"\nopset = 99\n', encoding="utf-8")
    result = run("targets", "check", str(file), "--json")
    assert result.code == 2
    assert "unknown key 'naem'; did you mean 'name'?" in result.error["why"]
    assert "opset: input should be less than or equal to 25" in result.error["why"]
    assert "missing key 'name'" in result.error["why"]


@pytest.mark.parametrize("group", ["targets", "recipes"])
def test_check_of_no_file_is_a_usage_error(group, run, recipe, tmp_path):
    result = run(group, "check", str(tmp_path))
    assert result.code == 2
    assert f"there is no {group.removesuffix('s')} file" in result.told


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_show_prints_toml_that_defines_the_recipe(name, run, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(run("recipes", "show", name).stdout, encoding="utf-8")
    assert load_recipe(file) == load_recipe(name)
    assert run("recipes", "check", str(file)).stdout == f"{file}: the recipe {name!r} is valid\n"


def test_recipes_list_names_every_recipe(run, recipe):
    assert run("recipes", "list").stdout.splitlines()[2].split(maxsplit=1) == ["default", "everything that helps"]
    assert run("recipes", "list", "--json").document == {
        "schema": "edgekit.recipes/1",
        "recipes": [{"name": "default", "description": "everything that helps"}],
    }


def test_recipes_show_prints_every_setting_as_toml(run, recipe):
    result = run("recipes", "show", "default")
    assert recipe.arguments == ("default",)
    assert tomllib.loads(result.stdout) == {
        "name": "default",
        "limits": {"max_drop": 0.01},
        "stages": [{"stage": "prune", "ratio": 0.5}],
    }
    assert run("recipes", "show", "default", "--json").document["limits"] == {"max_drop": 0.01, "max_ms": None}


def test_recipes_check_reads_the_file_as_a_file(run, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("", encoding="utf-8")
    result = run("recipes", "check", "mine")
    assert recipe.arguments == ("./mine",)
    assert result.stdout == "mine: the recipe 'default' is valid\n"


def test_recipes_check_exits_with_2_when_a_key_is_wrong(run, pretend_module, recorder, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("", encoding="utf-8")
    pretend_module(
        "recipe", load_recipe=recorder(UsageError("recipe 'mine.toml' is not valid", why="unknown key 'stagse'"))
    )
    result = run("recipes", "check", str(file), "--json")
    assert result.code == 2
    assert result.error["why"] == "unknown key 'stagse'"
