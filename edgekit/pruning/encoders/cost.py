"""What a layer costs: multiply-accumulates of one inference of the workload.

A head of width ``d`` on ``T`` tokens of width ``H`` takes ``4 T H d`` in its four matrices and ``2 T^2 d`` in scores
and mixing; a neuron takes ``2 T H`` (Vaswani et al. 2017, table 1, with the projections counted).

Where the task reads the first token alone, the last layer needs keys and values of every token and the rest for one
token only (``optimization/tokens.py`` sees to it): there a head takes ``2 T H d + 2 H d + 2 T d``, a neuron ``2 H``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.formats.surgery import EncoderPlan
from edgekit.formats.thinning import tokens_by_layer


@dataclass(frozen=True)
class CostModel:
    """Multiply-accumulates of an encoder's parts at a workload.

    Attributes:
        head: of one attention head.
        neuron: of one feed-forward neuron.
        last_head: of one head of the last layer.
        last_neuron: of one neuron of the last layer.
        thinned: of one head and of one neuron of each layer but the last, where layers leave tokens out.
    """

    head: int
    neuron: int
    last_head: int
    last_neuron: int
    thinned: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(
        cls, *, tokens: int, hidden: int, head_width: int, first_token_only: bool, shares: Sequence[float] = ()
    ) -> CostModel:
        """The costs at ``tokens`` tokens of ``hidden`` columns.

        Args:
            tokens: of one sample.
            hidden: columns of the stream.
            head_width: columns of a head.
            first_token_only: whether the last layer is read at the first token alone.
            shares: of the tokens that each layer but the last hands on; none where all hand on all.
        """
        head, neuron = tokens * head_width * (4 * hidden + 2 * tokens), 2 * tokens * hidden
        if not first_token_only:
            return cls(head, neuron, head, neuron)
        thinned, came = [], tokens
        for left in tokens_by_layer(tokens, shares):
            chosen = came if left < came else 0
            mixed = head_width * (3 * came * hidden + left * hidden + 2 * came * left + chosen)
            thinned.append((mixed, 2 * left * hidden))
            came = left
        return cls(head, neuron, 2 * head_width * (came * hidden + hidden + came), 2 * hidden, tuple(thinned))

    def heads(self, layers: int) -> list[int]:
        """The cost of a head in each of so many layers."""
        if self.thinned:
            return [*(head for head, _ in self.thinned), self.last_head]
        return [self.head] * (layers - 1) + [self.last_head]

    def neurons(self, layers: int) -> list[int]:
        """The cost of a neuron in each of so many layers."""
        if self.thinned:
            return [*(neuron for _, neuron in self.thinned), self.last_neuron]
        return [self.neuron] * (layers - 1) + [self.last_neuron]

    def total(self, widths: Sequence[tuple[int, int]]) -> int:
        """The cost of an encoder with so many heads and neurons in each layer."""
        costs = zip(widths, self.heads(len(widths)), self.neurons(len(widths)), strict=True)
        return sum(heads * head + neurons * neuron for (heads, neurons), head, neuron in costs)

    def plan(self, plan: EncoderPlan) -> int:
        """The cost of all layers of a plan."""
        return self.total([(len(layer.heads), len(layer.neurons)) for layer in plan.layers])
