"""How two texts differ: error counts, and each edit by its class.

    rate = (S + D + I) / N      S, D, I: substitutions, deletions, insertions; N: length of the reference

A corpus rate is a sum of counts over a sum of lengths, never a mean of rates, and a rate over N = 0 does not exist.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

import jiwer
from rapidfuzz.distance import Indel

HIGHER_IS_BETTER = {"wer": False, "cer": False, "punctuation": False}

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages written without spaces, as openai-whisper's tokenizer lists them: CER leads there."""

EDIT_CLASSES = ("punctuation", "case", "number", "word")


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Counts of one comparison, or of a corpus: they add up."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        """Counts of both together."""
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def errors(self) -> int:
        """S + D + I."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def length(self) -> int:
        """N, the length of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float | None:
        """(S + D + I) / N; None when N is 0."""
        return self.errors / self.length if self.length else None


@dataclass(frozen=True, slots=True)
class TextEdit:
    """One edit that turns the reference text into the hypothesis, and its class."""

    edit_class: str
    """One of EDIT_CLASSES."""
    reference: str
    """Text of the reference; "" for an insertion."""
    hypothesis: str
    """Text of the hypothesis; "" for a deletion."""
    position: int
    """Index of the unit (word, or character in unspaced scripts, or mark) in the reference."""


@dataclass(frozen=True, slots=True)
class TextDiff:
    """Two texts, compared raw, normalised and edit by edit."""

    equal: bool
    reference: str
    hypothesis: str
    wer: ErrorCounts
    cer: ErrorCounts
    wer_normalised: ErrorCounts
    cer_normalised: ErrorCounts
    normaliser: str
    leading: str
    """"wer", or "cer" where words are not separated by spaces."""
    edits: tuple[TextEdit, ...]

    @property
    def leading_counts(self) -> ErrorCounts:
        """The normalised counts that lead for this language."""
        return self.wer_normalised if self.leading == "wer" else self.cer_normalised

    def count(self, edit_class: str) -> int:
        """How many edits are of `edit_class`."""
        return sum(edit.edit_class == edit_class for edit in self.edits)


def word_errors(*, reference: str, hypothesis: str) -> ErrorCounts:
    """Word errors; words are separated by spaces."""
    if not reference.split():
        return ErrorCounts(insertions=len(hypothesis.split()))
    return _counts(jiwer.process_words(reference, hypothesis))


def character_errors(*, reference: str, hypothesis: str) -> ErrorCounts:
    """Character errors; inner spaces count as characters, those at either end do not."""
    reference, hypothesis = reference.strip(), hypothesis.strip()
    if not reference:
        return ErrorCounts(insertions=len(hypothesis))
    return _counts(jiwer.process_characters(reference, hypothesis))


def units(text: str, language: str | None) -> list[str]:
    """Words and punctuation marks in order; in unspaced scripts each character is a word."""
    split_units: list[str] = []
    for chunk in text.split():
        for is_mark, run in groupby(with_inner_marks_as_letters(chunk), key=lambda pair: pair[1]):
            letters = "".join(character for character, _ in run)
            split = is_mark or (language in UNSPACED and not letters.isascii())
            split_units.extend(letters if split else [letters])
    return split_units


def classify(*, reference: str, hypothesis: str, language: str | None) -> tuple[TextEdit, ...]:
    """Every edit between two texts with its class.

    The alignment is a longest common subsequence of units (Hunt and Szymanski 1977); within each gap, deleted and
    inserted units of one kind are paired in order, so that a mark is never paired with a word.
    """
    ours, theirs = units(reference, language), units(hypothesis, language)
    edits: list[TextEdit] = []
    for start, end, other_start, other_end in gaps(ours, theirs):
        edits.extend(_edits_in_gap(ours[start:end], theirs[other_start:other_end], start))
    return tuple(edits)


def gaps(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """The maximal stretches outside a longest common subsequence: (start, end) in ours, (start, end) in theirs."""
    blocks = groupby(Indel.opcodes(ours, theirs), key=lambda block: block.tag == "equal")
    stretches = [list(run) for equal, run in blocks if not equal]
    return [(run[0].src_start, run[-1].src_end, run[0].dest_start, run[-1].dest_end) for run in stretches]


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The corpus' counts."""
    return sum(counts, ErrorCounts())


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    return ErrorCounts(output.hits, output.substitutions, output.deletions, output.insertions)


def is_mark(character: str) -> bool:
    """Whether a character is punctuation or a symbol (Unicode categories P and S)."""
    return unicodedata.category(character)[0] in "PS"


def with_inner_marks_as_letters(chunk: str) -> list[tuple[str, bool]]:
    """Characters of a chunk with "is a mark"; False for an apostrophe between letters or a point in a number."""
    marks = [is_mark(character) for character in chunk]
    for i in range(1, len(chunk) - 1):
        if chunk[i] in "'’-.,:" and not marks[i - 1] and not is_mark(chunk[i + 1]):
            marks[i] = not (chunk[i - 1] + chunk[i + 1]).isascii() or (
                chunk[i] in ".,:" and not (chunk[i - 1].isdigit() and chunk[i + 1].isdigit())
            )
    return list(zip(chunk, marks))


def _edits_in_gap(deleted: Sequence[str], inserted: Sequence[str], start: int) -> list[TextEdit]:
    edits = []
    for marks in (False, True):
        ours = [(start + i, unit) for i, unit in enumerate(deleted) if is_mark(unit[0]) == marks]
        theirs = [unit for unit in inserted if is_mark(unit[0]) == marks]
        end = start + len(deleted)
        for old, new in zip_longest(ours, theirs):
            position, before = old or (end, "")
            edits.append(TextEdit(_edit_class(before, new or ""), before, new or "", position))
    return sorted(edits, key=lambda edit: edit.position)


def _edit_class(before: str, after: str) -> str:
    if is_mark((before or after)[0]):
        return "punctuation"
    if before and after and before.casefold() == after.casefold():
        return "case"
    return "number" if any(c.isdigit() for c in before + after) else "word"
