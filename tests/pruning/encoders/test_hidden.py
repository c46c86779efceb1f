from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from pruning.encoders.aims import aim_for
from pruning.encoders.test_table import SCOPE, table
from tiny import HEADS, HIDDEN, LAYERS, NEURONS

from edgekit.errors import DataError, UsageError
from edgekit.formats.encoder import stream_width
from edgekit.formats.stream import cut_stream, stream_of
from edgekit.formats.surgery import replay, whole_plan
from edgekit.pruning import Aim, Importance, Measured
from edgekit.pruning.encoders import geometry_of, prune_encoder
from edgekit.pruning.encoders.cost import CostModel
from edgekit.pruning.encoders.hidden import columns_left, most_important_columns, score_columns
from edgekit.pruning.encoders.table import CostTable, HiddenCosts
from edgekit.tasks.base import Task

HALF = HIDDEN // 2
FAMILIES = ("bert", "distilbert", "vit")


@pytest.fixture(params=FAMILIES)
def task(request: Any, tmp_path: Path, torch_alone: Any) -> Task:
    """A model in which the second half of the stream repeats the first, and nothing reads it."""
    model = tiny.build(request.param)
    tiny.repeat_half(model)
    return tiny.task_for(tiny.save(model, tmp_path / "model"))


def aim(task: Task, **changes: Any) -> Aim:
    return aim_for(task, **({"hidden": 0.5} | changes))


@pytest.mark.parametrize("kind", ["taylor", "fisher", "magnitude", "weights"])
def test_columns_that_nothing_reads_matter_least(task: Task, kind: Importance) -> None:
    model = task.load_model()
    scores = score_columns(model, kind, task, tiny.batches(task, 16))
    assert scores.shape == (HIDDEN,)
    assert scores[HALF:].tolist() == [0.0] * HALF
    assert scores[:HALF].min() > 0
    assert most_important_columns(scores, HALF) == tuple(range(HALF))


def test_without_samples_magnitude_is_that_of_the_weights(bert: Task) -> None:
    model = bert.load_model()
    found = score_columns(model, "magnitude", bert, [])
    np.testing.assert_array_equal(found, score_columns(model, "weights", bert, []))


def test_the_gradient_is_that_of_one_gate_for_all_places(bert: Task, torch_alone: Any) -> None:
    """To first order, the importance of a column is what the loss changes by when all that read it read a bit less."""
    torch = torch_alone
    model, column, step = bert.load_model().double(), 5, 1e-4
    batch = {name: values[:1] for name, values in tiny.batches(bert, 8)[0].items()}
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}

    def loss(factor: float) -> float:
        changed = bert.load_model().double()
        for matrix in (matrix for part in stream_of(changed).readers for matrix in part):
            matrix.weight.data[:, column] *= factor
        with torch.no_grad():
            return float(bert.loss(bert.call(changed, tensors).logits, tensors["labels"]))

    slope = (loss(1 + step) - loss(1 - step)) / (2 * step)
    taylor, fisher = (float(score_columns(model, kind, bert, [batch])[column]) for kind in ("taylor", "fisher"))
    assert taylor == pytest.approx(abs(slope), rel=1e-3)
    assert fisher == pytest.approx(slope**2, rel=2e-3)
    assert taylor > 1e-4


def test_magnitude_looks_at_real_tokens_only(bert: Task) -> None:
    model = bert.load_model()
    (batch,) = tiny.batches(bert, 8)
    longer = {name: np.pad(values, ((0, 0), (0, 5))) if values.ndim == 2 else values for name, values in batch.items()}
    found, padded = (score_columns(model, "magnitude", bert, [one]) for one in (batch, longer))
    np.testing.assert_allclose(padded, found, rtol=1e-4)


def test_importance_that_an_encoder_does_not_have_is_an_error(bert: Task) -> None:
    with pytest.raises(UsageError, match="importance by bn_scale is for convolutional networks"):
        score_columns(bert.load_model(), "bn_scale", bert, [])


def test_gradients_need_labels(bert: Task) -> None:
    batch = {name: values for name, values in tiny.batches(bert, 8)[0].items() if name != "labels"}
    with pytest.raises(DataError, match="importance by fisher needs labels"):
        score_columns(bert.load_model(), "fisher", bert, [batch])


@pytest.mark.parametrize(
    ("asked", "multiple", "left"),
    [
        (0.5, 4, 16),
        (0.67, 4, 20),
        (0.67, 8, 24),
        (1.0, 4, 32),
        (0.01, 8, 8),
        (0.9, 64, 32),
        (1, 4, 4),
        (19, 8, 16),
        (21, 8, 24),
        (32, 12, 32),
    ],
)
def test_what_stays_is_a_multiple_and_no_more_than_there_is(asked: float, multiple: int, left: int) -> None:
    assert columns_left(tiny.build("bert"), asked, multiple) == left


def test_a_share_is_of_the_original(bert: Task) -> None:
    model = cut_stream(bert.load_model(), range(20))
    assert [columns_left(model, asked, 4) for asked in (0.5, 16, 0.75, 32)] == [16, 16, 20, 20]


def test_more_columns_than_there_are_is_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        columns_left(tiny.build("distilbert"), 33, 8)
    assert caught.value.what == f"prune.hidden=33 was given, and the model has a hidden size of {HIDDEN}"
    assert caught.value.why == "allowed: up to 32 columns, rounded to a multiple of 8, or a share from 0 to 1.0"


def test_only_the_hidden_size_goes_where_no_ratio_is_asked_for(task: Task) -> None:
    model = task.load_model()
    (batch,) = tiny.batches(task, 8)
    before = tiny.logits(task, model, batch)
    plan, figures = prune_encoder(model, aim(task))
    assert plan == whole_plan(task.load_model()).model_copy(update={"hidden": tuple(range(HALF))})
    np.testing.assert_allclose(tiny.logits(task, model, batch), before, atol=2e-5)
    costs = [
        CostModel.of(tokens=16, hidden=hidden, head_width=8, first_token_only=task.reads_first_token)
        for hidden in (HIDDEN, HALF)
    ]
    widths = [(HEADS, NEURONS)] * LAYERS
    assert (figures["hidden"], figures["hidden_of"]) == (HALF, HIDDEN)
    assert [figures["macs_before"], figures["macs_after"]] == [cost.total(widths) for cost in costs]
    assert figures["before"] == {"layers": LAYERS, "heads": HEADS, "neurons": NEURONS}


@pytest.mark.parametrize("reconstruct", [False, True])
def test_what_columns_leave_of_the_budget_is_for_heads_and_neurons(bert: Task, reconstruct: bool) -> None:
    model = bert.load_model()
    plan, figures = prune_encoder(model, aim(bert, ratio=0.7, layers=0.67, hidden=20, reconstruct=reconstruct))
    before, after = (figures[name] for name in ("macs_before", "macs_after"))
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert 0.2 < after / before <= 0.3
    assert (len(plan.layers), stream_width(model), len(plan.hidden or ())) == (2, 20, 20)
    again = replay(bert.load_model(), plan)
    assert [values.shape for values in again.parameters()] == [values.shape for values in model.parameters()]
    same = [bool((mine == its).all()) for mine, its in zip(again.parameters(), model.parameters(), strict=True)]
    assert all(same) is not reconstruct


def test_a_second_stage_with_the_same_setting_takes_nothing_away(bert: Task) -> None:
    model = bert.load_model()
    first, _ = prune_encoder(model, aim(bert))
    second, figures = prune_encoder(model, aim(bert))
    assert len(first.hidden or ()) == HALF
    assert (second.hidden, "hidden" in figures) == (None, False)
    assert first.then(second) == first


def test_nothing_is_said_of_a_hidden_size_that_stays(bert: Task) -> None:
    plan, figures = prune_encoder(bert.load_model(), aim(bert, ratio=0.3, hidden=None))
    assert plan.hidden is None
    assert figures.keys() == {"before", "kept", "macs_before", "macs_after"}


def costs(model: Any) -> CostTable:
    """Measured costs of a tiny encoder: those of heads and neurons fall with the hidden size, what stays does not."""
    curves: dict[str, Any] = {
        "attention": ((1, 3.0), (HEADS, 9.0)),
        "feed_forward": ((4, 1.0), (NEURONS, 16.0)),
        "last_attention": ((1, 2.0), (HEADS, 5.0)),
        "last_feed_forward": ((4, 0.5), (NEURONS, 2.0)),
    }
    narrower = HiddenCosts(
        hidden=HALF,
        base=4.0,
        **{name: tuple((width, cost * 0.6) for width, cost in curve) for name, curve in curves.items()},
    )
    geometry = geometry_of(model, first_token_only=True).model_copy(update={"hidden": HIDDEN, "narrowest": HALF})
    scope = SCOPE.model_copy(update={"geometry": geometry})
    return CostTable(schema_="edgekit.costs/2", scope=scope, unit="ms", base=4.0, narrower=(narrower,), **curves)


WHOLE = 4.0 + 2 * (9.0 + 16.0) + (5.0 + 2.0)


@pytest.mark.parametrize("hidden", [HALF, 24])
@pytest.mark.parametrize("goal", [{"ratio": 0.6}, {"budget": 30.0}])
def test_heads_and_neurons_go_by_what_they_cost_at_the_hidden_size_that_stays(
    bert: Task, hidden: int, goal: dict[str, float]
) -> None:
    model = bert.load_model()
    found = costs(model)
    measured = Measured(lambda: found, goal.get("budget"), lambda choose: choose())
    asked = aim(bert, ratio=goal.get("ratio", 0.0), hidden=hidden, measured=measured)
    plan, figures = prune_encoder(model, asked)
    assert (len(plan.hidden or ()), figures["hidden"], figures["hidden_of"]) == (hidden, hidden, HIDDEN)
    predicted: Any = figures["predicted"]
    assert predicted["before"] == pytest.approx(WHOLE)
    budget = goal.get("budget", 0.4 * WHOLE)
    widths = [(len(layer.heads), len(layer.neurons)) for layer in plan.layers]
    assert predicted["after"] == pytest.approx(found.at(hidden).predict(widths), abs=1e-4)
    assert budget - 1.5 < predicted["after"] <= predicted["budget"] == pytest.approx(budget)
    assert found.predict(widths) > budget  # more stays than at the whole hidden size
    again = replay(bert.load_model(), plan)
    assert [values.shape for values in again.parameters()] == [values.shape for values in model.parameters()]


def test_the_hidden_size_alone_has_its_predicted_cost(bert: Task) -> None:
    model = bert.load_model()
    found = costs(model)
    plan, figures = prune_encoder(model, aim(bert, measured=Measured(lambda: found, None, lambda choose: choose())))
    assert plan == whole_plan(bert.load_model()).model_copy(update={"hidden": plan.hidden})
    predicted: Any = figures["predicted"]
    assert predicted["before"] == pytest.approx(WHOLE)
    assert predicted["after"] == pytest.approx(4.0 + 0.6 * (WHOLE - 4.0))


def test_a_stage_after_the_one_that_pruned_the_hidden_size_goes_by_its_costs(bert: Task) -> None:
    model = cut_stream(bert.load_model(), range(HALF))
    found = costs(model)
    measured = Measured(lambda: found, None, lambda choose: choose())
    plan, figures = prune_encoder(model, aim(bert, ratio=0.3, hidden=None, measured=measured))
    predicted: Any = figures["predicted"]
    assert (plan.hidden, "hidden" in figures) == (None, False)
    assert predicted["before"] == pytest.approx(4.0 + 0.6 * (WHOLE - 4.0))
    assert predicted["after"] <= 0.7 * predicted["before"] + 1e-4


def test_costs_of_another_hidden_size_are_refused(bert: Task) -> None:
    model = cut_stream(bert.load_model(), range(HALF))
    measured = Measured(table, None, lambda choose: choose())
    with pytest.raises(UsageError) as caught:
        prune_encoder(model, aim(bert, ratio=0.3, hidden=None, measured=measured))
    assert caught.value.id == "usage.costs-mismatch"
    assert caught.value.why == f"{HALF} columns of it stay"
