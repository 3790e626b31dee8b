"""Messages of the runner's protocol for decoders with a KV cache; `runner/PROTOCOL.md` is their text."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from whisper_parity.backend.contract import Float32
from whisper_parity.backends.dla.sessions.wire import Fields, ProtocolError, all_floats, floats

MAX_RANK = 6
MAX_TENSORS = 1024
"""Inputs or outputs of a file."""


@dataclass(frozen=True, slots=True)
class AskMap:
    """Ask what the two files take and give."""

    type: ClassVar[int] = 0x0008


@dataclass(frozen=True, slots=True)
class IOMap:
    """Sizes in bytes by handle, as the runtime reads them from the files."""

    type: ClassVar[int] = 0x8008
    encoder_inputs: tuple[int, ...]
    encoder_outputs: tuple[int, ...]
    decoder_inputs: tuple[int, ...]
    decoder_outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PortForm:
    """One input or output of a step, and how our numbers lie in it."""

    handle: int
    role: int
    """Its place in `layout.ROLES`."""
    layer: int
    """0xFFFFFFFF for all of them."""
    kind: int
    """Its place in `layout.KINDS`."""
    scale: float
    zero_point: int
    slot_axis: int
    """Among the axes; 0xFFFFFFFF for none."""
    axes: tuple[tuple[int, int], ...]
    """(size, stride in elements) of each axis, in our order."""


@dataclass(frozen=True, slots=True)
class LayOut:
    """How a decoder with a KV cache takes and gives its numbers, and who does what."""

    type: ClassVar[int] = 0x0009
    words: tuple[int, int, int, int, int]
    """Form of tokens and of positions, who writes the cache, who owns cross attention, form of the mask."""
    mask_open: float
    mask_closed: float
    slots: int
    n_vocab: int
    n_layers: int
    sides: tuple[tuple[PortForm, ...], tuple[PortForm, ...], tuple[PortForm, ...], tuple[PortForm, ...]]
    """The encoder's input, its outputs, the decoder's inputs and its outputs."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a sequence on an encoding; the cache is empty."""

    type: ClassVar[int] = 0x000A
    encoding_id: int


@dataclass(frozen=True, eq=False, slots=True)
class Feed:
    """Append a token; the reply is DECODED with one row."""

    type: ClassVar[int] = 0x000B
    token: int
    top_k: int
    rows: Float32
    """Rows of the tables, of the token and of the position, one behind the other: as far as the file takes them."""
    width: int = 4
    """Bytes of a value: 2 where float16 loses nothing, as of the tables of published checkpoints."""

    @classmethod
    def of(cls, token: int, rows: Float32, top_k: int = 0) -> Feed:
        """With values of as few bytes as they need."""
        with np.errstate(over="ignore"):
            is_exact = rows.size > 0 and np.array_equal(rows.astype(np.float16).astype(np.float32), rows)
        return cls(token, top_k, rows, 2 if is_exact else 4)


@dataclass(frozen=True, slots=True)
class Rewind:
    """Take tokens back."""

    type: ClassVar[int] = 0x000C
    count: int


@dataclass(frozen=True, slots=True)
class Position:
    """Tokens that were fed: the reply to whatever changes the decoder's state."""

    type: ClassVar[int] = 0x800C
    position: int


@dataclass(frozen=True, slots=True)
class Look:
    """Ask for what lies on the device."""

    type: ClassVar[int] = 0x000D
    what: int
    """0: what the last feed wrote; 1: cross attention."""
    index: int
    """Of cross attention: keys of a layer, or the layers' number more for its values."""


@dataclass(frozen=True, eq=False, slots=True)
class Numbers:
    """What lies there, flat."""

    type: ClassVar[int] = 0x800D
    values: Float32


@dataclass(frozen=True, slots=True)
class Fill:
    """Overwrite every slot that is not in use."""

    type: ClassVar[int] = 0x000E
    value: float


@dataclass(frozen=True, eq=False, slots=True)
class Replace:
    """Feed other numbers for one input of the decoder from now on."""

    type: ClassVar[int] = 0x000F
    which: int
    """Its place in LAYOUT."""
    values: Float32
    """One for everywhere, or all; none: the right ones again."""


@dataclass(frozen=True, eq=False, slots=True)
class SetCross:
    """Give the decoder other keys or values of cross attention than its encoder's."""

    type: ClassVar[int] = 0x0010
    index: int
    """As of `Look`."""
    values: Float32


def _pack_map(m: IOMap) -> bytes:
    sides = (m.encoder_inputs, m.encoder_outputs, m.decoder_inputs, m.decoder_outputs)
    return b"".join(struct.pack(f"<I{len(side)}Q", len(side), *side) for side in sides)


def _pack_port(m: PortForm) -> bytes:
    head = struct.pack("<4Id", m.handle, m.role, m.layer, m.kind, m.scale)
    axes = b"".join(struct.pack("<2I", *axis) for axis in m.axes)
    return head + struct.pack("<i2I", m.zero_point, len(m.axes), m.slot_axis) + axes


def _pack_layout(m: LayOut) -> bytes:
    head = struct.pack("<5I2f3I", *m.words, m.mask_open, m.mask_closed, m.slots, m.n_vocab, m.n_layers)
    sides = (struct.pack("<I", len(side)) + b"".join(map(_pack_port, side)) for side in m.sides)
    return head + b"".join(sides)


def _pack_feed(m: Feed) -> bytes:
    return struct.pack("<iII", m.token, m.top_k, m.width) + m.rows.astype(f"<f{m.width}").tobytes()


PACK: dict[type, Any] = {
    AskMap: lambda _: b"",
    IOMap: _pack_map,
    LayOut: _pack_layout,
    Begin: lambda m: struct.pack("<I", m.encoding_id),
    Feed: _pack_feed,
    Rewind: lambda m: struct.pack("<I", m.count),
    Position: lambda m: struct.pack("<I", m.position),
    Look: lambda m: struct.pack("<2I", m.what, m.index),
    Numbers: lambda m: struct.pack("<I", m.values.size) + floats(m.values),
    Fill: lambda m: struct.pack("<f", m.value),
    Replace: lambda m: struct.pack("<I", m.which) + floats(m.values),
    SetCross: lambda m: struct.pack("<I", m.index) + floats(m.values),
}


def _map(fields: Fields) -> IOMap:
    return IOMap(*(_sizes(fields) for _ in range(4)))


def _sizes(fields: Fields) -> tuple[int, ...]:
    return fields.numbers(f"{_count(fields)}Q")


def _count(fields: Fields) -> int:
    (count,) = fields.numbers("I")
    if count > MAX_TENSORS:
        raise ProtocolError(f"{count} tensors, expected at most {MAX_TENSORS}")
    return count


def _finite(numbers: tuple[float, ...]) -> tuple[float, ...]:
    if not all(map(math.isfinite, numbers)):
        raise ProtocolError("a number that is not finite")
    return numbers


def _port(fields: Fields) -> PortForm:
    handle, role, layer, kind = fields.numbers("4I")
    (scale,) = _finite(fields.numbers("d"))
    zero_point, rank, slot_axis = fields.numbers("i2I")
    if rank > MAX_RANK:
        raise ProtocolError(f"a tensor with {rank} axes, expected at most {MAX_RANK}")
    axes = tuple(fields.numbers("2I") for _ in range(rank))
    return PortForm(handle, role, layer, kind, scale, zero_point, slot_axis, axes)  # type: ignore[arg-type]


def _layout(fields: Fields) -> LayOut:
    words = fields.numbers("5I")
    mask_open, mask_closed = _finite(fields.numbers("2f"))
    slots, n_vocab, n_layers = fields.numbers("3I")
    sides = tuple(tuple(_port(fields) for _ in range(_count(fields))) for _ in range(4))
    return LayOut(words, mask_open, mask_closed, slots, n_vocab, n_layers, sides)  # type: ignore[arg-type]


def _feed(fields: Fields) -> Feed:
    token, top_k, width = fields.numbers("iII")
    if width not in (2, 4) or fields.left % width:
        raise ProtocolError(f"FEED: {fields.left} bytes of values of {width} bytes")
    rows = fields.array(f"<f{width}", fields.left // width).astype(np.float32)
    return Feed(token, top_k, rows, width)


def _numbers(fields: Fields) -> Numbers:
    (count,) = fields.numbers("I")
    return Numbers(fields.array("<f4", count))


REQUESTS: dict[int, Any] = {
    AskMap.type: lambda _: AskMap(),
    LayOut.type: _layout,
    Begin.type: lambda fields: Begin(*fields.numbers("I")),
    Feed.type: _feed,
    Rewind.type: lambda fields: Rewind(*fields.numbers("I")),
    Look.type: lambda fields: Look(*fields.numbers("2I")),
    Fill.type: lambda fields: Fill(*_finite(fields.numbers("f"))),
    Replace.type: lambda fields: Replace(fields.numbers("I")[0], all_floats(fields)),
    SetCross.type: lambda fields: SetCross(fields.numbers("I")[0], all_floats(fields)),
}
REPLIES: dict[int, Any] = {
    IOMap.type: _map,
    Position.type: lambda fields: Position(*fields.numbers("I")),
    Numbers.type: _numbers,
}
