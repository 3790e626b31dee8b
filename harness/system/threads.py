"""Parallel work in threads, which Ctrl-C ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

INTERRUPTED = threading.Event()
"""Set while threads must end: code that waits for a process polls it, since Ctrl-C reaches the main thread only."""


def side_by_side(function: Callable[[T], R], items: Iterable[T], at_once: int | None = None) -> Iterator[R]:
    """Results of a function for each item, in order.

    When one fails or Ctrl-C is pressed, pending items are dropped, and running ones finish before this returns.

    Args:
        function: called in threads.
        items: its arguments.
        at_once: number of threads; by the number of cores when None.
    """
    try:
        with ThreadPoolExecutor(at_once) as pool:
            try:
                yield from pool.map(function, items)
            except KeyboardInterrupt:
                pool.shutdown(
                    wait=False, cancel_futures=True
                )  # before INTERRUPTED: a finished thread takes the next item
                INTERRUPTED.set()
                raise
    except KeyboardInterrupt:
        INTERRUPTED.clear()
        raise
