from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgekit.distillation.products import products
from edgekit.stages import distill
from edgekit.stages.distill import DistillSettings


def types_of(precision: Any) -> dict[str, torch.dtype]:
    """Types of what a product and attention give, and of the gradient of the product's weight."""
    layer, states = nn.Linear(8, 8), torch.ones(1, 2, 4, 8)
    with products(precision, "cpu"):
        made = layer(states)
        attended = functional.scaled_dot_product_attention(made, made, made)
    attended.float().sum().backward()
    assert layer.weight.grad is not None
    return {"product": made.dtype, "attention": attended.dtype, "gradient": layer.weight.grad.dtype}


def test_only_products_are_computed_in_bfloat16() -> None:
    assert types_of("bf16") == {"product": torch.bfloat16, "attention": torch.float32, "gradient": torch.float32}


def test_float32_changes_nothing() -> None:
    assert set(types_of("fp32").values()) == {torch.float32}


def test_attention_gives_what_it_gives_of_float32_tensors() -> None:
    states = torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    with products("bf16", "cpu"):
        made = functional.scaled_dot_product_attention(states, states, states)
    expected = functional.scaled_dot_product_attention(states.float(), states.float(), states.float())
    assert torch.equal(made, expected)


@pytest.mark.parametrize(
    ("asked", "encoder", "able", "precision"),
    [
        ("auto", True, True, "bf16"),
        ("auto", True, False, "fp32"),
        ("auto", False, True, "fp32"),
        ("fp32", True, True, "fp32"),
        ("bf16", False, False, "bf16"),
    ],
)
def test_products_of_an_encoder_are_bfloat16_where_the_processor_has_amx(
    monkeypatch: pytest.MonkeyPatch, asked: Any, precision: str, *, encoder: bool, able: bool
) -> None:
    features = {"amx_bf16"} if able else set()
    monkeypatch.setattr(distill, "host", lambda: SimpleNamespace(has=lambda name: name in features))
    settings = DistillSettings(precision=asked)
    assert distill._schedule(settings, 1000, encoder=encoder).precision == precision
