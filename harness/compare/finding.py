"""A named finding: what is wrong with a result, beyond a count of edits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

KINDS = (
    "text against tokens", "vocabulary", "wrong prompt", "language", "detokeniser", "repetition loop",
    "end-of-text passed", "token limit", "empty result", "program error",
    "other text", "lost beginning", "lost end", "lost text", "invented text", "special tokens",
    "script variant",
    "changed words", "program warning",
)  # fmt: skip
"""Worst first: what makes all that follows doubtful, then what was said too often, too little, too much, otherwise."""

LEADING = frozenset(KINDS[: KINDS.index("script variant")]) - {"vocabulary"}
"""Kinds that lead the reason of a verdict; the others are in its text rung."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding."""

    kind: str
    """One of KINDS."""
    sentence: str
    """What, how much and where; begins with the kind."""
    is_fault: bool = True
    """False for a remark, which by itself makes nothing worse."""
    count: int = 0
    """Repetitions, words or tokens concerned."""
    step: int | None = None
    """Step of the candidate (for lost text: of the reference) at which it starts; None where only texts are known."""


def finding(kind: str, words: str, *, is_fault: bool = True, count: int = 0, step: int | None = None) -> Finding:
    """A finding, its sentence begun with its kind."""
    return Finding(kind, f"{kind}: {words}", is_fault, count, step)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings in the order of KINDS, the largest of a kind first."""
    return tuple(sorted(findings, key=lambda item: (KINDS.index(item.kind), not item.is_fault, -item.count)))


def cut(text: str, length: int = 60) -> str:
    """A text for a sentence, its middle left out where it is long."""
    if len(text) <= length:
        return text
    half = (length - 3) // 2
    return f"{text[:half]} … {text[-half:]}"
