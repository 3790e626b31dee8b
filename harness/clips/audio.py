"""Audio of any container and rate to Whisper's input samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.errors import AudioError, first_line

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 30 * SAMPLE_RATE  # 480000 samples in a 30-second window
MAX_SECONDS = 3 * 3600.0
"""Longer files are refused: a hostile header must not keep a run busy for ever."""
MAX_MISSING_S = 0.1
"""A file may be this much shorter than its header says: MP3 encoders pad by up to a few frames."""
STREAMED_BYTES = 0x7FFF0000
"""A WAV data chunk of this size or more was written to a pipe with unknown length (FFmpeg writes 0xFFFFFFFF)."""
COPY_AGAIN = "Copy it again"

Samples = NDArray[np.float32]


def load(path: Path) -> Samples:
    """Decode a file with PyAV: mono, 16 kHz, float32 [n_samples] in about [-1, 1].

    Raises:
        AudioError: missing, empty, not audio, cut short, without samples, not finite or longer than MAX_SECONDS.
    """
    if not path.is_file():
        raise AudioError(f"{path}: no such audio file", hint="Check the path, or the manifest line that names it")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)", hint=COPY_AGAIN)
    samples = _decode(path)
    if samples.size == 0:
        raise AudioError(f"{path}: holds no audio samples", hint="Give a clip of at least a few milliseconds")
    if not np.isfinite(samples).all():
        at = int(np.flatnonzero(~np.isfinite(samples))[0]) / SAMPLE_RATE
        raise AudioError(f"{path}: a sample is NaN or infinite (first at {at:.3f} s)", hint="Export the clip again")
    return samples


def is_silent(samples: Samples) -> bool:
    """Whether all samples are zero: any text from them is invented."""
    return not samples.any()


def windows(samples: Samples) -> Iterator[Samples]:
    """Consecutive pieces of at most 30 s, float32 [<= 480000] each; the last may be shorter."""
    for start in range(0, len(samples), WINDOW_SAMPLES):
        yield samples[start : start + WINDOW_SAMPLES]


def whole_windows(samples: Samples) -> Samples:
    """The samples padded with silence to a whole number of 30 s windows."""
    return np.pad(samples, (0, -len(samples) % WINDOW_SAMPLES))


def _decode(path: Path) -> Samples:
    import av

    try:
        # absolute, since FFmpeg takes "12:30.wav" for a protocol called 12
        with av.open(str(path.absolute()), metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError(f"{path}: no audio stream in it", hint="Give a file with sound")
            pieces = list(_resampled(container, path))
            samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
            missing_s = _missing_s(container, path, len(samples) / SAMPLE_RATE)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise AudioError(
            f"{path}: cannot be decoded as audio ({reason})", hint="Is it complete, and a sound file?"
        ) from error
    if missing_s > MAX_MISSING_S:
        raise AudioError(f"{path}: cut short, {missing_s:.2f} s that its header announces are missing", hint=COPY_AGAIN)
    return samples


def _missing_s(container: Any, path: Path, found_s: float) -> float:
    """How much shorter a file is than its header says [s]: FFmpeg reads a truncated file without an error.

    A length guessed from the bit rate does not count: of the formats that guess, only MP3 is checked, and only if it
    has a Xing or Info frame.
    """
    if container.format.name == "wav":
        return _wav_missing_s(path)
    stream = container.streams.audio[0]
    if stream.duration is None or not (container.format.name == "flac" or _has_xing_frame(container, path)):
        return 0.0
    return float(stream.duration * stream.time_base) - found_s


def _wav_missing_s(path: Path) -> float:
    """How much of a RIFF file's data chunk is missing [s]; 0 for a stream of unknown length."""
    bytes_per_s = 0
    with path.open("rb") as file:
        is_riff = file.read(12)[:4] == b"RIFF"
        while is_riff and len(header := file.read(8)) == 8:
            end = file.tell() + (size := int.from_bytes(header[4:], "little"))
            if header[:4] == b"data":
                missing = end - path.stat().st_size if size < STREAMED_BYTES else 0
                return missing / bytes_per_s if bytes_per_s else 0.0
            if header[:4] == b"fmt ":
                bytes_per_s = int.from_bytes(file.read(16)[8:12], "little")
            file.seek(end + size % 2)
    return 0.0


def _has_xing_frame(container: Any, path: Path) -> bool:
    """Whether the first frame of an MP3 file, behind its ID3 tag, states the number of frames."""
    if container.format.name != "mp3":
        return False
    with path.open("rb") as file:
        tag = file.read(10)
        size = sum(byte << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0)))
        file.seek(10 + size if tag[:3] == b"ID3" else 0)
        frame = file.read(64)
    return b"Xing" in frame or b"Info" in frame


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
