"""Texts that repeat what a held-out one says."""

from __future__ import annotations

import pytest

from edgekit.tasks.kinship import COMMON, kin_of, left_out, runs_of

SENTENCE = "the film is a slow but deeply moving portrait of two brothers"


@pytest.mark.parametrize(
    ("other", "kin"),
    [
        ("a slow but deeply moving portrait", True),
        ("The Film is a slow", True),
        (f"critics agree that {SENTENCE} who part", True),
        (SENTENCE, True),
        ("the film is a bore that nobody will remember by the end of the year", False),
        ("moving portrait", False),  # two words are found anywhere
        ("two brothers of portrait moving deeply but slow", False),
        ("", False),
    ],
)
def test_phrases_and_whole_sentences_are_kin(other: str, kin: bool) -> None:
    rows = [[other], [SENTENCE]]
    assert kin_of(rows, [1]) == {1: {0} if kin else set()}
    assert kin_of(rows, [0]) == {0: {1} if kin else set()}


def test_a_short_text_is_kin_of_its_copies_alone() -> None:
    rows = [["so good"], ["So  good"], ["so good indeed"], ["good"], ["so good"]]
    assert kin_of(rows, [0]) == {0: {1, 4}}


def test_questions_on_one_passage_are_kin() -> None:
    passage = "the bridge was built in 1890 by a company from the north"
    rows = [
        ["who built it?", passage],
        ["when was the bridge built?", passage],
        ["who built it?", "it was sold in May"],
    ]
    assert kin_of(rows, [0]) == {0: {1}}


def test_a_run_does_not_go_from_one_column_into_the_next() -> None:
    assert runs_of(["one two", "three four five"]) == {("one", "two"), ("three", "four", "five")}


@pytest.mark.parametrize(("rows", "kin"), [(COMMON, COMMON - 1), (COMMON + 1, 0)])
def test_what_very_many_rows_have_is_a_pattern(rows: int, kin: int) -> None:
    found = kin_of([["please switch on the lights"]] * rows, [0])
    assert len(found[0]) == kin


def test_those_with_the_fewest_kin_come_first_and_no_more_is_left_out_than_may_be() -> None:
    rows = [["a b c d"], ["e f g h"], *[["a b c d"]] * 5, *[["e f g h"]] * 2, ["i j k l"]]
    assert left_out(rows, [0, 1], most=7) == {2, 3, 4, 5, 6, 7, 8}
    assert left_out(rows, [0, 1], most=6) == {7, 8}
    assert left_out(rows, [0, 1], most=1) == set()
    assert left_out(rows, [0, 1, 7], most=7) == {2, 3, 4, 5, 6, 8}  # what is held back itself stays
