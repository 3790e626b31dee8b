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
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int

    @property
    def n_frames(self) -> int:
        """Mel frames of a window: twice the encoder's context, 3000 for every published model."""
        return 2 * self.n_audio_ctx
