"""INT4 in blocks: elements that lie beside each other share a scale, and each becomes one of 16 steps.

Training rounds tensors of torch to what the quantizer, with arrays of numpy, will write. Both go by this definition: it
uses only functions that the two libraries have under the same names.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    Values = TypeVar("Values", npt.NDArray[Any], torch.Tensor)

LOWEST, HIGHEST = -8, 7
# Elements that share a scale in a product: of a column of its weights, and of a row of its inputs.
PRODUCT_BLOCK = 64
# Shares of the scale that just reaches a block's furthest element: to cut that one off often costs less than coarser
# steps for all others (Banner et al. 2019, Post training 4-bit quantization of convolutional networks, section 3).
SHARES = tuple(step / 20 for step in range(20, 12, -1))


def scales_of(blocks: Values, furthest: Values, xp: ModuleType) -> Values:
    """The scale of each block [rows, blocks, 1]: of ``SHARES`` of the whole one, that with the least squared error.

    By the whole scale the furthest element is at -8, so that all 16 steps are used; so a scale may be negative.

    Args:
        blocks: float32 [rows, blocks, block].
        furthest: the element of each block that is furthest from 0, the first of several; float32 [rows, blocks, 1].
        xp: ``numpy`` or ``torch``, whichever the values are of.
    """
    whole = furthest / LOWEST
    whole = xp.where(whole == 0, 1.0, whole)  # of an element that is next to nothing an eighth is nothing
    best, least = whole, xp.full_like(whole, xp.inf)
    for share in SHARES:
        scales = whole * share
        error = xp.sum((steps_of(blocks, scales, xp) * scales - blocks) ** 2, axis=-1, keepdims=True)
        best, least = xp.where(error < least, scales, best), xp.minimum(error, least)
    found: Values = best
    return found


def steps_of(blocks: Values, scales: Values, xp: ModuleType) -> Values:
    """The step of each element, from ``LOWEST`` to ``HIGHEST``, in float32 [rows, blocks, block]."""
    steps: Values = xp.clip(xp.round(blocks / scales), LOWEST, HIGHEST)
    return steps
