"""A model's weights under openai-whisper's names, whatever file they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whisper_parity.model.dims import Dims

Tensors = Mapping[str, Any]
"""torch.Tensor by name, most of them memory-mapped."""
TOKEN_EMBEDDING = "decoder.token_embedding.weight"
ENCODER_POSITIONS = "encoder.positional_embedding"


@dataclass(frozen=True, slots=True)
class Weights:
    """What a checkpoint of any format holds, checked against its dimensions."""

    form: str
    """The format, as a report names it: "Hugging Face, float16"; "" for openai-whisper's own."""
    dims: Dims
    tensors: Tensors
    """By openai-whisper's names, each in the dtype of the file."""
    projection: Any = None
    """Output projection [n_vocab, n_text_state] of a model that does not share it with the token embedding."""
    notes: tuple[str, ...] = ()
    """What a reader should know: keys that were let go, ids without text."""
    loadable: bool = field(default=False)
    """The file itself is what openai-whisper loads, nothing has to be converted."""
