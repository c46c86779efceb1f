"""The task tensors: arrays by the names of a graph's inputs, states, steps, and answers that are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
from graphs import random_array

from edgekit.errors import DataError, ModelError, UsageError
from edgekit.formats.foreign import graph_artifact, resolve_graph
from edgekit.measure.quality import Outputs, compare
from edgekit.runtimes import open_runner
from edgekit.runtimes.ort import RecordingRunner
from edgekit.tasks.base import TaskOptions, Workload
from edgekit.tasks.data import Data
from edgekit.tasks.data_source import resolve_data
from edgekit.tasks.tensors import Tensors


def bound(file: Path, **options: Any) -> tuple[Tensors, RecordingRunner]:
    """The task and a runner of the graph."""
    source = resolve_graph(file, {}, None, images=False)
    task = Tensors(Path(source.path), TaskOptions(**options))
    return task, RecordingRunner(open_runner(graph_artifact(source, "tensors")))


def rows(count: int = 5) -> dict[str, Any]:
    return {name: random_array(count, 48, seed=seed) for seed, name in enumerate(("left", "right"))}


def test_every_output_stands_side_by_side(tmp_path: Path) -> None:
    task, runner = bound(foreign.two_and_two(tmp_path / "net.onnx"))
    batch = task.encode(rows()).batch([1, 3])
    assert {name: values.shape for name, values in batch.items()} == {"left": (2, 48), "right": (2, 48)}
    found = task.forward(runner, batch)
    assert found.shape == (2, 96)
    turned = runner.gave["model"][0]
    assert np.array_equal(found[:, :48], turned["wide"][:, 0])
    assert np.array_equal(found[:, 48:], turned["product"])
    assert list(task.columns) == ["left", "right", "label"]
    assert list(task.metrics) == ["closeness"]


def test_a_state_goes_round_over_the_steps_of_a_sample(tmp_path: Path) -> None:
    task, runner = bound(foreign.recurrent(tmp_path / "net.onnx"))
    data = {"sound": random_array(3, 4, 16), "sr": [16000, 16000, 16000]}
    found = task.forward(runner, task.encode(data).batch([0, 2]))
    assert found.shape == (2, 4)
    fed, gave = runner.fed["model"], runner.gave["model"]
    assert len(fed) == 4
    assert not fed[0]["state"].any()
    assert fed[0]["state"].shape == (2, 48)
    assert np.array_equal(fed[2]["state"], gave[1]["stateN"])
    assert np.array_equal(fed[3]["sound"], data["sound"][[0, 2], 3])
    assert (fed[0]["sr"].shape, int(fed[0]["sr"])) == ((), 16000)
    alone = task.forward(runner, task.encode(data).batch([2]))
    np.testing.assert_allclose(alone[0], found[1], rtol=1e-5)
    once = task.forward(runner, task.encode({"sound": random_array(3, 16), "sr": data["sr"]}).batch([0]))
    assert once.shape == (1, 1)


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    free, runner = bound(foreign.conv_net(tmp_path / "free.onnx"))
    fixed, four = bound(foreign.conv_net(tmp_path / "fixed.onnx", batch=4))
    data = {"pixels": random_array(6, 3, 12, 12)}
    expected = free.forward(runner, free.encode(data).batch(range(6)))
    np.testing.assert_allclose(fixed.forward(four, fixed.encode(data).batch(range(6))), expected, rtol=1e-4, atol=1e-5)
    assert [len(feeds["pixels"]) for feeds in four.fed["model"]] == [4, 4]
    assert fixed.workload_feeds(Workload(batch=4))["model"]["pixels"].shape == (4, 3, 12, 12)
    with pytest.raises(UsageError, match=r"--batch 1 is not the model's\nthe graph takes 4 samples at once"):
        fixed.workload_feeds(Workload())


def test_answers_are_compared_by_agreement_or_by_closeness(tmp_path: Path) -> None:
    task, _ = bound(foreign.conv_net(tmp_path / "net.onnx"))
    before = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    after = before.copy()
    after[4] = before[1]
    mine, theirs = Outputs(after, None), Outputs(before, None)
    assert compare(theirs, mine, task, split="x", looks=0) is None
    found = compare(theirs.beside(theirs), mine.beside(theirs), task, split="x", looks=1)
    assert found is not None
    assert (found.metric, found.before, found.against, found.flips, found.n) == ("agreement", 1.0, "original", 1, 5)
    assert (found.after, found.drop) == (pytest.approx(0.8), pytest.approx(0.2))
    assert found.largest_difference == 1.0
    assert found.no_classes_because.startswith("the data has no labels")
    labelled = np.array([0, 1, 2, 3, 0])
    scored = compare(Outputs(before, labelled), Outputs(after, labelled), task, split="x", looks=1)
    assert scored is not None
    assert (scored.metric, scored.against, scored.after) == ("accuracy", "labels", pytest.approx(0.8))
    none = compare(
        theirs.beside(theirs), Outputs(np.full_like(before, np.nan), None).beside(theirs), task, split="x", looks=1
    )
    assert none is not None
    assert (none.after, none.largest_difference) == (0.0, None)


def test_closeness_weighs_every_output_alike(tmp_path: Path) -> None:
    task, _ = bound(foreign.two_and_two(tmp_path / "net.onnx"))
    original = np.concatenate([np.full((3, 48), 1000.0), np.ones((3, 48))], axis=1)
    result = original.copy()
    result[:, 48:] *= 1.1  # a tenth of the second output, nothing of the first
    assert task.score(result, original) == pytest.approx(0.95)
    assert task.score(-100 * original, original) == 0.0  # no error counts more than wholly
    assert task.score(np.full_like(original, np.nan), original) == 0.0


def test_the_interval_of_closeness_is_of_what_each_sample_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = bound(foreign.two_and_two(tmp_path / "net.onnx"))
    original = random_array(40, 96)
    result = original + random_array(40, 96, seed=1) * np.linspace(0, 0.5, 40, dtype=np.float32)[:, None]
    sides = Outputs(original, original, "original"), Outputs(result, original, "original")
    found = task.sample_scores(result, original)
    assert found is not None
    assert found.shape == (40,)
    assert found.mean() == pytest.approx(task.score(result, original))
    quick = compare(*sides, task, split="x", looks=0)
    scored: list[int] = []
    monkeypatch.setattr(Tensors, "sample_scores", lambda *_: scored.append(0))
    slow = compare(*sides, task, split="x", looks=0)
    assert quick is not None
    assert slow is not None
    assert scored == [0, 0]
    assert 0 < quick.drop_low < quick.drop < quick.drop_high
    assert (quick.drop_low, quick.drop_high) == pytest.approx((slow.drop_low, slow.drop_high))


def test_other_metrics_are_resampled_as_they_are(tmp_path: Path) -> None:
    task, _ = bound(foreign.conv_net(tmp_path / "net.onnx"))
    assert task.sample_scores(random_array(3, 4), random_array(3, 4)) is None


def test_a_metric_that_these_data_cannot_have_is_refused(tmp_path: Path) -> None:
    task, _ = bound(foreign.conv_net(tmp_path / "net.onnx"), metric="accuracy")
    with pytest.raises(UsageError, match="there is no metric of these data 'accuracy'"):
        task.metric_for(np.zeros((3, 4)))


def test_answers_are_read_as_classes_or_as_numbers(tmp_path: Path) -> None:
    task, runner = bound(foreign.conv_net(tmp_path / "net.onnx", softmax=True))
    (found,) = task.interpret(task.forward(runner, task.encode({"pixels": random_array(1, 3, 12, 12)}).batch([0])))
    assert sum(score for _, score in found) == pytest.approx(1.0)
    assert {label for label, _ in found} == {f"LABEL_{index}" for index in range(4)}
    pair, _ = bound(foreign.two_and_two(tmp_path / "pair.onnx"))
    (numbers,) = pair.interpret(np.arange(96.0)[None])
    assert (numbers[0], numbers[48], len(numbers)) == (("wide[0]", 0.0), ("product[0]", 48.0), 96)


def test_one_input_is_read_from_json_or_from_a_file(tmp_path: Path) -> None:
    task, _ = bound(foreign.two_and_two(tmp_path / "net.onnx"))
    assert task.read_input(json.dumps({"left": [1], "right": [2]})) == {"left": [1], "right": [2]}
    np.savez(tmp_path / "one.npz", **rows(2))
    assert task.read_input(str(tmp_path / "one.npz"))["left"].shape == (48,)
    with pytest.raises(DataError, match=r"there is no file 'nowhere\.npz'"):
        task.read_input("nowhere.npz")
    with pytest.raises(DataError, match=r"is neither a \.npz file nor JSON") as caught:
        task.read_input("left")
    assert '{"left": [...]}' in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "says", "why"),
    [
        ({"left": random_array(5, 47)}, "row 0 of the column 'left' has the shape [47]", "a sample of it is [48]"),
        ({"left": np.full((5, 48), "x")}, "row 0 of the column 'left' has the type <U1", "the graph takes float32"),
        ({"left": [[1.0], [1.0, 2.0]] * 3}, "row 0 of the column 'left' has the shape [1]", "a sample of it is [48]"),
    ],
)
def test_unsuitable_samples_are_told(changes: Any, says: str, why: str, tmp_path: Path) -> None:
    task, _ = bound(foreign.two_and_two(tmp_path / "net.onnx"))
    with pytest.raises(DataError) as caught:
        task.encode(rows() | changes).batch([0])
    assert (caught.value.what, caught.value.why) == (says, why)


def test_lists_of_several_lengths_have_no_size(tmp_path: Path) -> None:
    task, _ = bound(foreign.two_and_two(tmp_path / "net.onnx"))
    examples = task.encode(rows() | {"left": [[[1.0], [2.0, 3.0]]] * 5})
    with pytest.raises(DataError, match="is no array of one shape"):
        examples.length(0)


def test_fractions_are_no_whole_numbers(tmp_path: Path) -> None:
    task, _ = bound(foreign.recurrent(tmp_path / "net.onnx"))
    with pytest.raises(DataError, match="row 0 of the column 'sr' has fractions"):
        task.encode({"sound": random_array(1, 16), "sr": [0.5]}).batch([0])
    with pytest.raises(DataError, match="the data has no column for the input 'sr'"):
        task.encode({"sound": random_array(1, 16)})
    examples = task.encode({"sound": random_array(2, 16), "sr": [8000, 16000]})
    with pytest.raises(DataError, match="samples that differ in 'sr' cannot share a batch"):
        examples.batch([0, 1])


def test_labels_are_for_scores_of_classes(tmp_path: Path) -> None:
    task, _ = bound(foreign.two_and_two(tmp_path / "net.onnx"))
    with pytest.raises(DataError, match="the graph's first output is no scores of classes"):
        task.read_label(1, None)


def test_unlabelled_splits_are_used_by_their_names(tmp_path: Path) -> None:
    task, _ = bound(foreign.two_and_two(tmp_path / "net.onnx"))
    (tmp_path / "data").mkdir()
    for name, count in (("train", 20), ("validation", 6)):
        np.savez(tmp_path / "data" / f"{name}.npz", **rows(count))
    data = Data(resolve_data(tmp_path / "data"), task, 0)
    assert (data.rule, len(data.evaluation), len(data.train), len(data.selection)) == ("validation", 6, 18, 2)
    single = Data(resolve_data(tmp_path / "data" / "train.npz"), task, 0)
    assert (single.rule, len(single.evaluation)) == ("a tenth of train (seed 0)", 2)


def test_parquet_columns_do_as_well(tmp_path: Path) -> None:
    from datasets import Dataset

    columns = {name: values.tolist() for name, values in rows(20).items()}
    Dataset.from_dict(columns | {"LEFT2": [0] * 20}).to_parquet(tmp_path / "train.parquet")
    task, runner = bound(foreign.two_and_two(tmp_path / "net.onnx"))
    batch = Data(resolve_data(tmp_path / "train.parquet"), task, 0).train.batch([0])
    assert batch["left"].dtype == np.float32
    assert task.forward(runner, batch).shape == (1, 96)


def test_a_folder_without_a_graph_is_not_for_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        Tensors(tmp_path, TaskOptions())
