"""Protocol 2 between the harness and the runner: messages to bytes and back. `runner/PROTOCOL.md` is its text.

Nothing here opens a socket. Parsing raises ProtocolError, and only that, whatever the bytes are, and takes no more
memory than they do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.contract import Float32
from whisper_parity.backends.dla.sessions import stepwise
from whisper_parity.backends.dla.sessions.wire import MAX_TEXT, Fields, ProtocolError, all_floats, floats, text
from whisper_parity.model.dims import Dims

VERSION = 2
HEADER = struct.Struct("<IHHI")
"""Length of the payload, type, flags, request id."""
HALVES = 1
"""Flag of ENCODED and DECODED: the values are float16, since that lost nothing."""
PACKED = 2
"""Flag of DECODED: float16 values in fewer bytes, see `unpacked`."""
MAX_REQUEST = 64 << 20
MAX_TOP_K = 64

Int32 = NDArray[np.int32]


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
    | stepwise.AskMap | stepwise.LayOut | stepwise.Begin | stepwise.Feed | stepwise.Rewind | stepwise.Look
    | stepwise.Fill | stepwise.Replace | stepwise.SetCross
)  # fmt: skip
Reply = (
    HelloOk | Encoded | EncodingSet | DecodedRows | DecodedTop | OutputBytes | StatusOk | ByeOk
    | stepwise.IOMap | stepwise.Position | stepwise.Numbers | ErrorReply
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
    fields = Fields(payload)
    message = table[kind](fields)
    if fields.left:
        raise ProtocolError(f"message {kind:#06x}: {fields.left} bytes behind its last field")
    return message


def _digests(*digests: bytes) -> bytes:
    if any(len(digest) != 32 for digest in digests):
        raise ProtocolError("the token and each SHA-256 have 32 bytes")
    return b"".join(digests)


def _pack_hello(m: Hello) -> bytes:
    digests = _digests(m.token, m.encoder_sha256, m.decoder_sha256, m.embedding_sha256)
    return struct.pack("<HH", m.version, 0) + digests + text(m.owner)


def _pack_hello_ok(m: HelloOk) -> bytes:
    head = struct.pack("<HH8sIQ", m.version, m.api, bytes.fromhex(m.build_id), m.pid, m.load_us)
    return head + struct.pack("<7I", *astuple(m.dims)) + text(m.library) + text(m.runtime_version)


def _pack_decode(m: Decode) -> bytes:
    head = struct.pack("<4I", m.encoding_id, m.top_k, len(m.tokens), len(m.rows))
    return head + struct.pack(f"<{len(m.tokens)}i{len(m.rows)}I", *m.tokens, *m.rows)


def _pack_rows(m: DecodedRows) -> bytes:
    return struct.pack("<QQII", m.device_us, m.gather_us, *m.logits.shape) + floats(m.logits)


def _pack_top(m: DecodedTop) -> bytes:
    n_rows, k = m.tokens.shape
    rows = np.zeros(n_rows, _top_row(k))
    rows["logsumexp"], rows["best"]["token"], rows["best"]["logit"] = m.logsumexp, m.tokens, m.logits
    return struct.pack("<QQII", m.device_us, m.gather_us, n_rows, k) + rows.tobytes()


def _top_row(k: int) -> np.dtype[Any]:
    return np.dtype([("logsumexp", "<f4"), ("best", [("token", "<i4"), ("logit", "<f4")], (k,))])


def _pack_status(m: StatusOk) -> bytes:
    head = (m.uptime_ms, m.n_encode, m.n_decode, m.rss_bytes, m.temperature_millidegrees)
    return struct.pack("<4Qi", *head) + text(m.log_tail)


_PACK: dict[type, Any] = {
    Hello: _pack_hello,
    HelloOk: _pack_hello_ok,
    Encode: lambda m: struct.pack("<I", m.want_output) + floats(m.input_features),
    Encoded: lambda m: struct.pack("<QII", m.device_us, m.encoding_id, m.values.size) + floats(m.values),
    SetEncoding: lambda m: floats(m.encoder_output),
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
    **stepwise.PACK,
    ErrorReply: lambda m: struct.pack("<Ii", m.code, m.runtime_code) + text(m.text),
}


def _hello(fields: Fields) -> Hello:
    version, reserved = fields.numbers("HH")
    if reserved:
        raise ProtocolError("HELLO: the field after the version must be 0")
    token, encoder, decoder, embedding = (fields.raw(32) for _ in range(4))
    return Hello(token, encoder, decoder, embedding, fields.text(), version)


def _hello_ok(fields: Fields) -> HelloOk:
    version, api = fields.numbers("HH")
    build_id = fields.raw(8).hex()
    pid, load_us = fields.numbers("IQ")
    return HelloOk(
        version, api, build_id, pid, load_us, RunnerDims(*fields.numbers("7I")), fields.text(), fields.text()
    )


def _encode(fields: Fields) -> Encode:
    (want,) = fields.numbers("I")
    if want > 1:
        raise ProtocolError("ENCODE: want_output must be 0 or 1")
    return Encode(all_floats(fields), bool(want))


def _encoded(fields: Fields, kind: str = "<f4") -> Encoded:
    device_us, encoding_id, count = fields.numbers("QII")
    return Encoded(device_us, encoding_id, fields.array(kind, count).astype(np.float32, copy=False))


def _decode(fields: Fields) -> Decode:
    encoding_id, top_k, n_tokens, n_rows = fields.numbers("4I")
    tokens, rows = fields.array("<i4", n_tokens), fields.array("<u4", n_rows)
    if top_k > MAX_TOP_K or not n_tokens or not n_rows or rows.max() >= n_tokens:
        raise ProtocolError("DECODE: top_k, the number of tokens or a row is out of range")
    return Decode(encoding_id, tuple(tokens.tolist()), tuple(rows.tolist()), top_k)


def _decoded(fields: Fields) -> DecodedRows | DecodedTop:
    device_us, gather_us, n_rows, width = fields.numbers("QQII")
    if not n_rows or not width:
        raise ProtocolError("DECODED: no rows")
    if fields.left == 4 * n_rows * width:
        return DecodedRows(device_us, gather_us, fields.array("<f4", n_rows * width).reshape(n_rows, width))
    if width > MAX_TOP_K or fields.left != n_rows * (4 + 8 * width):
        raise ProtocolError(f"DECODED: {n_rows} rows of width {width} do not fit {fields.left} bytes")
    rows = np.frombuffer(fields.take(fields.left), _top_row(width))
    return DecodedTop(device_us, gather_us, rows["logsumexp"], rows["best"]["token"], rows["best"]["logit"])


def _decoded_halves(fields: Fields) -> DecodedRows:
    device_us, gather_us, n_rows, width = fields.numbers("QQII")
    values = fields.array("<f2", n_rows * width)
    return DecodedRows(device_us, gather_us, values.reshape(n_rows, width).astype(np.float32))


def _output(fields: Fields) -> Output:
    component, index, offset, length = fields.numbers("IIQQ")
    if component > 1:
        raise ProtocolError("OUTPUT: component must be 0 or 1")
    return Output(component, index, offset, length)


def _output_bytes(fields: Fields) -> OutputBytes:
    n_outputs, size = fields.numbers("IQ")
    return OutputBytes(n_outputs, size, fields.raw(fields.left))


def _status_ok(fields: Fields) -> StatusOk:
    uptime_ms, n_encode, n_decode, rss_bytes, temperature = fields.numbers("4Qi")
    return StatusOk(uptime_ms, n_encode, n_decode, rss_bytes, temperature, fields.text())


def _error(fields: Fields) -> ErrorReply:
    code, runtime_code = fields.numbers("Ii")
    return ErrorReply(code, runtime_code, fields.text())


def _decoded_packed(fields: Fields) -> DecodedRows:
    device_us, gather_us, n_rows, width = fields.numbers("QQII")
    values = unpacked(fields, n_rows * width)
    return DecodedRows(device_us, gather_us, values.reshape(n_rows, width).astype(np.float32))


def unpacked(fields: Fields, count: int) -> NDArray[np.float16]:
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
    codes = _codes(fields.array("u1", -(-count * bits // 8)), bits, count)
    high, is_escape = table[codes], codes == len(table) - 1
    if np.count_nonzero(is_escape) != n_escapes:
        raise ProtocolError(f"{n_escapes} escapes, and {np.count_nonzero(is_escape)} codes of them")
    high[is_escape] = fields.array("u1", n_escapes)
    values: NDArray[np.float16] = (high.astype("<u2") << 8 | low).view("<f2")
    return values


def _codes(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """Codes of so many bits, eight in each `bits` bytes: a row is unpacked at every step."""
    groups = -(-count // 8)
    padded = np.zeros(groups * bits, np.uint64)
    padded[: len(data)] = data
    words = np.zeros(groups, np.uint64)
    for column in padded.reshape(groups, bits).T:
        words = words << np.uint64(8) | column
    shifts = np.arange(7 * bits, -1, -bits, dtype=np.uint64)
    codes = words[:, None] >> shifts & np.uint64((1 << bits) - 1)
    return codes.astype(np.uint8).reshape(-1)[:count]


_REQUESTS: dict[int, Any] = {
    Hello.type: _hello,
    Encode.type: _encode,
    SetEncoding.type: lambda fields: SetEncoding(all_floats(fields)),
    Decode.type: _decode,
    Output.type: _output,
    Status.type: lambda _: Status(),
    Bye.type: lambda _: Bye(),
    **stepwise.REQUESTS,
}
_REPLIES: dict[int, Any] = {
    HelloOk.type: _hello_ok,
    Encoded.type: _encoded,
    EncodingSet.type: lambda fields: EncodingSet(*fields.numbers("I")),
    DecodedRows.type: _decoded,
    OutputBytes.type: _output_bytes,
    StatusOk.type: _status_ok,
    ByeOk.type: lambda _: ByeOk(),
    **stepwise.REPLIES,
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
