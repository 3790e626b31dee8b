"""Clips: audio to judge on, with what is known about each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    """One audio fixture."""

    name: str
    """Unique in its set and safe as a file name."""
    path: Path
    text: str | None = None
    """Reference transcript; "" says that nothing is spoken, None that nobody wrote one."""
    language: str | None = None
    """Whisper language code; None: the reference stage detects it."""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BadClip:
    """A line of a manifest, or a path, that gives no clip: reported as a row of its own."""

    name: str
    error: str


ClipSet = tuple[tuple[Clip, ...], tuple[BadClip, ...]]
