from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgekit.distillation.products import products


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
