"""The sounds in a folder, with texts beside them: what FFmpeg reads, by looking into each file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from whisper_parity.clips.source import has_sound
from whisper_parity.errors import ManifestError, UsageError, printable
from whisper_parity.system import inputs

CLAIMS_SOUND = {
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".webm", ".mp4", ".mkv", ".mka", ".mov", ".3gp",
    ".amr", ".aif", ".aiff", ".au", ".caf", ".wma",
}  # fmt: skip
"""Suffixes of sound: such a file that cannot be read is a row of its own, and is not left out."""
TEXT = ".txt"
TEXT_BYTES = 1 << 20
"""Limit of a transcript."""
SHOWN = 5
"""Names of files that a note lists."""


@dataclass(frozen=True, slots=True)
class Content:
    """A folder's files, told apart."""

    sounds: tuple[Path, ...]
    """In the order of their names."""
    notes: tuple[str, ...]
    """What was left out, in at most one line."""
    texts: Mapping[Path, Path] = field(default_factory=dict)
    """The transcript that lies beside a sound: a.txt, or a.wav.txt, of a.wav."""


def look_into(folder: Path, hint: str = "Name a folder with audio files") -> Content:
    """Find the sounds that lie in a folder itself; folders in it are not entered.

    Args:
        folder: where they lie.
        hint: what to do where there is none.

    Raises:
        UsageError: there is none, or the folder cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror})", hint="Check its permissions") from error
    sounds = tuple(entry for entry in entries if _is_sound(entry))
    texts = {sound: text for sound in sounds if (text := text_of(sound))}
    used = {*sounds, *texts.values()}
    others = [entry for entry in entries if entry not in used]
    if not sounds:
        raise UsageError(f"{folder}: no sound in this folder{_listed(others)}", hint=hint)
    left_out = (printable(f"{folder}: left out, since it is no sound{_listed(others)}"),) if others else ()
    return Content(sounds, left_out, texts)


def single(sound: Path) -> Content:
    """One sound, with the transcript beside it."""
    text = text_of(sound)
    return Content((sound,), (), {sound: text} if text else {})


def text_of(sound: Path) -> Path | None:
    """The transcript beside a sound; None where there is none."""
    candidates = (sound.with_name(f"{sound.name}{TEXT}"), sound.with_suffix(TEXT))
    return next((text for text in candidates if text != sound and text.is_file()), None)


def transcript(text: Path) -> str:
    """What a transcript says, on one line.

    Raises:
        ManifestError: it cannot be read, is too large, or not in UTF-8.
    """
    content = inputs.read_text(text, TEXT_BYTES, ManifestError, hint="Give the transcript as text in UTF-8")
    return " ".join(content.split())


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
