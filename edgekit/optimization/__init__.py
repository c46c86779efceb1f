"""Rewrites of an ONNX graph that leave its answers as they are and make it cheaper.

Each is a function of a graph, changed in place, that returns how often it applied. What onnxruntime does by itself when
it loads a graph (a bias with its Gelu, a product with its scale) is left to it, unless it makes the graph slower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.optimization.attention import read_unsplit
from edgekit.optimization.packing import join_products
from edgekit.optimization.residual import keep_sums_apart
from edgekit.optimization.tokens import keep_first_token

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Rewrite:
    """A rewrite as the table has it.

    Attributes:
        name: as reports call it.
        apply: changes the graph in place; returns how often.
        removes_work: whether it saves work on any machine, and so is right where nothing can be timed.
        stays_in_doubt: whether it stays unless it was measured to be slower, and not only where it was measured to be
            faster: it leaves out work, and gives the same numbers by kernels that every processor has.
    """

    name: str
    apply: Callable[[ir.Graph], int]
    removes_work: bool
    stays_in_doubt: bool = False


# In the order in which they are applied.
REWRITES: dict[str, Rewrite] = {
    "first_token": Rewrite("first_token", keep_first_token, removes_work=True, stays_in_doubt=True),
    "attention": Rewrite("attention", read_unsplit, removes_work=True, stays_in_doubt=True),
    "packed": Rewrite("packed", join_products, removes_work=False),
    "residual": Rewrite("residual", keep_sums_apart, removes_work=False, stays_in_doubt=True),
}
