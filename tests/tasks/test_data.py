from __future__ import annotations

import csv
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import build, images, labelled, save, task_for

from edgekit.errors import DataError, HostError, UnknownNameError
from edgekit.tasks.arrays import Arrays
from edgekit.tasks.base import Task
from edgekit.tasks.data import Data, first_sample
from edgekit.tasks.data_source import DataSource, load_splits, resolve_data

NAMES = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(build("bert", layers=1, **NAMES), tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = {"id2label": {0: "left", 1: "right"}, "label2id": {"left": 0, "right": 1}}
    return save(build("vit", layers=1, **names), tmp_path_factory.mktemp("vit"))


def write(file: Path, columns: dict[str, list[Any]]) -> Path:
    """Columns as a file of the format that its name says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), file)
    elif file.suffix in {".json", ".jsonl"}:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with file.open("w", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t" if file.suffix == ".tsv" else ",")
            writer.writerow(columns)
            writer.writerows(row.values() for row in rows)
    return file


def load(path: Path, task: Task, seed: int = 0) -> Data:
    return Data(resolve_data(path), task, seed)


def rows(examples: Any) -> set[tuple[int, ...]]:
    """Each sample by its ids: texts of these tests differ."""
    return {tuple(examples.rows["input_ids"][index]) for index in range(len(examples))}


def unique(count: int, start: int = 0) -> dict[str, list[Any]]:
    """Sentences of which no two are alike."""
    texts = [f"w{index // 50} w{index % 50} w7" for index in range(start, start + count)]
    return {"text": texts, "label": [index % 2 for index in range(count)]}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_kind_of_file_is_read(tmp_path: Path, model: Path, suffix: str) -> None:
    data = load(write(tmp_path / f"mine.{suffix}", labelled(40)), task_for(model))
    assert data.record == {
        "name": f"mine.{suffix}",
        "digest": data.source.digest,
        "evaluation_split": "a tenth of train (seed 0)",
        "samples": {"train": 32, "selection": 4, "evaluation": 4},
    }
    assert data.evaluation_labels == data.evaluation.batch(range(4))["labels"].tolist()
    batch = data.evaluation.batch([0, 1])
    assert batch["labels"].shape == (2,)
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}


def test_a_folder_of_images_by_class(tmp_path: Path, image_model: Path) -> None:
    found = images(40)
    for split, indices in {"train": range(30), "test": range(30, 40)}.items():
        for index in indices:
            folder = tmp_path / split / ("left" if found["label"][index] else "right")
            folder.mkdir(parents=True, exist_ok=True)
            found["image"][index].save(folder / f"{index}.png")
    data = load(tmp_path, task_for(image_model))
    assert data.record["samples"] == {"train": 27, "selection": 3, "evaluation": 10}
    assert data.rule == "test"
    batch = data.evaluation.batch(range(10))
    assert batch["pixel_values"].shape == (10, 1, 8, 8)
    # The folders are sorted by name, and "left" is class 0 of this model.
    assert sorted(batch["labels"].tolist()) == sorted(1 - label for label in found["label"][30:])


@pytest.mark.parametrize(
    ("splits", "evaluated", "trained"),
    [
        (("train", "validation", "test"), "validation", "train"),
        (("train", "test"), "test", "train"),
        (("train", "dev"), "validation", "train"),  # datasets' own name for a file called so
        (("test", "validation"), "validation", "test"),
    ],
)
def test_splits_are_known_by_their_names(
    tmp_path: Path, model: Path, splits: tuple[str, ...], evaluated: str, trained: str
) -> None:
    for number, split in enumerate(splits):
        write(tmp_path / f"{split}.csv", unique(20, 100 * number))
    data = load(tmp_path, task_for(model))
    assert (data.rule, data.train_source) == (evaluated, trained)
    assert data.record["samples"] == {"train": 18, "selection": 2, "evaluation": 20}


def test_nothing_is_trained_chosen_and_evaluated_on_at_once(tmp_path: Path, model: Path) -> None:
    data = load(write(tmp_path / "one.csv", unique(200)), task_for(model))
    train, selection, evaluation = (rows(part) for part in (data.train, data.selection, data.evaluation))
    assert (len(train), len(selection), len(evaluation)) == (162, 18, 20)
    assert not train & selection
    assert not train & evaluation
    assert not selection & evaluation
    assert len(train | selection | evaluation) == 200


def test_what_repeats_a_sample_of_a_cut_split_is_not_trained_on(tmp_path: Path, model: Path) -> None:
    """Each sentence is there whole and without its last word."""
    sentences = [(f"w{number // 20}", f"w{number % 20}") for number in range(100)]
    texts = [f"{one} {two} w8{end}" for one, two in sentences for end in ("", f" {one}")]
    write(tmp_path / "train.csv", {"text": texts, "label": [0, 1] * 100})
    write(tmp_path / "validation.csv", unique(20, 1000))
    data = load(tmp_path, task_for(model))
    first_two = [{ids[1:3] for ids in rows(part)} for part in (data.train, data.selection)]
    assert not first_two[0] & first_two[1]
    sizes: Any = data.record["samples"]
    assert sizes["selection"] == 20
    assert sizes["left_out"] == 2 * len(first_two[1]) - 20 > 0
    assert sizes["train"] == 200 - 20 - sizes["left_out"]


def test_the_cut_is_drawn_from_the_seed(tmp_path: Path, model: Path) -> None:
    file = write(tmp_path / "one.csv", unique(200))
    one, same, other = (load(file, task_for(model), seed) for seed in (0, 0, 1))
    assert rows(one.evaluation) == rows(same.evaluation)
    assert rows(one.selection) == rows(same.selection)
    assert rows(one.evaluation) != rows(other.evaluation)
    assert other.rule == "a tenth of train (seed 1)"


def test_an_unlabelled_test_split_is_not_evaluated(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "train.csv", unique(40))
    write(tmp_path / "test.csv", unique(20, 100) | {"label": [-1] * 20})
    data = load(tmp_path, task_for(model))
    assert data.rule == "a tenth of train (seed 0)"
    assert data.record["samples"] == {"train": 32, "selection": 4, "evaluation": 4}


def test_a_split_that_is_unlabelled_throughout_has_no_labels(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "train.csv", unique(40))
    write(tmp_path / "test.csv", unique(20, 100) | {"label": [-1] * 20})
    examples, name = load(tmp_path, task_for(model)).split("test")
    assert (len(examples), name) == (20, "test")
    assert "labels" not in examples.batch([0])  # else it would be scored: each answer differs from -1


def test_unlabelled_rows_are_left_out(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "train.csv", unique(40))
    write(tmp_path / "validation.csv", unique(20, 100) | {"label": [-1, 0, 1, 1] * 5})
    data = load(tmp_path, task_for(model))
    assert len(data.evaluation) == 15
    assert set(data.evaluation.batch(range(15))["labels"].tolist()) == {0, 1}
    assert data.evaluation_labels == data.evaluation.batch(range(15))["labels"].tolist()


def test_a_target_of_minus_1_is_a_number_like_any_other(tmp_path: Path) -> None:
    task = task_for(save(build("bert", layers=1, labels=1), tmp_path / "model"))
    columns = unique(40)
    columns["label"] = [float(index % 3 - 1) for index in range(40)]
    write(tmp_path / "data" / "train.csv", columns)
    write(tmp_path / "data" / "validation.csv", columns)
    assert len(load(tmp_path / "data", task).evaluation) == 40


@pytest.mark.parametrize("names", [["text", "label"], ["Sentence", "Label"], ["review", "target"]])
def test_columns_are_known_by_the_usual_names(tmp_path: Path, model: Path, names: list[str]) -> None:
    columns = unique(40)
    file = write(tmp_path / "mine.csv", {names[0]: columns["text"], names[1]: columns["label"]})
    assert "labels" in load(file, task_for(model)).train.batch([0])


def test_pairs_are_known_by_their_names(tmp_path: Path, model: Path) -> None:
    columns = unique(40)
    file = write(
        tmp_path / "mine.csv",
        {"sentence1": columns["text"], "sentence2": columns["text"], "label": columns["label"]},
    )
    batch = load(file, task_for(model)).train.batch([0])
    assert batch["input_ids"].shape == (1, 9)
    assert batch["token_type_ids"].sum() == 4


def test_columns_can_be_named(tmp_path: Path, model: Path) -> None:
    columns = unique(40)
    file = write(tmp_path / "mine.csv", {"words": columns["text"], "text": ["w0"] * 40, "y": columns["label"]})
    data = load(file, task_for(model, columns={"text": "words", "label": "y"}))
    assert len(rows(data.train)) == 32
    assert "labels" in data.train.batch([0])


def test_a_column_that_the_data_lacks_gets_the_nearest(tmp_path: Path, model: Path) -> None:
    file = write(tmp_path / "mine.csv", unique(40))
    with pytest.raises(UnknownNameError) as caught:
        _ = load(file, task_for(model, columns={"label": "labell"})).train
    assert caught.value.what == "there is no column 'labell'"
    assert caught.value.hint == "Did you mean 'label'? It was given for 'label' with --columns."


def test_a_kind_of_column_that_does_not_exist_gets_the_nearest(tmp_path: Path, model: Path) -> None:
    file = write(tmp_path / "mine.csv", unique(40))
    with pytest.raises(UnknownNameError) as caught:
        _ = load(file, task_for(model, columns={"lable": "label"})).train
    assert caught.value.what == "there is no kind of column 'lable'"
    assert caught.value.hint == "Did you mean 'label'?"


def test_data_without_the_first_column_is_an_error(tmp_path: Path, model: Path) -> None:
    file = write(tmp_path / "mine.csv", {"words": unique(40)["text"]})
    with pytest.raises(DataError) as caught:
        _ = load(file, task_for(model)).train
    assert caught.value.what == "the split 'train' has no column for 'text'"
    assert caught.value.why.startswith("columns: words; recognised: text, sentence, ")
    assert caught.value.hint == "Name it: --columns text=NAME."


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["positive", "negative"], [1, 0]), (["Positive", "NEGATIVE"], [1, 0]), ([1, 0], [1, 0]), (["1", "0"], [1, 0])],
)
def test_labels_are_names_or_numbers(tmp_path: Path, model: Path, labels: list[Any], expected: list[int]) -> None:
    write(tmp_path / "train.csv", unique(20) | {"label": labels * 10})
    write(tmp_path / "validation.csv", {"text": ["w0", "w1"], "label": labels})
    assert load(tmp_path, task_for(model)).evaluation.batch([0, 1])["labels"].tolist() == expected


def test_a_label_that_the_model_does_not_know_is_an_error(tmp_path: Path, model: Path) -> None:
    file = write(tmp_path / "mine.csv", unique(40) | {"label": ["neutral"] * 40})
    with pytest.raises(DataError) as caught:
        _ = load(file, task_for(model)).train
    assert caught.value.what == "the data has the label 'neutral', which the model does not know"


def test_a_row_without_text_is_named(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "train.csv", unique(20))
    write(tmp_path / "validation.csv", {"text": ["w0", "", "w1"], "label": [0, 1, 0]})
    with pytest.raises(DataError) as caught:
        _ = load(tmp_path, task_for(model)).evaluation
    assert caught.value.what == "row 1 of the split 'validation' has no text in the column for 'text'"
    assert caught.value.why == "it holds None"


@pytest.mark.parametrize("shape", [(20, 3), (20, 1), (20, 2, 2)])
def test_labels_of_another_shape_are_an_error(tmp_path: Path, model: Path, shape: tuple[int, ...]) -> None:
    for split in ("train", "validation"):
        np.savez(tmp_path / f"{split}.npz", text=np.array(unique(20)["text"]), label=np.zeros(shape, int))
    with pytest.raises(DataError) as caught:
        _ = load(tmp_path, task_for(model)).evaluation
    assert caught.value.id == "data.unknown-label"


def test_several_labels_may_be_an_array_of_ones_and_zeros(tmp_path: Path) -> None:
    task = task_for(save(build("bert", layers=1, problem_type="multi_label_classification"), tmp_path / "model"))
    labels = np.array([[1, 0], [0, 1], [0, 0], [1, 1]] * 5)
    for split in ("train", "validation"):
        np.savez(tmp_path / f"{split}.npz", text=np.array(unique(20)["text"]), label=labels)
    source = DataSource(location=str(tmp_path), kind="folder", digest="0" * 64)
    assert Data(source, task, 0).evaluation_labels == labels.tolist()


def without_values(kind: str) -> Any:
    """A column of arrow's for which Python has no values."""
    import pyarrow as pa

    if kind == "string":
        offsets = pa.py_buffer(np.arange(21, dtype=np.int32).tobytes())
        return pa.Array.from_buffers(pa.string(), 20, [None, offsets, pa.py_buffer(b"\xff" * 20)])
    return pa.array([2**30] * 20, pa.date32()) if kind == "date" else pa.array([2**62] * 20, pa.duration("s"))


@pytest.mark.parametrize("column", ["text", "label"])
@pytest.mark.parametrize("kind", ["string", "date", "duration"])
def test_a_column_that_says_what_is_not_so_is_an_error(tmp_path: Path, model: Path, column: str, kind: str) -> None:
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.parquet", unique(20) | {column: without_values(kind)})
    with pytest.raises(DataError, match=f"the column '{column}' of the data cannot be read") as caught:
        _ = load(tmp_path, task_for(model)).evaluation
    assert caught.value.id == "data.unreadable"


@pytest.mark.parametrize("column", ["input", "label"])
def test_a_first_row_that_says_what_is_not_so_is_an_error(tmp_path: Path, column: str) -> None:
    columns: dict[str, Any] = {"input": [[1.0]] * 20, "label": [0] * 20}
    source = resolve_data(write(tmp_path / "train.parquet", columns | {column: without_values("date")}))
    if column == "label":
        assert first_sample(source, {}).shape == (1,)  # which is not looked at
    else:
        with pytest.raises(DataError, match="the column 'input' of the data cannot be read"):
            first_sample(source, {})


def test_half_a_character_is_no_text(tmp_path: Path, model: Path) -> None:
    data = load(write(tmp_path / "train.csv", unique(20)), task_for(model))
    data.raw = {"train": Arrays({"text": np.full(20, "\ud800"), "label": np.zeros(20, int)})}  # JSON may hold it
    with pytest.raises(DataError, match=r"has no text in the column for 'text'\nit holds '\\ud800'"):
        _ = data.train


def test_a_card_may_have_numbers_for_the_names_of_classes(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "train.csv", unique(40))
    names = "    dtype:\n      class_label:\n        names: [0, 1]\n"
    (tmp_path / "README.md").write_text(card(text="string")[:-4] + f"  - name: label\n{names}---\n")
    assert set(load(tmp_path, task_for(model)).train.batch(range(30))["labels"].tolist()) == {0, 1}


def card(**kinds: str) -> str:
    """A card that says of what kind each column is."""
    columns = "".join(f"  - name: {name}\n    dtype: {kind}\n" for name, kind in kinds.items())
    return f"---\ndataset_info:\n  features:\n{columns}---\n"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What ``datasets`` decodes, and Pillow opens."""
    found: list[Any] = []
    for name in ("datasets.Image.decode_example", "datasets.Audio.decode_example", "PIL.Image.open"):
        monkeypatch.setattr(name, lambda *values, **_: found.append(values))
    return found


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
@pytest.mark.parametrize("place", ["{}/out.png", "https://example.com/x.png"])
@pytest.mark.parametrize(("column", "id_"), [("text", "data.unsuitable-sample"), ("label", "data.unknown-label")])
def test_no_column_has_a_file_opened(
    tmp_path: Path, model: Path, opened: list[Any], kind: str, place: str, column: str, id_: str
) -> None:
    write(tmp_path / "train.csv", unique(20) | {column: [place.format(tmp_path)] * 20})
    (tmp_path / "README.md").write_text(card(**({"text": "string", "label": "int64"} | {column: kind})))
    with pytest.raises(DataError) as caught:
        _ = load(tmp_path, task_for(model)).evaluation
    assert caught.value.id in (id_, "data.unreadable" if kind != "image" else id_)  # where nothing decodes such
    assert opened == []


def test_a_column_that_nobody_reads_may_hold_anything(tmp_path: Path, model: Path, opened: list[Any]) -> None:
    write(tmp_path / "train.csv", unique(40) | {"photo": ["/none.png"] * 40})
    (tmp_path / "README.md").write_text(card(text="string", label="int64", photo="image"))
    data = load(tmp_path, task_for(model))
    assert (len(data.train), opened) == (32, [])
    with pytest.raises(DataError, match="has no column that a module could read"):
        first_sample(data.source, {})
    assert opened == []


def test_images_in_lists_are_not_opened(tmp_path: Path, model: Path, opened: list[Any]) -> None:
    write(tmp_path / "train.parquet", unique(20) | {"text": [["/none.png"]] * 20})
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    list: image\n  - name: label\n    dtype: int64\n---\n"
    )
    with pytest.raises(DataError, match=r"no text in the column for 'text'\nit holds .*/none.png"):
        _ = load(tmp_path, task_for(model)).evaluation
    assert opened == []


@pytest.mark.parametrize("place", ["{}/out.png", "https://example.com/x.png"])
@pytest.mark.parametrize(
    ("kind", "id_"),
    [
        ("image", "data.elsewhere"),
        ("string", "data.elsewhere"),
        ("large_string", "data.elsewhere"),
        ("string_view", "data.unsuitable-sample"),
    ],
)
def test_an_image_elsewhere_is_an_error(
    tmp_path: Path, image_model: Path, opened: list[Any], place: str, kind: str, id_: str
) -> None:
    columns = {"image": [place.format(tmp_path)] * 20, "label": [0, 1] * 10}
    write(tmp_path / "data" / "train.csv", columns)
    (tmp_path / "data" / "README.md").write_text(card(image=kind, label="int64"))
    with pytest.raises(DataError) as caught:
        load(tmp_path / "data", task_for(image_model)).train.batch([0])
    assert (caught.value.id, opened) == (id_, [])


def test_a_json_text_is_no_path(tmp_path: Path, image_model: Path, opened: list[Any]) -> None:
    write(tmp_path / "train.jsonl", {"image": ["/none.png", {"a": 1}] * 10, "label": [0, 1] * 10})
    with pytest.raises(DataError):
        load(tmp_path, task_for(image_model)).train.batch([0])
    assert opened == []


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_split_is_found_by_name_or_role(tmp_path: Path, model: Path, name: str) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        write(tmp_path / f"{split}.csv", unique(20 + number, 100 * number))
    data = load(tmp_path, task_for(model))
    examples, _ = data.split(name)
    assert len(examples) == {"validation": 21, "test": 22}[name]
    with pytest.raises(UnknownNameError, match="there is no split 'tset'") as caught:
        data.split("tset")
    assert "Did you mean 'test'" in caught.value.hint
    assert data.split(None) == (data.evaluation, data.rule)


def test_too_few_rows_are_an_error(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DataError, match="the data has 2 training rows\nneeded: at least 3"):
        _ = load(write(tmp_path / "mine.csv", unique(2)), task_for(model)).train


def test_the_digest_is_of_the_contents(tmp_path: Path) -> None:
    file = write(tmp_path / "a" / "mine.csv", unique(4))
    copy = write(tmp_path / "b" / "mine.csv", unique(4))
    assert resolve_data(file).digest == resolve_data(copy).digest
    assert resolve_data(tmp_path / "a").digest == resolve_data(tmp_path / "b").digest
    write(copy, unique(5))
    assert resolve_data(file).digest != resolve_data(copy).digest
    (tmp_path / "a" / ".hidden").write_text("")
    assert resolve_data(tmp_path / "a").record == {"name": "a", "digest": resolve_data(tmp_path / "a").digest}


def test_the_digest_is_of_all_that_is_read_in_a_folder_and_of_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name},0\n")
    found = set()
    for name in "ab":
        settings = f"configs: [{{config_name: default, data_files: [{{split: train, path: {name}.csv}}]}}]"
        (tmp_path / ".huggingface.yaml").write_text(settings)
        source = resolve_data(tmp_path)
        found.add(source.digest)
        for hidden in (".git/index", ".hidden.npz"):
            (tmp_path / hidden).write_text(name)
        assert list(load_splits(source)["train"]["text"]) == [name]
    assert len(found) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own on Windows")
def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(tmp_path / "away" / "train.csv", unique(4))
    write(folder / "train" / "one.csv", unique(4))
    (folder / "train" / "linked.csv").symlink_to(tmp_path / "away" / "train.csv")
    (folder / ".cache").symlink_to(tmp_path / "away")
    before = resolve_data(folder)
    write(tmp_path / "away" / "train.csv", unique(5))
    assert resolve_data(folder).digest != before.digest
    (folder / "train" / "sub").symlink_to(tmp_path / "away")
    with pytest.raises(DataError, match="holds a link to a folder: 'train/sub'") as caught:
        resolve_data(folder)
    assert caught.value.id == "data.elsewhere"


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux")
def test_a_folder_may_hold_files_whose_names_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nw1,0\n")
    before = resolve_data(tmp_path).digest
    (tmp_path / "notes\udcff.csv").write_text("text,label\nw1,0\n")
    assert resolve_data(tmp_path).digest != before


def test_changed_data_are_read_again(tmp_path: Path, model: Path) -> None:
    file = write(tmp_path / "mine.csv", unique(40))
    assert len(load(file, task_for(model)).train) == 32
    write(file, unique(60))
    assert len(load(file, task_for(model)).train) == 49


def test_other_data_of_the_same_time_are_read_again(tmp_path: Path, model: Path) -> None:
    task = task_for(model)
    for place in (tmp_path / "mine.csv", tmp_path / "folder" / "train.csv"):
        given = place if place.parent == tmp_path else place.parent
        write(place, unique(40))
        os.utime(place, (1e9, 1e9))
        first = rows(load(given, task).train)
        write(place, unique(40, start=100))
        os.utime(place, (1e9, 1e9))
        assert not first & rows(load(given, task).train)


def test_data_that_change_while_they_are_read_are_an_error(tmp_path: Path, model: Path) -> None:
    file = write(tmp_path / "mine.csv", unique(40))
    source = resolve_data(file)
    write(file, unique(60))
    for _ in range(2):
        with pytest.raises(DataError, match="was changed while it was read"):
            Data(source, task_for(model), 0).train  # noqa: B018  # read when asked for
    assert len(load(file, task_for(model)).train) == 49


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError("4 GiB")])
def test_a_full_disk_is_no_fault_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def write_table(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("datasets.arrow_writer.ArrowWriter.write_table", write_table)
    with pytest.raises(type(error)) as caught:
        load_splits(resolve_data(write(tmp_path / "mine.csv", unique(40))))
    assert caught.value is error


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"the data folder '{tmp_path}' is empty"):
        resolve_data(tmp_path)


@pytest.mark.parametrize("name", ["mine.xlsx", "mine"])
def test_a_file_of_another_format_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=r"is no data file that edgekit reads\nallowed: \.csv, \.tsv, "):
        resolve_data(tmp_path / name)


@pytest.mark.parametrize("content", ["", "text,label\n", '{"text": "a"\n'])
def test_a_file_that_holds_nothing_to_read_is_an_error(tmp_path: Path, model: Path, content: str) -> None:
    file = tmp_path / ("mine.jsonl" if content.startswith("{") else "mine.csv")
    file.write_text(content)
    with pytest.raises(DataError, match=f"the data in {file.name!r} (cannot be read|has no rows)"):
        _ = load(file, task_for(model)).train


def test_a_missing_path_is_an_error() -> None:
    with pytest.raises(DataError, match=r"there is no file or folder './none'"):
        resolve_data("./none")


def test_a_hub_id_without_network_is_an_error_of_the_machine() -> None:
    with pytest.raises(HostError, match="'nobody-at-all/no-data' is no file or folder here"):
        resolve_data("nobody-at-all/no-data")


def test_a_record_holds_no_path(tmp_path: Path) -> None:
    source = DataSource(location=str(tmp_path / "mine"), kind="folder", digest="d")
    assert source.record == {"name": "mine", "digest": "d"}
