from __future__ import annotations

import numpy as np
import pytest
from tiny import HEADS, HIDDEN, LAYERS, NEURONS, build

from edgekit.formats.surgery import EncoderPlan, LayerPlan, whole_plan
from edgekit.pruning.encoders.cost import CostModel


def plan(*widths: tuple[int, int]) -> EncoderPlan:
    layers = [LayerPlan(index=i, heads=tuple(range(h)), neurons=tuple(range(n))) for i, (h, n) in enumerate(widths)]
    return EncoderPlan(architecture="x", layers=tuple(layers))


def test_a_head_and_a_neuron_cost_what_their_matrices_do() -> None:
    cost = CostModel.of(tokens=10, hidden=32, head_width=8, first_token_only=False)
    # q, k, v: [10, 32] x [32, 8] each; o: [10, 8] x [8, 32]; scores [10, 8] x [8, 10]; mixing [10, 10] x [10, 8]
    assert cost.head == cost.last_head == 4 * 10 * 32 * 8 + 2 * 10 * 10 * 8
    # up: [10, 32] x [32, 1]; down: [10, 1] x [1, 32]
    assert cost.neuron == cost.last_neuron == 2 * 10 * 32


def test_of_the_first_token_alone_only_keys_and_values_are_whole() -> None:
    cost = CostModel.of(tokens=10, hidden=32, head_width=8, first_token_only=True)
    # k, v: [10, 32] x [32, 8]; q, o: one token; scores [1, 8] x [8, 10]; mixing [1, 10] x [10, 8]
    assert cost.last_head == 2 * 10 * 32 * 8 + 2 * 32 * 8 + 2 * 10 * 8
    assert cost.last_neuron == 2 * 32
    assert cost.head == 4 * 10 * 32 * 8 + 2 * 10 * 10 * 8


@pytest.mark.parametrize("first_token_only", [True, False])
def test_a_model_of_12_layers_costs_what_bert_base_is_known_to(first_token_only: bool) -> None:
    # BERT base at 128 tokens: 11.2 GMAC in its encoder, 21.5 to 22.5 GFLOPs as papers count them.
    cost = CostModel.of(tokens=128, hidden=768, head_width=64, first_token_only=first_token_only)
    total = cost.total([(12, 3072)] * 12)
    assert total == pytest.approx(10.4e9 if first_token_only else 11.17e9, rel=0.01)


def test_costs_add_up_over_layers() -> None:
    cost = CostModel(head=100, neuron=10, last_head=50, last_neuron=1)
    assert cost.total([(2, 3), (1, 4), (4, 8)]) == 2 * 100 + 3 * 10 + 100 + 4 * 10 + 4 * 50 + 8
    assert cost.plan(plan((2, 3), (1, 4), (4, 8))) == cost.total([(2, 3), (1, 4), (4, 8)])
    assert (cost.heads(3), cost.neurons(1)) == ([100, 100, 50], [1])


def test_the_cost_of_a_whole_model_is_that_of_its_weights() -> None:
    cost = CostModel.of(tokens=1, hidden=HIDDEN, head_width=HIDDEN // HEADS, first_token_only=False)
    model = build("bert")
    matrices = [p for name, p in model.bert.encoder.named_parameters() if p.ndim == 2]
    mixing = LAYERS * 2 * HIDDEN  # scores and mixing of one token
    assert cost.plan(whole_plan(model)) == sum(int(np.prod(p.shape)) for p in matrices) + mixing
    assert [(len(layer.heads), len(layer.neurons)) for layer in whole_plan(model).layers] == [(HEADS, NEURONS)] * LAYERS
