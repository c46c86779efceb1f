"""What a search tried, on a terminal, a page and a card."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from render.made import GRAPH, SEARCH, TRIALS, full_report, trial
from render.reading import read
from rich.console import Console

from edgekit.render.card import model_card
from edgekit.render.html.report import report_page
from edgekit.render.search import search_lines, search_sentence, search_view, what
from edgekit.render.terminal import report_view


def drawn(view: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, highlight=False)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_short_table_has_candidates_with_cost_and_losses(width: int) -> None:
    text = drawn(search_view(SEARCH), width)
    assert all(len(line) <= width for line in text.splitlines())
    row = next(line for line in drawn(search_view(SEARCH), 200).splitlines() if line.startswith("3 "))
    said = "3 30% of the multiply-accumulates in 4 layers, 4200 steps 3.00 -2.0 pp +0.1 pp kept"
    assert " ".join(row.split()) == said
    assert "\n1 " not in text  # the steps that were timed are no candidate


def test_what_a_trial_was_is_said_in_words() -> None:
    assert [what(one) for one in TRIALS[:2]] == ["no training", "12 steps"]
    assert what(TRIALS[4]) == "21% of the multiply-accumulates in 4 layers, 2100 steps from trial 3"
    by_table = trial(4, "timing", kept=0.35, layers=4, stages=({"stage": "prune", "cost": "measured"}, *GRAPH))
    assert what(by_table) == "35% of the predicted cost in 4 layers"
    otherwise = ({"stage": "prune", "importance": "fisher"}, *GRAPH)  # than usual: two rows are else the same
    assert what(trial(4, "proxy", kept=0.35, layers=4, stages=otherwise)).endswith(" in 4 layers by fisher")
    assert what(trial(2, "costs", stages=())) == "what heads and neurons cost, by their number"
    smaller = trial(5, "extra", stages=({"stage": "vocabulary"}, {"stage": "quantize", "embeddings": "int4"}))
    assert what(smaller) == "unused tokens out, embeddings int4"
    assert what(trial(6, "quantized", stages=GRAPH[:2])) == "not quantized"


def test_lines_say_how_long_and_why() -> None:
    assert search_lines(SEARCH) == [
        "5 trials, 50 min 00 s of 1 h 00 min in 2 attempts; the evaluation split was looked at 3 times",
        "it ended because the time is up",
    ]
    nearest = SEARCH.model_copy(update={"nearest": True})
    assert search_lines(nearest)[-1] == "no trial keeps every limit; trial 3 is the nearest"


def test_a_card_has_one_line(tmp_path: Path) -> None:
    sentence = search_sentence(SEARCH)
    assert sentence == (
        "found by a search for least latency within the limits: 5 trials, 2 of them unbeaten; chosen was trial 3,"
        " 30% of the multiply-accumulates in 4 layers, 4200 steps"
    )
    card = model_card(full_report(tmp_path / "out", search=SEARCH))
    assert card.count("found by a search") == 1
    assert "search" not in model_card(full_report(tmp_path / "other"))


def test_the_page_has_the_chart_and_every_trial(tmp_path: Path) -> None:
    page = read(report_page(full_report(tmp_path / "out", search=SEARCH)))
    section = page.one("search")
    circles = section.all("circle")
    assert sorted(circle.attributes["class"] for circle in circles) == ["beaten", "spot", "spot"]
    assert "trial 3 was chosen" in section.text
    rows = section.all("tbody")[0].all("tr")
    assert len(rows) == len(TRIALS)
    assert "failed: <b>no</b>" in rows[4].text
    assert [link.text for link in page.all("a") if link.attributes.get("href") == "#search"] == ["Search"]


def test_a_page_of_a_run_without_a_search_has_no_such_section(tmp_path: Path) -> None:
    text = report_page(full_report(tmp_path / "out"))
    assert "#search" not in text
    assert "What was tried" not in text


def test_a_terminal_shows_the_table_in_the_report(tmp_path: Path) -> None:
    assert "What was tried" in drawn(report_view(full_report(tmp_path / "out", search=SEARCH), width=100))
    assert "What was tried" not in drawn(report_view(full_report(tmp_path / "other"), width=100))
