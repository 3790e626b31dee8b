"""Columns of the logits that are off at every step by the same amount: a bias that one token got, or lost.

d[s, j] = candidate - reference at step s, less the median of the row (a shift common to all columns changes no softmax)
m[j]    = mean of d[:, j] over the steps            s[j] = its standard deviation
typical = 1.4826 x median of |m| over all columns   the standard deviation of m in a sound port, whatever is broken in
                                                    fewer than half of the columns (Rousseeuw and Croux 1993)

A column is *shifted* when |m| is above OUTLIER times the typical one and above STEADY times its own s: in a sound port,
the error of a column changes from step to step, and no column has one of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whisper_parity.compare.median import median
from whisper_parity.model.vocabulary import token_text

OUTLIER, STEADY = 12.0, 4.0
MIN_STEPS = 4
"""Fewer steps show no column that is off at all of them."""
NEAR = 0.1
"""Neighbours are one range where their shifts differ by at most this share."""
NAMED = 3
"""Ranges that are named; the others are counted."""
ROUNDING = 2.0**-22
"""What two float32 numbers may differ by, as a share of the larger: below it, nothing is a shift."""

Row = NDArray[np.float32]
Pairs = Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class ShiftedColumns:
    """Neighbouring columns of the logits that are off by about the same at every step."""

    first: int
    """Token id."""
    last: int
    shift: float
    """Candidate minus reference, mean over steps and columns [logit]."""
    text: str
    """Of the first token."""

    @property
    def words(self) -> str:
        """As in: token ',' is +0.50."""
        if self.first == self.last:
            return f"token {self.text!r} is {self.shift:+.2g}"
        return f"tokens {self.first} to {self.last} are {self.shift:+.2g}"


def shifted(pairs: Pairs, n_vocab: int) -> tuple[ShiftedColumns, ...]:
    """The shifted columns of (reference, candidate) logits, float32 [n_steps, n_vocab] a window; largest first."""
    rows = [(r, c) for reference, candidate in pairs for r, c in zip(reference, candidate)]
    if len(rows) < MIN_STEPS:
        return ()
    mean, spread = _moments(rows)
    size = np.abs(mean)
    rounding = ROUNDING * max(float(np.abs(r).max()) for r, _ in rows)
    limit = max(OUTLIER * 1.4826 * median(size), rounding)
    ids = np.flatnonzero((size > limit) & (size > STEADY * spread))
    ranges = [_range(ids_of, mean, n_vocab) for ids_of in _neighbours(ids, mean)]
    return tuple(sorted(ranges, key=lambda item: -abs(item.shift)))


def _moments(rows: Sequence[tuple[Row, Row]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of d over the steps, float64 [n_vocab] each; a row at a time."""
    total, squares = np.zeros((2, *rows[0][0].shape))
    for reference, candidate in rows:
        moved = np.subtract(candidate, reference, dtype=np.float64)
        moved -= median(moved)
        total += moved
        squares += np.square(moved, out=moved)
    mean = total / len(rows)
    return mean, np.sqrt(np.maximum(squares / len(rows) - mean**2, 0.0))


def describe(columns: Sequence[ShiftedColumns]) -> str:
    """As in: token ',' is +0.5 at every step."""
    named = ", ".join(item.words for item in columns[:NAMED])
    rest = columns[NAMED:]
    return f"{named}{f' and {len(rest)} more' if rest else ''} at every step"


def _neighbours(ids: NDArray[np.intp], mean: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Ids split where they are not adjacent, or their shifts differ."""
    if not ids.size:
        return []
    values = mean[ids]
    apart = np.abs(np.diff(values)) > NEAR * np.abs(values[1:])
    return np.split(ids, np.flatnonzero((np.diff(ids) > 1) | apart) + 1)


def _range(ids: NDArray[np.intp], mean: NDArray[np.float64], n_vocab: int) -> ShiftedColumns:
    first, last = int(ids[0]), int(ids[-1])
    return ShiftedColumns(first, last, float(mean[ids].mean()), token_text(n_vocab, [first]))
