"""Layouts of one array: the orders of axes in which converters store a tensor, and samples that tell them apart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES = 512
"""Elements by which a tensor is recognised before it is compared whole."""
RANK_LIMIT = 4
Order = tuple[int, ...]


@cache
def positions(size: int) -> NDArray[np.int64]:
    """Where a flat array of that size is sampled: everywhere if it is small, else at places that chance chose once."""
    if size <= SAMPLES:
        return np.arange(size)
    return np.unique(np.random.default_rng(size).integers(0, size, SAMPLES))


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of one element."""
    return tuple(size for size in shape if size != 1)


def orders(shape: tuple[int, ...]) -> Iterator[Order]:
    """Orders of the axes of a squeezed shape, as it is first; only that one for more axes than weights have."""
    rank = len(squeezed(shape))
    yield from permutations(range(rank)) if rank <= RANK_LIMIT else (tuple(range(rank)),)


def sample(values: NDArray[Any], order: Order) -> NDArray[Any]:
    """Elements of an array at `positions`, its axes in another order."""
    shape = squeezed(values.shape)
    if not shape:
        return values.reshape(-1)
    places = np.unravel_index(positions(values.size), tuple(shape[axis] for axis in order))
    back = [places[order.index(axis)] for axis in range(len(shape))]
    return np.asarray(values.reshape(shape)[tuple(back)])


def arranged(values: NDArray[Any], order: Order, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array with its axes in another order, in the shape of the tensor that it holds."""
    return values.reshape(squeezed(values.shape)).transpose(order).reshape(shape)


def words(order: Order) -> str:
    """An order in words; "" for the axes as they are."""
    if order == tuple(sorted(order)):
        return ""
    return "transposed" if len(order) == 2 else f"axes {' '.join(map(str, order))}"


def row_marks(values: NDArray[Any]) -> NDArray[np.uint64]:
    """A number for each row of a float32 matrix that equal rows share, and hardly any others."""
    bits = (np.ascontiguousarray(values, np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(bits.shape[1]).integers(1, 1 << 63, bits.shape[1], dtype=np.uint64) | np.uint64(1)
    marks: NDArray[np.uint64] = (bits * factors).sum(axis=1, dtype=np.uint64)
    mixed: NDArray[np.uint64] = (marks ^ (marks >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed


def unordered(values: NDArray[Any]) -> tuple[int, int]:
    """Two numbers of a matrix: one that no other order of its rows changes, and one that none of its columns does."""
    rows, columns = row_marks(values), row_marks(values.T)
    return int(rows.sum(dtype=np.uint64)), int(columns.sum(dtype=np.uint64))
