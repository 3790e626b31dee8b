"""From tensors under openai-whisper's names to a model's weights: dimensions, vocabulary, what is surplus."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError
from whisper_parity.model.dims import Dims
from whisper_parity.model.formats import shapes, tokens
from whisper_parity.model.formats.weights import ENCODER_POSITIONS, TOKEN_EMBEDDING, Tensors, Weights

PROJECTION = "proj_out.weight"
"""The output projection, under Hugging Face's name: openai-whisper has none of its own."""
CONV = "encoder.conv1.weight"
MAX_CONTEXT = 1 << 16
"""Positions; Whisper has 1500 and 448."""
HARMLESS = re.compile(
    r"(^|\.)(alignment_heads|mask|causal_mask|attn_mask|position_ids|mel_filters|filters|total_ops|total_params"
    r"|num_batches_tracked)$|^(loss|criterion|metric|val_|train_)"
)
"""Keys that take no part in inference: masks and tables that the model computes itself, counters, losses."""


def assemble(
    path: Path,
    form: str,
    named: Tensors,
    *,
    heads: tuple[int, int] | None = None,
    dims: Dims | None = None,
    config: Mapping[str, Any] | None = None,
    beside: tuple[Path, ...] = (),
    notes: tuple[str, ...] = (),
) -> Weights:
    """Weights of a model, checked.

    Args:
        path: the checkpoint as it was given.
        form: see `Weights.form`.
        named: tensors by openai-whisper's names; the output projection as `PROJECTION`, if there is one.
        heads: of encoder and decoder, where they are stated.
        dims: as stated; None: read from the weights.
        config: config.json; empty without one.
        beside: files that may name the vocabulary.
        notes: what is known already.

    Raises:
        CheckpointError: weights are missing, surplus or of another shape or kind.
    """
    projection = named.get(PROJECTION)
    rest = {name: tensor for name, tensor in named.items() if name != PROJECTION}
    tensors, notes = _with_positions(rest, dims, config or {}, notes, path)
    dims = dims or shapes.of_weights(tensors, path, heads)
    require_sane(dims, path)
    dims = replace(dims, vocabulary=tokens.vocabulary(dims, beside, config or {}, path))
    shapes.require(tensors, dims, path)
    projection = _untied(projection, tensors[TOKEN_EMBEDDING], path)
    kept, dropped = _without_surplus(tensors, dims, path)
    return Weights(form, dims, kept, projection, (*notes, *_remarks(dims, projection, dropped)))


def _remarks(dims: Dims, projection: Any, dropped: list[str]) -> Iterator[str]:
    yield from tokens.added(dims.n_vocab, dims.vocabulary)
    if projection is not None:
        yield "the output projection is not the token embedding"
    if dropped:
        yield f"let go: {shapes.listed(dropped)}"


def require_sane(dims: Dims, path: Path) -> None:
    """Refuse dimensions that openai-whisper's model cannot have.

    Raises:
        CheckpointError: what is wrong.
    """
    if dims.n_mels not in (80, 128):
        raise CheckpointError(f"{path}: n_mels is {dims.n_mels}", hint="openai-whisper has filters for 80 and 128")
    if not 0 < dims.n_audio_ctx <= MAX_CONTEXT or not 0 < dims.n_text_ctx <= MAX_CONTEXT:
        raise CheckpointError(
            f"{path}: n_audio_ctx is {dims.n_audio_ctx}, n_text_ctx {dims.n_text_ctx}",
            hint="Whisper has 1500 and 448; other windows have fewer",
        )
    states = (dims.n_audio_state, dims.n_audio_head), (dims.n_text_state, dims.n_text_head)
    if dims.n_audio_state != dims.n_text_state or any(heads < 1 or s % 2 or s % heads for s, heads in states):
        raise CheckpointError(
            f"{path}: n_audio_state {dims.n_audio_state} and n_text_state {dims.n_text_state} must be equal, even and "
            f"multiples of n_audio_head {dims.n_audio_head} and n_text_head {dims.n_text_head}",
            hint="Are the dims those of this model?",
        )


def _with_positions(
    tensors: dict[str, Any], dims: Dims | None, config: Mapping[str, Any], notes: tuple[str, ...], path: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The encoder's positions are sinusoids that openai-whisper computes: a file may leave them out."""
    conv = tensors.get(CONV)
    if ENCODER_POSITIONS in tensors or conv is None:
        return tensors, notes
    from whisper.model import sinusoids

    shapes.require_numbers(CONV, conv, path)
    stated = dims.n_audio_ctx if dims else config.get("max_source_positions", 1500)
    length = stated if type(stated) is int and 0 < stated <= MAX_CONTEXT else 1500
    positions = sinusoids(length, conv.shape[0] // 2 * 2)
    remark = "the encoder's positions are openai-whisper's sinusoids: the file has none"
    return {**tensors, ENCODER_POSITIONS: positions}, (*notes, remark)


def _untied(projection: Any, embedding: Any, path: Path) -> Any:
    """The output projection; None where it is the token embedding."""
    import torch

    if projection is None:
        return None
    if list(projection.shape) != list(embedding.shape):
        raise CheckpointError(
            f"{path}: {PROJECTION} is {list(projection.shape)}, the token embedding {list(embedding.shape)}",
            hint="Were tokens added to one of them only?",
        )
    shapes.require_numbers(PROJECTION, projection, path)
    return None if torch.equal(projection.float(), embedding.float()) else projection


def _without_surplus(tensors: dict[str, Any], dims: Dims, path: Path) -> tuple[dict[str, Any], list[str]]:
    dropped = shapes.surplus(tensors, dims)
    if strange := [name for name in dropped if not HARMLESS.search(name)]:
        raise CheckpointError(
            f"{path}: openai-whisper's model has no place for {shapes.listed(strange)}",
            hint="Is it a Whisper with parts of its own? Save the weights without them, if it works without them",
        )
    return {name: tensor for name, tensor in tensors.items() if name not in dropped}, dropped
