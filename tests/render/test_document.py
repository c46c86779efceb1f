from __future__ import annotations

import base64
import hashlib
import itertools
import re
from pathlib import Path

import pytest
from render.made import SEARCH, full_report
from render.reading import read

from edgekit.render.comparison import compare_reports
from edgekit.render.html.comparison import comparison_page
from edgekit.render.html.document import OPENING, document, style
from edgekit.render.html.report import CONTENTS, report_page

# What could make a browser ask for something, or run something; links lead to places on the page.
ACTIVE = {"script", "link", "img", "image", "iframe", "object", "embed", "form", "base", "video", "audio", "use", "a"}
# Contrast that WCAG 2.1 asks for: of text (1.4.3), and of what is drawn (1.4.11).
TEXT_CONTRAST, DRAWN_CONTRAST = 4.5, 3.0


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, str]:
    first, second = full_report(tmp_path / "a", search=SEARCH), full_report(tmp_path / "b", measured=False)
    return {"report": report_page(first), "comparison": comparison_page(compare_reports([first, second]))}


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_nothing_on_a_page_asks_for_anything(name: str, pages: dict[str, str]) -> None:
    nodes = read(pages[name]).walk()
    assert {node.name for node in nodes} & ACTIVE == {"a"}
    attributes = {attribute for node in nodes for attribute in node.attributes}
    assert not [attribute for attribute in attributes if attribute.startswith("on") or "src" in attribute]
    assert "url(" not in style()
    assert "@" not in style().replace("@media", "")
    links = [node.attributes["href"] for node in nodes if "href" in node.attributes]
    identifiers = {node.attributes["id"] for node in nodes if "id" in node.attributes}
    assert links
    assert {link.removeprefix("#") for link in links} <= identifiers


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_the_policy_forbids_everything_but_the_one_style_sheet(name: str, pages: dict[str, str]) -> None:
    tree = read(pages[name])
    (policy,) = [node for node in tree.all("meta") if node.attributes.get("http-equiv") == "Content-Security-Policy"]
    (sheet,) = tree.all("style")
    digest = base64.b64encode(hashlib.sha256(sheet.raw.encode()).digest()).decode()
    assert policy.attributes["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not [node for node in tree.walk() if "style" in node.attributes]  # the policy would ignore them


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_every_chart_says_what_it_shows(name: str, pages: dict[str, str]) -> None:
    charts = read(pages[name]).all("svg")
    assert len(charts) >= 3
    for chart in charts:
        assert [child.name for child in chart.children[:2]] == ["title", "desc"]
        assert all(child.text for child in chart.children[:2])
        assert chart.attributes["role"] == "img"


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_page_has_one_heading_of_the_first_rank_and_skips_none(name: str, pages: dict[str, str]) -> None:
    ranks = [int(node.name[1]) for node in read(pages[name]).walk() if re.fullmatch(r"h[1-6]", node.name)]
    assert ranks[0] == 1
    assert ranks.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(ranks))


def test_identifiers_are_unique(pages: dict[str, str]) -> None:
    found = [node.attributes["id"] for node in read(pages["report"]).walk() if "id" in node.attributes]
    assert sorted(set(found)) == sorted(found)
    assert {name for name, _ in CONTENTS} <= set(found)


def test_a_page_begins_so_that_it_is_known_again_and_is_small(pages: dict[str, str]) -> None:
    assert all(page.startswith(OPENING) for page in pages.values())
    assert all(len(page.encode()) < 150_000 for page in pages.values())


def test_a_title_is_text() -> None:
    page = document("</title><script>x", "body", contents=(), foot="<end>")
    tree = read(page)
    assert tree.all("title")[0].text == "</title><script>x"
    assert tree.all("script") == []
    assert tree.all("footer")[0].text == "<end>"


def test_colours_stand_out_in_light_and_dark() -> None:
    light, dark = palettes(style())
    assert set(light) == set(dark)
    for palette in (light, dark):
        for ground in ("paper", "sheet"):
            for name in ("ink", "faint", "good", "bad", "doubt", "accent"):
                assert contrast(palette[name], palette[ground]) >= TEXT_CONTRAST, (name, ground)
        for name in ("frame", "before", "good", "bad", "accent"):
            assert contrast(palette[name], palette["paper"]) >= DRAWN_CONTRAST, name


def test_counts_can_be_read_on_the_darkest_cell() -> None:
    sheet = style()
    strongest = max(
        float(share) for share in re.findall(r"\.h\d \{ background: rgb\(var\(--shade\) / ([\d.]+)\)", sheet)
    )
    assert sheet.count("{ background: rgb(var(--shade)") == 9
    for palette, shade in zip(palettes(sheet), re.findall(r"--shade: (\d+) (\d+) (\d+);", sheet), strict=True):
        cell = tuple(
            strongest * int(part) + (1 - strongest) * ground
            for part, ground in zip(shade, channels(palette["paper"]), strict=True)
        )
        assert ratio(luminance(channels(palette["ink"])), luminance(cell)) >= TEXT_CONTRAST


def test_print_is_light_and_without_navigation() -> None:
    printed = style().partition("@media print {")[2]
    assert "color-scheme: light" in printed
    assert "nav { display: none; }" in printed


def palettes(sheet: str) -> tuple[dict[str, str], dict[str, str]]:
    """Colours by name, in light and in dark."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6});", block))
        for block in re.findall(r":root \{([^}]*)\}", sheet.partition("@media print")[0])
    )
    return light, dark


def channels(colour: str) -> tuple[float, ...]:
    digits = colour.removeprefix("#")
    return tuple(int(digits[place : place + 2], 16) for place in (0, 2, 4))


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, as WCAG 2.1 defines it."""
    linear = [part / 255 / 12.92 if part / 255 <= 0.03928 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    return ratio(luminance(channels(one)), luminance(channels(other)))


def ratio(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
