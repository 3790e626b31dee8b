"""How much of a file is missing, by what its own header says: FFmpeg reads a truncated file without an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

STREAMED_BYTES = 0x7FFF0000
"""A WAV data chunk of this size or more was written to a pipe with unknown length (FFmpeg writes 0xFFFFFFFF)."""


def missing_s(container: Any, stream: Any, path: Path, rate: int, found_s: float) -> float:
    """How much shorter a file is than its header says [s].

    A length guessed from the bit rate does not count: of the formats that guess, only MP3 is checked, and only if it
    has a Xing or Info frame.

    Args:
        container: the opened file.
        stream: its audio stream.
        path: the file.
        rate: the stream's sample rate before it was decoded [Hz].
        found_s: length of the decoded sound [s].
    """
    if container.format.name == "wav":
        return _wav_missing_s(path)
    if stream.duration is None:
        return 0.0
    announced_s = float(stream.duration * stream.time_base)
    if container.format.name == "mp3":  # FFmpeg guesses where a tag or another file follows: never above the header's
        return min(announced_s, _xing_s(path, rate)) - found_s
    return announced_s - found_s if container.format.name == "flac" else 0.0


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


def _xing_s(path: Path, rate: int) -> float:
    """Length [s] that the first frame of an MP3 file states, behind its ID3 tag; 0 without a Xing or Info frame."""
    with path.open("rb") as file:
        tag = file.read(10)
        size = sum(byte << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0)))
        file.seek(10 + size if tag[:3] == b"ID3" else 0)
        frame = file.read(64)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or not frame[at + 7] & 1:  # the flag of a number of frames
        return 0.0
    samples = 1152 if rate >= 32_000 else 576  # of a frame: MPEG 1, and 2 or 2.5
    return int.from_bytes(frame[at + 8 : at + 12], "big") * samples / rate
