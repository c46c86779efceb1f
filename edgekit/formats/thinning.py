"""Fewer tokens from layer to layer: each hands on only those that the first token looks at most.

Where an answer is read of the first token, what a layer computes of the others serves only as keys and values of the
layers behind it. So each layer but the last may leave some out: those to which its first token, on average over the
heads, pays the least attention. Queries, the output projection and the feed-forward block are then computed for the
tokens that stay, keys and values for all that came in; every later layer has fewer of all. How many stay is reckoned
from how many came, so that one model takes texts of any length.

- The first token always stays, and stays the first; the others come in the order of what they are paid, which nothing
  reads: their positions were added to their states in front of the first layer.
- Padding goes first. Of a sample that is padded as many tokens stay as if it were not: its answer does not hang on what
  else is in its batch.

Sources: Goyal et al. 2020, PoWER-BERT, section 3.1 (tokens left out between attention and feed-forward, by the
attention that they are paid); Liang et al. 2022, EViT, section 3.2 (the class token's attention, mean over heads).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from edgekit.environment import version_of
from edgekit.errors import ModelError
from edgekit.formats.encoder import Anatomy, Layer, anatomy_of, encoder_layers

if TYPE_CHECKING:
    import torch
    from torch import nn

# So many tokens of a sample stay in any case, if it has them: its two ends, and something between them.
LEAST = 4
# Shares are of so many parts: what is left is then reckoned in whole numbers, the same in every runtime.
PARTS = 1000
FIRST_TRANSFORMERS = 5
# Added to the score of padding: exp(-1e4) is 0 in every precision, and FP16 reaches it.
LOWEST = -1e4


class Handed(NamedTuple):
    """The tokens that a layer hands on.

    Attributes:
        places: of each in the sample as it was fed, int64 [batch, tokens that stay].
        real: which of them are to be read, bool of the same shape: not padding, and not more than the sample has left;
            None where all are.
    """

    places: torch.Tensor
    real: torch.Tensor | None


@dataclass
class _Stream:
    """What the layers of one model know together of the tokens at hand, while they compute.

    Attributes:
        padded: whether samples may be padded: texts are, images are not.
        real: which tokens are to be read, bool [batch, tokens]; None where all are.
        places: of the tokens in the sample as it was fed, [batch, tokens]; None where all are there, or nobody asks.
        watched: what each layer has handed on, while somebody asks; None for a layer behind which all are there.
    """

    padded: bool
    real: torch.Tensor | None = None
    places: torch.Tensor | None = None
    watched: list[Handed | None] | None = None


@dataclass
class _Thinned:
    """A layer that may leave tokens out; its ``forward`` takes the place of transformers'.

    Attributes:
        layer: with its six matrices.
        anatomy: where its norms and its activation are.
        stream: of the model.
        ratio: how many of the tokens that come in stay, as two whole numbers: so many of so many. None: all.
        first, last: whether it is the model's first, or last, layer.
    """

    layer: Layer
    anatomy: Anatomy
    stream: _Stream
    ratio: tuple[int, int] | None
    first: bool
    last: bool

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        """The layer's output [batch, tokens that stay, width] of [batch, tokens, width]; without any dropout."""
        from torch.nn import functional

        part, layer, stream = self.layer.module.get_submodule, self.layer, self.stream
        (norm, next_norm), before = map(part, self.anatomy.norms), self.anatomy.norms_first
        if self.first:
            stream.real, stream.places = _real_tokens(attention_mask) if stream.padded else None, None
        state, real = hidden_states, stream.real
        read = norm(state) if before else state
        q, k, v = layer.q(read), self._split(layer.k(read)), self._split(layer.v(read))
        if self.ratio is not None:
            places = self._choose(q, k)
            state, q = _pick(state, places), _pick(q, places)
        seen = None if real is None else real[:, None, None, :].expand(-1, -1, q.shape[1], -1)
        mixed = functional.scaled_dot_product_attention(self._split(q), k, v, attn_mask=seen)
        state = state + layer.o(mixed.transpose(1, 2).reshape(q.shape))
        if not before:
            state = norm(state)
        inner = layer.down(part(self.anatomy.activation)(layer.up(next_norm(state) if before else state)))
        state = state + inner if before else next_norm(state + inner)
        if stream.watched is not None:
            stream.watched.append(None if stream.places is None else Handed(stream.places, stream.real))
        if self.last:
            stream.real = stream.places = None
        return cast("torch.Tensor", state)

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, heads * width] as [batch, heads, tokens, width]."""
        heads = values.shape[2] // self.layer.head_width
        return values.view(values.shape[0], values.shape[1], heads, self.layer.head_width).transpose(1, 2)

    def _choose(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Places of the tokens that stay, int64 [batch, tokens that stay]; tells the stream what it is left with."""
        import torch

        assert self.ratio is not None
        stream, count = self.stream, k.shape[2]
        first = self._split(q[:, :1] * self.layer.head_width**-0.5)
        scores = first @ k.transpose(2, 3)  # [batch, heads, 1, tokens]
        if stream.real is not None:
            scores = scores.masked_fill(~stream.real[:, None, None, :], LOWEST)
        paid = scores.softmax(-1).mean(1)[:, 0]
        if stream.real is not None:
            paid = torch.where(stream.real, paid, -1.0)
        paid = torch.cat([paid[:, :1] + 2.0, paid[:, 1:]], 1)  # the first token's own, above any share of attention
        left = tokens_left(count, self.ratio)
        places = torch.topk(paid, left, dim=1).indices
        if stream.real is not None:
            stream.real = self._by_sample(stream.real, left)
        if stream.watched is not None:
            stream.places = places if stream.places is None else stream.places.gather(1, places)
        return places

    def _by_sample(self, real: torch.Tensor, left: int) -> torch.Tensor:
        """Whether each sample, by itself, has a token of each rank left: `tokens_left` of its own, without a division.

        Args:
            real: which tokens came in and are no padding, bool [batch, tokens].
            left: how many are left of all, padding counted.

        Returns:
            bool [batch, left].
        """
        import torch

        assert self.ratio is not None
        part, whole = self.ratio
        own, ranks = real.sum(1, keepdim=True), torch.arange(left, device=real.device)
        return (ranks * whole < own * part) | (ranks < own.clamp(max=LEAST))


def tokens_left(count: int, ratio: tuple[int, int]) -> int:
    """How many of ``count`` tokens stay: the share, rounded up, but at least ``LEAST`` as far as there are so many.

    Args:
        count: a number, or torch's symbol of one.
        ratio: so many of so many.
    """
    import torch

    part, whole = ratio
    return cast("int", torch.sym_max((count * part + whole - 1) // whole, torch.sym_min(count, LEAST)))


def tokens_by_layer(tokens: int, shares: Sequence[float]) -> list[int]:
    """How many of so many tokens each layer hands on, for the shares of all layers but the last."""
    found = []
    for ratio in _ratios(shares):
        tokens = tokens if ratio is None else tokens_left(tokens, ratio)
        found.append(tokens)
    return found


def check_thinnable() -> None:
    """See that transformers takes layers that leave tokens out; those of version 4 give more than a tensor.

    Raises:
        ModelError: it does not.
    """
    version = str(version_of("transformers"))
    if int(version.partition(".")[0]) < FIRST_TRANSFORMERS:
        raise ModelError(
            f"transformers {version} takes no layers that leave tokens out",
            id="model.not-prunable",
            why=f"prune.tokens needs transformers {FIRST_TRANSFORMERS}",
            hint="Install a later one, or leave out prune.tokens.",
        )


def thin_out(model: nn.Module, shares: Sequence[float]) -> nn.Module:
    """Let each layer but the last hand on only a share of the tokens; in place. ``pass_all`` takes it back.

    Args:
        model: whose answer is read of the first token.
        shares: of the tokens that were fed, for each layer but the last.

    Raises:
        ModelError: the transformers at hand build layers that take all tokens.
    """
    layers, anatomy = encoder_layers(model), anatomy_of(model)
    stream = _Stream(padded=getattr(model, "main_input_name", "input_ids") == "input_ids")
    check_thinnable()
    for number, (layer, ratio) in enumerate(zip(layers, [*_ratios(shares), None], strict=True)):
        thinned = _Thinned(layer, anatomy, stream, ratio, first=number == 0, last=number == len(layers) - 1)
        layer.module.forward = thinned.forward
    return model


def pass_all(model: nn.Module) -> nn.Module:
    """Let every layer hand on all tokens again; in place."""
    for layer in encoder_layers(model):
        vars(layer.module).pop("forward", None)
    return model


@contextmanager
def watch_tokens(model: nn.Module) -> Iterator[list[Handed | None]]:
    """What each layer hands on when the model runs inside the block; nothing of a model that leaves no tokens out."""
    found: list[Handed | None] = []
    stream = _stream_of(model)
    if stream is not None:
        stream.watched = found
    try:
        yield found
    finally:
        if stream is not None:
            stream.watched = None


def leaves_tokens_out(model: nn.Module) -> bool:
    """Whether layers of a model hand on only some tokens."""
    return _stream_of(model) is not None


def _stream_of(model: nn.Module) -> _Stream | None:
    for module in model.modules():
        owner = getattr(vars(module).get("forward"), "__self__", None)
        if isinstance(owner, _Thinned):
            return owner.stream
    return None


def _ratios(shares: Sequence[float]) -> list[tuple[int, int] | None]:
    """For each layer, how many of the tokens that come in stay: so many of so many; None where all do."""
    parts = [PARTS, *(round(share * PARTS) for share in shares)]
    return [None if now == then else (now, then) for then, now in pairwise(parts)]


def _pick(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Some tokens of [batch, tokens, width]."""
    return values.gather(1, places[:, :, None].expand(-1, -1, values.shape[2]))


def _real_tokens(mask: torch.Tensor | None) -> torch.Tensor | None:
    """Which tokens are no padding, bool [batch, tokens], of a mask in any form that transformers gives to layers.

    Args:
        mask: [batch, tokens], or [batch, 1, queries, tokens]; true or 1 for real tokens, or added to the scores.
    """
    import torch

    if mask is None:
        return None
    keys = mask if mask.ndim == 2 else mask[:, 0, 0]
    if keys.dtype == torch.bool:
        return keys
    return keys != 0 if mask.ndim == 2 else keys == 0
