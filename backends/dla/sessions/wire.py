"""Bytes of the runner's protocol: a payload read from its start, and what goes into one."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from whisper_parity.backend.contract import Float32

MAX_TEXT = 4096


class ProtocolError(ValueError):
    """Bytes that are no message of this protocol."""


class Fields:
    """A payload, read from its start; never looks behind its end."""

    def __init__(self, payload: bytes) -> None:
        self._payload = memoryview(payload)
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return len(self._payload) - self._at

    def take(self, size: int) -> memoryview:
        """The next bytes.

        Raises:
            ProtocolError: there are fewer, as of every method here.
        """
        if size > self.left:
            raise ProtocolError(f"the payload ends too early: {size} bytes expected, {self.left} left")
        taken = self._payload[self._at : self._at + size]
        self._at += size
        return taken

    def numbers(self, layout: str) -> tuple[int, ...]:
        """Numbers of a layout of `struct`, little-endian."""
        numbers = struct.Struct(f"<{layout}")
        return numbers.unpack(self.take(numbers.size))

    def raw(self, size: int) -> bytes:
        """The next bytes, copied."""
        return bytes(self.take(size))

    def array(self, kind: str, count: int) -> Any:
        """Numbers of a type of numpy, where they lie."""
        return np.frombuffer(self.take(count * np.dtype(kind).itemsize), kind)

    def text(self) -> str:
        """A length, then UTF-8."""
        (size,) = self.numbers("I")
        if size > MAX_TEXT:
            raise ProtocolError(f"a text of {size} bytes, expected at most {MAX_TEXT}")
        try:
            return self.raw(size).decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a text is not UTF-8") from error


def text(text: str) -> bytes:
    """A text as `Fields.text` reads it.

    Raises:
        ProtocolError: it is too long.
    """
    encoded = text.encode()
    if len(encoded) > MAX_TEXT:
        raise ProtocolError(f"a text of {len(encoded)} bytes, expected at most {MAX_TEXT}")
    return struct.pack("<I", len(encoded)) + encoded


def floats(array: Float32) -> bytes:
    """float32 numbers, flat."""
    return np.ascontiguousarray(array, dtype="<f4").tobytes()


def all_floats(fields: Fields) -> Any:
    """The rest of a payload as float32.

    Raises:
        ProtocolError: it is no whole number of them.
    """
    if fields.left % 4:
        raise ProtocolError(f"{fields.left} bytes are no whole number of float32 values")
    return fields.array("<f4", fields.left // 4)
