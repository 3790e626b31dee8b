"""Progress on stderr: a bar at a terminal; elsewhere a line for each stage, and one at least every half minute."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from whisper_parity.errors import printable
from whisper_parity.system import activity
from whisper_parity.system.activity import Watch
from whisper_parity.system.terminal import say

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY_S = 30.0
"""Longest silence of a command whose output is no terminal."""
FIRST_S = 3.0
"""Shorter operations, that are not made of stages, are not worth a line."""
EARLY = 0.05
"""Share of the work below which nothing is said of the time that remains."""


class Screen(Protocol):
    """**Protocol:** where progress is shown."""

    def advance(self, item: str) -> None:
        """The next item begins: "stage · clip"."""

    def doing(self, words: str) -> None:
        """A step of it begins."""


class Lines:
    """Lines, for a file or a pipe."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done, self._stage, self._item, self._words = -1, "", "", ""
        self._started = self._said = time.monotonic()
        self._every_s = EVERY_S if total else min(FIRST_S, EVERY_S)

    def advance(self, item: str) -> None:
        """See `Screen`."""
        self._done += 1
        self._item, self._words = item, ""
        stage = item.partition(" · ")[0]
        if stage != self._stage and self._total:
            self._stage = stage
            self._say(stage)

    def doing(self, words: str) -> None:
        """See `Screen`."""
        self._words = words

    def wait_s(self) -> float:
        """Until the next line is due [s]."""
        return max(0.0, self._said + self._every_s - time.monotonic())

    def tick(self) -> None:
        """Say what is being done, where nothing was said for long."""
        if self.wait_s() <= 0:
            self._say(" · ".join(filter(None, (self._item, self._words))) or "starting")

    def _say(self, what: str) -> None:
        self._said, self._every_s = time.monotonic(), EVERY_S
        elapsed = self._said - self._started
        done = max(self._done, 0)
        parts = [f"{done} of {self._total}"] if self._total > 1 else []
        parts.append(f"{duration(elapsed)} so far")
        if self._total and EARLY < done / self._total < 1:
            parts.append(f"about {duration(elapsed / done * (self._total - done))} left")
        say(f"parity: {what}: {', '.join(parts)}", to_stderr=True)


class Bar:
    """A bar with the present step, the elapsed and the remaining time."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar, self._item, self._done = bar, "", -1
        self._task = bar.add_task("starting", total=total or None)

    def advance(self, item: str) -> None:
        """See `Screen`."""
        self._done += 1
        self._item = item
        self._bar.update(self._task, completed=self._done, description=printable(item))

    def doing(self, words: str) -> None:
        """See `Screen`."""
        shown = " · ".join(filter(None, (self._item, words)))
        self._bar.update(self._task, description=printable(shown))


@contextmanager
def progress(total: int, *, quiet: bool = False) -> Iterator[tuple[Callable[[str], None], Watch]]:
    """Show the progress of a block.

    Args:
        total: how many items it has; 0 where that is not known.
        quiet: show nothing.

    Yields:
        What is called with each new item, and the watch that knows where the time went.
    """
    with _screen(total, quiet=quiet) as screen, activity.watched(screen.doing) as watch:
        yield screen.advance, watch


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show one long operation, whose parts are steps."""
    with progress(0) as (advance, _):
        advance(what)
        yield


class _Nothing:
    """Shows nothing."""

    def advance(self, item: str) -> None:
        """See `Screen`."""

    def doing(self, words: str) -> None:
        """See `Screen`."""


@contextmanager
def _screen(total: int, *, quiet: bool) -> Iterator[Screen]:
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield _Nothing()
    elif not console.is_terminal:
        lines = Lines(total)
        with _ticking(lines):
            yield lines
    else:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.table import Column

        what = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        counted = (BarColumn(20), MofNCompleteColumn()) if total else ()
        left = (TimeRemainingColumn(),) if total else ()
        with Progress(what, *counted, TimeElapsedColumn(), *left, console=console, transient=True, expand=True) as bar:
            yield Bar(bar, total)


class _Ticker:
    """A thread that lets lines be said in time. It is ended around a fork: a process of threads cannot be forked."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, or go on."""
        self._over.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; a second time nothing happens."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def _run(self) -> None:
        while not self._over.wait(self._lines.wait_s()):
            self._lines.tick()


_tickers: list[_Ticker] = []


@contextmanager
def _ticking(lines: Lines) -> Iterator[None]:
    ticker = _Ticker(lines)
    _tickers.append(ticker)
    ticker.start()
    try:
        yield
    finally:
        _tickers.remove(ticker)
        ticker.stop()


def _each(do: Callable[[_Ticker], None]) -> Callable[[], None]:
    def call() -> None:
        for ticker in _tickers:
            do(ticker)

    return call


os.register_at_fork(before=_each(_Ticker.stop), after_in_parent=_each(_Ticker.start), after_in_child=_tickers.clear)


def duration(seconds: float) -> str:
    """A time in words: "48 s", "3 min 20 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
