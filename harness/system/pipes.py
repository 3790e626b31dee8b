"""The pipes of a process that may sleep, die or lie: every byte has a deadline."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from typing import Any

from whisper_parity.system.threads import INTERRUPTED

POLL_S = 0.2
"""Interval at which a wait checks whether the process still lives."""
EXIT_LIMIT_S = 2.0
"""Time limit for a process to end after it closed its pipe."""
TAIL_BYTES = 4096


class LateError(Exception):
    """The deadline passed."""


class EndedError(Exception):
    """The other end of a pipe is closed."""


class StoppedError(Exception):
    """Ctrl-C was pressed."""


class Pipes:
    """The three pipes of a process that leads a group of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._tail = b""
        os.set_blocking(_descriptor(process.stdin), False)  # a sleeping reader must not block the writer
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def write(self, data: bytes | memoryview, deadline: float) -> None:
        """Write all of it.

        Args:
            data: bytes.
            deadline: on `time.monotonic`.

        Raises:
            LateError, EndedError, StoppedError: see there.
        """
        pipe, rest = _descriptor(self._process.stdin), memoryview(data)
        while rest:
            self._wait(pipe, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise EndedError from error

    def read(self, count: int, deadline: float) -> bytes:
        """That many bytes, no more and no less; arguments and errors as of `write`."""
        pipe, received = _descriptor(self._process.stdout), bytearray()
        while len(received) < count:
            self._wait(pipe, select.POLLIN, deadline)
            chunk = os.read(pipe, min(count - len(received), 2**20))
            if not chunk:
                raise EndedError
            received += chunk
        return bytes(received)

    def close(self) -> None:
        """Kill the process and its group, and wait for its end."""
        kill(self._process)  # even if it is dead: its children may live
        self._process.wait()
        self._listener.join(EXIT_LIMIT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def exit_status(self) -> str:
        """How the process ended, for messages: "died by signal 11 (Segmentation fault)"."""
        try:
            code = self._process.wait(EXIT_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"died by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code}"

    def last_words(self) -> list[str]:
        """The last lines that it wrote to stderr."""
        return [line.strip() for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]

    def _listen(self) -> None:
        """Drain stderr and keep its end."""
        assert self._process.stderr is not None  # noqa: S101 - narrows for the type checker
        with self._process.stderr as stream:
            while chunk := os.read(stream.fileno(), 65536):
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        """Wait until a pipe is ready, or the process ends: a child may still hold its end of the pipe open."""
        poll = select.poll()
        poll.register(descriptor, event)
        while True:
            ended = self._process.poll() is not None
            remaining_s = 0.0 if ended else deadline - time.monotonic()
            if poll.poll(max(0.0, min(remaining_s, POLL_S)) * 1000):
                return
            if ended:
                raise EndedError
            if INTERRUPTED.is_set():
                raise StoppedError
            if remaining_s <= 0:
                raise LateError


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its own group, and the group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def _descriptor(pipe: Any) -> int:
    return int(pipe.fileno())
