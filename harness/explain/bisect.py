"""Bisection over units, for few probes: on a device each one is compiled, pushed and run.

Assumption: an error in the hidden state stays there, so that all units whose entire error is within the limit precede
those whose error is not. It does not always hold: a later unit may add more signal than error, or normalise a wrong
scale away (the convolutions of the micro checkpoint in int8 lose more than the units behind them). Then the named unit
is one at which the error leaves the limit again, and an earlier one may be missed. The suspect's single error does not
depend on the assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def first_failing(units: Sequence[str], fails: Callable[[str], bool]) -> str:
    """The first failing unit, by bisection: `fails` is called at most ceil(log2(len(units))) times.

    Args:
        units: in the order of the graph; the last one must fail.
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
