"""How much of a file is missing, by what its own header says: FFmpeg reads a truncated file without an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

STREAMED_BYTES = 0x7FFF0000
"""A WAV data chunk of this size or more was written to a pipe with unknown length (FFmpeg writes 0xFFFFFFFF)."""


def missing_s(container: Any, stream: Any, path: Path, found_s: float) -> float:
    """How much shorter a file is than its header says [s].

    A length guessed from the bit rate does not count: of the formats that guess, only MP3 is checked, and only if it
    has a Xing or Info frame.

    Args:
        container: the opened file.
        stream: its audio stream.
        path: the file.
        found_s: length of the decoded sound [s].
    """
    if container.format.name == "wav":
        return _wav_missing_s(path)
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
