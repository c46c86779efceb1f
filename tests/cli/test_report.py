from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from cli.samples import ELSEWHERE, make_report
from render.made import full_report

import edgekit
from edgekit.errors import ArtifactError, UsageError
from edgekit.render.comparison import compare_reports


@pytest.fixture
def comparison(tmp_path):
    return compare_reports([full_report(tmp_path / "a"), full_report(tmp_path / "b", measured=False)])


def test_page_of_one_run_is_written_and_named(run, pretend, recorder):
    render = recorder(Path("out-report.html"))
    pretend(render_report=render)
    result = run("report", "./out")
    assert result.code == 0
    assert render.arguments == ("./out", None)
    assert result.stdout == "out-report.html\n"
    assert run("report", "./out", "-o", "p.html").code == 0
    assert render.arguments == ("./out", "p.html")


def test_page_of_one_run_as_one_document(run, pretend, recorder):
    pretend(render_report=recorder(Path("out-report.html")))
    assert run("report", "./out", "--json").document == {"schema": "edgekit.page/1", "written": "out-report.html"}


def test_several_runs_are_a_table_and_a_page(run, pretend, recorder, comparison):
    compare = recorder(comparison)
    pretend(compare=compare)
    result = run("report", "a", "b")
    assert result.code == 0
    assert compare.arguments == (["a", "b"], Path("comparison.html"))
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["run", "limits", "accuracy", "p50", "ms", "faster", "MB", "smaller", "unbeaten", "in"]
    assert lines[2].split() == ["a", "passed", "91.1%", "6.80", "6.1x", "17.1", "5.3x", "size"]
    assert lines[3].split() == ["b", "passed", "91.1%", "-", "-", "17.1", "5.3x", "size"]
    assert f"only size can be compared: b ({ELSEWHERE})." in " ".join(result.stdout.split())
    assert lines[-1] == "comparison.html"


def test_several_runs_are_data(run, pretend, recorder, comparison):
    pretend(compare=recorder(comparison))
    document = run("report", "a", "b", "-o", "c.html", "--json").document
    assert (document["schema"], document["written"]) == ("edgekit.comparison/1", "c.html")
    assert [entry["name"] for entry in document["runs"]] == ["a", "b"]
    assert document["runs"][1]["latency_ms"] is None
    assert document["groups"][0]["axis"] == "size"


@pytest.mark.parametrize("runs", [("a",), ("a", "b")])
def test_open_shows_the_page(runs, run, pretend, recorder, comparison, monkeypatch, tmp_path):
    shown = recorder(True)
    monkeypatch.setattr("webbrowser.open", shown)
    monkeypatch.chdir(tmp_path)
    pretend(render_report=recorder(Path("page.html")), compare=recorder(comparison))
    assert run("report", *runs, "-o", "page.html").code == 0
    assert shown.arguments == ()
    assert run("report", *runs, "-o", "page.html", "--open").code == 0
    assert shown.arguments == ((tmp_path / "page.html").as_uri(),)


def test_without_a_browser_the_page_is_named(run, pretend, recorder, monkeypatch):
    monkeypatch.setattr("webbrowser.open", recorder(False))
    pretend(render_report=recorder(Path("page.html")))
    result = run("report", "a", "--open", "--json")
    assert result.code == 3
    assert result.error["what"] == "no browser could be started"
    assert result.error["hint"] == "The page is written; open 'page.html' yourself."


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArtifactError("'a' is not a run", hint="It holds runs: b."), 4),
        (UsageError("'a/x' lies inside the artifact"), 2),
    ],
)
def test_errors_are_told(error, code, run, pretend, recorder):
    pretend(render_report=recorder(error))
    result = run("report", "a")
    assert result.code == code
    assert error.what in result.told


def test_without_a_run_the_usage_is_told(run):
    assert run("report").code == 2


@pytest.mark.parametrize(("name", "arguments"), [("render_report", ["a"]), ("compare", ["a", "b"])])
def test_public_function_takes_what_the_command_line_passes(name, arguments, run, pretend, recorder):
    signature = inspect.signature(getattr(edgekit, name))
    recorded = recorder(UsageError("far enough"))
    pretend(**{name: recorded})
    assert run("report", *arguments).code == 2
    signature.bind(*recorded.arguments, **recorded.keywords)


def test_names_are_no_markup(run, pretend, recorder, tmp_path):
    found = compare_reports([make_report(tmp_path / "[bold]a"), make_report(tmp_path / "b")])
    pretend(compare=recorder(found))
    assert "[bold]a" in run("report", "a", "b").stdout
