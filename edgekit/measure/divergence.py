"""How far the answers of two models are apart, sample by sample: finer than a metric, which only sees what flips."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from edgekit.tasks.base import Array


class Divergence(NamedTuple):
    """A mean over samples, and its standard error."""

    mean: float
    error: float


def divergence(original: Array, other: Array) -> Divergence:
    """The mean Kullback-Leibler divergence, in nats, of another model's classes from the original's.

    Where the model answers with one number there are no classes: it is the squared error as a share of the variance of
    the original's answers. Of students that were trained briefly it tells the better one with fewer samples than
    accuracy does, which counts only the samples whose best class changes.

    Args:
        original: logits [samples, ..., outputs].
        other: logits of the same samples.
    """
    import numpy as np

    expected, found = original.astype(np.float64), other.astype(np.float64)
    if expected.shape[-1] == 1:
        each = (found - expected) ** 2 / (expected.var() + 1e-12)
    else:
        left, right = _log_softmax(expected), _log_softmax(found)
        each = (np.exp(left) * (left - right)).sum(-1)
    samples = each.reshape(len(each), -1).mean(-1)
    spread = float(samples.std(ddof=1)) if len(samples) > 1 else 0.0
    return Divergence(float(samples.mean()), spread / math.sqrt(len(samples)))


def _log_softmax(logits: Array) -> Array:
    import numpy as np

    shifted: Array = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
