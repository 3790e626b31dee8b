"""Audio of any container and rate to the samples that Whisper hears."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import AudioError, first_line

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 30 * SAMPLE_RATE  # 480000 samples in a 30-second window
MAX_SECONDS = 3 * 3600.0
"""Longer files are refused: a hostile header must not keep a run busy for ever."""

Samples = NDArray[np.float32]


def load(path: Path) -> Samples:
    """Decode a file with PyAV: mono, 16 kHz, float32 [n_samples] in about [-1, 1].

    Raises:
        AudioError: missing, empty, not audio, cut short, without samples, not finite or longer than MAX_SECONDS.
    """
    if not path.is_file():
        raise AudioError(f"{path}: no such audio file", hint="Check the path, or the manifest line that names it")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)", hint="Copy it again")
    samples = _decode(path)
    if samples.size == 0:
        raise AudioError(f"{path}: holds no audio samples", hint="Give a clip of at least a few milliseconds")
    if not np.isfinite(samples).all():
        at = int(np.flatnonzero(~np.isfinite(samples))[0]) / SAMPLE_RATE
        raise AudioError(f"{path}: a sample is NaN or infinite (first at {at:.3f} s)", hint="Export the clip again")
    return samples


def is_silent(samples: Samples) -> bool:
    """Whether no sample differs from zero: whatever text comes out of it is invented."""
    return not samples.any()


def windows(samples: Samples) -> Iterator[Samples]:
    """Consecutive pieces of at most 30 s, float32 [<= 480000] each; the last may be shorter."""
    for start in range(0, len(samples), WINDOW_SAMPLES):
        yield samples[start : start + WINDOW_SAMPLES]


def _decode(path: Path) -> Samples:
    import av

    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError(f"{path}: no audio stream in it", hint="Give a file with sound")
            pieces = list(_resampled(container, path))
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioError(
            f"{path}: cannot be decoded as audio ({first_line(error)})", hint="Is it complete, and a sound file?"
        ) from error
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def _resampled(container: Any, path: Path) -> Iterator[Samples]:
    import av

    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
    budget = int(MAX_SECONDS * SAMPLE_RATE)
    for frame in _frames_then_flush(container):
        for piece in resampler.resample(frame):
            samples = piece.to_ndarray()[0].astype(np.float32, copy=True)
            budget -= len(samples)
            if budget < 0:
                raise AudioError(f"{path}: longer than {MAX_SECONDS / 3600:.0f} h", hint="Cut it into clips")
            yield samples


def _frames_then_flush(container: Any) -> Iterator[Any]:
    yield from container.decode(audio=0)
    yield None
