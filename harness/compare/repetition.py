"""Repetition loops: stretches that repeat more often, back to back, than in the text that they are compared with."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST = 500
"""Units of the longest part that is looked for."""
CLAUSE = 4
"""Units from which saying it once more is a loop: nobody repeats a clause by chance. Shorter parts need two more."""
TRIED = 200
"""Stretches that are looked at, those that repeat most often first."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A part that repeats."""

    start: int
    """Unit at which the first repetition starts."""
    end: int
    """Unit behind the last one, which may be incomplete."""
    period: int
    """Units of the part."""
    times: int
    """Complete repetitions back to back."""
    allowed: int
    """How often it occurs back to back in the other sequence."""

    @property
    def surplus(self) -> int:
        """Repetitions more than the other sequence has."""
        return self.times - self.allowed

    @property
    def kept_end(self) -> int:
        """Unit behind what the other sequence has of it, and behind the first repetition at least."""
        return self.start + self.period * max(self.allowed, 1)

    @property
    def surplus_start(self) -> int:
        """Unit at which they start."""
        return self.start + self.period * self.allowed


def loops(units: Sequence[Hashable], others: Sequence[Hashable]) -> tuple[Loop, ...]:
    """Loops of `units` that `others` does not have, in order, none overlapping another.

    Of stretches that overlap the one that repeats most often is named, by its shortest part.
    """
    ours, theirs = _numbered(units, others)
    chosen: list[Loop] = []
    stretches = sorted(_stretches(ours), key=lambda at: ((at[0] - at[1]) // at[2], at[2]))
    for start, end, period in stretches[:TRIED]:
        if any(start < loop.end and loop.start < end for loop in chosen):
            continue
        allowed = longest_run(theirs, ours[start : start + period])
        loop = Loop(start, end, period, (end - start) // period, allowed)
        if loop.surplus >= (1 if period >= CLAUSE else 2):
            chosen.append(loop)
    return tuple(sorted(chosen, key=lambda loop: loop.start))


def longest_run(units: NDArray[np.int64], part: NDArray[np.int64]) -> int:
    """The largest number of times that `part` occurs back to back; both int64 [n]."""
    if len(part) > len(units):
        return 0
    places = np.flatnonzero((np.lib.stride_tricks.sliding_window_view(units, len(part)) == part).all(axis=1))
    runs: dict[int, int] = {}
    for place in map(int, places):
        runs[place] = runs.get(place - len(part), 0) + 1
    return max(runs.values(), default=0)


def without(units: Sequence[Hashable], cut: Sequence[Loop]) -> list[int]:
    """Indices of the units that remain when each loop is cut to what the other sequence has of it, and at least once.

    An incomplete last repetition goes too where the sequence ends with it.
    """
    dropped: set[int] = set()
    for loop in cut:
        end = loop.end if loop.end == len(units) else loop.start + loop.period * loop.times
        dropped |= set(range(loop.kept_end, end))
    return [i for i in range(len(units)) if i not in dropped]


def _numbered(*sequences: Sequence[Hashable]) -> list[NDArray[np.int64]]:
    numbers: dict[Hashable, int] = {}
    return [np.array([numbers.setdefault(unit, len(numbers)) for unit in units], np.int64) for units in sequences]


def _stretches(units: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(start, end, period) of maximal stretches, two periods and longer, whose units equal those a period before."""
    stretches = []
    for period in range(1, min(LONGEST, len(units) // 2) + 1):
        equal = np.concatenate(([False], units[period:] == units[:-period], [False]))
        edges = np.flatnonzero(equal[1:] != equal[:-1])
        for start, end in edges.reshape(-1, 2):
            if end - start >= period:
                stretches.append((int(start), int(end) + period, period))
    return stretches
