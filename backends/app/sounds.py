"""The sound as a program is given it: the clip's own WAV, or one that every program reads."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whisper_parity.clips import audio
from whisper_parity.clips.recording import SAMPLE_RATE, WINDOW_SAMPLES
from whisper_parity.errors import BackendError

CONVERTED = "converted to 16-bit WAV, mono, 16 kHz"
HEADS = (b"RIFF", b"RF64")


@dataclass(frozen=True, slots=True)
class Sound:
    """What a program is given."""

    path: Path
    note: str
    """What was done to it; "" for the clip's own file."""
    n_windows: int


@contextmanager
def given(clip: Path, how: str) -> Iterator[Sound]:
    """The sound of a clip for a program; a converted one is there for as long as the context.

    Args:
        clip: its file.
        how: "file" for its own where it is a WAV, "pcm16" to convert every one.

    Raises:
        AudioError: it is no sound.
    """
    recording = audio.read(clip)
    n_windows = -(-len(recording.pcm) // WINDOW_SAMPLES)
    if how == "file" and _is_wav(clip):
        yield Sound(clip, "", n_windows)
        return
    with tempfile.TemporaryDirectory(prefix="parity-sound-") as folder:
        path = Path(folder, "sound.wav")
        write(path, recording.pcm)
        yield Sound(path, CONVERTED, n_windows)


def write(path: Path, pcm: np.ndarray) -> None:
    """Write int16 [n_samples], mono, 16 kHz, as WAV.

    Raises:
        BackendError: the temporary folder is full.
    """
    try:
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(pcm.astype("<i2").tobytes())
    except OSError as error:
        raise BackendError(f"{path}: cannot be written ({error.strerror})", hint="Check free space") from error


def _is_wav(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] in HEADS and head[8:] == b"WAVE"
