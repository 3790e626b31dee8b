"""A clip's samples as openai-whisper hears them, and what was done to get them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 30 * SAMPLE_RATE  # 480000 samples in a 30-second window

Pcm = NDArray[np.int16]
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recording:
    """The sound of one file."""

    pcm: Pcm
    """int16 [n_samples], mono, 16 kHz: what `ffmpeg -f s16le -ac 1 -ar 16000` writes."""
    notes: tuple[str, ...] = ()
    """What was done to the sound: "mixed down from 6 channels (5.1)"."""

    @property
    def seconds(self) -> float:
        """Length [s]."""
        return len(self.pcm) / SAMPLE_RATE

    @property
    def silent(self) -> bool:
        """Whether all samples are zero: any text from them is invented."""
        return not self.pcm.any()

    @property
    def samples(self) -> Samples:
        """float32 [n_samples] in [-1, 1): bit for bit what `whisper.load_audio` returns."""
        return _scaled(self.pcm)

    def windows(self, length: int = WINDOW_SAMPLES) -> Iterator[Samples]:
        """Consecutive pieces of `length` samples, float32 [<= length] each; the last may be shorter."""
        for start in range(0, len(self.pcm), length):
            yield _scaled(self.pcm[start : start + length])


def _scaled(pcm: Pcm) -> Samples:
    return pcm.astype(np.float32) / np.float32(32768)  # exact: a power of two
