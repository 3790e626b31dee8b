"""Messages of the adb protocol: a header of 24 bytes, then a payload."""

from __future__ import annotations

import select
import socket
import struct
from dataclasses import dataclass

HEADER = struct.Struct("<6I")
"""command, arg0, arg1, payload bytes, checksum of the payload, command with all bits flipped."""

CNXN, OPEN, OKAY, WRTE, CLSE, AUTH = (
    int.from_bytes(name, "little") for name in (b"CNXN", b"OPEN", b"OKAY", b"WRTE", b"CLSE", b"AUTH")
)
COMMANDS = frozenset({CNXN, OPEN, OKAY, WRTE, CLSE, AUTH})

VERSION_CHECKSUMS = 0x01000000
VERSION_SKIP_CHECKSUMS = 0x01000001
MAX_PAYLOAD = 1 << 20
LEGACY_MAX_PAYLOAD = 4096
AUTH_TOKEN, AUTH_SIGNATURE = 1, 2


class ProtocolError(Exception):
    """Bytes that are not the adb protocol: the connection is closed."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One message."""

    command: int
    arg0: int
    arg1: int
    payload: bytes
    checksum: int

    def check(self) -> None:
        """Verify the checksum, which only old versions fill in.

        Raises:
            ProtocolError: it is wrong.
        """
        if checksum(self.payload) != self.checksum:
            raise ProtocolError("wrong checksum")


def checksum(payload: bytes) -> int:
    """The sum of all bytes."""
    return sum(payload) & 0xFFFFFFFF


def pack(command: int, arg0: int, arg1: int, payload: bytes, *, summed: bool) -> bytes:
    """Encode a message; without `summed` its checksum is 0."""
    total = checksum(payload) if summed else 0
    return HEADER.pack(command, arg0, arg1, len(payload), total, command ^ 0xFFFFFFFF) + payload


def receive(connection: socket.socket, limit: int) -> Packet | None:
    """Read one message, with no time limit for its first byte; None if the host hangs up before it.

    Args:
        connection: its timeout limits pauses within a message.
        limit: the longest payload, in bytes.

    Raises:
        ProtocolError: an unknown command, a wrong magic, a payload over the limit, or an incomplete message.
        OSError: the connection broke.
    """
    _wait_for(connection)
    first = connection.recv(HEADER.size)
    if not first:
        return None
    command, arg0, arg1, size, total, magic = HEADER.unpack(first + _exactly(connection, HEADER.size - len(first)))
    if command ^ 0xFFFFFFFF != magic or command not in COMMANDS:
        raise ProtocolError(f"not an adb message: command {command:#x}, magic {magic:#x}")
    if size > limit:
        raise ProtocolError(f"payload of {size} bytes, expected at most {limit}")
    return Packet(command, arg0, arg1, _exactly(connection, size), total)


def _wait_for(connection: socket.socket) -> None:
    """Wait without a time limit: an idle host is silent for hours."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    poller.poll()


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = bytearray(size)
    view, done = memoryview(received), 0
    while done < size:
        try:
            count = connection.recv_into(view[done:])
        except TimeoutError as error:
            raise ProtocolError(f"message stalled after {done} of {size} bytes") from error
        if not count:
            raise ProtocolError(f"message ended after {done} of {size} bytes")
        done += count
    return bytes(received)
