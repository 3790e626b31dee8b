"""Whisper's decoder with a KV cache as five public ports lay it out: small modules, independent of those that we build.

Each one is a pair (encoder, decoder) with example inputs in the order of its file; `write` makes TorchScript of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whisper_parity.backends.split import modules
from whisper_parity.model.dims import Dims

SLOTS = 200
"""Of the layout that has fewer than the checkpoint has positions."""


def scaled(query: Tensor, keys: Tensor, values: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """[1, 1, d] on [1, m, d], by heads."""
    state = query.shape[-1] // heads
    q, k, v = (one.view(1, -1, heads, state).transpose(1, 2) for one in (query, keys, values))
    scores = q @ k.transpose(2, 3) / state**0.5
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    return (weights @ v).transpose(1, 2).reshape(1, -1, heads * state)


class Port(nn.Module):
    """What the decoders share: the blocks on one token."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.layers, self.heads = len(model.decoder.blocks), model.dims.n_text_head

    def logits(self, hidden: Tensor) -> Tensor:
        return self.decoder.ln(hidden) @ self.decoder.token_embedding.weight.T

    def cross(self, encoder_output: Tensor) -> list[tuple[Tensor, Tensor]]:
        blocks = self.decoder.blocks
        return [(block.cross_attn.key(encoder_output), block.cross_attn.value(encoder_output)) for block in blocks]

    def walk(self, hidden: Tensor, join: Callable[..., Any], cross: Sequence[Any], mask: Tensor) -> tuple[Tensor, list]:
        """`join` (layer, key, value) -> (keys, values) [1, m, d] of all slots, and what is given back."""
        kept = []
        for layer, block in enumerate(self.decoder.blocks):
            normed = block.attn_ln(hidden)
            keys, values, given = join(layer, block.attn.key(normed), block.attn.value(normed))
            kept.append(given)
            mixed = scaled(block.attn.query(normed), keys, values, self.heads, mask)
            hidden = hidden + block.attn.out(mixed)
            query = block.cross_attn.query(block.cross_attn_ln(hidden))
            hidden = hidden + block.cross_attn.out(scaled(query, *cross[layer], self.heads, None))
            hidden = hidden + block.mlp(block.mlp_ln(hidden))
        return self.logits(hidden), kept


def appended(past: Sequence[tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    """Behind all slots."""

    def join(layer: int, key: Tensor, value: Tensor) -> Any:
        keys, values = past[layer]
        return torch.cat([keys, key], 1), torch.cat([values, value], 1), (key, value)

    return join


class Stacked(Port):
    def forward(
        self, token_embeddings, encoder_output, past_self_keys, past_self_values, position_embed, self_attn_mask,
        cached_cross_keys, cached_cross_values,
    ):  # fmt: skip
        past, cross = list(zip(past_self_keys, past_self_values)), self.cross(encoder_output)
        logits, rows = self.walk(token_embeddings + position_embed, appended(past), cross, self_attn_mask)
        stacks = [torch.stack(rows_of) for rows_of in (*zip(*rows), *zip(*cross))]
        return (logits, *stacks)


class CrossCached(Port):
    """Ids; the cross keys and values that it is given are used where they are not all zero."""

    def forward(self, token, encoder_output, position, mask, *caches):
        n = self.layers
        past = list(zip(caches[:n], caches[n : 2 * n]))
        held = list(zip(caches[2 * n : 3 * n], caches[3 * n :]))
        is_first = (held[0][0].abs().sum() == 0).float()
        cross = [
            tuple(is_first * new + (1 - is_first) * old for new, old in zip(fresh, kept))
            for fresh, kept in zip(self.cross(encoder_output), held)
        ]
        logits, rows = self.walk(self.decoder.token_embedding(token) + position, appended(past), cross, mask)
        return (
            logits,
            *(row for row, _ in rows),
            *(row for _, row in rows),
            *(k for k, _ in cross),
            *(v for _, v in cross),
        )


class CrossEncoder(Port):
    """Ids and an offset; the mask says 1 where a slot is closed, and the token sees its own row without it."""

    def forward(self, token, *rest):
        n = self.layers
        caches, (offset, mask) = rest[:-2], rest[-2:]
        past, cross = (
            list(zip(caches[0 : 2 * n : 2], caches[1 : 2 * n : 2])),
            list(zip(caches[2 * n :: 2], caches[2 * n + 1 :: 2])),
        )
        hidden = self.decoder.token_embedding(token) + self.decoder.positional_embedding[offset]
        closed = torch.cat([mask.float(), torch.zeros(1)]) * -1e9
        logits, rows = self.walk(hidden, appended(past), cross, closed)
        return (logits, *(row for pair in rows for row in pair))


class GivesCross(nn.Module):
    """An encoder that ends in the projections of cross attention."""

    def __init__(self, model: Any, kind: str) -> None:
        super().__init__()
        self.encoder, self.kind, self.heads = model.encoder, kind, model.dims.n_text_head
        self.projections = nn.ModuleList(block.cross_attn for block in model.decoder.blocks)

    def forward(self, mel):
        hidden = self.encoder(mel)
        pairs = [(one.key(hidden), one.value(hidden)) for one in self.projections]
        if self.kind == "pairs":
            return tuple(tensor for pair in pairs for tensor in pair)
        rows = [tensor for tensors in zip(*pairs) for tensor in tensors]
        state = hidden.shape[-1] // self.heads
        by_heads = [row.view(1, -1, self.heads, state).transpose(1, 2) for row in rows]
        return hidden, torch.cat(by_heads, dim=0)


class OneHot(Port):
    """Everything by products: token, position and slot are one-hot rows, caches are [heads, 1, state, slots]."""

    def forward(self, token, encoder_output, position, slot, mask, *caches):
        n = self.layers
        hidden = token[:, :, : self.decoder.token_embedding.weight.shape[0]] @ self.decoder.token_embedding.weight
        hidden = hidden + position @ self.decoder.positional_embedding

        def join(layer: int, key: Tensor, value: Tensor) -> Any:
            whole = []
            for cache, row in ((caches[layer], key), (caches[n + layer], value)):
                column = row.view(self.heads, 1, -1, 1)
                whole.append(cache * (1 - slot) + column * slot)
            keys, values = (one.permute(1, 3, 0, 2).reshape(1, one.shape[3], -1) for one in whole)
            return keys, values, tuple(whole)

        logits, kept = self.walk(hidden, join, self.cross(encoder_output), mask)
        return (logits, *(one for one, _ in kept), *(one for _, one in kept))


class Sliding(Port):
    """The newest row is the last; the oldest falls out."""

    def forward(self, inputs_embeds, mask, pos_emb, cross_cache, *caches):
        n = self.layers
        both = [one.transpose(0, 1).reshape(1, one.shape[1], -1) for one in cross_cache]
        cross = list(zip(both[:n], both[n:]))

        def join(layer: int, key: Tensor, value: Tensor) -> Any:
            whole = []
            for cache, row in ((caches[layer], key), (caches[n + layer], value)):
                whole.append(torch.cat([cache, row.view(1, 1, self.heads, -1).transpose(1, 2)], 2))
            keys, values = (one.transpose(1, 2).reshape(1, one.shape[2], -1) for one in whole)
            return keys, values, tuple(one[:, :, 1:] for one in whole)

        logits, kept = self.walk(inputs_embeds + pos_emb, join, cross, mask)
        return (logits, *(one for one, _ in kept), *(one for _, one in kept))


@dataclass(frozen=True)
class Written:
    """A port and the inputs that it is traced with."""

    encoder: nn.Module
    decoder: nn.Module
    inputs: tuple[Tensor, ...]


def port(name: str, model: Any) -> Written:
    """The port of a layout, of a model."""
    written = _port(name, model)
    # An exporter takes one tensor that is given twice for one input, and the file then reads one cache for all layers.
    return Written(written.encoder, written.decoder, tuple(one.clone() for one in written.inputs))


def _port(name: str, model: Any) -> Written:
    d = Dims(**vars(model.dims))
    n, state, heads, slots, rows = d.n_text_layer, d.n_text_state, d.n_text_head, d.n_text_ctx, d.n_audio_ctx
    zeros, encoder = torch.zeros, modules.SplitEncoder(model.encoder).eval()
    stack, each = (n, 1, slots, state), [zeros(1, slots, state)] * (2 * n)
    audio, row = zeros(1, rows, state), zeros(1, 1, state)
    if name == "stacked":
        cross = (zeros(n, 1, rows, state), zeros(n, 1, rows, state))
        inputs = (row, audio, zeros(*stack), zeros(*stack), row, zeros(1, 1, 1, slots + 1), *cross)
        return Written(encoder, Stacked(model).eval(), inputs)
    if name == "cross-cached":
        inputs = (zeros(1, 1, dtype=torch.int32), audio, row, zeros(1, 1, 1, slots + 1), *each, *[audio] * (2 * n))
        return Written(encoder, CrossCached(model).eval(), inputs)
    if name == "cross-encoder":
        ends = (zeros(1, dtype=torch.int64), zeros(slots))
        inputs = (zeros(1, 1, dtype=torch.int32), *each, *[audio] * (2 * n), *ends)
        return Written(GivesCross(model, "pairs").eval(), CrossEncoder(model).eval(), inputs)
    if name == "one-hot":
        wide = -(-d.n_vocab // 8) * 8
        caches = [zeros(heads, 1, state // heads, SLOTS)] * (2 * n)
        inputs = (zeros(1, 1, wide), audio, zeros(1, slots), zeros(1, SLOTS), zeros(1, SLOTS), *caches)
        return Written(encoder, OneHot(model).eval(), inputs)
    caches = [zeros(1, heads, slots, state // heads)] * (2 * n)
    inputs = (row, zeros(1, 1, 1, slots + 1), row, zeros(2 * n, heads, rows, state // heads), *caches)
    return Written(GivesCross(model, "joined").eval(), Sliding(model).eval(), inputs)


LAYOUTS = ("stacked", "cross-cached", "cross-encoder", "one-hot", "sliding")


def write_tables(model: Any, folder: Path) -> None:
    """The two tables beside the halves."""
    np.save(folder / "token_embedding.npy", model.decoder.token_embedding.weight.detach().float().numpy())
    np.save(folder / "position_embedding.npy", model.decoder.positional_embedding.detach().float().numpy())


class Swapped(nn.Module):
    """A decoder of layout "stacked" that gives each token's keys for values, and its values for keys."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, token_embeddings, encoder_output, past_self_keys, past_self_values, position_embed, self_attn_mask,
        cached_cross_keys, cached_cross_values,
    ):  # fmt: skip
        logits, keys, values, *cross = self.decoder(
            token_embeddings, encoder_output, past_self_keys, past_self_values, position_embed, self_attn_mask,
            cached_cross_keys, cached_cross_values,
        )  # fmt: skip
        return (logits, values, keys, *cross)


def write(name: str, checkpoint: Path, folder: Path, spoil: Callable[[nn.Module], nn.Module] | None = None) -> None:
    """TorchScript files of a layout under names that tell nothing, the decoder spoilt by somebody."""
    model = modules.load_model(checkpoint)
    written = port(name, model)
    if spoil is not None:
        written = Written(written.encoder, spoil(written.decoder).eval(), written.inputs)
    folder.mkdir(parents=True, exist_ok=True)
    features, _ = modules.example_inputs(Dims(**vars(model.dims)))
    with modules.explicit_attention(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        for module, inputs, file in (
            (written.encoder, features, "first.pt"), (written.decoder, written.inputs, "second.pt"),
        ):  # fmt: skip
            torch.jit.trace(module, inputs, check_trace=False).save(str(folder / file))
    write_tables(model, folder)


def convert(name: str, checkpoint: Path, folder: Path) -> None:
    """TFLite files of a layout, as LiteRT converts them, under names that tell nothing."""
    import litert_torch

    model = modules.load_model(checkpoint)
    written = port(name, model)
    folder.mkdir(parents=True, exist_ok=True)
    features, _ = modules.example_inputs(Dims(**vars(model.dims)))
    litert_torch.config.show_progress = False
    with modules.explicit_attention():
        for module, inputs, file in (
            (written.encoder, features, "first.tflite"), (written.decoder, written.inputs, "second.tflite"),
        ):  # fmt: skip
            litert_torch.convert(module, inputs).export(str(folder / file))
    write_tables(model, folder)
