"""Clips in batches: what a run holds open and on the disk is that of a batch, however many clips there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

BATCH = 50
"""Most clips of a batch; a run of no more than these is one batch."""


def batches(clips: Sequence[T], most: int = BATCH) -> tuple[tuple[T, ...], ...]:
    """Clips in their order, in as few batches as possible, of sizes that differ by at most one.

    The last batch, of which the checks of state and order are made, is thus no remainder of a clip or two.
    """
    count = math.ceil(len(clips) / most)
    ends = [len(clips) * number // count for number in range(count + 1)] if count else []
    return tuple(tuple(clips[start:end]) for start, end in pairwise(ends))
