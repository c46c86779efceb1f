from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ModelError
from edgekit.formats.flatbuffer import load_model
from edgekit.formats.tflite_metadata import BUFFER, Metadata, add_metadata, associated_files
from edgekit.runtimes.litert import open_graph

METADATA = Metadata(
    name="clothes",
    labels=("a", "b", "c", "d", "e"),
    mean=(127.5, 127.5, 127.5),
    std=(64.0, 64.0, 64.0),
    preprocessing={"kind": "image"},
    licence="Apache-2.0",
)


@pytest.fixture
def file(tflites: Any, tmp_path: Path) -> Path:
    return Path(shutil.copy(tflites["Plain"].file, tmp_path / "model.tflite"))


def test_labels_preprocessing_and_licence_are_files_of_a_zip(file: Path) -> None:
    add_metadata(file, METADATA)
    assert associated_files(file) == {
        "LICENSE.txt": b"Apache-2.0\n",
        "labels.txt": b"a\nb\nc\nd\ne\n",
        "preprocessing.json": b'{\n  "kind": "image"\n}\n',
    }


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs unzip")
def test_unzip_reads_it_without_a_warning(file: Path) -> None:
    add_metadata(file, METADATA)
    done = subprocess.run(
        ["unzip", "-p", str(file), "labels.txt"], capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\nb\nc\nd\ne\n", "")


def test_model_answers_as_before(file: Path, tflites: Any) -> None:
    made = tflites["Plain"]
    add_metadata(file, METADATA)
    feeds = made.batches(1, 1)[0]
    assert (
        open_graph(file, made.component, 1).run(feeds)["logits"]
        == open_graph(made.file, made.component, 1).run(feeds)["logits"]
    ).all()


def test_metadata_are_written_once_and_the_same(file: Path) -> None:
    add_metadata(file, METADATA)
    first = file.read_bytes()
    add_metadata(file, METADATA)
    assert file.read_bytes() == first
    start, length = load_model(file).metadata[BUFFER]
    described = first[start : start + length]
    assert described[4:8] == b"M001"
    for text in (b"clothes", b"images", b"logits", b"labels.txt", b"Apache-2.0", b"1.0.0"):
        assert text in described


def test_a_model_without_metadata_has_no_zip(file: Path) -> None:
    assert associated_files(file) == {}


def test_labels_that_are_not_the_classes_are_refused(file: Path) -> None:
    with pytest.raises(ModelError) as caught:
        add_metadata(file, Metadata(name="clothes", labels=("a", "b")))
    assert caught.value.what == "2 labels were given for 'model.tflite'"
    assert caught.value.why == "its first output has 5 classes"
