"""Whisper's decoder with a KV cache as a module that an NPU can run: one token a call, no lookup, rows written outside.

Inputs and outputs are those of the layout "stacked": the cache of all layers in one tensor, heads merged into the state
(five axes are more than an NPU takes), the current token's row behind the last slot.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from whisper.model import MultiHeadAttention, ResidualAttentionBlock, TextDecoder, Whisper

from whisper_parity.backends.split import layouts
from whisper_parity.backends.split.fitting import usual
from whisper_parity.model.dims import Dims

NAMES = {
    "token": "token_embeddings", "encoder_output": "encoder_output", "past_keys": "past_self_keys",
    "past_values": "past_self_values", "position": "position_embed", "mask": "self_attn_mask",
    "cross_keys": "cached_cross_keys", "cross_values": "cached_cross_values",
}  # fmt: skip
"""What the files call their inputs, by role."""
DEAD = ("cross_keys", "cross_values")
OUTPUT_NAMES = ("logits", "new_self_keys", "new_self_values", "cross_keys", "cross_values")


KINDS = {"kv": True, "kv without cached_cross": False}
"""What a worker is asked for: whether the decoder has the two inputs that nothing reads."""


class CachedDecoder(nn.Module):
    """One step of Whisper's decoder; shapes as in layouts/stacked.toml, all float32."""

    def __init__(self, decoder: TextDecoder) -> None:
        super().__init__()
        self.blocks: list[ResidualAttentionBlock] = decoder.blocks  # type: ignore[assignment]
        self.ln = decoder.ln
        n_vocab, n_state = decoder.token_embedding.weight.shape
        self.projection = nn.Linear(n_state, n_vocab, bias=False)
        self.projection.weight = decoder.token_embedding.weight

    def forward(
        self, token_embeddings: Tensor, encoder_output: Tensor, past_self_keys: Tensor, past_self_values: Tensor,
        position_embed: Tensor, self_attn_mask: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Logits of what follows, the token's keys and values, and those of the encoder's output, of all layers."""
        hidden = token_embeddings + position_embed
        given: list[tuple[Tensor, ...]] = []
        for layer, block in enumerate(self.blocks):
            past = past_self_keys[layer], past_self_values[layer]
            hidden, *tensors = _step(block, hidden, encoder_output, past, self_attn_mask)
            given.append(tuple(tensors))
        logits = self.projection(self.ln(hidden))
        return (logits, *(torch.stack(tensors) for tensors in zip(*given)))


class WithDeadInputs(CachedDecoder):
    """The same with two inputs more, which the original project declares and never reads."""

    def forward(  # type: ignore[override]
        self, token_embeddings: Tensor, encoder_output: Tensor, past_self_keys: Tensor, past_self_values: Tensor,
        position_embed: Tensor, self_attn_mask: Tensor, cached_cross_keys: Tensor, cached_cross_values: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """See `CachedDecoder`."""
        past = past_self_keys, past_self_values
        return super().forward(token_embeddings, encoder_output, *past, position_embed, self_attn_mask)


def _step(
    block: ResidualAttentionBlock, hidden: Tensor, encoder_output: Tensor, past: tuple[Tensor, Tensor], mask: Tensor
) -> tuple[Tensor, ...]:
    """One block on one token: (hidden, key, value, cross keys, cross values)."""
    normed = block.attn_ln(hidden)
    key, value = block.attn.key(normed), block.attn.value(normed)
    keys, values = torch.cat([past[0], key], dim=1), torch.cat([past[1], value], dim=1)
    hidden = hidden + attend(block.attn, block.attn.query(normed), keys, values, mask)
    cross = block.cross_attn
    assert cross is not None  # noqa: S101 - a decoder's block
    cross_keys, cross_values = cross.key(encoder_output), cross.value(encoder_output)
    hidden = hidden + attend(cross, cross.query(block.cross_attn_ln(hidden)), cross_keys, cross_values, None)
    return hidden + block.mlp(block.mlp_ln(hidden)), key, value, cross_keys, cross_values


def attend(attention: MultiHeadAttention, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention as explicit products: [1, n, d] queries on [1, m, d] keys and values.

    Query and keys are scaled by the fourth root of a head's state each, as openai-whisper does.
    """
    heads = attention.n_head
    state = query.shape[-1] // heads
    q = (query.view(1, -1, heads, state) * state**-0.25).permute(0, 2, 1, 3)
    k = (keys.view(1, -1, heads, state) * state**-0.25).permute(0, 2, 3, 1)
    v = values.view(1, -1, heads, state).permute(0, 2, 1, 3)
    scores = q @ k
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    mixed = (weights @ v).permute(0, 2, 1, 3).flatten(start_dim=2)
    return attention.out(mixed)  # type: ignore[no-any-return]


def decoder(model: Whisper, *, cached_cross: bool) -> CachedDecoder:
    """The decoder of a model; it shares its weights."""
    kind = WithDeadInputs if cached_cross else CachedDecoder
    return kind(model.decoder).eval()


def example_inputs(dims: Dims, *, cached_cross: bool) -> dict[str, Tensor]:
    """Zero inputs by name, in the order of the file."""
    inputs = usual(layouts.ours(), dims).inputs
    return {NAMES[one.role]: torch.zeros(one.port.shape) for one in inputs if cached_cross or one.role not in DEAD}
