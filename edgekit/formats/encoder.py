"""Where a transformer encoder keeps its heads, neurons and layers, by architecture.

An encoder layer reads and writes the residual stream twice: through attention (queries, keys and values of each head,
then the output projection that mixes the heads) and through a feed-forward block (``up`` to the neurons, ``down`` from
them). A head is rows of q, k, v and the columns of o that read them; a neuron is a row of up and a column of down; a
layer is all of it. Removing them makes the matrices smaller and changes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from edgekit.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Anatomy:
    """Names of the parts, below the model's base module (``layers``) and below one layer (the rest).

    ``sizes`` lists attributes of the attention module that repeat how many heads or columns it has. ``norms`` are those
    of attention and of the feed-forward block: in front of them where ``norms_first``, else behind what they add up to.
    """

    layers: str
    q: str
    k: str
    v: str
    o: str
    up: str
    down: str
    attention: str
    activation: str
    norms: tuple[str, str]
    norms_first: bool = False
    sizes: tuple[str, ...] = ()


_BERT = Anatomy(
    layers="encoder.layer",
    q="attention.self.query",
    k="attention.self.key",
    v="attention.self.value",
    o="attention.output.dense",
    up="intermediate.dense",
    down="output.dense",
    attention="attention.self",
    activation="intermediate.intermediate_act_fn",
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    sizes=("num_attention_heads", "all_head_size"),
)
_VIT = Anatomy(
    layers="layers",
    q="attention.q_proj",
    k="attention.k_proj",
    v="attention.v_proj",
    o="attention.o_proj",
    up="mlp.fc1",
    down="mlp.fc2",
    attention="attention",
    activation="mlp.activation_fn",
    norms=("layernorm_before", "layernorm_after"),
    norms_first=True,
    sizes=("num_attention_heads",),
)
# transformers 4 builds them so, and 5 still saves them under these names.
_SAVED_VIT = replace(
    _BERT,
    q="attention.attention.query",
    k="attention.attention.key",
    v="attention.attention.value",
    attention="attention.attention",
    norms=_VIT.norms,
    norms_first=True,
)
_DISTILBERT = Anatomy(
    layers="transformer.layer",
    q="attention.q_lin",
    k="attention.k_lin",
    v="attention.v_lin",
    o="attention.out_lin",
    up="ffn.lin1",
    down="ffn.lin2",
    attention="attention",
    activation="ffn.activation",
    norms=("sa_layer_norm", "output_layer_norm"),
    sizes=("n_heads", "dim"),
)

# By family, each way in which a version of transformers builds or saves it.
ANATOMIES: dict[str, tuple[Anatomy, ...]] = {
    "bert": (_BERT,),
    "roberta": (_BERT,),
    "xlm-roberta": (_BERT,),
    "camembert": (_BERT,),
    "electra": (_BERT,),
    "distilbert": (_DISTILBERT,),
    "vit": (_VIT, _SAVED_VIT),
    "deit": (_VIT, _SAVED_VIT),
}


@dataclass(frozen=True)
class Layer:
    """One encoder layer and its six matrices."""

    module: nn.Module
    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    o: nn.Linear
    up: nn.Linear
    down: nn.Linear
    head_width: int

    @property
    def heads(self) -> int:
        return self.o.in_features // self.head_width

    @property
    def neurons(self) -> int:
        return self.down.in_features


def is_encoder(model: nn.Module) -> bool:
    """Whether a model is one of transformers', known here or not."""
    return hasattr(getattr(model, "config", None), "model_type")


def anatomy_of(model: nn.Module) -> Anatomy:
    """The anatomy of a transformers model.

    Raises:
        ModelError: the architecture is not in the table.
    """
    model_type = str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))
    parts = {name for name, _ in base_model(model).named_modules()}
    found = next((anatomy for anatomy in ANATOMIES.get(model_type, ()) if anatomy.layers in parts), None)
    if found is None:
        raise ModelError(
            f"edgekit does not know where {model_type!r} keeps its heads and neurons",
            id="model.not-prunable",
            why=f"structured pruning knows: {', '.join(ANATOMIES)}",
            hint="Use a recipe without pruning: --recipe quantize.",
        )
    return found


def layer_list(model: nn.Module) -> nn.ModuleList:
    """The encoder's list of layers."""
    return cast("nn.ModuleList", base_model(model).get_submodule(anatomy_of(model).layers))


def base_model(model: nn.Module) -> nn.Module:
    """The encoder without its head."""
    prefix = str(getattr(model, "base_model_prefix", ""))
    return cast("nn.Module", getattr(model, prefix)) if prefix and hasattr(model, prefix) else model


def head_width(model: nn.Module) -> int:
    """Columns of one head, as the model's configuration has them: pruning never changes it."""
    config = getattr(model, "config", None)
    width = getattr(config, "head_dim", None)
    if width is None:
        width = original_width(model) // getattr(config, "num_attention_heads")  # noqa: B009
    return int(width)


def original_width(model: nn.Module) -> int:
    """Columns of the stream before pruning, as the model's configuration has them."""
    return int(getattr(getattr(model, "config", None), "hidden_size"))  # noqa: B009


def stream_width(model: nn.Module) -> int:
    """Columns of the stream that every layer reads and writes."""
    return encoder_layers(model)[0].q.in_features


def encoder_layers(model: nn.Module) -> list[Layer]:
    """Each layer with its matrices, in order."""
    anatomy, width = anatomy_of(model), head_width(model)
    return [
        Layer(
            module=module,
            **{
                part: cast("nn.Linear", module.get_submodule(getattr(anatomy, part)))
                for part in ("q", "k", "v", "o", "up", "down")
            },
            head_width=width,
        )
        for module in layer_list(model)
    ]


def evenly(layers: int, originals: int) -> tuple[int, ...]:
    """For each of so many layers, the number of original layers that are done after it, evenly spaced.

    Source: Jiao et al. 2020, TinyBERT, section 3.1, the uniform layer map.
    """
    return tuple(round((index + 1) * originals / layers) for index in range(layers))
