"""How well a constant is a tensor of the checkpoint: exactly, after rounding, to the quantisation step, or not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.constants import Float32

BLOCK = 2**21
"""Elements compared at a time, to limit memory."""
ROUNDING_DB = 110.0
"""What products in float32 lose: 24 bits are 144 dB, a sum over a thousand of them 30 dB less."""
HALF_STEP = 0.51
"""Largest distance to the checkpoint, in steps, of what was rounded to them; scales are rounded as well."""
ROWS_LISTED = 8192
"""Of tensors with more rows, a twentieth is few; of others half, which is as much as a head has in a small model."""
CLIPPED_SHARE = 0.02
"""Part of the values that a quantiser may cut at the ends of its range."""
COARSE_BITS = (2, 3, 4, 5, 6, 7, 8)
ON_STEP = 1e-3
"""Distance to a multiple of the step, in steps, that float32 explains."""
SMALLEST_HALF = 2.0**-14
"""Smallest normal float16: what is below may be flushed to zero."""


class Grade(str, Enum):
    """From good to bad."""

    EXACT = "exact"
    ARITHMETIC = "equal to float32 arithmetic"
    FLOAT16 = "equal after rounding to float16"
    BFLOAT16 = "equal after rounding to bfloat16"
    QUANTISED = "equal to the quantisation step"
    DIFFERS = "differs"
    ZERO = "zero"
    MISSING = "missing"

    @property
    def rank(self) -> int:
        """Place in this order."""
        return list(Grade).index(self)


@dataclass(frozen=True, slots=True)
class Fit:
    """A constant held against a tensor."""

    grade: Grade
    snr_db: float
    """10 log10(sum tensor^2 / sum (tensor - constant)^2); inf for equal ones."""
    rows: tuple[int, ...] = ()
    """Rows along the first axis that differ, where they are few."""
    row_count: int = 0
    """How many rows differ."""
    of_rows: int = 0
    """How many there are."""
    not_finite: int = 0
    """Values that are NaN or infinite where the checkpoint's are not."""


def half(values: Float32) -> Float32:
    """Rounded to float16."""
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float16).astype(np.float32)


def brain(values: Float32) -> Float32:
    """Rounded to bfloat16, to the nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def cut_brain(values: Float32) -> Float32:
    """Cut to bfloat16, towards zero."""
    return (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def flushed(values: Float32) -> Float32:
    """Rounded to float16, subnormals flushed to zero."""
    rounded = half(values)
    return np.where(np.abs(rounded) < SMALLEST_HALF, np.float32(0), rounded)


ROUNDINGS = ((Grade.FLOAT16, half), (Grade.FLOAT16, flushed), (Grade.BFLOAT16, brain), (Grade.BFLOAT16, cut_brain))


@dataclass(frozen=True, slots=True)
class Grid:
    """What a quantised constant can hold, in the shape of its tensor."""

    steps: Float32
    """Distance of neighbouring values."""
    ends: NDArray[np.bool_]
    """Where a value is at an end of its range, and may have been cut."""


def measure(reference: Float32, held: Float32, grid: Grid | None = None, *, computed: bool = False) -> Fit:
    """Grade a constant.

    Args:
        reference: the checkpoint's values, any shape.
        held: the constant's, in the same shape.
        grid: of a quantised constant; None for floats.
        computed: whether the reference is a product or sum, which float32 rounds in its own way.
    """
    tally = _Tally(range(len(ROUNDINGS)) if grid is None else ())
    for part in _blocks(reference, held, grid):
        tally.add(*part)
    snr_db = _decibels(tally.signal, tally.error)
    grade = tally.grade(snr_db, held, computed=computed, has_steps=grid is not None)
    count = len(np.atleast_1d(reference))
    if grade.rank < Grade.DIFFERS.rank:
        return Fit(grade, snr_db, of_rows=count)
    few = tuple(tally.rows) if len(tally.rows) <= max(8, count // 2 if count <= ROWS_LISTED else count // 20) else ()
    return Fit(grade, snr_db, few, len(tally.rows), count, tally.not_finite)


class _Tally:
    """What the blocks of rows tell together."""

    def __init__(self, roundings: Iterable[int]) -> None:
        self.signal = self.error = 0.0
        self.rows: list[int] = []
        self.not_finite = self.clipped = 0
        self.in_steps = True
        self._roundings = list(roundings)

    def add(self, first: int, reference: Float32, held: Float32, grid: Grid | None) -> None:
        """Take the next rows; the first of them is row `first`."""
        self.signal += _energy(reference)
        if np.array_equal(reference, held):
            return
        difference = reference.astype(np.float64) - held
        self.error += _energy(difference)
        differs = np.flatnonzero((reference != held).reshape(len(reference), -1).any(axis=1))
        self.rows += [first + int(row) for row in differs]
        self.not_finite += int(held.size - np.count_nonzero(np.isfinite(held)))
        self._roundings = [n for n in self._roundings if np.array_equal(ROUNDINGS[n][1](reference), held)]
        if grid is not None:
            in_steps, clipped = _within(reference, held, difference, grid)
            self.in_steps &= in_steps
            self.clipped += clipped

    def grade(self, snr_db: float, held: Float32, *, computed: bool, has_steps: bool) -> Grade:
        """The best grade that all rows have."""
        if not self.rows:
            return Grade.EXACT
        if computed and snr_db >= ROUNDING_DB:
            return Grade.ARITHMETIC
        if self._roundings:
            return ROUNDINGS[self._roundings[0]][0]
        if has_steps and self.in_steps and self.clipped <= CLIPPED_SHARE * held.size:
            return Grade.QUANTISED
        return Grade.DIFFERS if np.any(held) else Grade.ZERO


def _blocks(
    reference: Float32, held: Float32, grid: Grid | None
) -> Iterator[tuple[int, Float32, Float32, Grid | None]]:
    reference, held = np.atleast_1d(reference), np.atleast_1d(held)
    rows = max(1, BLOCK // max(1, reference[0].size)) if len(reference) else 1
    for first in range(0, len(reference), rows):
        part = slice(first, first + rows)
        within = None if grid is None else Grid(np.atleast_1d(grid.steps)[part], np.atleast_1d(grid.ends)[part])
        yield first, reference[part], np.asarray(held[part]), within


def _within(reference: Float32, held: Float32, difference: NDArray[Any], grid: Grid) -> tuple[bool, int]:
    """Whether every value is the nearest step, those apart that the range's ends cut; and how many these are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(difference) / grid.steps
    far = distance > HALF_STEP
    cut = far & grid.ends & (np.abs(reference) > np.abs(held)) & (np.sign(reference) == np.sign(held))
    return bool(np.array_equal(far, cut)), int(np.count_nonzero(cut))


def coarse_bits(reference: Float32, held: Float32) -> tuple[int, str]:
    """Bits of the symmetric steps that floats were rounded to, and what shares a step; (0, "") for other floats.

    A step is the largest magnitude over 2 ** (bits - 1) - 1, as quantisers choose it.
    """
    if held.ndim != 2 or not np.isfinite(held).all():
        return 0, ""
    for bits in COARSE_BITS:
        for axis, shared in ((None, "tensor"), (1, "row"), (0, "column")):
            largest = np.abs(held).max(axis=axis, keepdims=True)
            steps = np.maximum(largest, np.float32(1e-30)) / (2 ** (bits - 1) - 1)
            if _on_steps(reference, held, steps):
                return bits, shared
    return 0, ""


def _on_steps(reference: Float32, held: Float32, steps: Float32) -> bool:
    few = slice(0, 16)
    for part in (few, slice(None)):  # most floats are no multiples, which the first rows say
        width = steps if steps.shape[0] == 1 else steps[part]
        levels = held[part] / width
        if np.abs(levels - np.rint(levels)).max() > ON_STEP or np.abs(reference[part] - held[part]).max() == 0:
            return False
    return bool((np.abs(reference - held) <= HALF_STEP * steps).all())


def _energy(values: NDArray[Any]) -> float:
    flat = values.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))


def _decibels(signal: float, error: float) -> float:
    if error == 0:
        return math.inf
    if not math.isfinite(error):
        return -math.inf
    return 10 * math.log10(signal / error) if signal else -math.inf
