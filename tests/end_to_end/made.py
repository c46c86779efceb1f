"""Model folders, data files and a pretended device for runs from end to end."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tiny

import edgekit
from edgekit.formats.encoder import encoder_layers
from edgekit.formats.graphs import steps_of
from edgekit.profiles import Profiles
from edgekit.runtimes.measuring import Answer, Place, ProcessRun, Subject, Timing
from edgekit.source import sha256_file

FAMILIES = ("bert", "distilbert", "roberta", "vit", "deit")
WORKLOAD = edgekit.Workload(tokens=16)
# The whole default recipe in seconds. Random models lose on every split, which is no reason to try fall-backs.
SHORT = {
    "prune.samples": "64",
    "prune.layers": "1.0",
    "prune.ratio": "0.3",
    "distill.epochs": "1",
    "optimize.seconds": "0.2",
    "quantize.tolerance": "1.0",
}
# Enough for p90, which needs 64 samples.
QUICK = Timing(seconds=0.1, rounds=25)
# Heads that are dead in each layer, so that pruning leaves another number of heads in each.
DEAD_HEADS = (3, 1, 0)


def model_folder(family: str, folder: Path, **changes: Any) -> Path:
    """A random classifier of a family, some of its heads dead, with what feeds it."""
    if family == "roberta":
        changes = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1} | changes
    model = tiny.build(family, **changes)
    kill_heads(model)
    tiny.save(model, folder)
    if family == "roberta":
        save_roberta_tokenizer(folder)
    return folder


def kill_heads(model: Any) -> None:
    """Nothing reads the first heads of each layer."""
    import torch

    with torch.no_grad():
        for layer, dead in zip(encoder_layers(model), DEAD_HEADS, strict=False):
            layer.o.weight[:, : dead * layer.head_width] = 0


def save_roberta_tokenizer(folder: Path) -> None:
    """A byte-level BPE without merges, framed as RoBERTa does it: its 57 letters and marks are the vocabulary."""
    from transformers import AutoTokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789", "Ġ", *".,!?'-:;()_/+*=&"]
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {token: index for index, token in enumerate([*specials, *letters, "<mask>"])}
    names = ["input_ids", "attention_mask"]
    settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 32, "model_input_names": names}
    for file in ("tokenizer.json", "special_tokens_map.json"):  # what `tiny` saved
        (folder / file).unlink(missing_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)


def write_csv(file: Path, columns: Mapping[str, Iterable[Any]]) -> Path:
    """Rows under named columns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return file


def text_data(folder: Path, rows: int = 160) -> Path:
    """``data.csv`` with text and label."""
    return write_csv(folder / "data.csv", tiny.labelled(rows))


def image_folder(folder: Path, rows: int = 160) -> Path:
    """Grey images of 8 x 8 pixels as ``train/CLASS/N.png``."""
    made = tiny.images(rows)
    for number, (image, label) in enumerate(zip(made["image"], made["label"], strict=True)):
        file = folder / "train" / str(label) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
    return folder


def image_parquet(folder: Path, rows: int = 160) -> Path:
    """The same images as ``train.parquet`` and ``validation.parquet``."""
    from datasets import ClassLabel, Dataset, Features, Image

    features = Features({"image": Image(), "label": ClassLabel(names=["0", "1"])})
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, count) in enumerate((("train", rows), ("validation", rows // 4))):
        Dataset.from_dict(tiny.images(count, seed=seed), features=features).to_parquet(folder / f"{name}.parquet")
    return folder


def data_for(family: str, folder: Path) -> Path:
    """Data that a family takes: csv, image folder or parquet."""
    return {"vit": image_parquet, "deit": image_folder}.get(family, text_data)(folder)


def raw_input(family: str, folder: Path) -> str:
    """Something that a user would give to ``predict``."""
    if family not in tiny.IMAGE:
        return tiny.sentences(1, seed=9)[0]
    file = folder / "input.png"
    tiny.images(1, seed=9)["image"][0].save(file)
    return str(file)


def pretend_device(patch: pytest.MonkeyPatch, slow: Mapping[str, float] | None = None) -> None:
    """Pretend a device on which a graph takes 1 ms for 10 kB and 0.05 ms for a node.

    Args:
        patch: undoes it.
        slow: factors on the latency of graphs in which an operator of this kind occurs.
    """

    def latency_ms(graph: Path) -> float:
        kinds = [kind.rpartition(".")[2] for kind, _ in steps_of(graph)]
        factor = max([value for kind, value in (slow or {}).items() if kind in kinds], default=1.0)
        return (graph.stat().st_size / 1e4 + len(kinds) * 0.05) * factor

    def time_subjects(subjects: Mapping[str, Subject], place: Place, timing: Timing) -> Answer:
        assert place.threads == 1
        blocks = {name: [[latency_ms(subject.graph)] * 3] * 25 for name, subject in subjects.items()}
        return Answer(load_ms=1.0, peak_memory_bytes=1, blocks_ms=blocks)

    def run_processes(
        subjects: Mapping[str, Subject], place: Place, runs: Sequence[ProcessRun], *, seconds: float, fewest: int
    ) -> tuple[Answer, ...]:
        assert len(runs) == fewest
        return tuple(time_subjects(subjects, place, Timing(seconds=seconds)) for _ in runs)

    def peak_memory(subject: Subject, place: Place) -> Answer:
        return Answer(load_ms=1.0, peak_memory_bytes=50_000_000 + subject.graph.stat().st_size)

    patch.setattr("edgekit.measure.latency.time_subjects", time_subjects)
    patch.setattr("edgekit.measure.latency.run_processes", run_processes)
    patch.setattr("edgekit.measure.latency.peak_memory", peak_memory)


def no_profile(*_: object) -> Profiles:
    """In place of `profile_sides`, which takes seconds."""
    return Profiles(because="not profiled in these tests")


def events(cache: Path) -> list[dict[str, Any]]:
    """Every event in the logs of a cache's runs, in order."""
    lines = [line for file in sorted((cache / "runs").glob("*/events.jsonl")) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def row(report: edgekit.Report, stage: str) -> Any:
    """The ledger's only row of a stage."""
    (found,) = [row for row in report.ledger if row.stage == stage]
    return found


def check_kept(report: edgekit.Report) -> None:
    """No stage was undone."""
    assert all(entry.kept for entry in report.ledger), [(entry.stage, entry.reason) for entry in report.ledger]


def check_answers_alike(module: Any, graph: Path, batch: Mapping[str, Any]) -> None:
    """A graph answers a batch of arrays as the module in torch does."""
    import torch

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    fed = {tensor.name: batch[tensor.name] for tensor in session.get_inputs()}
    with torch.no_grad():
        answered = module(**{name: torch.from_numpy(values) for name, values in fed.items()}).logits.numpy()
    np.testing.assert_allclose(session.run(["logits"], fed)[0], answered, atol=1e-4)


def check_lock_repeats(
    made: edgekit.Report, model: Path, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of a run gives the same bytes where nothing is cached."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(folder / "other-cache"))
    lock = made.artifact.path / "recipe.lock.toml"
    again = edgekit.compress(model, data=data, target="x86-64-vnni", recipe=lock, jobs=1, output=folder / "again")
    assert not again.cached
    for name in ("model.onnx", "manifest.json"):
        assert sha256_file(folder / "again" / name) == sha256_file(made.artifact.path / name)
