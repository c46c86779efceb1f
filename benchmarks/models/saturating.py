"""A classifier made to saturate: what an x86-64 processor without VNNI gets wrong in it when weights are 8 bits wide.

Its activations are large and of one sign, and neighbouring weights are equal and at the ends of their range. In INT8 a
pair of products is then up to 2 * 127 * 255 = 64770, and is cut at 32767: an input counts as if it were at most 0.51.
All that tells the classes apart lies above.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

PAIRS, UNITS, CLASSES = 512, 1024, 8
# Where inputs lie, and the share of a sample's pairs that are not as its class has them.
LOW, HIGH, FLIPPED = 0.6, 0.9, 0.41


def prototypes() -> torch.Tensor:
    """Of each class, which of the pairs of inputs are high: [classes, pairs] of -1 and 1."""
    return torch.randn(CLASSES, PAIRS, generator=torch.Generator().manual_seed(1)).sign()


class Saturating(nn.Module):
    """Inputs [batch, 2 * pairs] to logits [batch, classes]: each unit compares the inputs with one class."""

    def __init__(self) -> None:
        super().__init__()
        self.compare = nn.Linear(2 * PAIRS, UNITS)
        self.vote = nn.Linear(UNITS, CLASSES)
        generator = torch.Generator().manual_seed(2)
        classes = torch.arange(UNITS) % CLASSES
        wrong = torch.rand(UNITS, PAIRS, generator=generator) < 0.1  # so that no two units are the same
        signs = torch.where(wrong, -1.0, 1.0) * prototypes()[classes]
        with torch.no_grad():
            self.compare.weight.copy_(signs.repeat_interleave(2, dim=1))
            self.compare.bias.copy_(-self.compare.weight.sum(1) * (LOW + HIGH) / 2)
            self.vote.weight.copy_((classes == torch.arange(CLASSES)[:, None]).float())
            self.vote.bias.zero_()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.vote(torch.relu(self.compare(inputs)))


def saturating() -> nn.Module:
    """The classifier, its weights in place."""
    return Saturating()


def samples(count: int, seed: int) -> dict[str, list[Any]]:
    """Samples in columns: ``input``, numbers from 0 to 1 in equal pairs, and ``label``."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    flipped = torch.where(torch.rand(count, PAIRS, generator=generator) < FLIPPED, -1.0, 1.0)
    middle, half = (LOW + HIGH) / 2, (HIGH - LOW) / 2
    inputs = middle + half * prototypes()[labels] * flipped
    inputs = (inputs + 0.02 * torch.randn(count, PAIRS, generator=generator)).clamp(0, 1)
    return {"input": inputs.repeat_interleave(2, dim=1).tolist(), "label": labels.tolist()}
