from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import tiny

from edgekit import students
from edgekit.description import Sample, read_description
from edgekit.errors import ModelError, UsageError
from edgekit.formats.encoder import evenly
from edgekit.models import ResolvedModel, resolve_model
from edgekit.modules import resolve_module
from edgekit.source import resolve_source
from edgekit.students import resolve_student, take_over


def teacher(folder: Path, family: str = "bert", **changes: Any) -> ResolvedModel:
    return resolve_model(str(tiny.save(tiny.build(family, layers=4, **changes), folder)), {})


def config(folder: Path, family: str = "bert", **changes: Any) -> Path:
    """A configuration alone, of one layer unless said otherwise."""
    model = tiny.build(family, **({"layers": 1} | changes))
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    return folder / "config.json"


@pytest.mark.parametrize(
    ("layers", "originals", "expected"),
    [(2, 6, (3, 6)), (3, 6, (2, 4, 6)), (1, 4, (4,)), (4, 4, (1, 2, 3, 4)), (2, 3, (2, 3))],
)
def test_layers_stand_for_originals_evenly_and_the_last_for_the_last(
    layers: int, originals: int, expected: tuple[int, ...]
) -> None:
    assert evenly(layers, originals) == expected


def test_what_fits_is_taken_over_and_what_does_not_is_left(torch_alone: Any) -> None:
    torch = torch_alone
    original, student = tiny.build("bert", layers=4), tiny.build("bert", layers=2, seed=5, intermediate_size=16)
    before = student.bert.encoder.layer[0].intermediate.dense.weight.clone()
    copied = take_over(student, original)
    mine, theirs = student.bert, original.bert
    assert torch.equal(mine.embeddings.word_embeddings.weight, theirs.embeddings.word_embeddings.weight)
    assert torch.equal(student.classifier.weight, original.classifier.weight)
    for place, stands_for in ((0, 1), (1, 3)):
        taken = mine.encoder.layer[place].attention.self.query.weight
        assert torch.equal(taken, theirs.encoder.layer[stands_for].attention.self.query.weight)
    assert torch.equal(mine.encoder.layer[0].intermediate.dense.weight, before)  # 16 neurons, and the teacher has 64
    # embeddings 5, pooler 2, classifier 2; a layer has 16, of which the wide block's 3 do not fit
    assert copied == 9 + 2 * 13


def test_vocabularies_in_different_files_are_compared(tmp_path: Path) -> None:
    original = teacher(tmp_path / "teacher")
    own = tiny.save(tiny.build("bert", layers=1), tmp_path / "own")
    (own / "tokenizer.json").unlink()
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 32, "do_lower_case": False}
    (own / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *tiny.WORDS]
    (own / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    assert resolve_student(own, original, 0).source.path == str(own)
    (own / "vocab.txt").write_text("\n".join(reversed(words)) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="read texts differently: their vocabularies differ"):
        resolve_student(own, original, 0)


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_configuration_becomes_a_student_with_the_teachers_classes_and_tokenizer(
    tmp_path: Path, as_folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = teacher(tmp_path / "teacher", labels=3)
    file = config(tmp_path / "config", labels=2)
    found = resolve_student(file.parent if as_folder else file, original, seed=0)
    place = Path(found.source.path)
    assert found.task == "text-classification"
    assert found.source.architecture == "BertForSequenceClassification"
    written = json.loads((place / "config.json").read_text())
    assert (written["num_hidden_layers"], len(written["id2label"])) == (1, 3)
    assert (place / "tokenizer.json").read_bytes() == (tmp_path / "teacher" / "tokenizer.json").read_bytes()
    again = resolve_student(file, original, seed=0)
    assert again.source.digest == found.source.digest
    assert resolve_student(file, original, seed=1).source.path != found.source.path
    for name, value in (("code_digest", "6" * 64), ("versions", {"torch": "9"}), ("numeric_level", "other")):
        with monkeypatch.context() as patch:
            patch.setattr(students, name, lambda value=value: value)
            assert resolve_student(file, original, seed=0).source.path != found.source.path


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    original = teacher(tmp_path / "teacher")
    with pytest.raises(UsageError, match="vocab_size is 61") as caught:
        resolve_student(config(tmp_path / "config", vocab_size=61), original, seed=0)
    assert "the teacher's is 60" in caught.value.why


def test_a_student_with_weights_needs_the_teachers_tokenizer_and_classes(tmp_path: Path) -> None:
    original = teacher(tmp_path / "teacher")
    folder = tiny.save(tiny.build("bert", layers=1), tmp_path / "student")
    assert resolve_student(folder, original, seed=0).source.path == resolve_source(folder).path
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"w7"', '"w77"'))
    with pytest.raises(UsageError, match=r"their tokenizer\.json differ"):
        resolve_student(folder, original, seed=0)
    other = tiny.save(tiny.build("bert", layers=1, labels=3), tmp_path / "other")
    with pytest.raises(UsageError, match="has 3 classes"):
        resolve_student(other, original, seed=0)


def test_a_student_with_weights_needs_the_teachers_classes_in_their_order(tmp_path: Path) -> None:
    """It is taught and scored by the teacher's numbers, and the artifact names them as the student's folder does."""

    def named(folder: Path, *names: str) -> Path:
        model = tiny.build("bert", layers=1)
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: index for index, name in enumerate(names)}
        return tiny.save(model, folder)

    original = resolve_model(str(named(tmp_path / "teacher", "bad", "good")), {})
    with pytest.raises(UsageError, match="the student's classes are good, bad") as refused:
        resolve_student(named(tmp_path / "other", "good", "bad"), original, seed=0)
    assert refused.value.why.endswith("by their numbers: bad, good")
    for index, names in enumerate((("BAD", "Good"), ("LABEL_0", "LABEL_1"))):
        folder = named(tmp_path / str(index), *names)
        assert resolve_student(folder, original, seed=0).source.path == resolve_source(folder).path


def test_a_student_with_weights_needs_the_teachers_pixels(tmp_path: Path) -> None:
    """It is taught by what the teacher is fed, and the artifact is fed by the student's own image processor."""
    original = teacher(tmp_path / "teacher", "vit")
    folder = tiny.save(tiny.build("vit", layers=1), tmp_path / "student")
    assert resolve_student(folder, original, seed=0).source.path == resolve_source(folder).path
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_mean": [0.25]}))
    with pytest.raises(UsageError, match=r"reads images as 1x8x8, mean 63\.75, std 127\.5") as refused:
        resolve_student(folder, original, seed=0)
    assert refused.value.why.endswith("as 1x8x8, mean 127.5, std 127.5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no configuration"),
        ("{}", "is no configuration of a model"),
        ("[]", "of a model"),
        ('{"model_type": 5}', "of a model"),
        ("[" * 100_000, "is no configuration"),
    ],
)
def test_a_broken_configuration_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        resolve_student(tmp_path / "config.json", teacher(tmp_path / "teacher"), seed=0)


@pytest.mark.parametrize("named", [{"a": 1}, [5], None, "BertModel"])
def test_the_class_of_a_configuration_is_the_tasks_whatever_it_names(tmp_path: Path, named: object) -> None:
    file = config(tmp_path / "config")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": named}))
    found = resolve_student(file, teacher(tmp_path / "teacher"), seed=0)
    assert found.source.architecture == "BertForSequenceClassification"


def test_a_student_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(files: list[Path], destination: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    original, file = teacher(tmp_path / "teacher"), config(tmp_path / "config")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(students, "copy_files", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        resolve_student(file, original, seed=0)
    assert not any((tmp_path / "cache" / "tmp").iterdir())


CODE = """
from torch import nn

def make(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 3))

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = make(width)

    def forward(self, images):
        return self.layers(images)

def large():
    return Net(32)

def small():
    return Net(4)

def other():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
"""


def test_a_student_given_as_code_is_fed_and_read_as_its_teacher_is(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "pixels.toml").write_text(
        'schema = "edgekit.pixels/1"\nscale = 0.5\nresample = "nearest"\nshorter = 3\n'
    )
    sample = Sample((3, 2, 2), "float32", ("cat", "dog", "owl"))
    found, build = resolve_module(f"{tmp_path}/net.py:large", {"preprocess": tmp_path / "pixels.toml"}, sample)
    original = ResolvedModel(found, "image-classification", build)
    student = resolve_student(f"{tmp_path}/net.py:small", original, seed=0)
    mine, theirs = (read_description(Path(model.source.path)) for model in (student, original))
    assert mine.labels == ("cat", "dog", "owl")
    assert mine.pixels is not None
    assert (mine.pixels.scale, mine.pixels.resample, mine.pixels.shorter) == (0.5, "nearest", 3)
    assert mine == theirs.model_copy(update={"entry": "net.py:small"})
    assert student.source.size_bytes < original.source.size_bytes
    with pytest.raises(UsageError, match=r"gives \[2\] for a sample"):
        resolve_student(f"{tmp_path}/net.py:other", original, seed=0)


def test_code_does_not_go_with_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a teacher given as code"):
        resolve_student("student.py:make", teacher(tmp_path / "teacher"), seed=0)
