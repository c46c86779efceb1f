"""How many tokens each layer hands on, and whether an answer hangs on the first one alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.errors import UsageError
from edgekit.formats.encoder import encoder_layers
from edgekit.formats.torch import hooked

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgekit.tasks.base import ComponentSpec

# Digits of a share that a schedule gives: `formats/thinning.py` reckons in thousandths.
DIGITS = 3


def shares_of(asked: float | tuple[float, ...] | None, layers: int) -> tuple[float, ...] | None:
    """For each layer but the last, the share of a sample's tokens that it hands on; None where all hand on all.

    Of one layer nothing is left out: it computes the first token alone.

    Args:
        asked: what the last layer takes in, or all shares. To one number they fall in equal ratios, as those of a
            constant keep rate do, from the middle of the encoder on: early layers do not know yet what matters (Liang
            et al. 2022, EViT, section 4, begin at the fourth of twelve).
        layers: that the encoder has.

    Raises:
        UsageError: the shares are not as many as the layers.
    """
    if asked is None:
        return None
    if not isinstance(asked, tuple):
        whole = (layers - 1) // 2
        falling = range(1, layers - whole)
        asked = (1.0,) * whole + tuple(round(asked ** (number / falling[-1]), DIGITS) for number in falling)
    elif len(asked) != layers - 1:
        raise UsageError(
            f"prune.tokens=[{','.join(f'{share:g}' for share in asked)}] was given, and layers that stay: {layers}",
            id="usage.settings-conflict",
            why=f"each of them but the last has a share: {layers - 1}",
            hint="Give so many, or one number, to which the shares come down.",
        )
    return None if all(share == 1 for share in asked) else asked


def reads_first_token_alone(model: nn.Module, spec: ComponentSpec) -> bool:
    """Whether an answer hangs on the first token that the last layer hands on, and on no other: by its gradient.

    Args:
        model: an encoder with its head, in evaluation mode.
        spec: the component that it is, which gives one tensor.
    """
    import torch

    states: list[torch.Tensor] = []

    def keep(module: object, inputs: object, output: Any) -> Any:
        del module, inputs
        state = output[0] if isinstance(output, tuple) else output
        states.append(state.detach().requires_grad_())
        return (states[0], *output[1:]) if isinstance(output, tuple) else states[0]

    with hooked([encoder_layers(model)[-1].module.register_forward_hook(keep)]), torch.enable_grad():
        answer = spec.module(**spec.example)
        (gradient,) = torch.autograd.grad(answer.square().sum(), states)
    return bool((gradient[:, 1:] == 0).all())
