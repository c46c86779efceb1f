from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import batches, build, save, task_for

from edgekit.distillation.losses import (
    LayerMap,
    Weights,
    attention_maps,
    distillation_loss,
    hidden_states,
    soft_logits,
)
from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay
from edgekit.formats.thinning import Handed
from edgekit.stages.distill import layer_map
from edgekit.tasks.base import TrainingOutput


def tensor(*values: Any) -> Any:
    import torch

    return torch.tensor(*values)


def test_softened_answers_are_the_divergence_times_the_temperature_squared() -> None:
    student, teacher = [[0.0, 0.0], [2.0, 0.0]], [[2.0, 0.0], [2.0, 0.0]]
    p = np.exp(1.0) / (np.exp(1.0) + 1)  # of the first sample's teacher at temperature 2
    divergence = p * np.log(p / 0.5) + (1 - p) * np.log((1 - p) / 0.5)
    found = soft_logits(tensor(student), tensor(teacher), 2.0)
    assert float(found) == pytest.approx(4 * divergence / 2, rel=1e-5)
    assert float(soft_logits(tensor(teacher), tensor(teacher), 2.0)) == pytest.approx(0.0, abs=1e-7)


def test_a_single_output_is_compared_by_its_square() -> None:
    assert float(soft_logits(tensor([[1.0], [2.0]]), tensor([[3.0], [2.0]]), 2.0)) == 2.0


def test_of_several_labels_each_is_an_answer_there_or_not() -> None:
    student, teacher = [[0.0, 3.0], [1.0, -1.0]], [[2.0, 5.0], [3.0, 1.0]]
    p, q = (1 / (1 + np.exp(-np.array(logits) / 2)) for logits in (teacher, student))
    divergence = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    found = soft_logits(tensor(student), tensor(teacher), 2.0, several=True)
    assert float(found) == pytest.approx(4 * divergence, rel=1e-5)
    # together their order alone would count, which is the same
    assert float(soft_logits(tensor(student), tensor(teacher), 2.0)) == pytest.approx(0.0, abs=1e-6)
    one = soft_logits(tensor([[0.0]]), tensor([[2.0]]), 1.0, several=True)
    assert float(one) > 0


def test_each_place_of_a_sample_is_an_answer() -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 7, 5, generator=generator) for _ in range(2))
    flat = soft_logits(student.reshape(21, 5), teacher.reshape(21, 5), 2.0)
    assert float(soft_logits(student, teacher, 2.0)) == pytest.approx(float(flat), rel=1e-6)


def test_hidden_states_are_compared_in_units_of_the_teachers_variance() -> None:
    teacher = (tensor([[[9.0, 9.0]]]), tensor([[[1.0, -1.0], [2.0, -2.0]]]), tensor([[[0.0, 4.0], [0.0, 4.0]]]))
    student = (tensor([[[9.0, 9.0]]]), tensor([[[1.0, 0.0], [0.0, 4.0]]]))
    # Against layer 2: errors (1 + 16) / 2 and 0, variances 4 and 4.
    found = hidden_states(student, teacher, (2,), None)
    assert float(found) == pytest.approx((8.5 + 0) / 2 / 4, rel=1e-5)
    # Against layer 1: errors 1 / 2 and (4 + 36) / 2, variances 1 and 4; the mask hides the second token.
    assert float(hidden_states(student, teacher, (1,), None)) == pytest.approx((0.5 + 20) / 5, rel=1e-5)
    assert float(hidden_states(student, teacher, (1,), tensor([[1, 0]]))) == pytest.approx(0.5, rel=1e-5)


def test_hidden_states_of_fewer_columns_are_compared_with_those_that_stayed() -> None:
    teacher = (tensor([[[9.0, 9.0, 9.0]]]), tensor([[[1.0, 7.0, -1.0]]]))
    student = (tensor([[[9.0, 9.0]]]), tensor([[[1.0, 0.0]]]))
    # Of the teacher's columns 0 and 2: error 1 / 2, variance 1.
    assert float(hidden_states(student, teacher, (1,), None, (0, 2))) == pytest.approx(0.5, rel=1e-5)


def test_hidden_states_of_fewer_tokens_are_compared_at_the_places_that_stayed() -> None:
    import torch

    teacher = (tensor([[[9.0, 9.0]]]), tensor([[[0.0, 4.0], [5.0, 5.0], [1.0, -1.0]]]))
    student = (tensor([[[9.0, 9.0]]]), tensor([[[0.0, 4.0], [1.0, 0.0]]]))
    places = torch.tensor([[0, 2]])
    # Against the teacher's tokens 0 and 2: errors 0 and 1 / 2, variances 4 and 1.
    found = hidden_states(student, teacher, (1,), tensor([[1, 1, 1]]), None, [Handed(places, None)])
    assert float(found) == pytest.approx(0.5 / 5, rel=1e-5)
    # The second of them is one too many for its sample.
    real = torch.tensor([[True, False]])
    assert float(hidden_states(student, teacher, (1,), None, None, [Handed(places, real)])) == 0


def test_hidden_states_are_the_mean_over_layers() -> None:
    teacher = tuple(tensor([[[float(i), -float(i)]]]) for i in range(1, 5))
    student = (teacher[0], tensor([[[2.0, -1.0]]]), tensor([[[4.0, -3.0]]]))
    # Layer 1 as the teacher's 1 (variance 4): error 0.5; layer 2 as the teacher's 3 (variance 16): error 0.5.
    found = hidden_states(student, teacher, (1, 3), None)
    assert float(found) == pytest.approx((0.5 / 4 + 0.5 / 16) / 2, rel=1e-5)


def test_layers_that_do_not_match_are_an_error() -> None:
    states = (tensor([[[1.0, 0.0]]]),) * 3
    with pytest.raises(ValueError, match="zip"):
        hidden_states(states, states, (1,), None)


def test_attention_is_compared_head_by_head() -> None:
    teacher = (tensor([[[[1.0]], [[2.0]], [[3.0]]]]), tensor([[[[5.0]], [[6.0]], [[7.0]]]]))
    layers = LayerMap(hidden=(2,), attention=(1,), heads=((0, 2),))
    assert float(attention_maps((tensor([[[[5.0]], [[9.0]]]]),), teacher, layers)) == (0 + 4) / 2


class Halved:
    """As much of a task as a loss needs."""

    several = False

    def loss(self, logits: Any, labels: Any) -> Any:
        return (logits[:, 0] - labels).abs().mean() / 2


def test_the_terms_are_weighted_and_those_without_weight_are_not_computed() -> None:
    student = TrainingOutput(tensor([[1.0, 0.0]]), (tensor([[[0.0, 0.0]]]),) * 2)
    teacher = TrainingOutput(tensor([[1.0, 0.0]]), (tensor([[[1.0, -1.0]]]),) * 2)
    layers = LayerMap(hidden=(1,), attention=(0,), heads=((0,),))

    def total(*weights: float, labels: Any = None) -> float:
        found = distillation_loss(
            student,
            teacher,
            task=Halved(),  # type: ignore[arg-type]
            labels=labels,
            mask=None,
            layers=layers,
            weights=Weights(*weights, temperature=2.0),
        )
        assert found.shape == ()
        return float(found)

    assert total(1.0, 0.0, 0.0, 0.0) == pytest.approx(0.0, abs=1e-7)
    assert total(0.0, 3.0, 0.0, 0.0, labels=tensor([3.0])) == 3.0
    assert total(0.0, 3.0, 0.0, 0.0) == 0.0
    assert total(0.0, 0.0, 2.0, 0.0) == pytest.approx(2.0, rel=1e-5)
    assert total(1.0, 3.0, 2.0, 0.0, labels=tensor([3.0])) == pytest.approx(5.0, rel=1e-5)


def test_the_layer_map_follows_the_plan(tmp_path: Path) -> None:
    model = build("bert")
    plan = EncoderPlan(
        architecture="BertForSequenceClassification",
        layers=(
            LayerPlan(index=0, heads=(1, 3), neurons=(0, 1)),
            LayerPlan(index=2, heads=(0,), neurons=(5,)),
        ),
    )
    found = layer_map(model, model, plan)
    assert found == LayerMap(hidden=(2, 3), attention=(0, 2), heads=((1, 3), (0,)))
    narrower = layer_map(model, model, plan.model_copy(update={"hidden": (3, 9)}))
    assert narrower == LayerMap(hidden=(2, 3), attention=(0, 2), heads=((1, 3), (0,)), columns=(3, 9))


@pytest.mark.parametrize("family", ["bert", "distilbert", "vit"])
def test_a_student_that_is_the_teacher_has_no_loss_and_a_cut_one_has_all_terms(
    tmp_path: Path, torch_alone: Any, family: str
) -> None:
    torch = torch_alone
    task = task_for(save(build(family), tmp_path))
    teacher, student = task.load_model(), task.load_model()
    plan = EncoderPlan(
        architecture=type(student).__name__,
        layers=(
            LayerPlan(index=0, heads=(0, 2), neurons=tuple(range(32))),
            LayerPlan(index=2, heads=(1,), neurons=tuple(range(8))),
        ),
    )
    (batch,) = batches(task, 8)
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    for model in (teacher, student):
        model.set_attn_implementation("eager")  # type: ignore[operator]

    def loss(model: Any, layers: LayerMap, weights: Weights) -> float:
        with torch.no_grad():
            mine = task.call(model, tensors, hidden_states=True, attentions=True)
            theirs = task.call(teacher, tensors, hidden_states=True, attentions=True)
        found = distillation_loss(
            mine, theirs, task=task, labels=None, mask=tensors.get("attention_mask"), layers=layers, weights=weights
        )
        return float(found)

    every = LayerMap(hidden=(1, 2, 3), attention=(0, 1, 2), heads=((0, 1, 2, 3),) * 3)
    assert loss(student, every, Weights(1.0, 0.0, 1.0, 1.0, 2.0)) == pytest.approx(0.0, abs=1e-6)
    replay(student, plan)
    for term in range(3):
        weights = [0.0] * 3
        weights[term] = 1.0
        only = Weights(weights[0], 0.0, weights[1], weights[2], 2.0)
        assert loss(student, layer_map(teacher, teacher, plan), only) > 1e-6
