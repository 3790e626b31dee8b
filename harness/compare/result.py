"""What another program says of a clip, as its file holds it."""

from __future__ import annotations

import re
from dataclasses import dataclass

SPECIAL = re.compile(r"<\|[^|>]{0,40}\|>|\[_[A-Z]+_?\d*_?\]")
"""A special token in a text: "<|en|>", or "[_BEG_]" and "[_TT_50]" of whisper.cpp."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of text with its times."""

    text: str
    start: float | None
    """Seconds; None where the file does not say it."""
    end: float | None
    tokens: tuple[int, ...] | None = None
    """Its ids, timestamps included; None without ids."""
    seek: float | None = None
    """Start of its window [s]: timestamps count from there."""


@dataclass(frozen=True, slots=True)
class Result:
    """One program's result on a clip."""

    name: str
    """The file's."""
    form: str
    """The format that was read: "whisper.cpp JSON", "subtitles (srt)"."""
    text: str | None
    """None: the file holds ids alone."""
    parts: tuple[tuple[int, ...], ...] | None
    """Ids in the order of the file, prompt and end-of-text included: one list, or one a segment; None without ids."""
    language: str | None = None
    """As the file writes it."""
    segments: tuple[Segment, ...] = ()
    clip: str = ""
    """Audio file that it names; "" when it names none."""
    id: str = ""
    """What it calls the clip; "" when it does not."""
    truth: str | None = None
    """What was said, where the file holds it beside the result."""
    model: str = ""
    """Model that it names."""
    n_vocab: int | None = None
    """Size of the vocabulary that it names."""
    joined: bool = False
    """The text was put together from lines or segments: its blanks are ours."""
    tokens_as_text: bool = False
    """It holds tokens as strings, which are no ids."""
