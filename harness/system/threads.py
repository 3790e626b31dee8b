"""Work side by side in threads, which Ctrl-C ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

INTERRUPTED = threading.Event()
"""Set while threads are to end: who waits for a process in one looks at it, for Ctrl-C reaches the main thread only."""


def side_by_side(function: Callable[[T], R], items: Iterable[T], at_once: int | None = None) -> Iterator[R]:
    """What a function gives for each item, in their order.

    Where one fails or Ctrl-C is pressed, items that are not begun are left, and those that are end before this does.

    Args:
        function: called in threads.
        items: what it is called with.
        at_once: how many threads; as many as the cores allow when None.
    """
    try:
        with ThreadPoolExecutor(at_once) as pool:
            try:
                yield from pool.map(function, items)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)  # first: who ends begins the next one
                INTERRUPTED.set()
                raise
    except KeyboardInterrupt:
        INTERRUPTED.clear()
        raise
