"""Multiply-accumulates of a graph at the size of its inputs, and of each kind of operator that the runtime makes of it.

A runtime fuses nodes when it loads a graph, so what it runs has other kinds of operators than the file. The work of the
whole is counted in the file, as ``inspect`` counts it; that of each kind in the graph as the runtime has fused it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.cache import temporary
from edgekit.formats.known import label
from edgekit.formats.onnx import INLINE_LIMIT_BYTES, load_graph
from edgekit.formats.shapes import infer_shapes
from edgekit.formats.work import RULES, Work, count_work
from edgekit.runtimes.measuring import Subject
from edgekit.runtimes.ort import fuse
from edgekit.tasks.base import Batch

# What is put before the name of an operator when another one is fused into it.
FUSED = "Fused"
# Operators that do the work which is counted. Those of onnxruntime are named without their domain, as it reports them.
PRODUCTS = frozenset(kind.rpartition(".")[2] for kind in RULES)


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one inference.

    Attributes:
        total: of all of it; None where they cannot be told.
        because: why they cannot.
        kinds: for each kind of operator in the fused graph, how many nodes there are, and their work.
    """

    total: int | None
    because: str = ""
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)

    def of(self, nodes: Mapping[str, int]) -> dict[str, int]:
        """The work of each kind in a profile, where the profile has the same nodes.

        The last step of the runtime's optimizations, which lays a graph out for one processor, is not part of the
        fused graph: it may turn ``FusedConv`` into ``Conv``. So a kind is also found by the name of what it fuses.

        Args:
            nodes: how many nodes of each kind the profile has.
        """
        found = {kind: macs for kind, (count, macs) in self.kinds.items() if nodes.get(kind) == count}
        plain: dict[str, list[str]] = {}
        for kind in nodes:
            plain.setdefault(kind.removeprefix(FUSED), []).append(kind)
        for name, kinds in plain.items():
            alike = [both for kind, both in self.kinds.items() if kind.removeprefix(FUSED) == name]
            if len(kinds) == 1 and alike and sum(count for count, _ in alike) == nodes[kinds[0]]:
                found[kinds[0]] = sum(macs for _, macs in alike)
        return found


def count_macs(subject: Subject) -> Macs:
    """The work of one inference of an ONNX subject.

    Raises:
        ModelError: onnxruntime refuses the graph.
    """
    own = _count(subject.graph, subject.feeds)
    because = _because(own)
    total = None if because else own.total
    if sum(file.stat().st_size for file in (subject.graph, *subject.beside)) > INLINE_LIMIT_BYTES:
        return Macs(total, because)  # the fused graph cannot be written in one file
    with temporary() as folder:
        file = folder / "fused.onnx"
        fuse(subject.graph, file)
        fused = _count(file, subject.feeds)
    if fused.choices or fused.repeats:
        return Macs(total, because)
    lost = {node.op_type for node in fused.unknown}
    counts, macs = Counter[str](), Counter[str]()
    for node, work in fused.macs.items():
        counts[node.op_type] += 1
        macs[node.op_type] += work
    kinds = {kind: (count, macs[kind]) for kind, count in counts.items() if kind not in lost}
    return Macs(total, because, kinds)


def _count(file: Path, feeds: Batch) -> Work:
    """The work of a graph whose inputs have the sizes of what it is fed."""
    import onnx_ir as ir
    from onnx_ir.passes.common import InlinePass

    model = load_graph(file)
    if model.functions:
        InlinePass()(model)
    for value in model.graph.inputs:
        if value.name in feeds:
            value.shape = ir.Shape(feeds[value.name].shape)
    return count_work(model.graph, infer_shapes(model, {}))


def _because(work: Work) -> str:
    """Why the work of a whole graph cannot be told; empty where it can."""
    if work.unknown:
        return f"shapes are not known at {label(work.unknown[0])}"
    if work.repeats:
        return f"the data decides how often {label(work.repeats[0])} runs"
    if work.choices:
        return f"the data decides which branch {label(work.choices[0])} takes"
    return ""
