"""The middle of a row of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def median(values: NDArray[np.floating[Any]]) -> float:
    """That of `numpy.median`, bit for bit, for float [n], finite, n at least 1.

    By a sort, which is vectorised, and which equal values, of which logits are full, cost less; numpy partitions at
    several places at once, and checks for NaN: two to ten times the time.
    """
    ordered, middle = np.sort(values), values.size // 2
    return float(ordered[middle] if values.size % 2 else ordered[middle - 1 : middle + 1].mean())
