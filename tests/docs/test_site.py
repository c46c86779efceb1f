"""The documentation site: what is generated for it, and that it builds without a warning and fetches nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs.reading import DOCS, GENERATE, ROOT, pages, read_steps

import edgekit
from edgekit import errors
from edgekit.stages import STAGES


def test_every_setting_of_every_stage_is_in_the_recipes_page() -> None:
    page = GENERATE.expand((DOCS / "recipes.md").read_text(encoding="utf-8"))
    for name, stage in STAGES.items():
        section = page.split(f"### {name}\n")[1].split("\n### ")[0]
        for setting, field in stage.settings.model_fields.items():
            assert f"| `{setting}` |" in section
            assert str(field.description) in section


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "number from 0 below 1"),
        ({"type": "integer", "minimum": 1}, "whole number from 1"),
        ({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "auto"}]}, "number above 0 or `auto`"),
        ({"enum": ["u8", "s8"], "type": "string"}, "`u8`, `s8`"),
        ({"type": "boolean"}, "true, false"),
        ({"type": "array"}, "a list"),
    ],
)
def test_what_a_setting_may_be_is_said_in_words(field: dict[str, object], words: str) -> None:
    assert GENERATE.allowed(field) == words


def test_every_public_name_has_its_section() -> None:
    page = GENERATE.api()
    titles = re.findall(r"^### (\w+)", page, re.MULTILINE)
    assert set(edgekit.__all__) <= set(titles)
    assert {"LedgerRow", "Measurement", "Quality", "Plan", "Predictor", "VerifyRecord"} <= set(titles)
    assert len(titles) == len(set(titles))
    compress = page.split("### compress\n")[1].split("\n### ")[0]
    assert "    **options: Unpack[RunOptions],\n" in compress
    assert "`output`\n:   directory for the result" in compress
    options = page.split("### RunOptions ")[1].split("\n### ")[0]
    assert "`max_drop`: `float | None`\n:   largest loss of the metric" in options
    assert "`weights`: `str | Path | None`\n:   safetensors" in options


def test_every_command_has_its_section_with_its_options() -> None:
    page = GENERATE.commands()
    titles = re.findall(r"^##+ (edgekit [\w ]+)$", page, re.MULTILINE)
    assert {"edgekit compress", "edgekit eval", "edgekit targets show", "edgekit recipes check"} <= set(titles)
    section = page.split("## edgekit compress\n")[1].split("\n## ")[0]
    assert "`--output DIR`, `-o DIR`\n:   Where the artifact goes." in section
    assert "`--target TARGET`\n:   The device: a name or a TOML file. Default: `host`." in section
    assert "`--strict`\n:   Limits must be proven at 95%, not just met." in section


def test_every_class_of_error_is_listed_with_its_code() -> None:
    table = GENERATE.errors()
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.EdgekitError):
            assert re.search(rf"`{name}` \| `{kind.kind}` \| {kind.exit_code} \|$", table, re.MULTILINE), name


def test_every_exit_code_is_explained() -> None:
    from edgekit.cli import failures, watch
    from edgekit.gate import verdict

    known = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    known |= {128 + number for number in watch.SIGNALS}
    known |= {value for one in (failures, verdict) for name, value in vars(one).items() if name.endswith("_EXIT_CODE")}
    rows = re.findall(r"^\| ([\d, ]+) \|", (DOCS / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(code) for row in rows for code in row.split(",")} == known | {0}


def test_links_of_an_included_page_lead_to_the_same_files() -> None:
    text = GENERATE.include("CONTRIBUTING.md")
    assert "](architecture.md)" in text
    assert "](docs/" not in text
    lead, block = GENERATE.shown("README.md").split(":\n\n", 1)
    assert re.fullmatch(r"It ends like this \([^)]+\)", lead)
    assert block.startswith("```text\ndigits-vit for host: ")
    assert block.endswith(" s\n```")
    sections = GENERATE.sections("targets/README.md#features,this-machine")
    assert re.findall(r"^## .*$", sections, re.MULTILINE) == ["## Features", "## This machine"]
    with pytest.raises(ValueError, match=r"targets/README.md has no section 'colours'"):
        GENERATE.sections("targets/README.md#colours")


def test_results_are_those_of_the_last_run_of_each_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GENERATE, "ROOT", tmp_path)
    assert GENERATE.results().startswith("`benchmarks/run.py` measures whole runs")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks" / "cases.py", tmp_path / "benchmarks" / "cases.py")
    row = {"case": "sst2-s8s8", "host": "a CPU", "versions": {"onnxruntime": "9.9"}, "n": 7, "speedup": None}
    row |= {"before": 0.5, "after": 0.25, "before_bytes": 30, "after_bytes": 12, "ledger": []}
    ledger = [{"stage": "export", "kept": True}, {"stage": "quantize", "kept": False}]
    lines = [json.dumps(row), json.dumps(row | {"after": 0.75, "speedup": 2.04, "ledger": ledger})]
    lines.append(json.dumps(row | {"case": "sst2-5m"}))
    (tmp_path / "benchmarks" / "results" / "suite.jsonl").write_text("\n".join(lines) + "\n")
    lead, _, _, _, *rows = GENERATE.results().splitlines()
    assert lead.startswith("Whole runs on real models by `benchmarks/run.py` on a CPU, onnxruntime 9.9, the last of ")
    name = "minilm-sst2, x86-64-vnni, recipe quantize, quantize.scheme=s8s8"
    assert rows == [
        f"| {name} | 0.5000 to 0.7500 | 7 | 2.0x | 2.5x | quantize |",
        "| minilm-sst2, x86-64-vnni, a search of 5 minutes | 0.5000 to 0.2500 | 7 | not measured | 2.5x |  |",
    ]


def test_every_format_and_every_variable_stands_on_the_page_of_files() -> None:
    page = (DOCS / "files.md").read_text(encoding="utf-8")
    sources = [
        path.read_text(encoding="utf-8")
        for path in Path(edgekit.__file__).parent.rglob("*")
        if path.suffix in (".py", ".toml", ".json")
    ]
    schemas = re.compile(r"edgekit\.[a-z-]+/\d+")
    assert {found for text in sources for found in schemas.findall(text)} == set(schemas.findall(page))
    variables = re.compile(r"""["'](EDGEKIT_[A-Z_]+)["']""")
    own = {"EDGEKIT_ORT_FORM_STARTED"}  # what one process of edgekit's says to the next
    found = {variable for text in sources for variable in variables.findall(text)}
    assert found - own == set(re.findall(r"`(EDGEKIT_[A-Z_]+)`", page))


def test_every_module_stands_in_the_tree_of_the_architecture() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8").split("## The tree")[1].split("\n## ")[0]
    words = set(re.findall(r"[\w-]+(?:\.py|/)", page))
    package = Path(edgekit.__file__).parent
    names = {path.name for path in package.glob("*.py")} | {f"{path.parent.name}/" for path in package.glob("*/*.py")}
    assert names - words - {"__init__.py", "__main__.py"} == set()


LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
OUTSIDE = [
    *(path.name for path in ROOT.glob("*.md")),
    "benchmarks/README.md",
    "benchmarks/results/README.md",
    "targets/README.md",
]


@pytest.mark.parametrize("page", OUTSIDE)
def test_a_page_outside_the_site_links_to_what_is_there(page: str) -> None:
    dead = []
    for file, anchor in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
        if "://" in file:
            continue
        place = (ROOT / page).parent / file if file else ROOT / page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            dead.append(f"{file}#{anchor}")
    assert dead == []


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_a_marker_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"there is no part 'nothing' to generate; known: api, "):
        GENERATE.expand("<!-- generate: nothing -->")
    assert GENERATE.expand("a <!-- comment -->\n") == "a <!-- comment -->\n"


def test_lines_of_steps_are_those_of_the_page() -> None:
    for page in pages():
        lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
        for step in read_steps(page):
            line = lines[int(step.place.rpartition(":")[2]) - 1]
            if step.kind == "command" and not line.startswith("<!-- generate"):
                assert line.removeprefix("$ ").rstrip("\\").strip()[:20] in step.text or line.startswith("    ")


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the documentation's tools are not installed: make docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        check=False,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    built = sorted((tmp_path / "site").rglob("*.html"))
    assert {path.relative_to(tmp_path / "site").as_posix() for path in built} >= {
        Path(page).relative_to("docs").with_suffix(".html").as_posix() for page in pages() if page != "README.md"
    }
    fetched = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//")
    assert [path.name for path in built if fetched.search(path.read_text(encoding="utf-8"))] == []
    assert [path.name for path in (tmp_path / "site").rglob("*.py")] == []
    assert "generate:" not in (tmp_path / "site" / "recipes.html").read_text(encoding="utf-8")
