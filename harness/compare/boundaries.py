"""Segment boundaries, and the edits there that a decode policy, and no conversion, can have moved."""

from __future__ import annotations

from collections.abc import Sequence

from whisper_parity.compare.text import is_mark
from whisper_parity.compare.token import TokenDiff, TokenEdit
from whisper_parity.model.vocabulary import timestamp_begin

MOST = 3
"""Tokens of an edit at a boundary: a mark, and the word behind it."""


def timestamp_pairs(timestamped: Sequence[int], n_vocab: int) -> frozenset[int]:
    """Text positions of timestamp pairs: the number of text tokens before each inner segment boundary."""
    begin = timestamp_begin(n_vocab)
    text_count, run, pairs = 0, 0, set()
    for token_id in timestamped:
        if token_id >= begin:
            run += 1
            if run == 2 and text_count:
                pairs.add(text_count)
        else:
            text_count, run = text_count + 1, 0
    return frozenset(pairs)


def edits_at(tokens: TokenDiff, boundaries: frozenset[int]) -> tuple[int, ...]:
    """Indices of the edits that change no word and stand exactly at a boundary."""
    return tuple(i for i, edit in enumerate(tokens.edits) if moves_marks(edit) and boundaries & set(_touched(edit)))


def moves_marks(edit: TokenEdit) -> bool:
    """Whether an edit of a few tokens changes no word: marks come or go, or the word behind them changes its case.

    A policy moves a mark at the end of a segment; it does not write words.
    """
    ours, theirs = (_letters(text) for text in (edit.reference_text, edit.candidate_text))
    return ours == theirs and max(len(edit.reference_tokens), len(edit.candidate_tokens)) <= MOST


def _touched(edit: TokenEdit) -> range:
    """Places in front of, inside and behind the edited tokens."""
    return range(edit.reference_start, edit.reference_start + len(edit.reference_tokens) + 1)


def _letters(text: str) -> str:
    return "".join(c for c in text if not is_mark(c) and not c.isspace()).casefold()
