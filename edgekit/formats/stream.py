"""The stream of an encoder: where its columns are written and read, and the surgery that takes some of them away.

All layers read one stream [tokens, hidden size] and add to it. A column that goes therefore goes everywhere at once:
from the tables of embeddings, from the outputs of every matrix that writes to the stream, from the inputs of every
matrix that reads it, and from every norm, which is then a norm of what is left. The first matrix behind the layers (the
pooler's, or the head's) is the last one that reads the stream: what it gives keeps its width.

Source: Xia et al. 2022, Structured Pruning Learns Compact and Accurate Models (CoFi), section 3.1: one mask over the
hidden dimensions, shared by all layers, because the residual connections tie them together; so does Xia et al. 2023,
Sheared LLaMA, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgekit.errors import ModelError
from edgekit.formats.encoder import base_model, encoder_layers, stream_width

if TYPE_CHECKING:
    import torch
    from torch import nn

Role = Literal["readers", "writers", "tables", "norms", "vectors"]
POOLER, PROJECTION, EMBEDDINGS = "pooler.dense", "embeddings_project", "embeddings"
# What reads the stream behind the layers where there is no pooler: of a model, the first of these that it has.
HEADS = (("pre_classifier",), ("classifier.dense",), ("classifier",), ("cls_classifier", "distillation_classifier"))


@dataclass(frozen=True)
class Stream:
    """Everything that has the stream's width.

    Attributes:
        width: columns of the stream.
        readers: matrices by their inputs, those together that read the same.
        writers: matrices and convolutions by their outputs.
        tables: embeddings.
        norms: layer norms over the stream.
        vectors: parameters whose last dimension is the stream's, each with its module.
    """

    width: int
    readers: tuple[tuple[nn.Linear, ...], ...]
    writers: tuple[nn.Linear | nn.Conv2d, ...]
    tables: tuple[nn.Embedding, ...]
    norms: tuple[nn.LayerNorm, ...]
    vectors: tuple[tuple[nn.Module, str], ...]


def stream_of(model: nn.Module) -> Stream:
    """The stream of a transformers encoder with a head for classification.

    Raises:
        ModelError: the architecture is not known, or has a part of which it is not known what it does to the stream.
    """
    width, modules, layers = stream_width(model), dict(base_model(model).named_modules()), encoder_layers(model)
    readers = [part for one in layers for part in ((one.q, one.k, one.v), (one.up,))]
    writers: list[Any] = [matrix for one in layers for matrix in (one.o, one.down)]
    known = {id(matrix) for matrix in (*writers, *(matrix for part in readers for matrix in part))}
    if PROJECTION in modules:  # tables of another width, which this matrix takes to the stream's
        known |= {id(module) for name, module in modules.items() if f"{name}.".startswith(f"{EMBEDDINGS}.")}
    found: dict[Role, list[tuple[str, Any]]] = {}
    for name, module in modules.items():
        if id(module) not in known and next(module.parameters(recurse=False), None) is not None:
            role = _role(name, module, width)
            if role is None:
                raise _unknown(model, f"what {name!r} does to it is not known")
            found.setdefault(role, []).append((name, module))

    def parts(role: Role) -> list[Any]:
        return [module for _, module in found.get(role, [])]

    return Stream(
        width=width,
        readers=(*readers, *((matrix,) for matrix in parts("readers") or _head(model, width))),
        writers=(*writers, *parts("writers")),
        tables=tuple(parts("tables")),
        norms=tuple(parts("norms")),
        vectors=tuple((module, name) for module in parts("vectors") for name, _ in _own(module)),
    )


def _role(name: str, module: nn.Module, width: int) -> Role | None:
    """What a module of the base, none of a layer's six matrices, is to the stream; None where that is not known."""
    from torch import nn

    if isinstance(module, nn.LayerNorm):
        return "norms" if tuple(module.normalized_shape) == (width,) else None
    if isinstance(module, nn.Embedding):
        return "tables" if module.embedding_dim == width else None
    if isinstance(module, nn.Conv2d):
        return "writers" if module.out_channels == width else None
    if isinstance(module, nn.Linear):
        return {PROJECTION: "writers", POOLER: "readers"}.get(name)  # type: ignore[return-value]  # of these two
    return "vectors" if name == EMBEDDINGS and all(own.shape[-1] == width for _, own in _own(module)) else None


def _own(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(recurse=False))


def _head(model: nn.Module, width: int) -> list[nn.Linear]:
    """The matrices of the head that read the stream, where no pooler stands between."""
    from torch import nn

    modules = dict(model.named_modules())
    names = next((names for names in HEADS if all(isinstance(modules.get(name), nn.Linear) for name in names)), ())
    found = [module for name in names if isinstance(module := modules[name], nn.Linear)]
    if not found or any(matrix.in_features != width for matrix in found):
        raise _unknown(model, "what reads it behind the layers is not known")
    return found


def _unknown(model: nn.Module, why: str) -> ModelError:
    return ModelError(
        f"the hidden size of {type(model).__name__} cannot be pruned",
        id="model.not-prunable",
        why=why,
        hint="Leave out prune.hidden: layers, heads and neurons can be pruned without it.",
    )


def cut_stream(model: nn.Module, kept: Sequence[int]) -> nn.Module:
    """Cut the stream in place to the columns ``kept``, ascending, and return the model.

    Raises:
        ModelError: see ``stream_of``; or the stream has no such column.
    """
    import torch

    stream = stream_of(model)
    if max(kept) >= stream.width:
        raise ModelError(
            f"the plan keeps column {max(kept)} of the hidden size",
            id="model.plan-mismatch",
            why=f"the model has {stream.width} columns",
        )
    columns, width = torch.tensor(kept), len(kept)
    for matrix in (matrix for part in stream.readers for matrix in part):
        _take(matrix, "weight", columns)
        matrix.in_features = width
    for writer in stream.writers:
        _take(writer, "weight", columns, axis=0)
        _take(writer, "bias", columns)
        setattr(writer, "out_features" if hasattr(writer, "out_features") else "out_channels", width)
    for table in stream.tables:
        _take(table, "weight", columns)
        table.embedding_dim = width
    for norm in stream.norms:
        _take(norm, "weight", columns)
        _take(norm, "bias", columns)
        norm.normalized_shape = (width,)
    for module, name in stream.vectors:
        _take(module, name, columns)
    return model


def _take(module: nn.Module, name: str, columns: torch.Tensor, *, axis: int = -1) -> None:
    """Keep these places of an axis of a parameter, if the module has it."""
    from torch import nn

    values = getattr(module, name)
    if values is not None:
        setattr(module, name, nn.Parameter(values.detach().index_select(axis, columns), values.requires_grad))
