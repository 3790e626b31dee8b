"""Messages between two processes over a pipe: a fixed header, a text, float32 arrays. Nothing is ever unpickled.

    magic "PRTY" | status uint8 | arrays uint8 | text bytes uint32       little endian
    text, UTF-8
    for each array: dimensions uint8, sizes uint32 each, then its numbers as float32

The reader holds every number against a limit before it reads or allocates anything: the writer may be hostile.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAGIC = b"PRTY"
HEADER = struct.Struct("<4sBBI")
TEXT_LIMIT = 1 << 16
DIMENSIONS_LIMIT = 8
ANSWERED, REFUSED, FAILED = range(3)
"""Status of an answer: what was asked for; bad input; a machine that could not."""

Float32 = NDArray[np.float32]
Read = Callable[[int], bytes]
"""Returns that many bytes, no more and no less."""


class GarbageError(ValueError):
    """The bytes are no message, or one above a limit."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, in either direction."""

    status: int
    text: str
    arrays: tuple[Float32, ...] = ()


def parts(message: Message) -> list[bytes | memoryview]:
    """A message as bytes, in pieces: arrays are not copied.

    Raises:
        GarbageError: a text or a number of arrays above the limits.
    """
    text = message.text.encode("utf-8", "replace")
    if len(text) > TEXT_LIMIT or len(message.arrays) > 255:
        raise GarbageError(f"a text of {len(text)} bytes and {len(message.arrays)} arrays")
    pieces: list[bytes | memoryview] = [HEADER.pack(MAGIC, message.status, len(message.arrays), len(text)), text]
    for array in message.arrays:
        pieces += [struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape), _bytes(array)]
    return pieces


def receive(read: Read, limit: int) -> Message:
    """Read one message.

    Args:
        read: the pipe.
        limit: most bytes of all its arrays.

    Raises:
        GarbageError: what was read is no message, or one above a limit.
    """
    magic, status, count, length = HEADER.unpack(read(HEADER.size))
    if magic != MAGIC or status not in (ANSWERED, REFUSED, FAILED) or length > TEXT_LIMIT:
        raise GarbageError(f"a message that starts with {magic!r}, status {status}, a text of {length} bytes")
    text = read(length).decode("utf-8", "replace")
    arrays: list[Float32] = []
    for _ in range(count):
        arrays.append(_array(read, limit - sum(array.nbytes for array in arrays)))
    return Message(status, text, tuple(arrays))


def _array(read: Read, limit: int) -> Float32:
    dimensions = read(1)[0]
    if dimensions > DIMENSIONS_LIMIT:
        raise GarbageError(f"an array of {dimensions} dimensions")
    shape: Sequence[int] = struct.unpack(f"<{dimensions}I", read(4 * dimensions))
    size = 4 * math.prod(shape)
    if size > limit:
        raise GarbageError(f"an array {list(shape)}, of more than {limit} bytes")
    return np.frombuffer(read(size), "<f4").reshape(shape).astype(np.float32)


def _bytes(array: Float32) -> memoryview:
    return np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8).data
