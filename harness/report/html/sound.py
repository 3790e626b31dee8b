"""Sound in the page: what the model heard, mono at 16 kHz, compressed by Opus, as far as the page has room for it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from whisper_parity.clips import audio
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.recording import SAMPLE_RATE, Pcm
from whisper_parity.errors import AudioError
from whisper_parity.report.html.names import place
from whisper_parity.system.files import exists, file_sha256

BEST, LEAST = 16_000, 8_000
"""Bits a second: of speech that is clear, and of speech that can be followed; all clips of a page get the same."""
SHORTEST_S = 5.0
"""A clip of which less than this has room is not inlined."""
SHARE = 1.25 / 8 * 4 / 3
"""Bytes in the page for a bit: base64 makes four characters of three bytes; the rest is the container's and the
encoder's, which keeps its rate on average only."""
MIME = "audio/webm"
"""Of a container that browsers have played with Opus in it the longest."""
CHUNK = SAMPLE_RATE * 30
"""Samples that are handed to the encoder at once: an hour of sound must not be copied whole."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip's sound as a URI, or a note on where it is; a note beside a URI says what is left out."""

    uri: str
    note: str


USED_UP = "the page's room for sound is used up"
NOT_FOUND = Sound("", "the audio file was not found")


def inlined(
    wanted: Mapping[str, float], clips: Mapping[str, Clip], recorded: Mapping[str, str], room: int
) -> dict[str, Sound]:
    """The sounds of a page: all of them where they fit, else as many as do.

    Args:
        wanted: length [s] by name of clip, most important first.
        clips: the clips by name.
        recorded: SHA-256 of the run's audio by clip: a file with another hash is not inlined.
        room: bytes that they may add to the page in total.
    """
    bit_rate = int(min(BEST, max(LEAST, room / SHARE / max(1.0, sum(wanted.values())))))
    remaining, sounds = room, {}
    for name in wanted:
        clip = clips.get(name)
        sounds[name] = _sound(clip.path, recorded.get(name, ""), remaining, bit_rate) if clip else NOT_FOUND
        remaining -= len(sounds[name].uri)
    return sounds


def compressed(pcm: Pcm, bit_rate: int = BEST) -> bytes:
    """Samples as Opus in a WebM container, by FFmpeg.

    Args:
        pcm: int16 [n_samples], mono, 16 kHz.
        bit_rate: on average [bit/s].
    """
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="webm", options={"fflags": "+bitexact"}) as container:  # without random ids
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = bit_rate
        stream.options = {"application": "voip", "compression_level": "1", "frame_duration": "60"}
        for start, chunk in _chunks(pcm):
            frame = av.AudioFrame.from_ndarray(chunk[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _chunks(pcm: Pcm) -> Iterator[tuple[int, Pcm]]:
    for start in range(0, len(pcm), CHUNK):
        yield start, pcm[start : start + CHUNK]


def _sound(path: Path, recorded: str, room: int, bit_rate: int) -> Sound:
    if not exists(path):
        return NOT_FOUND
    seconds = room / (SHARE * bit_rate)
    if seconds < SHORTEST_S:
        return Sound("", f"not inlined ({USED_UP}): {place(path)}")
    try:
        audio.require(path)
        if file_sha256(path) != recorded:
            return Sound("", f"not inlined (not the audio that this run recorded): {place(path)}")
        content, note = _fitting(path, seconds, bit_rate)
    except (AudioError, OSError) as error:
        return Sound("", f"not inlined ({error})")
    uri = f"data:{MIME};base64,{base64.b64encode(content).decode()}"
    return Sound(uri, note) if len(uri) <= room else Sound("", f"not inlined ({USED_UP}): {place(path)}")


def _fitting(path: Path, seconds: float, bit_rate: int) -> tuple[bytes, str]:
    """The compressed sound, and what of it is left out."""
    pcm = audio.read(path).pcm
    fitting = pcm[: int(seconds * SAMPLE_RATE)]
    whole, kept = (f"{len(samples) / SAMPLE_RATE:.0f} s" for samples in (pcm, fitting))
    note = f"the first {kept} of {whole}: {place(path)}" if len(fitting) < len(pcm) else ""
    return compressed(fitting, bit_rate), note
