"""What a format of clip sets gives: one entry after the other, so that a set of any size is read in little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from whisper_parity.clips.clip import BadClip
from whisper_parity.errors import printable


@dataclass(frozen=True, slots=True)
class File:
    """A clip that is a file of its own."""

    path: Path


@dataclass(frozen=True, slots=True)
class Piece:
    """A clip that is a part of a longer file."""

    path: Path
    start_s: float
    seconds: float | None
    """None: to its end."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A clip whose file lies inside another one."""

    key: tuple[object, ...]
    """What tells it from every other one: file, size, time of writing, row."""
    suffix: str
    read: Callable[[], bytes]


Sound = File | Piece | Embedded


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip of a set, as its list has it."""

    names: tuple[str, ...]
    """What it may be called, the best name first; the first that is free becomes the clip's name."""
    sound: Sound
    where: str
    """"clips.jsonl:12", for messages."""
    text: str | None = None
    language: str | None = None
    """As the set writes it."""
    tags: tuple[str, ...] = ()
    seconds: float | None = None
    """Length as the set says it [s]."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a set is read."""

    roots: tuple[Path, ...] = ()
    """Folders beside the set's own that its paths may point into."""
    notes: list[str] = field(default_factory=list)
    """What was left out; grows while the set is read."""

    def note(self, text: str) -> None:
        """Say what was left out; names of files in it cannot drive a terminal."""
        self.notes.append(printable(text))


class Format(Protocol):
    """One format; its module is the implementation."""

    LOOKED_FOR: str
    """By what it is recognised: "a LibriSpeech folder (*.trans.txt beside the sounds)"."""

    def recognises(self, path: Path) -> bool:
        """Whether what lies at a path is in this format, by its content; never raises for what is not."""

    def read(self, path: Path, reading: Reading) -> Iterator[Entry | BadClip]:
        """The clips of a set in its order.

        Raises:
            ManifestError, UsageError: the set as a whole cannot be used.
            UnavailableError: a package is missing; the message names the extra that brings it.
        """
