"""config.json beside the weights: Hugging Face's of transformers, or MLX's with openai-whisper's names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError
from whisper_parity.model.dims import STATED, Dims
from whisper_parity.model.formats.foreign import AGAIN
from whisper_parity.system import inputs

NAME = "config.json"
FIELDS = {
    "d_model": "n_audio_state", "num_mel_bins": "n_mels", "encoder_layers": "n_audio_layer",
    "decoder_layers": "n_text_layer", "max_source_positions": "n_audio_ctx", "max_target_positions": "n_text_ctx",
    "encoder_attention_heads": "n_audio_head", "decoder_attention_heads": "n_text_head",
}  # fmt: skip
"""transformers' names (configuration_whisper.py) and openai-whisper's. vocab_size is not among them: it is often left
behind when tokens are added."""
HEADS = (("encoder_attention_heads", "decoder_attention_heads"), ("n_audio_head", "n_text_head"))
FIXED = {"activation_function": "gelu", "scale_embedding": False}
"""What openai-whisper computes; a model that computes something else is another model."""


def beside(path: Path) -> Path | None:
    """The config.json beside a file, if there is one."""
    file = path.parent / NAME
    return file if file.is_file() else None


def read(file: Path | None) -> dict[str, Any]:
    """What a config.json says of a Whisper; empty without one, or where it does not say which model it is of.

    Raises:
        CheckpointError: it cannot be read, is of another model, or of a Whisper that computes something else.
    """
    if file is None:
        return {}
    content = inputs.read_json(file, CheckpointError, hint=AGAIN)
    content = content if isinstance(content, dict) else {}
    kind = content.get("model_type")
    if isinstance(kind, str) and kind != "whisper":
        raise CheckpointError(f"{file}: says that the model is of the type {kind}, not whisper", hint="Give a Whisper")
    for key, value in FIXED.items():
        if content.get(key, value) != value:
            raise CheckpointError(
                f"{file}: {key} is {content[key]!r:.40}, Whisper has {value!r}", hint="openai-whisper cannot run it"
            )
    return content


def heads(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Attention heads of encoder and decoder, where they are stated."""
    for names in HEADS:
        encoder, decoder = (config.get(name) for name in names)
        if type(encoder) is int and type(decoder) is int:
            return encoder, decoder
    return None


def require_same(config: Mapping[str, Any], dims: Dims, file: Path | None) -> None:
    """Hold what a config.json states against the weights.

    Raises:
        CheckpointError: they are of different models.
    """
    fields = {**FIELDS, **{name: name for name in STATED if name != "n_vocab"}}
    for name, ours in fields.items():
        stated = config.get(name)
        if type(stated) is int and stated != getattr(dims, ours):
            raise CheckpointError(
                f"{file}: says {name} {stated}, the weights beside it have {getattr(dims, ours)}",
                hint="Do the two files belong together?",
            )
