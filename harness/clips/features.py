"""Log-mel windows: computed once per clip, so that every stage is fed the same array."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.clips import audio
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.recording import Recording, Samples
from whisper_parity.errors import AudioError, OutputError
from whisper_parity.system import cache, serial
from whisper_parity.system.files import file_sha256, replacing
from whisper_parity.system.machine import version

VERSION = 3
"""In the cache key and in a run's conditions; increment when this room takes other files or gives other numbers."""

FRAMES = 3000
"""Of 10 ms in a window of 30 s, that of every published model."""

InputFeatures = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """One piece of a clip as the encoder's input: 30 s, or what a port takes."""

    index: int
    input_features: InputFeatures
    """log-mel, float32 [1, n_mels, n_frames]."""
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
    notes: tuple[str, ...] = ()
    """What was done to the sound: see `Recording`."""


def compute(path: Path, n_mels: int, audio_sha256: str | None = None, n_frames: int = FRAMES) -> Features:
    """Decode a file and compute openai-whisper's log-mel of each window, the last one padded with silence.

    Args:
        path: the audio file.
        n_mels: mel bands.
        audio_sha256: hash of the file, if known.
        n_frames: of a window, each of 10 ms.

    Raises:
        AudioError: see `whisper_parity.clips.audio.read`.
    """
    recording = audio.read(path)
    return Features(
        windows=_windows(recording, n_mels, n_frames),
        seconds=recording.seconds,
        silent=recording.silent,
        audio_sha256=audio_sha256 or file_sha256(path),
        notes=recording.notes,
    )


def of_samples(samples: Samples, n_mels: int, n_frames: int = FRAMES) -> InputFeatures:
    """Openai-whisper's log-mel of one window, float32 [n_mels, n_frames], padded with silence or cut.

    Args:
        samples: float32 [n_samples], mono, 16 kHz.
        n_mels: mel bands.
        n_frames: of the window, each of 10 ms.
    """
    from whisper.audio import HOP_LENGTH, log_mel_spectrogram, pad_or_trim

    mel: InputFeatures = log_mel_spectrogram(pad_or_trim(samples, n_frames * HOP_LENGTH), n_mels).numpy()
    return mel


def array_sha256(array: NDArray[Any]) -> str:
    """SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _windows(recording: Recording, n_mels: int, n_frames: int) -> tuple[Window, ...]:
    """All windows in one array: results of torch one by one leave three hours of sound in fragments of a gigabyte."""
    from whisper.audio import HOP_LENGTH

    length = n_frames * HOP_LENGTH
    mels = np.empty((-(-len(recording.pcm) // length), 1, n_mels, n_frames), np.float32)
    for mel, samples in zip(mels, recording.windows(length)):
        mel[0] = of_samples(samples, n_mels, n_frames)
    return tuple(Window(i, mel, array_sha256(mel)) for i, mel in enumerate(mels))


def clip_features(
    folder: Path, clip: Clip, n_mels: int, audio_sha256: str | None = None, n_frames: int = FRAMES
) -> Features:
    """A clip's features, from the cache when it holds them for the same bytes.

    Args:
        folder: the cache.
        clip: the clip.
        n_mels: mel bands.
        audio_sha256: hash of its file, if known.
        n_frames: of a window, each of 10 ms.

    Raises:
        AudioError: see `whisper_parity.clips.audio.read`.
    """
    audio_sha256 = audio_sha256 or clip_sha256(clip)
    parts = [VERSION, audio_sha256, n_mels, n_frames, *(version(name) for name in ("openai-whisper", "av", "torch"))]
    path = folder / "features" / f"{serial.digest(parts)}.safetensors"
    kept = _load_features(path, (1, n_mels, n_frames), audio_sha256)
    return kept or _save_features(path, compute(clip.path, n_mels, audio_sha256, n_frames))


def clip_sha256(clip: Clip) -> str:
    """Hash of a clip's file.

    Raises:
        AudioError: it cannot be read.
    """
    audio.require(clip.path)
    try:
        return file_sha256(clip.path)
    except OSError as error:
        raise AudioError(f"{clip.path}: cannot be read ({error.strerror})", hint="Check its permissions") from error


def _load_features(path: Path, shape: tuple[int, ...], audio_sha256: str) -> Features | None:
    from safetensors import SafetensorError, safe_open

    try:
        cache.touch(path)
        with safe_open(path, framework="numpy") as file:
            facts = json.loads(file.metadata()["facts"])
            mels = [file.get_tensor(name) for name in sorted(file.keys())]
            notes = tuple(map(str, facts["notes"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
    if any(mel.shape != shape or mel.dtype != np.float32 for mel in mels):
        return None
    windows = tuple(Window(i, mel, array_sha256(mel)) for i, mel in enumerate(mels))
    return Features(windows, float(facts["seconds"]), bool(facts["silent"]), audio_sha256, notes)


def _save_features(path: Path, features: Features) -> Features:
    from safetensors.numpy import save_file

    facts = json.dumps({"seconds": features.seconds, "silent": features.silent, "notes": features.notes})
    try:
        mels = {f"input_features.{window.index:03d}": window.input_features for window in features.windows}
        with replacing(path) as partial:
            save_file(mels, partial, metadata={"facts": facts})
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})", hint="Choose another --cache") from error
    return features
