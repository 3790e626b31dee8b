"""Dimensions of a Whisper model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dims:
    """Dimensions of a Whisper model, as its checkpoint states them (openai-whisper's ModelDimensions)."""

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    """Rows of the token embedding and columns of the logits."""
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int
    vocabulary: int = 0
    """Size of openai-whisper's vocabulary that the ids are of: 51864, 51865 or 51866; 0 stands for n_vocab.

    Ids from there on were added to the model later: rows without text.
    """

    def __post_init__(self) -> None:
        """Take n_vocab for a vocabulary that nothing was added to."""
        if not self.vocabulary:
            object.__setattr__(self, "vocabulary", self.n_vocab)

    @property
    def n_frames(self) -> int:
        """Mel frames of a window: twice the encoder's context, 3000 for every published model."""
        return 2 * self.n_audio_ctx


STATED = (
    "n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer",
    "n_vocab", "n_text_ctx", "n_text_state", "n_text_head", "n_text_layer",
)  # fmt: skip
"""What openai-whisper's checkpoints state."""


def stated(dims: Dims) -> dict[str, int]:
    """The dimensions as openai-whisper's checkpoints state them."""
    return {name: getattr(dims, name) for name in STATED}
