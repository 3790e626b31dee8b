"""Messages of a process that may be hostile: read back exactly, or refused before anything is allocated."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from whisper_parity.backend.contract import Placement
from whisper_parity.backends.tflite import given
from whisper_parity.errors import BackendError
from whisper_parity.system import frames
from whisper_parity.system.frames import ANSWERED, HEADER, MAGIC, GarbageError, Message

LIMIT = 2**20


def reader(content: bytes):
    stream = io.BytesIO(content)

    def read(count: int) -> bytes:
        assert count <= LIMIT, "more is asked for than the limit allows"
        chunk = stream.read(count)
        if len(chunk) < count:
            raise EOFError
        return chunk

    return read


@pytest.mark.parametrize("shapes", [[], [()], [(0, 3)], [(2, 3), (1, 1, 1, 4)]])
def test_a_message_is_read_back_exactly(shapes):
    """Text and numbers, NaN and empty arrays included."""
    arrays = tuple(np.full(shape, np.nan, np.float32) for shape in shapes)
    content = b"".join(bytes(part) for part in frames.parts(Message(ANSWERED, "größer", arrays)))
    message = frames.receive(reader(content), LIMIT)
    assert (message.status, message.text) == (ANSWERED, "größer")
    assert [array.tobytes() for array in message.arrays] == [array.tobytes() for array in arrays]
    assert [array.shape for array in message.arrays] == shapes


HOSTILE = {
    "another magic": HEADER.pack(b"EVIL", 0, 0, 0),
    "an unknown status": HEADER.pack(MAGIC, 77, 0, 0),
    "a text of gigabytes": HEADER.pack(MAGIC, 0, 0, 2**32 - 1),
    "an array of terabytes": HEADER.pack(MAGIC, 0, 1, 0) + struct.pack("<B4I", 4, *[2**32 - 1] * 4),
    "more dimensions than numpy has": HEADER.pack(MAGIC, 0, 1, 0) + b"\xff",
    "many arrays that are too much together": HEADER.pack(MAGIC, 0, 255, 0)
    + (struct.pack("<BI", 1, LIMIT // 8) + bytes(LIMIT // 2)) * 3,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_message_is_refused(case):
    """By its numbers, before they are believed."""
    with pytest.raises(GarbageError):
        frames.receive(reader(HOSTILE[case]), LIMIT)


def test_a_message_that_ends_early_never_yields_numbers():
    """A dying writer is noticed."""
    content = b"".join(bytes(part) for part in frames.parts(Message(ANSWERED, "x", (np.ones(3, np.float32),))))
    for length in range(len(content)):
        with pytest.raises(EOFError):
            frames.receive(reader(content[:length]), LIMIT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '[Infinity, 1, "", ""]',
        '[NaN, 1, "", ""]',
        '[-1, 0, "", ""]',
        "[" * 5000,
        f'[{"9" * 5000}, 1, "", ""]',
    ],
)
def test_a_placement_of_a_hostile_process_is_counts_and_text_or_refused(text):
    """Parsed, not believed."""
    with pytest.raises(BackendError, match="its process sent what is no placement"):
        given._placement(text)
    assert given._placement('[5, 3, "XNNPACK", "counted"]') == Placement("", "XNNPACK", 5, 3, "counted")
