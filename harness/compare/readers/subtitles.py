"""Subtitles: SubRip, WebVTT, lyrics with times, and the lines that Whisper programs print."""

from __future__ import annotations

import re
from collections.abc import Iterator

from whisper_parity.compare.readers import values
from whisper_parity.compare.result import Result, Segment

ARROW = re.compile(r"^\[?\s*([\d:.,]+)\s*-->\s*([\d:.,]+)\s*\]?(.*)$")
"""A line of times: alone (srt, vtt; settings may follow), or in brackets with the text behind it (printed lines)."""
LYRIC = re.compile(r"^\[(\d+:\d{1,2}(?:[.:]\d+)?)\](.*)$")
TAG = re.compile(r"</?[a-zA-Z][^>]*>|<[\d:.]+>|\{\\[^}]*\}")
SPEAKER = re.compile(r"^\[?SPEAKER[_ ]?\d+\]?:?\s+")


def read(text: str, name: str) -> Result | None:
    """A file of subtitles; None when it is none."""
    lines = text.splitlines()
    if any(ARROW.match(line) for line in lines):
        form = "subtitles (vtt)" if text.lstrip("\ufeff \n").startswith("WEBVTT") else "subtitles (srt)"
        segments = tuple(_cues(lines))
    elif lines and any(LYRIC.match(line.strip()) for line in lines):
        form, segments = "lyrics (lrc)", tuple(_lyrics(lines))
    elif text.lstrip("\ufeff \n").startswith("WEBVTT"):
        form, segments = "subtitles (vtt)", ()
    else:
        return None
    return Result(name, form, values.joined([part.text for part in segments]), None, None, segments, joined=True)


def _cues(lines: list[str]) -> Iterator[Segment]:
    """Text behind each line of times, up to the next blank line; numbers, notes and styles stand in front of one."""
    times: tuple[float | None, float | None] | None = None
    texts: list[str] = []
    for line in [*lines, ""]:
        match = ARROW.match(line.strip())
        if match or not line.strip():
            if times:
                yield Segment(_plain(texts), *times)
            times, texts = None, []
        if match:
            times = values.seconds(match[1]), values.seconds(match[2])
            texts = [match[3]] if line.strip().startswith("[") else []
        elif times:
            texts.append(line)


def _lyrics(lines: list[str]) -> Iterator[Segment]:
    for line in lines:
        if match := LYRIC.match(line.strip()):
            yield Segment(_plain([match[2]]), values.seconds(match[1]), None)


def _plain(texts: list[str]) -> str:
    text = " ".join(TAG.sub("", text).strip() for text in texts)
    return SPEAKER.sub("", text.strip())
