"""What only a real model can show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.formats.surgery import replay, whole_plan
from edgekit.measure.quality import TORCH_BATCH, collect_outputs
from edgekit.progress import Silent
from edgekit.pruning.encoders.cost import CostModel
from edgekit.pruning.encoders.importance import Scores, score_importance
from edgekit.pruning.encoders.selection import Bounds, choose_widths
from edgekit.runtimes.torch import TorchRunner
from edgekit.tasks import bind_task
from edgekit.tasks.base import TaskOptions, shuffled_batches
from edgekit.tasks.data import Data, resolve_data

SHARE = 0.6  # of the cost that stays: enough of a cut to tell choices apart, before training repairs anything
COST = CostModel.of(tokens=128, hidden=384, head_width=32, first_token_only=True)


def random_scores(like: Scores, seed: int) -> Scores:
    random = np.random.default_rng(seed)
    heads = [random.random(len(layer)) for layer in like.heads]
    return Scores(like.layers, heads, [random.random(len(layer)) for layer in like.neurons])


@pytest.mark.slow
@pytest.mark.asset("minilm-sst2")
@pytest.mark.asset("sst2")
def test_every_importance_beats_random_choice_at_equal_cost(assets: dict[str, Path]) -> None:
    task = bind_task("text-classification", assets["minilm-sst2"], TaskOptions())
    data = Data(resolve_data(assets["sst2"]), task, 0)
    batches = [data.train.batch(rows) for rows in shuffled_batches(data.train, 32, 0, 0)[:20]]

    def accuracy(scores: Scores) -> float:
        model = task.load_model()
        whole = whole_plan(model)
        bounds = Bounds(budget=int(COST.plan(whole) * SHARE), multiple=16, floor=0.1)
        replay(model, choose_widths(scores, COST, bounds, whole.architecture))
        outputs = collect_outputs(TorchRunner(task.components(model)), task, data.evaluation, TORCH_BATCH, Silent())
        score = outputs.score(task)
        assert score is not None
        return score

    found = {
        kind: accuracy(score_importance(task.load_model(), kind, task, batches))
        for kind in ("taylor", "fisher", "magnitude")
    }
    like = score_importance(task.load_model(), "magnitude", task, batches)
    chance = max(accuracy(random_scores(like, seed)) for seed in range(3))
    assert {kind: value for kind, value in found.items() if value <= chance} == {}, (chance, found)
