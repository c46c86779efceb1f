from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.bounds import (
    MAX_NESTING,
    MAX_YAML_NODES,
    check_archive,
    check_depth,
    check_numbers,
    check_sizes,
    check_yaml,
    control_characters,
    inside,
    load_json,
    nesting,
)


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("a = 1", 0),
        ("a = [1, [2], {b = [3]}]", 3),
        ('a = "[[[[" # [[[', 0),
        ("a = '[[[['", 0),
        ("[a.b.c]\nd.e = 1", 2),
        ("x = [" * 70, 70),
        ('{"a": [{"b": "]]]"}]}', 3),
        ('x = ["""a"""", [[1]], "b"]', 3),  # the fourth quote is part of the text
        ("x = ['''[[\n[[''', [1]]", 2),
        ('x = """\n[[[ " [[ \\""" [[\n"""', 0),
        ("x = [1.5, 2.5, 3.5, 4.5]", 1),
        ("x = {a.b.c.d = 1, e = 2.5}", 3),
        ('"a.b"."c.d"."e.f" = 1', 2),
        ('x = "[[', 0),  # never closed, as the parser will say
    ],
)
def test_depth_is_counted_outside_of_texts_and_comments(text: str, depth: int) -> None:
    assert nesting(text) == depth


@pytest.mark.parametrize("text", ['\\"', "''''a", '""a', "a\\", "#'", '"""'])
def test_each_sign_of_a_text_is_looked_at_once(text: str) -> None:
    assert nesting(text * (1_000_000 // len(text))) == 0  # with a second look from each quote it would take hours


def test_numbers_are_those_that_a_register_holds() -> None:
    check_numbers({"a": [1, -(2**63), 2**64 - 1, 1e300, True, "9" * 5000]})
    with pytest.raises(ValueError, match="whole number of more than 64 bits"):
        check_numbers({"a": [{"b": 2**64}]})
    for wrong in (float("nan"), float("inf"), -float("inf"), 1.1e300):
        with pytest.raises(ValueError, match=r"it has the number .*; allowed: up to 1e\+300"):
            check_numbers({"a": (1.0, {"b": wrong})})


def test_depth_of_what_was_parsed_is_bounded() -> None:
    check_depth({"a": [{"b": []}]}, 4)
    with pytest.raises(ValueError, match="it is nested deeper than 3"):
        check_depth({"a": [{"b": []}]}, 3)


def test_json_is_bounded_in_depth_and_in_digits() -> None:
    assert load_json(b'{"a": [1, 2.5]}') == {"a": [1, 2.5]}
    deep = json.dumps([[0]]).replace("0", "[" * MAX_NESTING + "]" * MAX_NESTING).encode()
    with pytest.raises(ValueError, match=f"it is nested deeper than {MAX_NESTING}"):
        load_json(deep)
    with pytest.raises(ValueError, match=f"it is nested deeper than {MAX_NESTING}"):
        load_json(b"[" * 100_000)
    with pytest.raises(ValueError, match="Exceeds the limit"):
        load_json(b"9" * 10_000)
    with pytest.raises(UnicodeDecodeError):
        load_json(b"\xff\xfe")


@pytest.mark.parametrize("name", ["model.onnx", "a/b.bin", ".hidden", "a..b", "übermut", "a" * 255, "a/" * 500 + "a"])
def test_plain_names_lie_inside(name: str) -> None:
    assert inside(name)
    assert control_characters(name) == ""


@pytest.mark.parametrize(
    "name",
    ["", "/a", "../a", "a/../../b", "..", "a\\b", "C:a", "c:/a", "..\\a", "a" * 256, "\u00fc" * 128, "a/" * 600 + "a"],
)
def test_names_that_lead_elsewhere_do_not(name: str) -> None:
    assert not inside(name)


def test_characters_that_steer_a_terminal_are_found() -> None:
    assert control_characters("a\x1b[2Jb\x7f") == "\x1b\x7f"
    assert control_characters("gpj.\u202eexe") == "\u202e"


def test_an_archive_that_is_what_it_seems_passes(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/one.txt", "one " * 1000)
        archive.writestr("zeros", bytes(1_000_000))  # a small file may be as empty as it likes
    check_archive(tmp_path / "x.zip")


def test_yaml_is_counted_with_its_aliases_spelled_out() -> None:
    check_yaml("a: &x [1, 2]\nb: *x\nc: [*x, *x]\n")
    check_yaml("")
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    with pytest.raises(ValueError, match=f"more than {MAX_YAML_NODES} parts"):
        check_yaml(bomb)
    with pytest.raises(ValueError, match="it contains itself"):
        check_yaml("a: &x [*x]\n")
    with pytest.raises(ValueError, match="while parsing"):
        check_yaml("a: [\n")


def test_sizes_are_found_at_any_depth() -> None:
    check_sizes({"depths": json.loads("[" * 900 + "1024" + "]" * 900)})
    for deep in (json.loads("[" * 900 + "1025" + "]" * 900), [[1] * 1025]):
        with pytest.raises(ValueError, match="depths is larger than 1024, which no model has"):
            check_sizes({"a": [{"depths": deep}]})
