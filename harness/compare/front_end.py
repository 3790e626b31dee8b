"""A stage's own input features against openai-whisper's of the same sound, in three parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FrontEndCause:
    """One thing that a front end does otherwise, found by doing the same to the reference's."""

    kind: str
    """One of `front_end_variants.KINDS`."""
    sentence: str
    """What it does, in words: "spectrogram padded with 0.0, not the audio with silence"."""
    explains_db: float
    """SNR of the stage's features against the reference's made in this way [dB]."""


@dataclass(frozen=True, slots=True)
class FrontEndDiff:
    """The input features of one window."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    window: int
    shape: tuple[int, ...]
    """As the stage wrote them."""
    expected: tuple[int, ...]
    """[1, n_mels, n_frames]."""
    whole_db: float | None
    """SNR of all values [dB]; inf where they are identical, None where shapes leave nothing to compare."""
    speech_db: float | None
    """Of the frames that hold sound, without those at its edges; None where there are none."""
    edges_db: float | None
    """Of the frames whose STFT window reaches over the start or the end of the sound."""
    padding_db: float | None
    """Of the frames behind the sound, which hear silence alone."""
    nonfinite: int = 0
    """Values that are NaN or infinite."""
    causes: tuple[FrontEndCause, ...] = ()
    """What makes the difference, the best explanation first: several where they act together."""
