"""Transcripts of all stages under each other, unit by unit, each edit marked by its class."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from rapidfuzz.distance import Indel

from whisper_parity.compare.text import TextEdit, classify, is_mark, units

LINE_WIDTH = 64
"""Columns of characters before an alignment continues in another block; CJK characters count two."""
MAX_UNITS = 1200
"""Longer texts are cut here with a note: nobody reads an hour of aligned speech."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of one text in its column."""

    text: str
    """"" where this text has nothing in this column."""
    edit_class: str
    """"" where it agrees with the first text; else one of `whisper_parity.compare.text.EDIT_CLASSES`."""
    was: str
    """The first text's unit there."""


@dataclass(frozen=True, slots=True)
class Line:
    """One text, or several equal ones."""

    names: tuple[str, ...]
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Alignment:
    """All texts of a clip."""

    blocks: tuple[tuple[Line, ...], ...]
    """Consecutive pieces, each narrow enough for a line; within one, all lines have the same number of units."""
    edits: tuple[tuple[str, TextEdit], ...]
    """(names of the text, edit), against the first text."""
    cut: int
    """Number of columns not shown."""


Pair = tuple[str, str]


def align(texts: Mapping[str, str], language: str | None) -> Alignment:
    """Align texts with the first of them.

    Each is aligned with the first by a longest common subsequence of units, as in
    `whisper_parity.compare.text.classify`; insertions get columns of their own, shared by all texts that insert there.

    Args:
        texts: name -> text, the one that the others are marked against first.
        language: a Whisper code; determines the units.
    """
    grouped = _grouped(texts)
    base = units(next(iter(grouped)), language)
    rows = [list(pairs(base, units(text, language))) for text in grouped]
    columns = list(_columns(base, rows))
    shown = columns[:MAX_UNITS]
    lines = [
        Line(names, tuple(_unit(column[0], column[i], language) for column in shown))
        for i, names in enumerate(grouped.values())
    ]
    return Alignment(tuple(_blocks(lines)), _edits(grouped, language), len(columns) - len(shown))


def pairs(base: Sequence[str], other: Sequence[str]) -> Iterator[Pair]:
    """(unit of base, unit of other) in reading order; "" on the side that has none.

    Within a gap, units of one kind (words, marks) are paired in order as long as no pair crosses another.
    """
    for equal, run in groupby(Indel.opcodes(base, other), key=lambda block: block.tag == "equal"):
        blocks = list(run)
        ours = base[blocks[0].src_start : blocks[-1].src_end]
        theirs = other[blocks[0].dest_start : blocks[-1].dest_end]
        yield from zip(ours, theirs) if equal else _gap(list(ours), list(theirs))


def _gap(ours: list[str], theirs: list[str]) -> Iterator[Pair]:
    while ours and theirs:
        if is_mark(ours[0][0]) == is_mark(theirs[0][0]):
            yield ours.pop(0), theirs.pop(0)
        elif any(is_mark(unit[0]) == is_mark(ours[0][0]) for unit in theirs):
            yield "", theirs.pop(0)
        else:
            yield ours.pop(0), ""
    yield from zip_longest(ours, [], fillvalue="")
    yield from zip_longest([], theirs, fillvalue="")


def _columns(base: Sequence[str], rows: Sequence[Sequence[Pair]]) -> Iterator[list[str]]:
    """One column per unit of the base, and before it as many as the longest insertion there needs."""
    split = [_by_base_unit(row) for row in rows]
    for at in range(len(base) + 1):
        inserted = [row[at][0] for row in split]
        for column in zip_longest(*inserted, fillvalue=""):
            yield list(column)
        if at < len(base):
            yield [row[at][1] for row in split]


def _by_base_unit(row: Sequence[Pair]) -> list[tuple[list[str], str]]:
    """For each unit of the base: (units inserted before it, its counterpart); one more entry for the end."""
    aligned: list[tuple[list[str], str]] = []
    inserted: list[str] = []
    for ours, theirs in row:
        if ours:
            aligned.append((inserted, theirs))
            inserted = []
        else:
            inserted.append(theirs)
    return [*aligned, (inserted, "")]


def _unit(ours: str, theirs: str, language: str | None) -> Unit:
    if ours == theirs:
        return Unit(theirs, "", ours)
    edit = classify(reference=ours, hypothesis=theirs, language=language)
    return Unit(theirs, edit[0].edit_class if edit else "word", ours)


def _grouped(texts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Text -> all names with that text, in order of appearance."""
    names: dict[str, tuple[str, ...]] = {}
    for name, text in texts.items():
        names[text.strip()] = (*names.get(text.strip(), ()), name)
    return names


def _edits(grouped: Mapping[str, tuple[str, ...]], language: str | None) -> tuple[tuple[str, TextEdit], ...]:
    first, *others = grouped
    return tuple(
        (", ".join(grouped[text]), edit)
        for text in others
        for edit in classify(reference=first, hypothesis=text, language=language)
    )


def _blocks(lines: Sequence[Line]) -> Iterator[tuple[Line, ...]]:
    start, width = 0, 0
    count = len(lines[0].units) if lines else 0
    for at in range(count):
        needed = max(_width(line.units[at].text) for line in lines) + 1
        if width and width + needed > LINE_WIDTH:
            yield _piece(lines, start, at)
            start, width = at, 0
        width += needed
    if count:
        yield _piece(lines, start, count)


def _piece(lines: Sequence[Line], start: int, end: int) -> tuple[Line, ...]:
    return tuple(Line(line.names, line.units[start:end]) for line in lines)


def _width(text: str) -> int:
    """Columns of a text: characters of East Asian width W or F take two (Unicode Annex 11)."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)
