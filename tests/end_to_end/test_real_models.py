"""What only real models can show."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.formats.encoder import head_width, stream_width
from edgekit.formats.surgery import replay, whole_plan
from edgekit.measure.quality import TORCH_BATCH, collect_outputs
from edgekit.progress import Silent
from edgekit.pruning.encoders.cost import CostModel
from edgekit.pruning.encoders.importance import Scores, score_importance
from edgekit.pruning.encoders.selection import Bounds, choose_widths
from edgekit.runtimes.torch import TorchRunner
from edgekit.tasks import bind_task
from edgekit.tasks.base import TaskOptions, shuffled_batches
from edgekit.tasks.data import Data
from edgekit.tasks.data_source import resolve_data

SHARE = 0.6  # of the cost that stays: enough of a cut to tell choices apart, before training repairs anything


def random_scores(like: Scores, seed: int) -> Scores:
    random = np.random.default_rng(seed)
    heads = [random.random(len(layer)) for layer in like.heads]
    return Scores(like.layers, heads, [random.random(len(layer)) for layer in like.neurons])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_key", "data_key", "tokens"),
    [
        pytest.param(
            *("minilm-sst2", "sst2", 128), marks=[pytest.mark.asset("minilm-sst2"), pytest.mark.asset("sst2")]
        ),
        pytest.param(
            *("fashion-mnist-vit", "fashion-mnist", 50),
            marks=[pytest.mark.asset("fashion-mnist-vit"), pytest.mark.asset("fashion-mnist")],
        ),
    ],
)
def test_every_importance_beats_random_choice_at_equal_cost(
    assets: dict[str, Path], model_key: str, data_key: str, tokens: int
) -> None:
    kind = "text-classification" if data_key == "sst2" else "image-classification"
    task = bind_task(kind, assets[model_key], TaskOptions())
    data = Data(resolve_data(assets[data_key]), task, 0)
    batches = [data.train.batch(rows) for rows in shuffled_batches(data.train, 32, 0, 0)[:20]]
    model = task.load_model()
    cost = CostModel.of(tokens=tokens, hidden=stream_width(model), head_width=head_width(model), first_token_only=True)

    def accuracy(scores: Scores) -> float:
        model = task.load_model()
        whole = whole_plan(model)
        bounds = Bounds(budget=int(cost.plan(whole) * SHARE), multiple=16, floor=0.1)
        replay(model, choose_widths(scores, cost, bounds, whole.architecture))
        outputs = collect_outputs(TorchRunner(task.components(model)), task, data.evaluation, TORCH_BATCH, Silent())
        score = outputs.score(task)
        assert score is not None
        return score

    found = {
        importance: accuracy(score_importance(task.load_model(), importance, task, batches))
        for importance in ("taylor", "fisher", "magnitude")
    }
    like = score_importance(task.load_model(), "magnitude", task, batches)
    chance = [accuracy(random_scores(like, seed)) for seed in range(4)]
    sys.stdout.write(f"{model_key}: n={len(data.evaluation)} {found} random: {chance}\n")  # shown by pytest -rP
    assert {name: value for name, value in found.items() if value <= max(chance)} == {}, (chance, found)
