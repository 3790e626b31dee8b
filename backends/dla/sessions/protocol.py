"""Protocol 2 between the harness and the runner: messages to bytes and back. `runner/PROTOCOL.md` is its text.

Nothing here opens a socket. Parsing raises ProtocolError, and only that, whatever the bytes are, and takes no more
memory than they do.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.contract import Float32
from whisper_parity.model.dims import Dims

VERSION = 2
HEADER = struct.Struct("<IHHI")
"""Length of the payload, type, flags, request id."""
HALVES = 1
"""Flag of ENCODED and DECODED: the values are float16, since that lost nothing."""
PACKED = 2
"""Flag of DECODED: float16 values in fewer bytes, see `unpacked`."""
MAX_TENSORS = 1024
"""Inputs or outputs of a file."""
MAX_REQUEST = 64 << 20
MAX_TEXT = 4096
MAX_TOP_K = 64
MAX_RANK = 6

Int32 = NDArray[np.int32]


class ProtocolError(ValueError):
    """Bytes that are no message of this protocol."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first 12 bytes of a frame."""

    length: int
    type: int
    request_id: int
    halves: bool = False
    """Values follow as float16."""
    packed: bool = False
    """Those, packed."""


@dataclass(frozen=True, slots=True)
class RunnerDims:
    """What the runner knows of a model, in the order of its --dims."""

    n_mels: int
    n_frames: int
    n_audio_ctx: int
    n_audio_state: int
    n_text_ctx: int
    n_text_state: int
    n_vocab: int

    @classmethod
    def of(cls, dims: Dims) -> RunnerDims:
        """Those of a checkpoint."""
        return cls(*(getattr(dims, field.name) for field in fields(cls)))

    def __str__(self) -> str:
        """As --dims takes them."""
        return ",".join(map(str, astuple(self)))

    @property
    def max_reply(self) -> int:
        """Bytes of the longest payload that a runner of such a model may send: a whole output, fp32, and its head."""
        largest = max(self.n_text_ctx * self.n_vocab, self.n_audio_ctx * self.n_audio_state)
        return 4 * largest + 2 * MAX_TEXT + 256


@dataclass(frozen=True, slots=True)
class Hello:
    """First request of a session."""

    type: ClassVar[int] = 0x0001
    token: bytes
    """32 bytes that only this session's owner and its runner know."""
    encoder_sha256: bytes
    decoder_sha256: bytes
    embedding_sha256: bytes
    owner: str
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class HelloOk:
    """What the runner is."""

    type: ClassVar[int] = 0x8001
    version: int
    api: int
    """1 or 2: which API of the Neuron runtime it uses."""
    build_id: str
    """16 hexadecimal digits."""
    pid: int
    load_us: int
    """Time that loading both models took on the device."""
    dims: RunnerDims
    library: str
    runtime_version: str
    """"8.2.16"; empty when the runtime does not tell."""


@dataclass(frozen=True, eq=False, slots=True)
class Encode:
    """Run the encoder; its output stays on the device."""

    type: ClassVar[int] = 0x0002
    input_features: Float32
    """[1, n_mels, n_frames] or any shape of so many values."""
    want_output: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Encoded:
    """The encoder has run."""

    type: ClassVar[int] = 0x8002
    device_us: int
    encoding_id: int
    values: Float32
    """Flat; [n_audio_ctx * n_audio_state], or empty when it was not wanted."""


@dataclass(frozen=True, eq=False, slots=True)
class SetEncoding:
    """Give the decoder another stage's encoder output."""

    type: ClassVar[int] = 0x0003
    encoder_output: Float32


@dataclass(frozen=True, slots=True)
class EncodingSet:
    """It is on the device."""

    type: ClassVar[int] = 0x8003
    encoding_id: int


@dataclass(frozen=True, slots=True)
class Decode:
    """Run the decoder on tokens; `top_k` 0 asks for whole rows of logits."""

    type: ClassVar[int] = 0x0004
    encoding_id: int
    tokens: tuple[int, ...]
    rows: tuple[int, ...]
    top_k: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class DecodedRows:
    """Logits float32 [n_rows, n_vocab]."""

    type: ClassVar[int] = 0x8004
    device_us: int
    """Time of the inference alone."""
    gather_us: int
    """Time of the lookup before it and of the selection after it."""
    logits: Float32


@dataclass(frozen=True, eq=False, slots=True)
class DecodedTop:
    """The best tokens of each row, best first."""

    type: ClassVar[int] = 0x8004
    device_us: int
    gather_us: int
    logsumexp: Float32
    """[n_rows]"""
    tokens: Int32
    """[n_rows, top_k]"""
    logits: Float32
    """[n_rows, top_k]"""


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes of an output of the last inference, as the runtime wrote them."""

    type: ClassVar[int] = 0x0005
    component: int
    """0 encoder, 1 decoder."""
    index: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class OutputBytes:
    """Part of an output."""

    type: ClassVar[int] = 0x8005
    n_outputs: int
    size_bytes: int
    """Of the whole output."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """Ask how the runner is."""

    type: ClassVar[int] = 0x0006


@dataclass(frozen=True, slots=True)
class StatusOk:
    """How the runner is."""

    type: ClassVar[int] = 0x8006
    uptime_ms: int
    n_encode: int
    n_decode: int
    rss_bytes: int
    temperature_millidegrees: int
    """-1: unreadable."""
    log_tail: str


@dataclass(frozen=True, slots=True)
class Bye:
    """End the runner."""

    type: ClassVar[int] = 0x0007


@dataclass(frozen=True, slots=True)
class ByeOk:
    """It ends."""

    type: ClassVar[int] = 0x8007


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


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A request that was not done."""

    type: ClassVar[int] = 0xFFFF
    code: int
    """One of ErrorCode, or a number that a later runner made up."""
    runtime_code: int
    """What the Neuron runtime returned; 0 when it was not the runtime."""
    text: str


class ErrorCode:
    """Codes of ErrorReply; the exit code of a runner that does not start is 10 more."""

    PROTOCOL_VERSION = 1
    BAD_TOKEN = 2
    MODEL_MISMATCH = 3
    BAD_REQUEST = 4
    TOO_LARGE = 5
    BUSY = 6
    LIBRARY = 7
    RUNTIME_VERSION = 8
    LOAD = 9
    INFERENCE = 10
    OUT_OF_MEMORY = 11
    SHAPE = 12
    NO_ENCODING = 13
    INTERNAL = 14


Request = (
    Hello | Encode | SetEncoding | Decode | Output | Status | Bye
    | AskMap | LayOut | Begin | Feed | Rewind | Look | Fill | Replace | SetCross
)  # fmt: skip
Reply = (
    HelloOk | Encoded | EncodingSet | DecodedRows | DecodedTop | OutputBytes | StatusOk | ByeOk
    | IOMap | Position | Numbers | ErrorReply
)  # fmt: skip
Message = Request | Reply


def pack(message: Message, request_id: int) -> bytes:
    """A whole frame.

    Raises:
        ProtocolError: a field that the protocol cannot carry.
    """
    try:
        payload: bytes = _PACK[type(message)](message)
        return HEADER.pack(len(payload), message.type, 0, request_id) + payload
    except (struct.error, OverflowError, UnicodeEncodeError) as error:
        raise ProtocolError(f"{type(message).__name__}: a field is out of range ({error})") from error


def parse_header(data: bytes, limit: int) -> Header:
    """The header of a frame; a payload longer than `limit` bytes is refused before anybody waits for it.

    Raises:
        ProtocolError: not 12 bytes, flags that are not 0, or a payload that is too long.
    """
    if len(data) != HEADER.size:
        raise ProtocolError(f"a header has {HEADER.size} bytes, found {len(data)}")
    length, kind, flags, request_id = HEADER.unpack(data)
    if (flags and flags != HALVES and (flags, kind) != (PACKED, DecodedRows.type)) or (
        flags and kind not in (Encoded.type, DecodedRows.type)
    ):
        raise ProtocolError(f"flags are {flags:#06x}, expected 0")
    if length > limit:
        raise ProtocolError(f"a message of {length} bytes, expected at most {limit}")
    return Header(length, kind, request_id, flags == HALVES, flags == PACKED)


def parse_reply(kind: int, payload: bytes, *, halves: bool = False, packed: bool = False) -> Reply:
    """What a runner said; float16 values come back as the float32 values that they were.

    Raises:
        ProtocolError: no reply of this protocol.
    """
    table = _HALVED if halves else _PACKED if packed else {}
    reply: Reply = _parse({**_REPLIES, **table}, kind, payload)
    return reply


def parse_request(kind: int, payload: bytes) -> Request:
    """What a harness said; for runners written in Python.

    Raises:
        ProtocolError: no request of this protocol.
    """
    request: Request = _parse(_REQUESTS, kind, payload)
    return request


def _parse(table: dict[int, Any], kind: int, payload: bytes) -> Any:
    if kind not in table:
        raise ProtocolError(f"unknown message type {kind:#06x}")
    fields = _Fields(payload)
    message = table[kind](fields)
    if fields.left:
        raise ProtocolError(f"message {kind:#06x}: {fields.left} bytes behind its last field")
    return message


class _Fields:
    """A payload, read from its start; never looks behind its end."""

    def __init__(self, payload: bytes) -> None:
        self._payload = memoryview(payload)
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._payload) - self._at

    def take(self, size: int) -> memoryview:
        if size > self.left:
            raise ProtocolError(f"the payload ends too early: {size} bytes expected, {self.left} left")
        taken = self._payload[self._at : self._at + size]
        self._at += size
        return taken

    def numbers(self, layout: str) -> tuple[int, ...]:
        numbers = struct.Struct(f"<{layout}")
        return numbers.unpack(self.take(numbers.size))

    def raw(self, size: int) -> bytes:
        return bytes(self.take(size))

    def array(self, kind: str, count: int) -> Any:
        return np.frombuffer(self.take(count * np.dtype(kind).itemsize), kind)

    def text(self) -> str:
        (size,) = self.numbers("I")
        if size > MAX_TEXT:
            raise ProtocolError(f"a text of {size} bytes, expected at most {MAX_TEXT}")
        try:
            return self.raw(size).decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a text is not UTF-8") from error


def _text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > MAX_TEXT:
        raise ProtocolError(f"a text of {len(encoded)} bytes, expected at most {MAX_TEXT}")
    return struct.pack("<I", len(encoded)) + encoded


def _floats(array: Float32) -> bytes:
    return np.ascontiguousarray(array, dtype="<f4").tobytes()


def _digests(*digests: bytes) -> bytes:
    if any(len(digest) != 32 for digest in digests):
        raise ProtocolError("the token and each SHA-256 have 32 bytes")
    return b"".join(digests)


def _pack_hello(m: Hello) -> bytes:
    digests = _digests(m.token, m.encoder_sha256, m.decoder_sha256, m.embedding_sha256)
    return struct.pack("<HH", m.version, 0) + digests + _text(m.owner)


def _pack_hello_ok(m: HelloOk) -> bytes:
    head = struct.pack("<HH8sIQ", m.version, m.api, bytes.fromhex(m.build_id), m.pid, m.load_us)
    return head + struct.pack("<7I", *astuple(m.dims)) + _text(m.library) + _text(m.runtime_version)


def _pack_decode(m: Decode) -> bytes:
    head = struct.pack("<4I", m.encoding_id, m.top_k, len(m.tokens), len(m.rows))
    return head + struct.pack(f"<{len(m.tokens)}i{len(m.rows)}I", *m.tokens, *m.rows)


def _pack_rows(m: DecodedRows) -> bytes:
    return struct.pack("<QQII", m.device_us, m.gather_us, *m.logits.shape) + _floats(m.logits)


def _pack_top(m: DecodedTop) -> bytes:
    n_rows, k = m.tokens.shape
    rows = np.zeros(n_rows, _top_row(k))
    rows["logsumexp"], rows["best"]["token"], rows["best"]["logit"] = m.logsumexp, m.tokens, m.logits
    return struct.pack("<QQII", m.device_us, m.gather_us, n_rows, k) + rows.tobytes()


def _top_row(k: int) -> np.dtype[Any]:
    return np.dtype([("logsumexp", "<f4"), ("best", [("token", "<i4"), ("logit", "<f4")], (k,))])


def _pack_status(m: StatusOk) -> bytes:
    head = (m.uptime_ms, m.n_encode, m.n_decode, m.rss_bytes, m.temperature_millidegrees)
    return struct.pack("<4Qi", *head) + _text(m.log_tail)


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


_PACK: dict[type, Any] = {
    Hello: _pack_hello,
    HelloOk: _pack_hello_ok,
    Encode: lambda m: struct.pack("<I", m.want_output) + _floats(m.input_features),
    Encoded: lambda m: struct.pack("<QII", m.device_us, m.encoding_id, m.values.size) + _floats(m.values),
    SetEncoding: lambda m: _floats(m.encoder_output),
    EncodingSet: lambda m: struct.pack("<I", m.encoding_id),
    Decode: _pack_decode,
    DecodedRows: _pack_rows,
    DecodedTop: _pack_top,
    Output: lambda m: struct.pack("<IIQQ", m.component, m.index, m.offset, m.length),
    OutputBytes: lambda m: struct.pack("<IQ", m.n_outputs, m.size_bytes) + m.data,
    Status: lambda _: b"",
    StatusOk: _pack_status,
    Bye: lambda _: b"",
    ByeOk: lambda _: b"",
    AskMap: lambda _: b"",
    IOMap: _pack_map,
    LayOut: _pack_layout,
    Begin: lambda m: struct.pack("<I", m.encoding_id),
    Feed: _pack_feed,
    Rewind: lambda m: struct.pack("<I", m.count),
    Position: lambda m: struct.pack("<I", m.position),
    Look: lambda m: struct.pack("<2I", m.what, m.index),
    Numbers: lambda m: struct.pack("<I", m.values.size) + _floats(m.values),
    Fill: lambda m: struct.pack("<f", m.value),
    Replace: lambda m: struct.pack("<I", m.which) + _floats(m.values),
    SetCross: lambda m: struct.pack("<I", m.index) + _floats(m.values),
    ErrorReply: lambda m: struct.pack("<Ii", m.code, m.runtime_code) + _text(m.text),
}


def _hello(fields: _Fields) -> Hello:
    version, reserved = fields.numbers("HH")
    if reserved:
        raise ProtocolError("HELLO: the field after the version must be 0")
    token, encoder, decoder, embedding = (fields.raw(32) for _ in range(4))
    return Hello(token, encoder, decoder, embedding, fields.text(), version)


def _hello_ok(fields: _Fields) -> HelloOk:
    version, api = fields.numbers("HH")
    build_id = fields.raw(8).hex()
    pid, load_us = fields.numbers("IQ")
    return HelloOk(
        version, api, build_id, pid, load_us, RunnerDims(*fields.numbers("7I")), fields.text(), fields.text()
    )


def _encode(fields: _Fields) -> Encode:
    (want,) = fields.numbers("I")
    if want > 1:
        raise ProtocolError("ENCODE: want_output must be 0 or 1")
    return Encode(_all_floats(fields), bool(want))


def _all_floats(fields: _Fields) -> Any:
    if fields.left % 4:
        raise ProtocolError(f"{fields.left} bytes are no whole number of float32 values")
    return fields.array("<f4", fields.left // 4)


def _encoded(fields: _Fields, kind: str = "<f4") -> Encoded:
    device_us, encoding_id, count = fields.numbers("QII")
    return Encoded(device_us, encoding_id, fields.array(kind, count).astype(np.float32, copy=False))


def _decode(fields: _Fields) -> Decode:
    encoding_id, top_k, n_tokens, n_rows = fields.numbers("4I")
    tokens, rows = fields.array("<i4", n_tokens), fields.array("<u4", n_rows)
    if top_k > MAX_TOP_K or not n_tokens or not n_rows or rows.max() >= n_tokens:
        raise ProtocolError("DECODE: top_k, the number of tokens or a row is out of range")
    return Decode(encoding_id, tuple(tokens.tolist()), tuple(rows.tolist()), top_k)


def _decoded(fields: _Fields) -> DecodedRows | DecodedTop:
    device_us, gather_us, n_rows, width = fields.numbers("QQII")
    if not n_rows or not width:
        raise ProtocolError("DECODED: no rows")
    if fields.left == 4 * n_rows * width:
        return DecodedRows(device_us, gather_us, fields.array("<f4", n_rows * width).reshape(n_rows, width))
    if width > MAX_TOP_K or fields.left != n_rows * (4 + 8 * width):
        raise ProtocolError(f"DECODED: {n_rows} rows of width {width} do not fit {fields.left} bytes")
    rows = np.frombuffer(fields.take(fields.left), _top_row(width))
    return DecodedTop(device_us, gather_us, rows["logsumexp"], rows["best"]["token"], rows["best"]["logit"])


def _decoded_halves(fields: _Fields) -> DecodedRows:
    device_us, gather_us, n_rows, width = fields.numbers("QQII")
    values = fields.array("<f2", n_rows * width)
    return DecodedRows(device_us, gather_us, values.reshape(n_rows, width).astype(np.float32))


def _output(fields: _Fields) -> Output:
    component, index, offset, length = fields.numbers("IIQQ")
    if component > 1:
        raise ProtocolError("OUTPUT: component must be 0 or 1")
    return Output(component, index, offset, length)


def _output_bytes(fields: _Fields) -> OutputBytes:
    n_outputs, size = fields.numbers("IQ")
    return OutputBytes(n_outputs, size, fields.raw(fields.left))


def _status_ok(fields: _Fields) -> StatusOk:
    uptime_ms, n_encode, n_decode, rss_bytes, temperature = fields.numbers("4Qi")
    return StatusOk(uptime_ms, n_encode, n_decode, rss_bytes, temperature, fields.text())


def _error(fields: _Fields) -> ErrorReply:
    code, runtime_code = fields.numbers("Ii")
    return ErrorReply(code, runtime_code, fields.text())


def _map(fields: _Fields) -> IOMap:
    return IOMap(*(_sizes(fields) for _ in range(4)))


def _sizes(fields: _Fields) -> tuple[int, ...]:
    return fields.numbers(f"{_count(fields)}Q")


def _count(fields: _Fields) -> int:
    (count,) = fields.numbers("I")
    if count > MAX_TENSORS:
        raise ProtocolError(f"{count} tensors, expected at most {MAX_TENSORS}")
    return count


def _finite(numbers: tuple[float, ...]) -> tuple[float, ...]:
    if not all(map(math.isfinite, numbers)):
        raise ProtocolError("a number that is not finite")
    return numbers


def _port(fields: _Fields) -> PortForm:
    handle, role, layer, kind = fields.numbers("4I")
    (scale,) = _finite(fields.numbers("d"))
    zero_point, rank, slot_axis = fields.numbers("i2I")
    if rank > MAX_RANK:
        raise ProtocolError(f"a tensor with {rank} axes, expected at most {MAX_RANK}")
    axes = tuple(fields.numbers("2I") for _ in range(rank))
    return PortForm(handle, role, layer, kind, scale, zero_point, slot_axis, axes)  # type: ignore[arg-type]


def _layout(fields: _Fields) -> LayOut:
    words = fields.numbers("5I")
    mask_open, mask_closed = _finite(fields.numbers("2f"))
    slots, n_vocab, n_layers = fields.numbers("3I")
    sides = tuple(tuple(_port(fields) for _ in range(_count(fields))) for _ in range(4))
    return LayOut(words, mask_open, mask_closed, slots, n_vocab, n_layers, sides)  # type: ignore[arg-type]


def _feed(fields: _Fields) -> Feed:
    token, top_k, width = fields.numbers("iII")
    if width not in (2, 4) or fields.left % width:
        raise ProtocolError(f"FEED: {fields.left} bytes of values of {width} bytes")
    rows = fields.array(f"<f{width}", fields.left // width).astype(np.float32)
    return Feed(token, top_k, rows, width)


def _numbers(fields: _Fields) -> Numbers:
    (count,) = fields.numbers("I")
    return Numbers(fields.array("<f4", count))


def _decoded_packed(fields: _Fields) -> DecodedRows:
    device_us, gather_us, n_rows, width = fields.numbers("QQII")
    values = unpacked(fields, n_rows * width)
    return DecodedRows(device_us, gather_us, values.reshape(n_rows, width).astype(np.float32))


def unpacked(fields: _Fields, count: int) -> NDArray[np.float16]:
    """Values of a packed reply, see PROTOCOL.md.

    Raises:
        ProtocolError: bits or escapes that cannot be.
    """
    bits, n_escapes = fields.numbers("II")
    if not 0 < bits < 8:
        raise ProtocolError(f"codes of {bits} bits, expected 1 to 7")
    table = np.zeros(1 << bits, np.uint8)
    table[:-1] = fields.array("u1", len(table) - 1)
    low = fields.array("u1", count)
    flags = np.unpackbits(fields.array("u1", -(-count * bits // 8)), count=count * bits).reshape(count, bits)
    codes = np.packbits(flags, axis=1).reshape(-1) >> (8 - bits)
    high, is_escape = table[codes], codes == len(table) - 1
    if np.count_nonzero(is_escape) != n_escapes:
        raise ProtocolError(f"{n_escapes} escapes, and {np.count_nonzero(is_escape)} codes of them")
    high[is_escape] = fields.array("u1", n_escapes)
    values: NDArray[np.float16] = (high.astype("<u2") << 8 | low).view("<f2")
    return values


_REQUESTS: dict[int, Any] = {
    Hello.type: _hello,
    Encode.type: _encode,
    SetEncoding.type: lambda fields: SetEncoding(_all_floats(fields)),
    Decode.type: _decode,
    Output.type: _output,
    Status.type: lambda _: Status(),
    Bye.type: lambda _: Bye(),
    AskMap.type: lambda _: AskMap(),
    LayOut.type: _layout,
    Begin.type: lambda fields: Begin(*fields.numbers("I")),
    Feed.type: _feed,
    Rewind.type: lambda fields: Rewind(*fields.numbers("I")),
    Look.type: lambda fields: Look(*fields.numbers("2I")),
    Fill.type: lambda fields: Fill(*_finite(fields.numbers("f"))),
    Replace.type: lambda fields: Replace(fields.numbers("I")[0], _all_floats(fields)),
    SetCross.type: lambda fields: SetCross(fields.numbers("I")[0], _all_floats(fields)),
}
_REPLIES: dict[int, Any] = {
    HelloOk.type: _hello_ok,
    Encoded.type: _encoded,
    EncodingSet.type: lambda fields: EncodingSet(*fields.numbers("I")),
    DecodedRows.type: _decoded,
    OutputBytes.type: _output_bytes,
    StatusOk.type: _status_ok,
    ByeOk.type: lambda _: ByeOk(),
    IOMap.type: _map,
    Position.type: lambda fields: Position(*fields.numbers("I")),
    Numbers.type: _numbers,
    ErrorReply.type: _error,
}

_HALVED: dict[int, Any] = {
    Encoded.type: lambda fields: _encoded(fields, "<f2"),
    DecodedRows.type: _decoded_halves,
}
_PACKED: dict[int, Any] = {DecodedRows.type: _decoded_packed}


def digest_bytes(sha256: str) -> bytes:
    """A SHA-256 as HELLO carries it, from its 64 hexadecimal digits.

    Raises:
        ProtocolError: no such digits.
    """
    try:
        digest = bytes.fromhex(sha256)
    except ValueError as error:
        raise ProtocolError(f"{sha256!r:.80} is no SHA-256") from error
    return _digests(digest)


def best_of(top: DecodedTop, row: int) -> Sequence[tuple[int, float]]:
    """Tokens and logprobs of a row, best first."""
    logprobs = top.logits[row] - top.logsumexp[row]
    return [(int(token), float(logprob)) for token, logprob in zip(top.tokens[row], logprobs, strict=True)]
