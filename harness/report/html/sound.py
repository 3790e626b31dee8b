"""Audio in the page: the clip's unchanged file, where the page has room for it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.clips.clip import Clip
from whisper_parity.report.html.names import place
from whisper_parity.system.files import exists

CLIP_LIMIT = 400_000
"""Bytes: a larger file is not inlined. 30 s of FLAC of clean speech have about this size."""
MIME = {
    ".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".opus": "audio/ogg",
    ".m4a": "audio/mp4", ".mp4": "audio/mp4", ".aac": "audio/aac", ".webm": "audio/webm",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip's audio as a URI, or a note on where it is."""

    uri: str
    note: str


NOT_FOUND = Sound("", "the audio file was not found")


def inlined(
    wanted: Sequence[str], clips: Mapping[str, Clip], recorded: Mapping[str, str], room: int
) -> dict[str, Sound]:
    """The sounds of a page, as many as fit.

    Args:
        wanted: names of clips, most important first.
        clips: the clips by name.
        recorded: SHA-256 of the run's audio by clip: a file with another hash is not inlined.
        room: bytes that they may add to the page in total.
    """
    remaining, sounds = room, {}
    for name in wanted:
        sounds[name] = _sound(clips[name].path, recorded.get(name, ""), remaining) if name in clips else NOT_FOUND
        remaining -= len(sounds[name].uri)
    return sounds


def _sound(path: Path, recorded: str, left: int) -> Sound:
    kind = MIME.get(path.suffix.lower())
    if kind is None:
        return Sound("", f"not inlined (browsers may not play {path.suffix or 'it'}): {place(path)}")
    if not exists(path):
        return NOT_FOUND
    if not path.is_file():  # opening a pipe would wait for ever
        return Sound("", f"not inlined (no regular file): {place(path)}")
    try:
        size = path.stat().st_size
        if size > CLIP_LIMIT or size * 4 / 3 + 64 > left:  # base64 makes four characters of three bytes
            why = "larger than the page inlines" if size > CLIP_LIMIT else "the page's room for audio is used up"
            return Sound("", f"not inlined ({size / 1e6:.2f} MB, {why}): {place(path)}")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != recorded:
            return Sound("", f"not inlined (not the audio that this run recorded): {place(path)}")
        return Sound(f"data:{kind};base64,{base64.b64encode(content).decode()}", "")
    except OSError as error:
        return Sound("", f"not inlined ({error.strerror}): {place(path)}")
