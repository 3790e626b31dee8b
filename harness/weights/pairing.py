"""Items and targets that are near to each other, by samples of their elements; the nearest pairs first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.constants import Float32
from whisper_parity.weights import layout
from whisper_parity.weights.layout import Order
from whisper_parity.weights.reference import Target

TIMES_ONE_NUMBER = 1e-9
"""Most of a matrix's energy that is not the other's times one number, for it to be recognised whatever the number."""

T = TypeVar("T")


def paired(
    targets: Sequence[tuple[Target, Float32]], items: Sequence[T], values_of: Callable[[T], Float32], limit: float,
    apart: float,
) -> Iterator[tuple[Target, T, Order]]:  # fmt: skip
    """Each item with the nearest target, the nearest pairs first, every tensor and every item once.

    Args:
        targets: with samples of them.
        items: what is to be recognised.
        values_of: an item's numbers.
        limit: most error energy, as a part of the target's.
        apart: how many times further the second-best tensor must be; 0 for any, and for what is one times a number.
    """
    near: list[tuple[float, int, int, Order]] = []
    for number, item in enumerate(items):
        values = values_of(item)
        chosen = [
            index for index, (_, sample) in enumerate(targets) if len(sample) == len(layout.positions(values.size))
        ]
        if chosen:
            wanted = np.stack([targets[index][1] for index in chosen]).astype(np.float64)
            near += [
                (distance, chosen[place], number, order)
                for order in layout.orders(values.shape)
                for distance, place in _nearest(wanted, layout.sample(values, order), limit, scaled=not apart)
                if not apart or _is_apart(wanted, place, layout.sample(values, order), apart)
            ]
    used: set[Any] = set()
    for _, index, number, order in sorted(near):
        tensor = (targets[index][0].tensor, targets[index][0].span)
        if tensor not in used and number not in used:
            used |= {tensor, number}
            yield targets[index][0], items[number], order


def _nearest(wanted: NDArray[np.float64], sample: Float32, limit: float, *, scaled: bool) -> list[tuple[float, int]]:
    far = distances(wanted, sample)
    if scaled:
        far = np.fmin(far, _scaled(wanted, sample))
    return [(float(far[place]), int(place)) for place in np.flatnonzero(far < limit)]


def _scaled(wanted: NDArray[np.float64], sample: Float32) -> NDArray[np.float64]:
    """0 for those that are the sample times one number; NaN for the others."""
    values = sample.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        alike = np.square(wanted @ values) / (np.square(wanted).sum(axis=1) * np.square(values).sum())
    return np.where(1 - alike < TIMES_ONE_NUMBER, 0.0, np.nan)


def _is_apart(wanted: NDArray[np.float64], place: int, sample: Float32, apart: float) -> bool:
    others = np.delete(distances(wanted, sample), place)
    return not others.size or bool(others.min() > apart * distances(wanted[[place]], sample)[0])


def distances(wanted: NDArray[Any], sample: NDArray[Any]) -> NDArray[np.float64]:
    """Error energy of a sample as each of the wanted ones, as a part of theirs; NaN where it is not finite."""
    difference = wanted.astype(np.float64) - sample
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        ratio = np.square(difference).sum(axis=1) / np.square(wanted.astype(np.float64)).sum(axis=1)
    return np.asarray(ratio, np.float64)
