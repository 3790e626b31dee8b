"""One side of a comparison, as findings read it: a text, its words, their places in tokens and in time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from whisper_parity.compare.result import Segment
from whisper_parity.compare.words import Word, words
from whisper_parity.model import vocabulary


@dataclass(frozen=True)
class Side:
    """What one program says of a clip."""

    text: str
    """Of its tokens where they can be decoded, else as it is written."""
    tokens: tuple[int, ...] | None
    """Text tokens; None where there are none, or their vocabulary is unknown."""
    n_vocab: int | None
    segments: tuple[Segment, ...] = ()
    language: str | None = None
    is_silent: bool = False
    """Every sample of the clip is zero."""

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The words of its text."""
        return words(self.text)

    def step(self, word: int) -> int | None:
        """The token in which a word begins; behind the last word the number of tokens. None without tokens."""
        if self.tokens is None:
            return None
        if word >= len(self.words):
            return len(self.tokens)
        return self._steps[bisect_right(self._starts, self.words[word].start) - 1]

    def shown(self, start: int, end: int) -> str:
        """The text of words [start, end): with tokens whole tokens, else with the marks behind the last word."""
        if start >= end:
            return ""
        first, last = self._start_of(start), self._start_of(end)
        return self.text[first:last] if self.tokens is not None else self.text[first:last].rstrip()

    def around(self, word: int) -> tuple[Segment, Segment | None] | None:
        """The segment that ends in front of a word, and the next; None where the word is inside one, or times lack."""
        for i, count in enumerate(self._words_until):
            if count == word and self.segments[i].end is not None:
                return self.segments[i], self.segments[i + 1] if i + 1 < len(self.segments) else None
        return None

    def _start_of(self, word: int) -> int:
        """The character at which a word's token starts; the word's own without tokens, or where it shares one."""
        if word >= len(self.words):
            return len(self.text)
        place = self.words[word].start
        if self.tokens is None:
            return place
        start = self._starts[bisect_right(self._starts, place) - 1]
        return start if word == 0 or self.words[word - 1].end <= start else place

    @cached_property
    def _spans(self) -> tuple[tuple[int, int], ...]:
        assert self.n_vocab is not None and self.tokens is not None  # noqa: S101, PT018 - sides with tokens only
        return vocabulary.whole_characters(self.n_vocab, self.tokens)

    @cached_property
    def _steps(self) -> list[int]:
        return [start for start, _ in self._spans]

    @cached_property
    def _starts(self) -> list[int]:
        """Where each span's text begins, in characters."""
        assert self.n_vocab is not None and self.tokens is not None  # noqa: S101, PT018 - sides with tokens only
        texts = [vocabulary.token_text(self.n_vocab, self.tokens[slice(*span)]) for span in self._spans]
        return [0, *accumulate(map(len, texts))][:-1] or [0]

    @cached_property
    def _words_until(self) -> list[int]:
        """Words up to the end of each segment; empty where the segments do not make up the text."""
        parts = [words(segment.text) for segment in self.segments]
        keys = [word.key for part in parts for word in part]
        return list(accumulate(map(len, parts))) if keys == [word.key for word in self.words] else []


def side(
    text: str,
    tokens: Sequence[int] | None,
    n_vocab: int | None,
    segments: tuple[Segment, ...] = (),
    language: str | None = None,
    *,
    is_silent: bool = False,
) -> Side:
    """A side whose words can be found in its tokens, where these can be decoded."""
    if tokens is None or n_vocab is None:
        return Side(text, None, None, segments, language, is_silent)
    return Side(vocabulary.token_text(n_vocab, tokens), tuple(tokens), n_vocab, segments, language, is_silent)
