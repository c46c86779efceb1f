from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from zoo import make, task_of

from edgekit.progress import Silent
from edgekit.stages.prune import PruneSettings, _missed, _recalibrate, _tokens
from edgekit.tasks.base import Batch

pytestmark = pytest.mark.usefixtures("torch_alone")


class Numbers:
    """Samples of twelve numbers."""

    def __len__(self) -> int:
        return 5

    def length(self, index: int) -> int:
        del index
        return 1

    def batch(self, indices: list[int]) -> Batch:
        return {"features": np.random.default_rng(indices[0]).normal(size=(len(indices), 12)).astype(np.float32)}


def test_batch_norms_are_measured_on_two_samples_at_once_at_least() -> None:
    """Importance may be measured sample by sample; of one sample there is no variance."""
    data = SimpleNamespace(train=Numbers())
    job: Any = SimpleNamespace(
        task=task_of(lambda: make("perceptron"), "1x12"), data=data, seed=0, progress=Silent(), need_data=lambda: data
    )
    model: Any = make("perceptron")
    assert _recalibrate(model, PruneSettings(batch_size=1, samples=4), job) == 1
    assert int(model.layers[1].num_batches_tracked) == 2


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [({}, 5), ({"image_size": [8, 16], "patch_size": [4, 4]}, 9), ({"image_size": [8, 16], "patch_size": [4, 8]}, 5)],
)
def test_an_image_has_a_token_for_each_patch_and_one_for_its_class(changes: dict[str, Any], tokens: int) -> None:
    model = tiny.build("vit", **changes)
    job: Any = SimpleNamespace(workload=SimpleNamespace(tokens=128))
    assert model.vit.embeddings.position_embeddings.shape[1] == tokens
    assert _tokens(model, job) == tokens
    assert _tokens(tiny.build("bert"), job) == 128


@pytest.mark.parametrize(("left", "said"), [(130, {"macs_asked": 50}), (61, {"macs_asked": 50}), (60, {}), (40, {})])
def test_that_less_could_go_than_was_asked_for_is_told(left: int, said: dict[str, int]) -> None:
    assert _missed({"macs_before": 1000, "macs_after": left}, 0.95) == said
