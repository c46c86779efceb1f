from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from pruning.encoders.aims import TOKENS, aim_for
from tiny import HEADS, HIDDEN, LAYERS, NEURONS

from edgekit.artifact import WHOLE
from edgekit.errors import UsageError
from edgekit.formats.graph import tidy
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay, whole_plan
from edgekit.measure.macs import count_macs
from edgekit.optimization import REWRITES
from edgekit.pruning import Aim
from edgekit.pruning.encoders import prune_encoder
from edgekit.pruning.encoders.cost import CostModel
from edgekit.pruning.encoders.tokens import reads_first_token_alone, shares_of
from edgekit.runtimes.measuring import Subject
from edgekit.tasks.base import Task, Workload


def aim(task: Task, **changes: Any) -> Aim:
    return aim_for(task, **({"handed": 0.25} | changes))


def cost_of(shares: tuple[float, ...] = ()) -> CostModel:
    return CostModel.of(tokens=TOKENS, hidden=HIDDEN, head_width=HIDDEN // HEADS, first_token_only=True, shares=shares)


def test_one_share_is_come_down_to_in_equal_ratios_from_the_middle_on() -> None:
    assert shares_of(None, 3) is None
    assert shares_of(0.25, 3) == (1.0, 0.25)
    assert shares_of(0.25, 4) == (1.0, 0.5, 0.25)
    assert shares_of(0.25, 6) == (1.0, 1.0, 0.63, 0.397, 0.25)
    assert shares_of(0.5, 2) == (0.5,)
    assert shares_of((1.0, 0.4), 3) == (1.0, 0.4)
    assert shares_of(1.0, 4) is shares_of((1.0, 1.0), 3) is shares_of(0.5, 1) is None


def test_shares_that_do_not_fit_the_layers_are_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        shares_of((1.0, 0.5), 4)
    assert caught.value.what == "prune.tokens=[1,0.5] was given, and layers that stay: 4"
    assert caught.value.why == "each of them but the last has a share: 3"


@pytest.mark.parametrize("family", tiny.ARCHITECTURES)
def test_classifiers_read_the_first_token_alone(family: str, tmp_path: Path, torch_alone: Any) -> None:
    task = tiny.task_for(tiny.save(tiny.build(family), tmp_path / family))
    model = task.load_model()
    assert reads_first_token_alone(model, task.components(model)[WHOLE])


def test_a_head_that_reads_the_mean_or_a_second_token_is_seen(bert: Task) -> None:
    model = bert.load_model()
    pooler: Any = model.bert.pooler
    plain = pooler.forward
    pooler.forward = lambda states: plain(states.mean(1, keepdim=True))
    assert not reads_first_token_alone(model, bert.components(model)[WHOLE])
    pooler.forward = lambda states: plain(states) + plain(states[:, 1:])
    assert not reads_first_token_alone(model, bert.components(model)[WHOLE])
    pooler.forward = plain
    assert reads_first_token_alone(model, bert.components(model)[WHOLE])


def test_tokens_alone_can_be_left_out(bert: Task) -> None:
    model = bert.load_model()
    plan, figures = prune_encoder(model, aim(bert))
    assert plan == whole_plan(model).model_copy(update={"tokens": (1.0, 0.25)})
    widths = [(HEADS, NEURONS)] * LAYERS
    assert figures["tokens"] == [1.0, 0.25]
    assert [figures["macs_before"], figures["macs_after"]] == [
        cost_of().total(widths),
        cost_of((1.0, 0.25)).total(widths),
    ]


def test_what_tokens_leave_of_the_budget_is_for_heads_and_neurons(bert: Task) -> None:
    plans = [prune_encoder(bert.load_model(), aim(bert, ratio=0.6, handed=handed)) for handed in (None, 0.5)]
    for _, figures in plans:
        before, after = figures["macs_before"], figures["macs_after"]
        assert isinstance(before, int)
        assert isinstance(after, int)
        assert 0.3 < after / before <= 0.4
    all_tokens, fewer = (sum(len(layer.neurons) for layer in plan.layers) for plan, _ in plans)
    assert fewer > all_tokens
    assert "tokens" not in plans[0][1]


def test_of_one_layer_no_token_is_left_out_and_that_is_told(bert: Task) -> None:
    plan, figures = prune_encoder(bert.load_model(), aim(bert, ratio=0.3, layers=0.34))
    assert (len(plan.layers), plan.tokens, figures["tokens"]) == (1, None, [])


def test_what_an_earlier_stage_left_out_stays_out_and_was_paid_for(bert: Task) -> None:
    first, figures = prune_encoder(bert.load_model(), aim(bert))
    again, unchanged = prune_encoder(bert.load_model(), aim(bert, handed_before=first.tokens))
    assert first.then(again) == first
    assert unchanged["macs_before"] == unchanged["macs_after"] == figures["macs_after"]
    fewer, _ = prune_encoder(
        bert.load_model(), aim(bert, handed_before=first.tokens, handed=None, ratio=0.3, layers=0.67)
    )
    (share,) = first.then(fewer).tokens or ()
    assert share == (1.0, 0.25, 0.25)[fewer.layers[0].index]


@pytest.mark.skipif(not tiny.THINS, reason=tiny.NO_THINNING)
def test_the_multiply_accumulates_are_those_of_the_rewritten_graph(bert: Task, tmp_path: Path) -> None:
    model, shares = bert.load_model(), (0.7, 0.4)
    widths = [(3, 40), (1, 48), (2, 8)]
    layers = tuple(
        LayerPlan(index=index, heads=tuple(range(heads)), neurons=tuple(range(neurons)))
        for index, (heads, neurons) in enumerate(widths)
    )
    replay(model, EncoderPlan(architecture=type(model).__name__, layers=layers, tokens=shares))
    graph = load_graph(tiny.export(bert, model, tmp_path / "onnx").file())
    for rewrite in REWRITES.values():
        rewrite.apply(graph.graph)
    tidy(graph)
    save_graph(graph, tmp_path / "model.onnx")
    feeds = bert.workload_feeds(Workload(tokens=TOKENS))[WHOLE]
    head = HIDDEN * HIDDEN + HIDDEN * 2
    assert count_macs(Subject(tmp_path / "model.onnx", feeds)).total == cost_of(shares).total(widths) + head
