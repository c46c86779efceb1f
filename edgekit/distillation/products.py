"""The precision of products while training: bfloat16 for matrices, float32 for weights, sums and attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

Precision = Literal["fp32", "bf16"]


@contextmanager
def products(precision: Precision, device: str) -> Iterator[None]:
    """Compute with products of a precision inside.

    Weights stay float32, and so do their gradients (Micikevicius et al. 2018, Mixed Precision Training, section 3.1;
    bfloat16 has the range of float32 and needs no scaling of the loss: Kalamkar et al. 2019). On a processor attention
    stays float32, too: there the gradient of its fused kernel is slow in bfloat16.

    Args:
        precision: ``fp32`` changes nothing.
        device: kind of the device, as torch names it.
    """
    if precision == "fp32":
        yield
        return
    import torch

    with torch.autocast(device, torch.bfloat16), _float_attention(device):
        yield


def _float_attention(device: str) -> Any:
    """A mode under which ``scaled_dot_product_attention`` computes in float32 on a processor."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    class FloatAttention(TorchFunctionMode):
        def __torch_function__(
            self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if func is not scaled_dot_product_attention or device != "cpu":
                return func(*args, **kwargs or {})
            with torch.autocast(device, enabled=False):
                return func(*map(_float, args), **{name: _float(value) for name, value in (kwargs or {}).items()})

    return FloatAttention()


def _float(value: Any) -> Any:
    import torch

    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
