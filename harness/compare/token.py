"""How two token sequences differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


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
