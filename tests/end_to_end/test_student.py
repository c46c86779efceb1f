"""A student of one's own, taught by the original in place of a pruned copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from end_to_end.made import SHORT, WORKLOAD, text_data

import edgekit
from edgekit.distillation.trainer import Lesson
from edgekit.errors import UsageError
from edgekit.formats.encoder import encoder_layers
from edgekit.stages import distill


def config_of(folder: Path, **changes: int) -> Path:
    """The configuration of a BERT of one layer."""
    tiny.build("bert", layers=1, **changes).config.save_pretrained(folder)
    return folder / "config.json"


@pytest.mark.usefixtures("device")
def test_a_taught_student_becomes_the_artifact_and_names_its_teacher(tmp_path: Path) -> None:
    folder = tiny.save(tiny.build("bert", layers=4), tmp_path / "teacher")
    report = edgekit.compress(
        folder,
        data=text_data(tmp_path, 120),
        target="x86-64-vnni",
        student=config_of(tmp_path / "config"),
        settings={name: value for name, value in SHORT.items() if not name.startswith("prune")},
        workload=WORKLOAD,
        jobs=1,
        max_drop=1.0,
        keep_stages=True,
        output=tmp_path / "out",
    )
    rows = {row.stage: row for row in report.ledger}
    assert rows["distill"].kept
    assert rows["distill"].size_bytes < rows["original"].size_bytes
    manifest = report.artifact.manifest
    assert manifest.stages[0].stage == "distill"
    assert manifest.teacher is not None
    assert manifest.teacher["name"] == "teacher"
    assert manifest.source["digest"] != manifest.teacher["digest"]
    taught = next(stage for stage in report.stages if stage.stage == "distill")
    assert taught.details["not_compared"] == []  # of the teacher's width, so that hidden states are compared
    edgekit.verify(tmp_path / "out")


@pytest.mark.usefixtures("device")
def test_a_student_with_a_tokenizer_file_of_its_own_is_taught_by_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tiny.save(tiny.build("bert", layers=4), tmp_path / "teacher")
    student = tiny.save(tiny.build("bert", layers=1), tmp_path / "student")
    (teacher / "tokenizer.json").unlink()  # the words are the same, in the file of older models
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *tiny.WORDS]
    (teacher / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 32, "do_lower_case": False}
    (teacher / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    layers: list[int] = []

    def begin(lesson: Lesson, *_: Any, **__: Any) -> None:
        layers.extend(len(encoder_layers(model)) for model in (lesson.teacher, lesson.student))
        raise KeyboardInterrupt

    monkeypatch.setattr(distill, "train", begin)
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(
            teacher,
            data=text_data(tmp_path, 120),
            target="x86-64-vnni",
            student=student,
            workload=WORKLOAD,
            jobs=1,
            output=tmp_path / "out",
        )
    assert layers == [4, 1]


def test_a_student_needs_data_and_a_recipe_that_teaches(tmp_path: Path) -> None:
    folder = tiny.save(tiny.build("bert"), tmp_path / "teacher")
    with pytest.raises(UsageError, match="taught on data"):
        edgekit.plan(folder, student=config_of(tmp_path / "config"), target="x86-64-vnni")
    with pytest.raises(UsageError, match="does not distill"):
        edgekit.plan(
            folder, data=text_data(tmp_path), student=config_of(tmp_path / "config"), target="arm64", recipe="quantize"
        )


def test_a_student_has_a_place_for_every_token_that_its_teacher_is_given(tmp_path: Path) -> None:
    folder = tiny.save(tiny.build("bert"), tmp_path / "teacher")
    data, student = text_data(tmp_path), config_of(tmp_path / "config", max_position_embeddings=20)
    with pytest.raises(UsageError, match="the student takes texts of up to 20 tokens") as refused:
        edgekit.plan(folder, data=data, student=student, target="arm64")
    assert refused.value.why == "its teacher, as which it is fed, takes 32"
    assert "--max-length 20" in refused.value.hint
    assert edgekit.plan(folder, data=data, student=student, target="arm64", max_length=20).steps
