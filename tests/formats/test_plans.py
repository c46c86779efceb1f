from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import build
from torch import nn

from edgekit.errors import ArtifactError, ModelError
from edgekit.formats.channels import ChannelPlan, LayerChannels
from edgekit.formats.encoder import encoder_layers
from edgekit.formats.plans import apply_plan, chain, read_plan, save_plan
from edgekit.formats.surgery import EncoderPlan, LayerPlan

ENCODER = EncoderPlan(
    architecture="BertForSequenceClassification", layers=(LayerPlan(index=1, heads=(0, 2), neurons=(5, 6)),)
)
CHANNELS = ChannelPlan(architecture="Sequential", layers=(LayerChannels(layer="0", outputs=(1, 2)),))


@pytest.mark.parametrize("plan", [ENCODER, CHANNELS])
def test_a_plan_is_read_as_what_it_was_written(tmp_path: Path, plan: Any) -> None:
    save_plan(plan, tmp_path)
    found = read_plan(tmp_path)
    assert type(found) is type(plan)
    assert found == plan


def test_a_folder_without_a_plan_has_none(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "neurons"}, "does not match any of the expected tags: 'encoder', 'channels'"),
        ({"kind": None}, "does not match any of the expected tags"),
        ({"kind": "encoder"}, "Field required"),  # layers of the other kind
        ({"schema": "edgekit.plan/2"}, "Input should be 'edgekit.plan/1'"),
        ({"layers": [{"layer": "0", "outputs": []}]}, "at least 1 item"),
        ({"layers": [{"layer": "0", "outputs": [3, 3]}]}, "the numbers do not ascend from 0 or more"),
        ({"layers": [{"layer": "0", "inputs": [-1]}]}, "the numbers do not ascend from 0 or more"),
        ({"extra": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_plan_that_is_not_valid_says_why(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(json.loads(CHANNELS.model_dump_json(by_alias=True)) | changes))
    with pytest.raises(ArtifactError, match=r"plan.json' is no valid plan") as caught:
        read_plan(tmp_path)
    assert message in caught.value.why


def test_a_plan_without_a_kind_is_not_valid(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"architecture": "x", "layers": []}')
    with pytest.raises(ArtifactError) as caught:
        read_plan(tmp_path)
    assert "Unable to extract tag using discriminator 'kind'" in caught.value.why


def test_a_plan_of_many_bytes_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_plan(CHANNELS, tmp_path)
    size = (tmp_path / "plan.json").stat().st_size
    monkeypatch.setattr("edgekit.formats.plans.MAX_PLAN_BYTES", size - 1)
    with pytest.raises(ArtifactError, match=f"has {size} bytes\nallowed: {size - 1}"):
        read_plan(tmp_path)


def test_each_kind_is_cut_its_own_way() -> None:
    thin: Any = apply_plan(nn.Sequential(nn.Linear(2, 4)), CHANNELS)
    assert tuple(thin[0].weight.shape) == (2, 2)
    encoder = apply_plan(build("bert"), ENCODER)
    assert [(layer.heads, layer.neurons) for layer in encoder_layers(encoder)] == [(2, 2)]
    with pytest.raises(ModelError, match=r"^the plan is for Sequential\nthe module is BertForSequenceClassification$"):
        apply_plan(build("bert"), CHANNELS)


def test_plans_of_one_kind_are_chained() -> None:
    later = ChannelPlan(architecture="Sequential", layers=(LayerChannels(layer="0", outputs=(1,)),))
    assert chain(None, later) == later
    assert chain(CHANNELS, later) == CHANNELS.model_copy(update={"layers": (LayerChannels(layer="0", outputs=(2,)),)})
    deeper = ENCODER.model_copy(update={"layers": (LayerPlan(index=0, heads=(1,), neurons=(0,)),)})
    assert chain(ENCODER, deeper) == ENCODER.model_copy(
        update={"layers": (LayerPlan(index=1, heads=(2,), neurons=(5,)),)}
    )
