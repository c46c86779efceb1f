"""What must go together: the channels that are one through residuals, concatenations and depthwise convolutions.

Take two convolutions ``a -> b``. A channel of ``a`` is a filter of ``a``, its entry in the batch norm behind, and the
column of ``b`` that reads it: three *atoms*, one *unit*. Where ``a`` feeds a sum, the filters of everything that is
added belong to the unit as well. torch-pruning traces which atoms those are (Fang et al. 2023, DepGraph, section 3.2).

A trace can be wrong where a forward function moves channels in ways it does not know (padding with zeros, indexing,
turning their order round), and the result then still runs. So every group is put to the proof before anything is cut:
setting to zero the weights that read a channel must give what the module without the channel gives. It is done with
channels drawn at random, since a regular choice can be its own mirror image. A group that fails stays whole.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgekit.checkpoint import first_lines
from edgekit.formats.channels import ChannelPlan, LayerChannels, cut_channels, layer_pruner

if TYPE_CHECKING:
    import torch
    from torch import nn

Side = Literal["outputs", "inputs"]
# A layer by name, and one of its sides.
Face = tuple[str, Side]
# One channel on one side of one layer.
Atom = tuple[str, Side, int]
# Largest difference in the proof, in units of the largest output: sums of other lengths round differently.
TOLERANCE = 1e-4
# Of a group's units, each trial of the proof takes away one in so many.
TRIAL = 3


@dataclass(frozen=True)
class Unit:
    """Atoms that go together or not at all."""

    atoms: frozenset[Atom]

    def on(self, face: Face) -> list[int]:
        """Its channels on one side of a layer, ascending."""
        return sorted(index for name, side, index in self.atoms if (name, side) == face)


@dataclass(frozen=True)
class Group:
    """The units of one layer's outputs.

    Attributes:
        root: name of the layer.
        units: in the order of the root's channels; empty where none can go.
        refused: why none can go.
    """

    root: str
    units: tuple[Unit, ...]
    refused: str = ""


def find_groups(model: nn.Module, example: dict[str, torch.Tensor]) -> list[Group]:
    """Every group of a module, those that stay whole with the reason.

    Args:
        model: in evaluation mode; left as it is.
        example: inputs, at least two samples.
    """
    groups: list[Group] = []
    taken: set[Atom] = set()
    for root, atoms, refused in _trace(model, example):
        if refused:
            groups.append(Group(root, (), refused))
            continue
        units = _units(model, root, atoms)
        shared = any(unit.atoms & taken for unit in units)
        reason = "shares channels with another group" if shared else _refuse(model, example, units)
        if reason:
            groups.append(Group(root, (), reason))
        else:
            groups.append(Group(root, units))
            taken |= {atom for unit in units for atom in unit.atoms}
    groups += [Group(name, (), f"layers of the kind {kind} stay whole") for name, kind in _whole_layers(model)]
    order = {name: place for place, name in enumerate(dict(model.named_modules()))}
    return sorted(groups, key=lambda group: order[group.root])


def _whole_layers(model: nn.Module) -> list[tuple[str, str]]:
    """Layers with weights that no plan cuts, by name and kind: recurrent ones, embeddings, the user's own."""
    from torch_pruning import ops

    return [
        (name, type(layer).__name__)
        for name, layer in model.named_modules()
        if list(layer.parameters(recurse=False)) and ops.module2type(layer) not in _cuttable(ops)
    ]


def differentiable(model: nn.Module) -> nn.Module:
    """A copy in which every weight has a gradient, those that are frozen too."""
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return copied


def _trace(model: nn.Module, example: dict[str, torch.Tensor]) -> list[tuple[str, dict[int, set[Atom]], str]]:
    """torch-pruning's groups: name of the root, the atoms of each of its channels, and why it cannot go.

    It fails in many ways on what it does not know. What it fails on stays whole.
    """
    import torch
    from torch_pruning import DependencyGraph, ops

    traced = differentiable(model)
    names = {module: name for name, module in traced.named_modules()}
    found: list[tuple[str, dict[int, set[Atom]], str]] = []
    with torch.enable_grad():
        try:
            graph = DependencyGraph().build_dependency(traced, example, verbose=False)
        except Exception as error:  # noqa: BLE001  # see above
            return [(name, {}, _cannot_follow(error)) for layer, name in names.items() if _is_root(layer, ops)]
        done: set[Any] = set()
        seen = [layer for layer in graph.module2node if _is_root(layer, ops)]
        for root in seen:
            if root in done:
                continue
            pruner = layer_pruner(root, names[root])
            try:
                channels = list(range(pruner.get_out_channels(root)))
                group = graph.get_pruning_group(root, pruner.prune_out_channels, channels)
            except Exception as error:  # noqa: BLE001  # see above
                found.append((names[root], {}, _cannot_follow(error)))
                continue
            done |= {item.dep.target.module for item in group if graph.is_out_channel_pruning_fn(item.dep.handler)}
            found.append((names[root], *_atoms(graph, group, names)))
    unseen = [name for layer, name in names.items() if _is_root(layer, ops) and layer not in graph.module2node]
    return [*found, *((name, {}, "torch-pruning does not see what it does to the outputs") for name in unseen)]


def _is_root(layer: Any, ops: Any) -> bool:
    """Whether a layer makes channels of its own."""
    return isinstance(layer, (ops.TORCH_CONV, ops.TORCH_LINEAR))


def _cannot_follow(error: Exception) -> str:
    return f"torch-pruning cannot follow its channels ({type(error).__name__}: {first_lines(error)[:80]})"


def _atoms(graph: Any, group: Any, names: Mapping[Any, str]) -> tuple[dict[int, set[Atom]], str]:
    """The atoms of each channel of a traced group's root, and why the group cannot go."""
    from torch_pruning import ops

    atoms: dict[int, set[Atom]] = defaultdict(set)
    refused = ""
    for item in group:
        layer = item.dep.target.module
        if ops.module2type(layer) == ops.OPTYPE.OUTPUT:
            refused = "its channels are the outputs of the module"
        if not _has_channels(layer, ops):
            continue
        if layer not in names:
            refused = refused or "feeds a parameter that belongs to no layer"
            continue
        if ops.module2type(layer) not in _cuttable(ops):
            refused = refused or f"feeds {names[layer]} ({type(layer).__name__})"
            continue
        side: Side = "outputs" if graph.is_out_channel_pruning_fn(item.dep.handler) else "inputs"
        for index, start in zip(item.idxs, item.root_idxs, strict=True):
            atoms[start].add((names[layer], side, int(index)))
    return dict(atoms), refused


def _has_channels(layer: Any, ops: Any) -> bool:
    """Whether something in a group holds numbers for each channel: what has none follows its surroundings."""
    if ops.module2type(layer) == ops.OPTYPE.PRELU:
        return int(layer.num_parameters) > 1
    passive = (
        ops.OPTYPE.ELEMENTWISE,
        ops.OPTYPE.CONCAT,
        ops.OPTYPE.SPLIT,
        ops.OPTYPE.RESHAPE,
        ops.OPTYPE.UNBIND,
        ops.OPTYPE.EXPAND,
        ops.OPTYPE.SLICE,
        ops.OPTYPE.OUTPUT,
    )
    return ops.module2type(layer) not in passive


def _cuttable(ops: Any) -> tuple[Any, ...]:
    """Kinds of layers that a plan can cut; recurrent ones, attention and norms over channels stay whole."""
    return (ops.OPTYPE.CONV, ops.OPTYPE.DEPTHWISE_CONV, ops.OPTYPE.BN, ops.OPTYPE.LINEAR, ops.OPTYPE.PRELU)


def _units(model: nn.Module, root: str, atoms: dict[int, set[Atom]]) -> tuple[Unit, ...]:
    """The root's channels, joined where they share an atom or stand at the same place of a grouped convolution."""
    parent = {start: start for start in atoms}

    def find(start: int) -> int:
        while parent[start] != start:
            parent[start] = parent[parent[start]]
            start = parent[start]
        return start

    first: dict[Atom, int] = {}
    for start, members in sorted(atoms.items()):
        for name, side, index in members:
            place = (name, side, index % _period(model, (name, side)))
            other = first.setdefault(place, start)
            parent[find(start)] = find(other)
    joined: dict[int, set[Atom]] = defaultdict(set)
    for start, members in sorted(atoms.items()):
        joined[find(start)] |= members
    return tuple(Unit(frozenset(members)) for _, members in sorted(joined.items()))


def _period(model: nn.Module, face: Face) -> int:
    """Channels of one group of a convolution's side: those at the same place of each group go together."""
    layer = model.get_submodule(face[0])
    channels = channels_of(model, face)
    groups = int(getattr(layer, "groups", 1))
    return channels // groups if 1 < groups < int(getattr(layer, "out_channels", 0)) else channels


def channels_of(model: nn.Module, face: Face) -> int:
    """How many channels a side of a layer has."""
    layer = model.get_submodule(face[0])
    pruner = layer_pruner(layer, face[0])
    return int(pruner.get_out_channels(layer) if face[1] == "outputs" else pruner.get_in_channels(layer))


def removed_channels(units: Iterable[Unit]) -> dict[Face, set[int]]:
    """What is gone of each side of each layer when units go."""
    gone: dict[Face, set[int]] = defaultdict(set)
    for unit in units:
        for name, side, index in unit.atoms:
            gone[name, side].add(index)
    return dict(gone)


def plan_without(model: nn.Module, units: Iterable[Unit]) -> ChannelPlan:
    """The plan that keeps everything but the units."""
    gone = removed_channels(units)
    layers = []
    for name in dict(model.named_modules()):
        kept: dict[str, tuple[int, ...]] = {}
        for side in ("outputs", "inputs"):
            removed = gone.get((name, side), set())
            if removed:
                kept[side] = tuple(i for i in range(channels_of(model, (name, side))) if i not in removed)
        if kept:
            layers.append(LayerChannels(layer=name, **kept))
    return ChannelPlan(architecture=type(model).__name__, layers=tuple(layers))


def _refuse(model: nn.Module, example: dict[str, torch.Tensor], units: tuple[Unit, ...]) -> str:
    """The proof: why these units cannot go, empty when they can."""
    if len(units) < 2:
        return "all its channels hang together"
    if not any(side == "inputs" for unit in units for _, side, _ in unit.atoms):
        return "its channels are outputs of the module, or nothing that can be cut reads them"
    return next(filter(None, (_try(model, example, trial) for trial in _trials(units))), "")


def _trials(units: Sequence[Unit]) -> list[list[Unit]]:
    """Two sets of units, drawn at random, that share none."""
    import torch

    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(0)).tolist()
    size = max(1, len(units) // TRIAL)
    return [[units[place] for place in order[start : start + size]] for start in (0, size)]


def _try(model: nn.Module, example: dict[str, torch.Tensor], trial: Sequence[Unit]) -> str:
    """What goes wrong without some units, empty when nothing does."""
    import torch

    masked, cut = copy.deepcopy(model), copy.deepcopy(model)
    silence(masked, trial)
    with torch.no_grad():
        expected = masked(**example)
        try:
            given = cut_channels(cut, plan_without(model, trial))(**example)
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            return f"without some of them the module does not run ({type(error).__name__}: {first_lines(error)[:80]})"
    if expected.shape != given.shape:
        return "without some of them the outputs have another shape"
    difference = float((expected - given).abs().max() / expected.abs().max().clamp_min(1e-6))
    return "" if difference <= TOLERANCE else f"without some of them other outputs change (by {difference:.0e})"


def silence(model: nn.Module, units: Iterable[Unit]) -> None:
    """Set to zero the weights that read the units' channels, in place."""
    import torch

    with torch.no_grad():
        for (name, side), indices in removed_channels(units).items():
            if side == "inputs":
                for weights in reading_weights(model.get_submodule(name), sorted(indices)):
                    weights.zero_()


def reading_weights(layer: nn.Module, channels: list[int]) -> list[torch.Tensor]:
    """Views of the weights by which a convolution or linear layer reads each of its input channels."""
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]  # every layer that is cut has one
    groups = int(getattr(layer, "groups", 1))
    if getattr(layer, "transposed", False):
        return [weight[channel] for channel in channels]
    reads, writes = weight.shape[1], weight.shape[0] // groups
    found = []
    for channel in channels:
        group, place = divmod(channel, reads)
        found.append(weight[group * writes : (group + 1) * writes, place])
    return found
