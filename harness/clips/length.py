"""How long a sound is, as its file's header says it: nothing is decoded."""

from __future__ import annotations

from pathlib import Path

from whisper_parity.clips.source import opened, sounding

MICROSECONDS = 1_000_000


def of_header(path: Path) -> float | None:
    """Length [s]; None where no header says it, or the file cannot be read."""
    import av

    try:
        with opened(path) as container:
            stream = next(iter(sounding(container)), None)
            if stream is not None and stream.duration is not None:
                return float(stream.duration * stream.time_base)
            return container.duration / MICROSECONDS if container.duration else None
    except (av.error.FFmpegError, OSError, ValueError):
        return None
