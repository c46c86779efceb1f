from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.bounds import MAX_NESTING
from edgekit.errors import DataError
from edgekit.tasks import data_checks
from edgekit.tasks.data_checks import check_file, check_folder

CONFIGS = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {}\n"


def folder(root: Path, **files: str) -> tuple[Path, list[Path]]:
    """A folder of these files, ``_`` standing for the dot of an ending."""
    for name, content in files.items():
        (root / name.replace("_", ".")).write_text(content, encoding="utf-8")
    return root, sorted(root.iterdir())


@pytest.mark.parametrize("place", ["data/train-*", "'**/*.csv'", "./train.csv", ".", "[a.csv, b/c.csv]"])
def test_a_card_names_what_lies_in_the_folder(tmp_path: Path, place: str) -> None:
    check_folder(*folder(tmp_path, README_md=f"---\n{CONFIGS.format(place)}---\n# Data\n\n---\n", train_csv="a"))


@pytest.mark.parametrize(
    "place", ["../x.csv", "/etc/passwd", "https://example.com/x.csv", "a/../../x", "[a.csv, ../b]", ".x.csv", "a/.b/*"]
)
@pytest.mark.parametrize("name", ["README_md", "_huggingface_yaml"])
def test_a_card_that_names_what_lies_elsewhere_is_an_error(tmp_path: Path, name: str, place: str) -> None:
    text = CONFIGS.format(place)
    given = folder(tmp_path, **{name: f"\n---\n{text}---\n" if name == "README_md" else text})
    with pytest.raises(DataError) as caught:
        check_folder(*given)
    assert caught.value.id == "data.elsewhere"


def test_a_card_without_settings_is_of_no_account(tmp_path: Path) -> None:
    check_folder(*folder(tmp_path, README_md="# Data\n\n---\n[[[[ {{\n"))


DEEPEST = "[" * MAX_NESTING + "]" * MAX_NESTING


@pytest.mark.parametrize(
    "text",
    [
        f"{DEEPEST}\n{DEEPEST}\n",
        '{"text": "[[[[", "label": 0}\n' * 200,
        '{"text": "a \\\\"}\n{"text": "\\"[[[\\""}\n' * 100,
        "[" + "[1, [2, 3]], " * 500 + "[4]]",
        "]" * 500,
    ],
)
def test_json_as_it_is_is_not_deep(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_checks, "BLOCK", 7)  # so that blocks end within lines
    file = tmp_path / "x.jsonl"
    file.write_text(text, encoding="utf-8")
    check_file(file)


@pytest.mark.parametrize(
    "text",
    [
        f"[{DEEPEST}]",
        '{"a":' * 65 + "1" + "}" * 65,
        "[\n" * 100,
        f'{"[" * 40}"]]]]]]]]]]]]]]]]"{"[" * 40}',
        f'"\\"", {"[" * 65}',
    ],
)
def test_json_that_is_too_deep_is_an_error(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_checks, "BLOCK", 7)
    file = tmp_path / "x.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="nested deeper than 64"):
        check_file(file)
    file.rename(tmp_path / "x.csv")
    check_file(tmp_path / "x.csv")
