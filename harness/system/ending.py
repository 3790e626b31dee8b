"""How a command ends before its end: Ctrl-C and SIGTERM, by the shell's exit codes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM: unwinds whatever Ctrl-C unwinds."""


def exit_code(interruption: KeyboardInterrupt) -> int:
    """130 after Ctrl-C, 143 after SIGTERM: 128 and the signal's number, as shells have it."""
    return 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)


@contextmanager
def signals() -> Iterator[None]:
    """Inside the block the first signal unwinds the command, and a second one ends the process at once.

    A signal that is ignored (what a shell starts in the background ignores Ctrl-C) stays ignored. Outside the main
    thread, where Python takes no handlers, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    unwinding = False

    def unwind(number: int, _frame: FrameType | None) -> None:
        nonlocal unwinding
        if unwinding:
            os._exit(128 + number)
        unwinding = True
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    try:
        for number in taken:
            signal.signal(number, unwind)
        yield
    finally:
        for number in taken if not unwinding else ():  # until the process is gone a second signal ends it at once
            signal.signal(number, before[number])


@contextmanager
def continued_by(how: str, done: Callable[[], str] = str) -> Iterator[None]:
    """Say how to go on after an interruption of the block.

    Args:
        how: a sentence.
        done: gives what is done by then, in words; "" for nothing that can be told.
    """
    try:
        yield
    except KeyboardInterrupt as interruption:
        interruption.args = (how, done())
        raise
