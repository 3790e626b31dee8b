"""Work side by side, and its end."""

from __future__ import annotations

import threading
import time

import pytest

from whisper_parity.system.threads import INTERRUPTED, side_by_side


def test_results_come_in_the_order_of_the_items():
    """Whoever is done first: the first one waits for the last."""
    last = threading.Event()

    def work(number: int) -> int:
        if number == 2:
            last.set()
        assert last.wait(10)
        return number * 10

    assert list(side_by_side(work, range(3), 3)) == [0, 10, 20]


def test_where_one_fails_what_is_not_begun_is_left():
    """The error is that of the first item that failed."""
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        raise ValueError(f"item {number}")

    with pytest.raises(ValueError, match="item 0"):
        list(side_by_side(work, range(1000), 1))
    assert len(begun) < 1000
    assert not INTERRUPTED.is_set()


def test_ctrl_c_tells_threads_and_waits_for_them(ctrl_c):
    """What they look at is set until all have ended, and not longer; what is not begun is left."""
    seen: list[int] = []
    both = threading.Barrier(2)

    def work(number: int) -> None:
        both.wait(10)
        if number == 0:
            time.sleep(1.0)  # until the main thread waits: a signal just before it does would be seen only after
            ctrl_c()
        assert INTERRUPTED.wait(10)
        seen.append(number)

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(work, range(1000), 2))
    assert sorted(seen) == [0, 1]
    assert not INTERRUPTED.is_set()
