"""Log-mel windows: computed once a clip, so that every stage is fed the same array."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import audio
from harness.checkpoint import file_sha256

VERSION = 2
"""Part of the cache's key: to be raised when other files are accepted here or in `audio`, or other numbers come out."""

InputFeatures = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """One 30 s piece of a clip as the encoder sees it."""

    index: int
    input_features: InputFeatures
    """log-mel, float32 [1, n_mels, 3000]."""
    sha256: str
    """Hash of the array's bytes: two stages with the same hash were fed the same numbers."""


@dataclass(frozen=True, slots=True)
class Features:
    """All windows of a clip."""

    windows: tuple[Window, ...]
    seconds: float
    """Length of the audio [s]."""
    silent: bool
    """Every sample is zero."""
    audio_sha256: str
    """Hash of the audio file's bytes."""


def compute(path: Path, n_mels: int) -> Features:
    """Decode a file and take openai-whisper's log-mel of each 30 s window, zero padded.

    Raises:
        AudioError: see `harness.audio.load`.
    """
    samples = audio.load(path)
    return Features(
        windows=tuple(_window(i, piece, n_mels) for i, piece in enumerate(audio.windows(samples))),
        seconds=len(samples) / audio.SAMPLE_RATE,
        silent=audio.is_silent(samples),
        audio_sha256=file_sha256(path),
    )


def array_sha256(array: NDArray[Any]) -> str:
    """SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _window(index: int, samples: audio.Samples, n_mels: int) -> Window:
    from whisper.audio import log_mel_spectrogram, pad_or_trim

    mel = log_mel_spectrogram(pad_or_trim(samples), n_mels).numpy()
    input_features = np.ascontiguousarray(mel[np.newaxis], dtype=np.float32)
    return Window(index, input_features, array_sha256(input_features))
