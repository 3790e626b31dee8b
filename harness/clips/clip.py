"""Clips: audio to judge on, with its transcript, language and tags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Listing:
    """Where a clip stands in a set."""

    path: Path
    """The set's."""
    name: str
    """What it is called there; in a run of several sets it may be called otherwise."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One audio fixture."""

    name: str
    """Unique in its set and safe as a file name."""
    path: Path
    text: str | None = None
    """Reference transcript; "" for a clip without speech, None without a transcript."""
    language: str | None = None
    """Whisper language code; None: the reference stage detects it."""
    tags: tuple[str, ...] = ()
    listing: Listing | None = None
    """Where it was taken from; None for one that was named by its file."""


@dataclass(frozen=True, slots=True)
class BadClip:
    """A manifest line or path that gives no clip; reported in a row of its own."""

    name: str
    error: str


@dataclass(frozen=True, slots=True)
class ClipSet:
    """What was selected."""

    clips: tuple[Clip, ...]
    bad: tuple[BadClip, ...] = ()
    notes: tuple[str, ...] = ()
    """What was left out: "clips: 2 files are no sound: a.txt, notes.md"."""
