"""The sounds in a folder: what FFmpeg reads, by looking into each file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.clips.source import has_sound
from whisper_parity.errors import UsageError, printable
from whisper_parity.system import inputs

CLAIMS_SOUND = {
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".webm", ".mp4", ".mkv", ".mka", ".mov", ".3gp",
    ".amr", ".aif", ".aiff", ".au", ".caf", ".wma",
}  # fmt: skip
"""Suffixes of sound: such a file that cannot be read is a row of its own, and is not left out."""
SHOWN = 5
"""Names of files that a note lists."""


@dataclass(frozen=True, slots=True)
class Content:
    """A folder's files, told apart."""

    sounds: tuple[Path, ...]
    """In the order of their names."""
    notes: tuple[str, ...]
    """What was left out, in at most one line."""


def look_into(folder: Path) -> Content:
    """Find the sounds that lie in a folder itself; folders in it are not entered.

    Raises:
        UsageError: there is none, or the folder cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror})", hint="Check its permissions") from error
    sounds = tuple(entry for entry in entries if _is_sound(entry))
    others = [entry for entry in entries if entry not in set(sounds)]
    if not sounds:
        raise UsageError(f"{folder}: no sound in this folder{_listed(others)}", hint="Name a folder with audio files")
    return Content(sounds, (printable(f"{folder}: left out, since it is no sound{_listed(others)}"),) if others else ())


def _is_sound(path: Path) -> bool:
    if not path.is_file():
        return False
    claims = path.suffix.lower() in CLAIMS_SOUND
    return (claims and not path.name.startswith("._")) or (_may_be_read(path) and has_sound(path))


def _may_be_read(path: Path) -> bool:
    return 0 < path.stat().st_size <= inputs.AUDIO_BYTES


def _listed(others: Sequence[Path]) -> str:
    names = [f"{path.name}/" if path.is_dir() else path.name for path in others[:SHOWN]]
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return f": {', '.join(names)}{more}" if names else ""
