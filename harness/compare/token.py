"""How two token sequences differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain

from rapidfuzz.distance import Levenshtein

from whisper_parity.model.vocabulary import token_text, whole_characters


@dataclass(frozen=True, slots=True)
class TokenEdit:
    """One edit that turns the reference's tokens into the candidate's."""

    kind: str
    """"insert", "delete" or "replace"."""
    reference_start: int
    """Step of the reference at which the edit starts."""
    candidate_start: int
    reference_tokens: tuple[int, ...]
    candidate_tokens: tuple[int, ...]
    reference_text: str = ""
    candidate_text: str = ""


@dataclass(frozen=True, slots=True)
class TokenDiff:
    """Free-running tokens of reference and candidate, compared."""

    equal: bool
    reference_count: int
    candidate_count: int
    first_divergence: int | None
    """First step at which they differ (one may simply end there); None when equal."""
    edits: tuple[TokenEdit, ...]


def compare(*, reference: Sequence[int], candidate: Sequence[int]) -> TokenDiff:
    """Equality, first divergence and the shortest list of edits (Levenshtein 1966)."""
    return TokenDiff(
        equal=list(reference) == list(candidate),
        reference_count=len(reference),
        candidate_count=len(candidate),
        first_divergence=first_divergence(reference, candidate),
        edits=edits(reference, candidate),
    )


def first_divergence(reference: Sequence[int], candidate: Sequence[int]) -> int | None:
    """First position at which the sequences differ, the end of the shorter one included; None when equal."""
    for step, (ours, theirs) in enumerate(zip(reference, candidate)):
        if ours != theirs:
            return step
    return None if len(reference) == len(candidate) else min(len(reference), len(candidate))


def edits(reference: Sequence[int], candidate: Sequence[int]) -> tuple[TokenEdit, ...]:
    """The edits of a shortest alignment, in order."""
    return tuple(
        TokenEdit(
            kind=block.tag,
            reference_start=block.src_start,
            candidate_start=block.dest_start,
            reference_tokens=tuple(reference[block.src_start : block.src_end]),
            candidate_tokens=tuple(candidate[block.dest_start : block.dest_end]),
        )
        for block in Levenshtein.opcodes(reference, candidate)
        if block.tag != "equal"
    )


def token_diff(reference: Sequence[int], candidate: Sequence[int], n_vocab: int) -> TokenDiff:
    """How two token sequences differ, each edit with the text of its tokens.

    Tokens that share a character are one unit of the alignment, so that no edit cuts a character.
    """
    ours, theirs = _characters(reference, n_vocab), _characters(candidate, n_vocab)
    starts, other_starts = ([0, *accumulate(map(len, characters))] for characters in (ours, theirs))
    whole = tuple(
        TokenEdit(
            kind=block.tag,
            reference_start=starts[block.src_start],
            candidate_start=other_starts[block.dest_start],
            reference_tokens=(old := tuple(chain(*ours[block.src_start : block.src_end]))),
            candidate_tokens=(new := tuple(chain(*theirs[block.dest_start : block.dest_end]))),
            reference_text=token_text(n_vocab, old),
            candidate_text=token_text(n_vocab, new),
        )
        for block in Levenshtein.opcodes(ours, theirs)
        if block.tag != "equal"
    )
    return replace(compare(reference=reference, candidate=candidate), edits=whole)


def _characters(tokens: Sequence[int], n_vocab: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[slice(*at)]) for at in whole_characters(n_vocab, tokens)]
