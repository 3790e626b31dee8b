"""One stream of an adb transport, as a pipe: each message sent must be acknowledged before the next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from whisper_parity.backends.dla.simulator.packet import CLSE, OKAY, WRTE, ProtocolError

MAX_WAITING_BYTES = 16 << 20
MAX_WAITING = 8192
"""Messages."""


class Carrier(Protocol):
    """**Protocol:** what a stream needs from its transport."""

    max_payload: int
    closed: threading.Event

    def send(self, command: int, arg0: int, arg1: int, payload: bytes = b"") -> None:
        """Send one message; drop it once the link is cut."""

    def forget(self, local_id: int) -> None:
        """Drop a stream that both sides have closed."""


def _nothing() -> None:
    return


class StreamClosed(Exception):  # noqa: N818 - the normal end of a stream
    """The host hung up, or the link was lost."""


class Stream:
    """A stream that the host opened to `service`."""

    def __init__(self, carrier: Carrier, local_id: int, remote_id: int, service: str) -> None:
        self.service = service
        self.carried = 0
        """Payload bytes so far, both directions."""
        self._carrier = carrier
        self._local_id = local_id
        self._remote_id = remote_id
        self._changed = threading.Condition()
        self._arrived: deque[bytes] = deque()
        self._waiting_bytes = 0
        self.has_input = False
        """Whether the host has ever sent anything."""
        self._may_write = False
        self._closed = False
        self._hang_ups: list[Callable[[], None]] = []
        self.observe: Callable[[], None] = _nothing
        """Called after every payload."""

    @property
    def max_payload(self) -> int:
        """The longest message, in bytes."""
        return self._carrier.max_payload

    @property
    def is_closed(self) -> bool:
        """Whether either side has hung up."""
        return self._closed

    def accept(self) -> None:
        """Tell the host that the service is open."""
        with self._changed:
            self._may_write = True
        self._carrier.send(OKAY, self._local_id, self._remote_id)

    def refuse(self) -> None:
        """Tell the host that there is no such service."""
        if self.hang_up():
            self._carrier.send(CLSE, 0, self._remote_id)

    def read(self) -> bytes:
        """Wait for the host's next bytes and acknowledge them; b"" once it has hung up."""
        payload: bytes | None = b""
        while payload == b"":
            payload = self._next()
        if payload is None:
            return b""
        self.carried += len(payload)
        self.observe()
        return payload

    def _next(self) -> bytes | None:
        """Wait for the next message and acknowledge it; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._closed)
            if not self._arrived:
                return None
            payload = self._arrived.popleft()
            self._waiting_bytes -= len(payload)
        if not self._closed:
            self._carrier.send(OKAY, self._local_id, self._remote_id)
        return payload

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes, split into messages, each after the previous one is acknowledged.

        Raises:
            StreamClosed: the host hung up before all were sent.
        """
        view = memoryview(data)
        for start in range(0, len(view), self.max_payload):
            with self._changed:
                self._changed.wait_for(lambda: self._may_write or self._closed)
                if self._closed:
                    raise StreamClosed(self.service)
                self._may_write = False
            payload = bytes(view[start : start + self.max_payload])
            self._carrier.send(WRTE, self._local_id, self._remote_id, payload)
            self.carried += len(payload)
            self.observe()

    def close(self) -> None:
        """Hang up."""
        if self.hang_up():
            self._carrier.send(CLSE, self._local_id, self._remote_id)
        self._carrier.forget(self._local_id)

    def when_closed(self, action: Callable[[], None]) -> None:
        """Call `action` when either side hangs up, or now if one has. It must not block."""
        with self._changed:
            if not self._closed:
                self._hang_ups.append(action)
                return
        action()

    def hang_up(self) -> bool:
        """Mark the stream closed; received bytes can still be read. Return False if it was closed already."""
        with self._changed:
            if self._closed:
                return False
            self._closed = True
            actions, self._hang_ups = self._hang_ups, []
            self._changed.notify_all()
        for action in actions:
            action()
        return True

    def deliver(self, payload: bytes) -> None:
        """Queue a message from the host.

        adb waits for each acknowledgement, but after its client has closed `exec-in` it sends the rest at once.

        Raises:
            ProtocolError: the queue is full.
        """
        with self._changed:
            self._waiting_bytes += len(payload)
            if self._waiting_bytes > MAX_WAITING_BYTES or len(self._arrived) >= MAX_WAITING:
                raise ProtocolError(f"{self.service[:40]}: {self._waiting_bytes} bytes without an acknowledgement")
            self._arrived.append(payload)
            self.has_input = True
            self._changed.notify_all()

    def acknowledge(self) -> None:
        """Note that the host has acknowledged our last message."""
        with self._changed:
            self._may_write = True
            self._changed.notify_all()


class StreamReader:
    """Reads a stream in chunks of known size."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = memoryview(b"")

    def exactly(self, size: int) -> bytes:
        """Read `size` bytes.

        Raises:
            StreamClosed: the host hung up first.
        """
        if len(self._rest) >= size:
            data, self._rest = self._rest[:size], self._rest[size:]
            return bytes(data)
        parts, missing = [self._rest], size - len(self._rest)
        while missing > 0:
            payload = self._stream.read()
            if not payload:
                raise StreamClosed(self._stream.service)
            parts.append(memoryview(payload)[:missing])
            self._rest = memoryview(payload)[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)
