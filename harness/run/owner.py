"""Who works on a run: one process at a time, by a lock that ends with it, however it ends."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from whisper_parity.backend.artifact import now
from whisper_parity.errors import OutputError, RecordError, UsageError
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import serial

PATIENCE_S = 5.0
"""For what a dead owner left to end: its own children may hold the lock a moment longer."""
MOST = 4096
"""Limit of a lock's text [bytes]."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a run."""

    process: int
    host: str
    since: str
    """ISO 8601."""

    def __str__(self) -> str:
        """In words."""
        return f"process {self.process} on {self.host} since {self.since}"

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, as far as that can be seen from here."""
        if self.host != platform.node():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


@contextmanager
def owned(folder: RunFolder) -> Iterator[str]:
    """Hold a run, so that no second process works on it.

    Yields:
        Whose lock was taken over, in words, where an earlier owner ended without a word; "" otherwise.

    Raises:
        UsageError: somebody else works on it.
        OutputError: the folder cannot be written.
    """
    file = _opened(folder)
    try:
        _acquire(file, folder)
        before = _owner(file)
        _write(file, serial.line(Owner(os.getpid(), platform.node(), now())))
        try:
            yield f"taken over from {before}, which ended in the middle of it" if before else ""
        finally:
            if file in _held:
                _write(file, "")
    finally:
        if file in _held:
            _held.remove(file)
            os.close(file)


_held: set[int] = set()


def _let_go() -> None:
    """A forked process is no owner: the lock ends with the one that took it."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


def _opened(folder: RunFolder) -> int:
    path = folder.owner
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror})", hint="Choose another --report-dir"
        ) from error
    _held.add(file)
    return file


def _acquire(file: int, folder: RunFolder) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not _is_locked(file, folder):
        owner = _owner(file)
        if time.monotonic() > deadline or (owner and not owner.is_gone):
            raise UsageError(
                f"run {folder.name} is in work: {owner or 'another process has it'}",
                hint="Wait for it to end, or choose another --run-id",
            )
        time.sleep(0.05)


def _is_locked(file: int, folder: RunFolder) -> bool:
    """Whether the lock is now held here."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OutputError(
            f"{folder.owner}: cannot be locked ({error.strerror})", hint="Choose a --report-dir on a local disk"
        ) from error
    return True


def _owner(file: int) -> Owner | None:
    """Who is written in a lock; None for nobody, and for what is not whole."""
    with suppress(RecordError, OSError):
        return serial.loads(Owner, os.pread(file, MOST, 0), "lock")
    return None


def _write(file: int, text: str) -> None:
    with suppress(OSError):  # a full disk: the lock holds, it only does not say whose it is
        os.ftruncate(file, 0)
        os.pwrite(file, text.encode(), 0)
