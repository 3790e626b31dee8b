"""Few probes instead of many: on a device each one is compiled, pushed and run.

Assumption: an error that is in the hidden state stays in it, so that the units whose entire error is within the limit
all stand before those whose error is not. It does not always hold: a later unit adds to the signal more than to the
error, or normalises a wrong scale away (the convolutions of the micro checkpoint in int8 lose more than what stands
behind them). Then the unit that is named is one at which the error comes out of the limit anew, and an earlier one may
be missed. The single error of the suspect does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def first_failing(units: Sequence[str], fails: Callable[[str], bool]) -> str:
    """The first unit that fails, by halving: `fails` is called at most ceil(log2(len(units))) times.

    Args:
        units: in the order of the graph; the last one is known to fail.
        fails: whether a unit's entire error is outside the limit.
    """
    low, high = 0, len(units) - 1
    while low < high:
        middle = (low + high) // 2
        if fails(units[middle]):
            high = middle
        else:
            low = middle + 1
    return units[low]
