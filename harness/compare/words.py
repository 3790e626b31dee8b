"""The words of a text: what the findings count, without marks, case and blanks."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from whisper_parity.compare import text as text_of
from whisper_parity.compare.result import SPECIAL

UNSPACED_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "MYANMAR", "KHMER")
"""Scripts without blanks between words, as Unicode's names of letters begin: each letter is a word."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word and its place."""

    key: str
    """Its letters and digits, in lower case."""
    start: int
    """First character in the text."""
    end: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch outside the words that two texts have in common: [start, end) in each."""

    start: int
    end: int
    other_start: int
    other_end: int

    @property
    def removed(self) -> int:
        """Words of the first that the second lacks."""
        return self.end - self.start

    @property
    def added(self) -> int:
        """Words of the second that the first lacks."""
        return self.other_end - self.other_start


def words(text: str) -> tuple[Word, ...]:
    """The words of a text in order; special tokens written in it are none."""
    plain = SPECIAL.sub(lambda match: " " * len(match[0]), text)
    return tuple(word for start, chunk in _chunks(plain) for word in _of_chunk(chunk, start))


def gaps(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Gap, ...]:
    """The stretches outside the words that two texts have in common."""
    return tuple(Gap(*stretch) for stretch in text_of.gaps(ours, theirs))


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for is_blank, run in groupby(text, key=str.isspace):
        chunk = "".join(run)
        if not is_blank:
            yield start, chunk
        start += len(chunk)


def _of_chunk(chunk: str, start: int) -> Iterator[Word]:
    letters = [(i, c) for i, (c, is_mark) in enumerate(text_of.with_inner_marks_as_letters(chunk)) if not is_mark]
    for unspaced, run in groupby(letters, key=lambda pair: _is_unspaced(pair[1])):
        together = list(run)
        for part in [[pair] for pair in together] if unspaced else [together]:
            key = unicodedata.normalize("NFKC", "".join(c for _, c in part)).casefold().replace("’", "'")
            yield Word(key, start + part[0][0], start + part[-1][0] + 1)


@lru_cache(maxsize=65536)
def _is_unspaced(character: str) -> bool:
    return not character.isascii() and unicodedata.name(character, "").startswith(UNSPACED_SCRIPTS)
