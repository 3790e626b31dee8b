"""A file as FFmpeg sees it: opened for reading, and for nothing else that it names."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A regular file as a container of PyAV.

    FFmpeg gets the open file, not its name, and may use no protocol: a playlist cannot make it read another file, a
    pipe or an address, and "12:30.wav" is no protocol called 12.

    Raises:
        av.error.FFmpegError, OSError, ValueError: it is no container that FFmpeg reads.
    """
    import av

    with _File(path) as file:
        options = {"protocol_whitelist": "none"}
        with av.open(file, metadata_errors="ignore", options=options) as container:
            yield container


def sounding(container: Any) -> list[Any]:
    """The audio streams of a container that a decoder is there for."""
    return [stream for stream in container.streams.audio if stream.codec_context is not None]


def has_sound(path: Path) -> bool:
    """Whether FFmpeg finds an audio stream in a regular file, as far as its beginning tells."""
    import av

    try:
        with opened(path) as container:
            return any(stream.sample_rate and stream.channels for stream in sounding(container))
    except (av.error.FFmpegError, OSError, ValueError):
        return False


class _File(io.FileIO):
    """A file whose seeks to nowhere fail quietly: PyAV prints a traceback for each that raises."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """The new position, -1 for one that cannot be."""
        try:
            return super().seek(offset, whence)
        except (OSError, OverflowError):
            return -1
