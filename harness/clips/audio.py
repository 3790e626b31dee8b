"""Audio of any container, rate and layout to Whisper's input samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from whisper_parity.clips import decoding
from whisper_parity.clips.recording import WINDOW_SAMPLES, Recording, Samples
from whisper_parity.errors import AudioError
from whisper_parity.system import inputs


def read(path: Path) -> Recording:
    """Decode a file as `whisper.load_audio` does, without its ffmpeg program.

    Raises:
        AudioError: missing, no regular file, too large, empty, not audio, cut short, without samples, not finite or
            longer than `decoding.MAX_SECONDS`.
    """
    require(path)
    recording = decoding.decode(path)
    if not len(recording.pcm):
        raise AudioError(f"{path}: holds no audio samples", hint="Give a clip of at least a few milliseconds")
    return recording


def load(path: Path) -> Samples:
    """The samples of a file, float32 [n_samples], mono, 16 kHz, in [-1, 1); errors as in `read`."""
    return read(path).samples


def require(path: Path) -> None:
    """Refuse what is no file, or none of a plausible size, before it is read.

    Raises:
        AudioError: missing, no regular file, too large or empty.
    """
    hint = "Check the path, or the manifest line that names it"
    if not inputs.require_regular(path, inputs.AUDIO_BYTES, AudioError, hint=hint):
        raise AudioError(f"{path}: the file is empty (0 bytes)", hint=decoding.COPY_AGAIN)


def whole_windows(samples: Samples) -> Samples:
    """The samples padded with silence to a whole number of 30 s windows."""
    return np.pad(samples, (0, -len(samples) % WINDOW_SAMPLES))
