"""What a command is doing now, and where its time goes: a room says what it begins, and whoever watches shows it.

Nothing here prints. Without a watch a step costs a comparison.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum


class Kind(Enum):
    """What time is spent on, in the order in which it is told."""

    LOAD = "load"
    BUILD = "build"
    CLIPS = "clips"
    STATE = "state"
    PAGE = "page"


class Watch:
    """Follows the steps of a command.

    Time counts once: a step inside another is taken from that one, but for a check of state, which is made of others.
    """

    def __init__(self, changed: Callable[[str], None]) -> None:
        """Take what is called with the words of each new step."""
        self._changed = changed
        self._thread = threading.get_ident()
        self._steps: list[tuple[Kind, str]] = []
        self._since = time.perf_counter()
        self.seconds = dict.fromkeys(Kind, 0.0)

    def begin(self, kind: Kind, words: str) -> None:
        """A step begins; one of another thread is shown, and counted as the time of who waits for it."""
        if words:
            self._changed(words)
        if threading.get_ident() == self._thread:
            self._charge()
            is_checked = any(kind is Kind.STATE for kind, _ in self._steps)
            self._steps.append((Kind.STATE if is_checked else kind, words or self._words))

    def end(self) -> None:
        """The step that began last is over, and the one around it is shown again."""
        if threading.get_ident() == self._thread:
            self._charge()
            _, words = self._steps.pop()
            if words != self._words:
                self._changed(self._words)

    def spent(self) -> str:
        """Where the time went, whole seconds: "load 4 s, build 28 s"; "" where nothing took one."""
        return ", ".join(
            f"{kind.value} {seconds:.0f} s" for kind, seconds in self.seconds.items() if seconds >= SHOWN_S
        )

    @property
    def _words(self) -> str:
        """Of the step that goes on; "" where there is none."""
        return self._steps[-1][1] if self._steps else ""

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._steps:
            self.seconds[self._steps[-1][0]] += now - self._since
        self._since = now


SHOWN_S = 0.5
"""Less is no second."""
_watches: list[Watch] = []


@contextmanager
def watched(changed: Callable[[str], None]) -> Iterator[Watch]:
    """Follow the steps of the block."""
    watch = Watch(changed)
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches[:] = [other for other in _watches if other is not watch]


@contextmanager
def step(kind: Kind, words: str = "") -> Iterator[None]:
    """Say that a step begins, and that it is over.

    Args:
        kind: what its time is spent on.
        words: as they are shown: "decoding"; "" where the step around it is shown on.
    """
    watch = _watches[-1] if _watches else None
    if watch is None:
        yield
        return
    watch.begin(kind, words)
    try:
        yield
    finally:
        watch.end()


os.register_at_fork(after_in_child=_watches.clear)  # a lane has no screen, and its time is that of who waits for it
