"""Whisper's weights by name and shape, and the dimensions that can be told from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError
from whisper_parity.model.dims import Dims
from whisper_parity.model.formats.weights import ENCODER_POSITIONS, TOKEN_EMBEDDING, Tensors

HEAD_WIDTH = 64
"""States of an attention head in every published Whisper."""
SHOWN = 3
"""Names in a message."""

Shape = tuple[int, ...]


def of_dims(dims: Dims) -> Iterator[tuple[str, Shape]]:
    """Name and shape of every weight that openai-whisper's model of these dimensions loads (its model.py)."""
    width = dims.n_audio_state
    yield "encoder.conv1.weight", (width, dims.n_mels, 3)
    yield "encoder.conv1.bias", (width,)
    yield "encoder.conv2.weight", (width, width, 3)
    yield "encoder.conv2.bias", (width,)
    yield ENCODER_POSITIONS, (dims.n_audio_ctx, width)
    yield TOKEN_EMBEDDING, (dims.n_vocab, dims.n_text_state)
    yield "decoder.positional_embedding", (dims.n_text_ctx, dims.n_text_state)
    yield from _norm("encoder.ln_post", width)
    yield from _norm("decoder.ln", dims.n_text_state)
    for layer in range(dims.n_audio_layer):
        yield from _block(f"encoder.blocks.{layer}", width, ("attn",))
    for layer in range(dims.n_text_layer):
        yield from _block(f"decoder.blocks.{layer}", dims.n_text_state, ("attn", "cross_attn"))


def _block(block: str, width: int, attentions: tuple[str, ...]) -> Iterator[tuple[str, Shape]]:
    for attention in attentions:
        for part in ("query", "key", "value", "out"):
            yield f"{block}.{attention}.{part}.weight", (width, width)
            if part != "key":
                yield f"{block}.{attention}.{part}.bias", (width,)
        yield from _norm(f"{block}.{attention}_ln", width)
    yield f"{block}.mlp.0.weight", (4 * width, width)
    yield f"{block}.mlp.0.bias", (4 * width,)
    yield f"{block}.mlp.2.weight", (width, 4 * width)
    yield f"{block}.mlp.2.bias", (width,)
    yield from _norm(f"{block}.mlp_ln", width)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def require(tensors: Tensors, dims: Dims, path: Path) -> None:
    """Hold every weight against the dimensions, before a model of the claimed size is built.

    Raises:
        CheckpointError: a weight is missing, has another shape, or is no floating-point tensor in memory order.
    """
    for name, shape in of_dims(dims):
        tensor = tensors.get(name)
        actual = list(getattr(tensor, "shape", ()))
        if actual != list(shape):
            raise CheckpointError(
                f"{path}: the weights do not fit the dimensions: {name} should be {list(shape)}, "
                f"found {actual or 'none'}",
                hint="Is the file complete, and are the dims those of this model?",
            )
        require_numbers(name, tensor, path)


def require_numbers(name: str, tensor: Any, path: Path) -> None:
    """Refuse what cannot be loaded as float32: integers, sparse tensors, ones that claim more than they hold.

    Raises:
        CheckpointError: not a plain floating-point tensor.
    """
    import torch

    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise CheckpointError(f"{path}: {name} is {_kind(tensor)}, not a tensor with its numbers", hint=SAVE_FLOATS)
    if not tensor.is_floating_point():
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError(f"{path}: {name} is {dtype}: quantised or not a weight", hint=SAVE_FLOATS)
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: {name} claims more numbers than the file holds", hint="Save the model again")


SAVE_FLOATS = "Give the checkpoint in float32, float16 or bfloat16, from before it was quantised"


def _kind(tensor: Any) -> str:
    if tensor.is_meta:
        return "an empty (meta) tensor"
    return "a quantised tensor" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")


def of_weights(tensors: Tensors, path: Path, heads: tuple[int, int] | None = None) -> Dims:
    """Dimensions from the shapes of the weights; heads as given, else one for every 64 states.

    Raises:
        CheckpointError: a weight that a dimension is read from is missing, or the heads cannot be told.
    """
    n_audio_state, n_mels, _ = _shape(tensors, "encoder.conv1.weight", 3, path)
    n_audio_ctx, _ = _shape(tensors, ENCODER_POSITIONS, 2, path)
    n_vocab, n_text_state = _shape(tensors, TOKEN_EMBEDDING, 2, path)
    n_text_ctx, _ = _shape(tensors, "decoder.positional_embedding", 2, path)
    audio_head, text_head = heads or (_heads(n_audio_state, path), _heads(n_text_state, path))
    return Dims(
        n_mels, n_audio_ctx, n_audio_state, audio_head, _layers(tensors, "encoder"),
        n_vocab, n_text_ctx, n_text_state, text_head, _layers(tensors, "decoder"),
    )  # fmt: skip


def _shape(tensors: Tensors, name: str, rank: int, path: Path) -> Shape:
    shape = tuple(getattr(tensors.get(name), "shape", ()))
    if len(shape) != rank:
        what = f"has the shape {list(shape)}" if shape else "is missing"
        raise CheckpointError(f"{path}: no whole Whisper: {name} {what}", hint="Is the file complete?")
    return shape


def _heads(width: int, path: Path) -> int:
    if width % HEAD_WIDTH:
        raise CheckpointError(
            f"{path}: the number of attention heads cannot be told from weights of width {width}",
            hint="Put the model's config.json beside it, or save it with its dims",
        )
    return width // HEAD_WIDTH


def _layers(tensors: Tensors, side: str) -> int:
    """Layers in a row from 0 on; what stands behind a gap is named as surplus."""
    numbers = {int(found[1]) for name in tensors if (found := re.match(rf"{side}\.blocks\.(\d{{1,4}})\.", name))}
    return next(layer for layer in range(len(numbers) + 1) if layer not in numbers)


def surplus(tensors: Mapping[str, Any], dims: Dims) -> list[str]:
    """Names beyond those of a model of these dimensions."""
    expected = {name for name, _ in of_dims(dims)}
    return [name for name in tensors if name not in expected]


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
