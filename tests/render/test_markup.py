from __future__ import annotations

import pytest
from render.reading import read

from edgekit.render.html.markup import LONGEST, Html, element, facts, items, join, minus, section, table, text

HOSTILE = '</script><b onload="x">&amp;\''


def test_text_is_escaped_and_markup_is_not() -> None:
    inner = element("b", "1 < 2")
    assert inner == "<b>1 &lt; 2</b>"
    assert element("p", inner, " & ", None, HOSTILE) == (
        "<p><b>1 &lt; 2</b> &amp; &lt;/script&gt;&lt;b onload=&quot;x&quot;&gt;&amp;amp;&#x27;</p>"
    )
    assert text(Html("<i>")) == "<i>"


def test_attributes_are_escaped_and_named_as_html_names_them() -> None:
    made = element("line", x1=1.50, class_="a", aria_label=HOSTILE, y1=None, stroke_width=2.0)
    assert made == (
        '<line x1="1.5" class="a" aria-label="&lt;/script&gt;&lt;b onload=&quot;x&quot;&gt;&amp;amp;&#x27;"'
        ' stroke-width="2"></line>'
    )
    (node,) = read(made).children
    assert node.attributes["aria-label"] == HOSTILE


def test_void_elements_have_no_end() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert element("rect", x=0.0) == '<rect x="0"></rect>'


def test_very_long_text_is_shortened() -> None:
    shown = text("<" * (LONGEST + 1))
    assert shown == "&lt;" * (LONGEST - 1) + "\N{HORIZONTAL ELLIPSIS}"
    assert text("<" * LONGEST) == "&lt;" * LONGEST


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066"])
def test_control_characters_are_replaced(character: str) -> None:
    assert text(f"a{character}b") == "a\N{REPLACEMENT CHARACTER}b"
    assert element("p", title=f"{character}") == '<p title="\N{REPLACEMENT CHARACTER}"></p>'


def test_lists_and_facts_take_text_and_markup() -> None:
    assert items(["<", element("b", "x")]) == "<ul><li>&lt;</li><li><b>x</b></li></ul>"
    assert facts([("a", "<")]) == '<dl class="facts"><div><dt>a</dt><dd>&lt;</dd></div></dl>'
    assert join(["a", None, "<"], ", ") == "a, &lt;"


def test_a_table_names_its_rows_columns_and_itself() -> None:
    made = read(table(("label", "n"), [("a & b", "12"), ("c", "3")], kinds="tn", caption="how many <"))
    (region,) = made.children
    assert (region.attributes["role"], region.attributes["tabindex"]) == ("region", "0")
    assert region.attributes["aria-label"] == made.all("caption")[0].text == "how many <"
    assert [(cell.text, cell.attributes["scope"]) for cell in made.all("th")] == [
        ("label", "col"),
        ("n", "col"),
        ("a & b", "row"),
        ("c", "row"),
    ]
    assert [(cell.text, cell.attributes["class"]) for cell in made.all("td")] == [("12", "n"), ("3", "n")]


def test_a_section_is_named_by_its_heading() -> None:
    (found,) = read(section("cost", "What it cost", element("p", "x"), lead="why")).children
    assert (found.attributes["id"], found.attributes["aria-labelledby"]) == ("cost", "cost-heading")
    assert [node.text for node in found.children] == ["What it cost", "why", "x"]
    assert found.children[0].attributes["id"] == "cost-heading"


@pytest.mark.parametrize(
    ("given", "shown"),
    [("-0.2 pp", "\N{MINUS SIGN}0.2 pp"), ("(-1)", "(\N{MINUS SIGN}1)"), ("x86-64", "x86-64"), ("-", "-")],
)
def test_a_minus_before_a_digit_is_a_minus_sign(given: str, shown: str) -> None:
    assert minus(given) == shown
