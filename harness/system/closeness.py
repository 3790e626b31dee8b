"""A name that was meant, where the one that was typed is not there."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

CLOSE = 0.7
"""Least likeness by difflib: one letter of four may be another; two names that share half of their letters are not."""
LONGEST = 64
"""Characters of a word that is compared: likeness takes time that grows with the square."""
MOST = 8
"""Names that a hint lists."""


def closest(word: str, names: Iterable[str]) -> str:
    """The name that is closest to a word, whatever its case; "" where none is close."""
    by_lower = {name.lower(): name for name in names}
    close = get_close_matches(word[:LONGEST].lower(), list(by_lower), n=1, cutoff=CLOSE)
    return by_lower[close[0]] if close else ""


def meant(word: str, names: Iterable[str]) -> str:
    """Say "Did you mean NAME?" where a name is close to the word; "" where none is."""
    name = closest(word, names)
    return f"Did you mean {name}?" if name else ""


def hint(word: str, names: Iterable[str], otherwise: str) -> str:
    """A hint for a name that is not there: the one that was meant in front of what there is."""
    return " ".join(filter(None, (meant(word, names), otherwise)))


def listed(names: Iterable[str]) -> str:
    """Names separated by commas, the first of many."""
    all_names = list(names)
    left = len(all_names) - MOST
    return ", ".join(all_names[:MOST]) + (f" and {left} more" if left > 0 else "")
