"""What a layer costs: multiply-accumulates of one inference of the workload.

A head of width ``d`` on ``T`` tokens of width ``H`` takes ``4 T H d`` in its four matrices and ``2 T^2 d`` in scores
and mixing; a neuron takes ``2 T H`` (Vaswani et al. 2017, table 1, with the projections counted).
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.formats.surgery import Plan


@dataclass(frozen=True)
class CostModel:
    """Multiply-accumulates of an encoder's parts at a workload.

    Attributes:
        head: of one attention head.
        neuron: of one feed-forward neuron.
    """

    head: int
    neuron: int

    @classmethod
    def of(cls, *, tokens: int, hidden: int, head_width: int) -> CostModel:
        """The costs at ``tokens`` tokens of ``hidden`` columns."""
        return cls(head=tokens * head_width * (4 * hidden + 2 * tokens), neuron=2 * tokens * hidden)

    def layer(self, heads: int, neurons: int) -> int:
        """Multiply-accumulates of a layer."""
        return heads * self.head + neurons * self.neuron

    def plan(self, plan: Plan) -> int:
        """Multiply-accumulates of all layers of a plan."""
        return sum(self.layer(len(layer.heads), len(layer.neurons)) for layer in plan.layers)
