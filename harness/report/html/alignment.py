"""The texts of a clip: what the reference says, and of each text that differs, its edits in place with both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from whisper_parity.compare.text import EDIT_CLASSES, classify, gaps, units
from whisper_parity.report.html.timing import UNKNOWN, Times, places_of

NEAR = 14
"""Units that stay in sight on either side of an edit; the others are folded."""
MAX_UNITS = 4000
"""Longer texts are cut here with a note: nobody reads an hour of marked speech."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text: the same in both, or an edit."""

    text: str
    """Of the candidate, as it stands there, blanks between its units included; "" where it has nothing."""
    was: str
    """Of the reference; "" where it has nothing."""
    edit_class: str
    """"" where both agree; else one of `whisper_parity.compare.text.EDIT_CLASSES`."""
    blank: bool
    """Whether a blank stands in front of it."""
    second: float | None = None
    """When the reference says it [s]."""
    is_far: bool = False
    """Far from every edit: folded until all is asked for."""


@dataclass(frozen=True, slots=True)
class Line:
    """One text, or several equal ones, that differs from the reference's."""

    names: tuple[str, ...]
    pieces: tuple[Piece, ...]
    edits: int
    cut: int
    """Units that are not shown."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """All texts of a clip; the reference is the first."""

    reference: tuple[str, ...]
    """Stages that say exactly what the reference says, itself first."""
    text: str
    lines: tuple[Line, ...]
    source: str = ""
    """Where the seconds come from: "cross-attention", "segments", or ""."""


def align(texts: Mapping[str, str], language: str | None, times: Times = UNKNOWN) -> Alignment:
    """Align texts with the first of them.

    Units are aligned by a longest common subsequence, as in `whisper_parity.compare.text.classify`.

    Args:
        texts: name -> text, the one that the others are held against first.
        language: a Whisper code; determines the units.
        times: when the first text is spoken.
    """
    grouped = _grouped(texts)
    first, *others = grouped
    lines = tuple(_line(grouped[text], first, text, language, times) for text in others)
    return Alignment(grouped[first], first, lines, times.source if times.characters else "")


def _line(names: tuple[str, ...], base: str, text: str, language: str | None, times: Times) -> Line:
    pieces = list(_pieces(_Spans(base, language), _Spans(text, language), language, times))
    cut = sum(1 for _ in pieces[MAX_UNITS:])
    shown = tuple(pieces[:MAX_UNITS])
    return Line(names, shown, sum(bool(piece.edit_class) for piece in pieces), cut)


class _Spans:
    """A text and where its units stand in it."""

    def __init__(self, text: str, language: str | None) -> None:
        self.text, self.units = text, units(text, language)
        self._starts: list[int] = []
        at = 0
        for unit in self.units:
            at = text.index(unit, at)
            self._starts.append(at)
            at += len(unit)

    def slice(self, start: int, end: int) -> str:
        """The text from one unit up to another, blanks between them included."""
        if start >= end:
            return ""
        return self.text[self._starts[start] : self._starts[end - 1] + len(self.units[end - 1])]

    def blank_before(self, unit: int) -> bool:
        """Whether a blank stands in front of a unit, or of the end."""
        if not 0 < unit < len(self.units):
            return False
        return self.text[self._starts[unit] - 1].isspace()


def _pieces(ours: _Spans, theirs: _Spans, language: str | None, times: Times) -> Iterator[Piece]:
    places = places_of(ours.units)
    at, other = 0, 0
    for start, end, other_start, other_end in [*gaps(ours.units, theirs.units), _end(ours, theirs)]:
        yield from _same(theirs, other, other_start, is_first=at == 0, is_last=start == len(ours.units) == end)
        if (start, other_start) != (end, other_end):
            was, text = ours.slice(start, end), theirs.slice(other_start, other_end)
            blank = theirs.blank_before(other_start) if text else ours.blank_before(start)
            yield Piece(text, was, _class(was, text, language), blank, times.second(places[start]))
        at, other = end, other_end


def _end(ours: _Spans, theirs: _Spans) -> tuple[int, int, int, int]:
    return len(ours.units), len(ours.units), len(theirs.units), len(theirs.units)


def _same(spans: _Spans, start: int, end: int, *, is_first: bool, is_last: bool) -> Iterator[Piece]:
    """What both say; the part of it that is far from every edit by itself."""
    near_from = start if is_first else min(end, start + NEAR)
    near_to = end if is_last else max(start, end - NEAR)
    if is_first and is_last:
        near_from = near_to = end
    if near_to - near_from < NEAR // 2:
        near_from = near_to = end
    for low, high, is_far in ((start, near_from, False), (near_from, near_to, True), (near_to, end, False)):
        if low < high:
            text = spans.slice(low, high)
            yield Piece(text, text, "", spans.blank_before(low), is_far=is_far)


def _class(was: str, text: str, language: str | None) -> str:
    """The gravest class of what changed."""
    classes = {edit.edit_class for edit in classify(reference=was, hypothesis=text, language=language)}
    return next((name for name in reversed(EDIT_CLASSES) if name in classes), "word")


def _grouped(texts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Text -> all names with that text, in order of appearance."""
    names: dict[str, tuple[str, ...]] = {}
    for name, text in texts.items():
        names[text.strip()] = (*names.get(text.strip(), ()), name)
    return names


def differing(alignment: Alignment | None) -> Sequence[Line]:
    """The lines that differ; none without texts."""
    return alignment.lines if alignment else ()
