from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from zoo import ZOO, aim, example, make

from edgekit.errors import UsageError
from edgekit.formats.channels import cut_channels
from edgekit.pruning.channels import prune_channels
from edgekit.pruning.channels.cost import MacCounter

pytestmark = pytest.mark.usefixtures("torch_alone")
TASK: Any = None  # importance by magnitude reads no data
# Of these at least half of the cost can go.
PRUNABLE = sorted(set(ZOO) - {"padded", "shuffled", "flipped", "normed"})


@pytest.mark.parametrize("name", PRUNABLE)
def test_about_the_share_that_was_asked_for_goes(name: str) -> None:
    model, inputs = make(name), example(name)
    before = MacCounter.of(model, inputs).total({})
    whole = copy.deepcopy(model)
    plan, details = prune_channels(model, inputs, aim(TASK, [], "magnitude", ratio=0.5, floor=0.1, multiple=4))
    after = MacCounter.of(model, inputs).total({})
    assert (details["macs_before"], details["macs_after"]) == (before, after)
    assert 0.4 < after / before < 0.6
    cut_channels(whole, plan)  # the plan alone makes the module so
    with torch.no_grad():
        assert torch.equal(whole(**inputs), model(**inputs))


def test_the_figures_say_of_each_layer_what_is_left_and_why_it_is_whole() -> None:
    model: Any = make("tagger")
    _, details = prune_channels(model, example("tagger"), aim(TASK, [], "magnitude", ratio=0.4, multiple=16))
    assert details["kept"] == [
        {"layer": "embedding", "channels": 16, "of": 16, "whole": "layers of the kind Embedding stay whole"},
        {"layer": "recurrent", "channels": 32, "of": 32, "whole": "layers of the kind LSTM stay whole"},
        {"layer": "hidden", "channels": 32, "of": 64},
        {
            "layer": "head",
            "channels": 5,
            "of": 5,
            "whole": "its channels are outputs of the module, or nothing that can be cut reads them",
        },
    ]
    assert details["macs_after"] == 10 * (32 * 32 + 32 * 5)
    assert (model.hidden.out_features, model.head.in_features) == (32, 32)


def test_layers_of_an_unknown_kind_have_no_channels_to_count() -> None:
    model = make("normed")
    _, details = prune_channels(model, example("normed"), aim(TASK, [], "magnitude", ratio=0.2))
    kept: Any = details["kept"]
    assert kept[0] == {"layer": "Normed", "whole": "layers of the kind Normed stay whole"}
    assert kept[2] == {"layer": "norm", "channels": 16, "of": 16, "whole": "layers of the kind GroupNorm stay whole"}
    assert kept[4]["channels"] < kept[4]["of"] == 32


def test_a_ratio_of_nothing_cuts_nothing() -> None:
    model, whole = make("residual"), make("residual")
    plan, details = prune_channels(model, example("residual"), aim(TASK, [], "magnitude", ratio=0.0))
    assert plan.layers == ()
    assert details["macs_after"] == details["macs_before"] == 4567200
    assert all(row["channels"] == row["of"] for row in details["kept"])  # type: ignore[union-attr,index,call-overload]
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (
            nn.Sequential(nn.Linear(4, 3)),
            "0: its channels are outputs of the module, or nothing that can be cut reads them",
        ),
        (nn.Sequential(nn.ReLU()), "it has no convolution or linear layer that another one reads"),
        (
            nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)),
            "0: feeds 1 (LayerNorm)\n1: layers of the kind LayerNorm stay whole\n"
            "2: its channels are outputs of the module, or nothing that can be cut reads them",
        ),
    ],
)
def test_a_module_of_which_nothing_can_go_is_refused_with_the_reasons(model: nn.Module, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        prune_channels(model.eval(), {"input": torch.randn(3, 4)}, aim(TASK, [], "magnitude"))
    assert caught.value.what == "no channel of Sequential can be pruned"
    assert caught.value.why == why
    assert caught.value.hint == "Use a recipe without pruning: --recipe quantize."


def test_pruning_again_goes_on_from_where_it_was() -> None:
    model, inputs = make("dense"), example("dense")
    whole = copy.deepcopy(model)
    first, _ = prune_channels(model, inputs, aim(TASK, [], "magnitude", ratio=0.3))
    second, details = prune_channels(model, inputs, aim(TASK, [], "magnitude", ratio=0.3))
    assert details["macs_before"] == MacCounter.of(cut_channels(copy.deepcopy(whole), first), inputs).total({})
    cut_channels(whole, first.then(second))
    with torch.no_grad():
        assert torch.equal(whole(**inputs), model(**inputs))
