"""Clips that are no files of their own, as files in the cache: parts of a longer sound, sounds inside a data set.

They are written once; later runs, workers and pages find them there. A part is cut from the decoded sound, so it holds
the same samples as the whole has there.
"""

from __future__ import annotations

import wave
from functools import lru_cache
from pathlib import Path

from whisper_parity.clips import audio
from whisper_parity.clips.recording import SAMPLE_RATE, Recording
from whisper_parity.clips.sets.interface import Embedded, File, Piece, Sound
from whisper_parity.errors import AudioError, OutputError
from whisper_parity.system import cache, inputs, serial
from whisper_parity.system.files import replacing

VERSION = 1
FOLDER = "clips"


def file_of(sound: Sound, folder: Path) -> Path:
    """The file of a clip, made in the cache where it is none yet.

    Args:
        sound: where the clip's sound is.
        folder: the cache.

    Raises:
        AudioError: its source cannot be read, or ends before the part begins.
        OutputError: the cache cannot be written.
    """
    if isinstance(sound, File):
        return sound.path
    path = folder / FOLDER / f"{serial.digest([VERSION, *_key(sound)])}{_suffix(sound)}"
    if path.is_file():
        cache.touch(path)
        return path
    content = _embedded(sound) if isinstance(sound, Embedded) else None
    pcm = _cut(sound) if isinstance(sound, Piece) else b""
    try:
        with replacing(path) as partial:
            _write_wav(partial, pcm) if content is None else partial.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})", hint="Choose another --cache") from error
    return path


def _key(sound: Piece | Embedded) -> list[object]:
    if isinstance(sound, Embedded):
        return [str(part) for part in sound.key]
    audio.require(sound.path)
    status = sound.path.stat()
    return [str(sound.path), status.st_size, status.st_mtime_ns, sound.start_s, sound.seconds]


def _suffix(sound: Piece | Embedded) -> str:
    return sound.suffix if isinstance(sound, Embedded) else ".wav"


def _embedded(sound: Embedded) -> bytes:
    content = sound.read()
    if not content or len(content) > inputs.AUDIO_BYTES:
        raise AudioError(f"{sound.key[0]}: a sound of {len(content)} bytes in it", hint="Make the data set again")
    return content


def _cut(piece: Piece) -> bytes:
    """int16 samples at 16 kHz of a part."""
    pcm = _decoded(piece.path, piece.path.stat().st_mtime_ns).pcm
    start = round(piece.start_s * SAMPLE_RATE)
    end = len(pcm) if piece.seconds is None else start + round(piece.seconds * SAMPLE_RATE)
    if start >= len(pcm) or end <= start:
        span = f"{piece.start_s:g} s to {end / SAMPLE_RATE:g} s"
        length = f"{len(pcm) / SAMPLE_RATE:.2f} s"
        raise AudioError(f"{piece.path}: no sound from {span}, it has {length}", hint="Correct offset and duration")
    return pcm[start:end].tobytes()


@lru_cache(maxsize=1)  # the parts of one sound stand behind each other
def _decoded(path: Path, _written_ns: int) -> Recording:
    return audio.read(path)


def _write_wav(path: Path, pcm: bytes) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm)
