"""A host that speaks adb's protocol without adb, to say what adb would not."""

from __future__ import annotations

import base64
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.simulator.packet import AUTH, CNXN, HEADER, VERSION_SKIP_CHECKSUMS, pack

HELLO = pack(CNXN, VERSION_SKIP_CHECKSUMS, 1 << 20, b"host::features=shell_v2", summed=True)
TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3


@dataclass(frozen=True)
class Host:
    """A private key as `adb keygen` writes it."""

    modulus: int
    exponent: int

    @classmethod
    def of(cls, key: Path) -> Host:
        """Read the key of PKCS#8 in PEM."""
        der = base64.b64decode("".join(line for line in key.read_text().splitlines() if "-" not in line))
        outer = [value for tag, value in fields(der) if tag == 0x30]
        (inner,) = [value for tag, value in fields(outer[0]) if tag == 0x04]
        numbers = [value for tag, value in fields(next(value for _, value in fields(inner))) if tag == 0x02]
        return cls(int.from_bytes(numbers[1], "big"), int.from_bytes(numbers[3], "big"))

    def signature(self, token: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 of a SHA-1 digest."""
        info = bytes.fromhex("3021300906052b0e03021a05000414") + token
        block = b"\0\1" + b"\xff" * (253 - len(info)) + b"\0" + info
        return pow(int.from_bytes(block, "big"), self.exponent, self.modulus).to_bytes(256, "big")

    def enter(self, opened: socket.socket) -> bytes:
        """Greet, sign, and return the kind of the answer: b"CNXN" when let in."""
        opened.sendall(HELLO)
        kind, argument, token = answer(opened)
        assert (kind, argument, len(token)) == (b"AUTH", TOKEN, 20)
        opened.sendall(signed(self.signature(token)))
        return answer(opened)[0]


def signed(signature: bytes) -> bytes:
    """The message that carries a signature."""
    return pack(AUTH, SIGNATURE, 0, signature, summed=True)


def answer(opened: socket.socket) -> tuple[bytes, int, bytes]:
    """The next message: its kind, its first argument, what it carries; b"" at the end."""
    head = adb.exactly(opened, HEADER.size)
    if len(head) < HEADER.size:
        return b"", 0, b""
    return head[:4], struct.unpack_from("<I", head, 4)[0], adb.exactly(opened, struct.unpack_from("<I", head, 12)[0])


def fields(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value."""
    while der:
        size, start = der[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(der[2:start], "big")
        yield der[0], der[start : start + size]
        der = der[start + size :]
