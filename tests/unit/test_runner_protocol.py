"""Protocol 2 from the harness's side: the golden bytes, round trips, and bytes that are no message."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.sessions import protocol, stepform, stepwise
from whisper_parity.backends.dla.sessions.protocol import HEADER
from whisper_parity.backends.dla.sessions.wire import ProtocolError

GOLDEN = {
    each["name"]: bytes.fromhex(each["hex"])
    for each in json.loads((native.RUNNER_SOURCE / "golden.json").read_text("utf-8"))["messages"]
}
DIMS = protocol.RunnerDims(80, 3000, 1500, 512, 448, 512, 51865)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def counting(first: int) -> bytes:
    return bytes(range(first, first + 32))


def port(
    handle: int, role: int, *axes: tuple[int, int], slots: int = stepform.NONE, kind: int = 0
) -> stepwise.PortForm:
    return stepwise.PortForm(handle, role, stepform.NONE, kind, 0.0, 0, slots, axes)


ROWS = ((2, 4), (4, 1))
LAYOUT = stepwise.LayOut(
    (1, 2, 0, 0, 2), 0.0, -1e4, 3, 5, 2,
    (
        (port(0, 15, (2, 4), (4, 1)),),
        (replace(port(0, 1, (2, 4), (4, 1), kind=5), scale=0.5, zero_point=-3),),
        (
            port(0, 0), port(1, 1, (2, 4), (4, 1)), port(2, 5, (2, 12), (3, 4), (4, 1), slots=1),
            port(3, 6, (2, 12), (3, 4), (4, 1), slots=1), port(4, 2, kind=2), port(5, 4, (3, 1)),
        ),
        (port(0, 10, (5, 1)), port(1, 11, *ROWS), port(2, 12, *ROWS)),
    ),
)  # fmt: skip
"""A small decoder of two layers, four numbers and three slots."""

MESSAGES: dict[str, tuple[int, protocol.Message]] = {
    "HELLO": (1, protocol.Hello(counting(0), counting(0x20), counting(0x40), counting(0x60), "ada@host pid 7 é")),
    "HELLO_OK": (
        1,
        protocol.HelloOk(
            2, 2, "0123456789abcdef", 4321, 1234567, DIMS, "/vendor/lib64/mt8189/libneuron_runtime.8.so", "8.2.16"
        ),
    ),
    "ENCODE": (2, protocol.Encode(floats(0.5, -1, 3.25), True)),
    "ENCODED": (2, protocol.Encoded(98765, 9, floats(1.5, -0.25))),
    "SET_ENCODING": (3, protocol.SetEncoding(floats(1, -2))),
    "SET": (3, protocol.EncodingSet(10)),
    "DECODE": (4, protocol.Decode(9, (50258, 50259, 400), (1, 2), 2)),
    "DECODED_ROWS": (4, protocol.DecodedRows(70000, 80, floats(1.5, -0.25, 4, -8).reshape(2, 2))),
    "DECODED_TOP": (
        4,
        protocol.DecodedTop(70000, 81, floats(12.5), np.array([[400, 7]], np.int32), floats(11, -0.5).reshape(1, 2)),
    ),
    "OUTPUT": (5, protocol.Output(1, 2, 16, 8589934592)),
    "OUTPUT_BYTES": (5, protocol.OutputBytes(3, 8589934592, bytes.fromhex("deadbeef"))),
    "STATUS": (6, protocol.Status()),
    "STATUS_OK": (6, protocol.StatusOk(60000, 3, 75, 262144000, -1, "line\n")),
    "BYE": (7, protocol.Bye()),
    "BYE_OK": (7, protocol.ByeOk()),
    "IO_MAP": (9, stepwise.AskMap()),
    "IO_MAP_OK": (9, stepwise.IOMap((960000,), (3072000,), (4, 917504), (207460, 2048))),
    "LAYOUT": (10, LAYOUT),
    "SET_CROSS": (11, stepwise.SetCross(1, floats(1.5, -0.25))),
    "BEGIN": (12, stepwise.Begin(10)),
    "FEED": (13, stepwise.Feed.of(50258, floats(0.5, -1), 2)),
    "FEED_WIDE": (13, stepwise.Feed.of(7, floats(0.1))),
    "REWIND": (14, stepwise.Rewind(3)),
    "POSITION": (14, stepwise.Position(9)),
    "LOOK": (15, stepwise.Look(1, 5)),
    "NUMBERS": (15, stepwise.Numbers(floats(1.5, -0.25))),
    "FILL": (16, stepwise.Fill(2.5)),
    "REPLACE": (17, stepwise.Replace(4, floats(1))),
    "ERROR": (8, protocol.ErrorReply(10, 6, "NeuronRuntimeV2_run gave 6")),
}


def parse(data: bytes) -> protocol.Message:
    header = protocol.parse_header(data[: HEADER.size], 1 << 20)
    return parse_payload(header.type, data[HEADER.size :])


def parse_payload(kind: int, payload: bytes) -> protocol.Message:
    is_reply = kind & 0x8000
    return protocol.parse_reply(kind, payload) if is_reply else protocol.parse_request(kind, payload)


def same(one: protocol.Message, other: protocol.Message) -> bool:
    def equal(a: object, b: object) -> bool:
        return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b

    return type(one) is type(other) and all(
        equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
    )


def test_every_message_has_golden_bytes():
    """No message without its bytes, no bytes without a message."""
    assert list(GOLDEN) == list(MESSAGES)
    assert {type(message) for _, message in MESSAGES.values()} == set(protocol._PACK)


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_bytes(name):
    """Written exactly as golden.json says, and read back to the same message."""
    request_id, message = MESSAGES[name]
    assert protocol.pack(message, request_id).hex() == GOLDEN[name].hex()
    assert protocol.parse_header(GOLDEN[name][:12], 1 << 20).request_id == request_id
    assert same(parse(GOLDEN[name]), message)


def test_the_document_shows_the_golden_bytes():
    """PROTOCOL.md prints each of them."""
    document = (native.RUNNER_SOURCE / "PROTOCOL.md").read_text("utf-8")
    assert [name for name, data in GOLDEN.items() if f"| {name} | `{data.hex()}` |" not in document] == []


@pytest.mark.parametrize("name", MESSAGES)
def test_every_cut_is_refused(name):
    """A payload that ends anywhere before its end, or goes on behind it, is no message."""
    data = GOLDEN[name]
    kind, payload = protocol.parse_header(data[:12], 1 << 20).type, data[12:]
    for cut in [*(payload[:size] for size in range(len(payload))), payload + b"\0"]:
        if not _ends_anywhere(name, len(cut)):
            with pytest.raises(ProtocolError):
                parse_payload(kind, cut)


def _ends_anywhere(name: str, size: int) -> bool:
    """Messages whose values go on to the end of the frame: what they should hold only the model's dimensions tell."""
    if (name, size) == ("DECODED_TOP", 24 + 8):  # one row of two tokens, cut, looks like one row of two logits
        return True
    heads = {"ENCODE": 4, "SET_ENCODING": 0, "SET_CROSS": 4, "REPLACE": 4, "FEED_WIDE": 12}
    if name == "FEED":
        return size >= 12 and size % 2 == 0
    return (name in heads and size >= heads[name] and size % 4 == 0) or (name == "OUTPUT_BYTES" and size >= 12)


@given(kind=st.one_of(st.sampled_from([m.type for _, m in MESSAGES.values()]), st.integers(0, 0xFFFF)), data=st.data())
def test_any_bytes_give_a_message_or_a_protocol_error(kind, data):
    """Whatever comes, nothing else is raised, and what was read can be written again."""
    payload = data.draw(st.binary(max_size=300))
    try:
        message = parse_payload(kind, payload)
    except ProtocolError:
        return
    assert protocol.pack(message, 1)[HEADER.size :] == payload


@given(name=st.sampled_from(list(MESSAGES)), at=st.integers(0, 1 << 16), value=st.integers(0, 2**32 - 1))
def test_a_mutated_message_gives_a_message_or_a_protocol_error(name, at, value):
    """Lengths and counts that promise more than is there take no memory and raise nothing else."""
    data = bytearray(GOLDEN[name])
    if len(data) < 16:
        return
    struct.pack_into("<I", data, 12 + at % (len(data) - 15), value)
    with suppress(ProtocolError):
        parse(bytes(data))


@given(st.binary(max_size=16))
def test_any_header_is_read_or_refused(data):
    """A header announces at most the limit."""
    with suppress(ProtocolError):
        assert protocol.parse_header(data, 1000).length <= 1000


def test_a_payload_above_the_limit_is_refused_before_it_is_read():
    """The longest reply of a model of these dimensions is a whole decoder output."""
    assert protocol.parse_header(HEADER.pack(DIMS.max_reply, 0x8004, 0, 1), DIMS.max_reply).length > 448 * 51865 * 4
    with pytest.raises(ProtocolError, match="at most"):
        protocol.parse_header(HEADER.pack(DIMS.max_reply + 1, 0x8004, 0, 1), DIMS.max_reply)


@pytest.mark.parametrize(("kind", "flags"), [(6, 1), (0x8006, 1), (0x8004, 3), (0x8002, 2), (0xFFFF, 1)])
def test_flags_are_refused(kind, flags):
    """All but HALVES, and that where there are no values."""
    with pytest.raises(ProtocolError, match="flags"):
        protocol.parse_header(HEADER.pack(0, kind, flags, 1), 10)


def test_halves_come_back_as_the_values_that_they_were():
    """float32 again, and a float32 payload under the flag is refused."""
    values = np.array([[1.5, -0.25], [np.inf, 65504]], np.float32)
    head = struct.pack("<QQII", 7, 8, *values.shape)
    assert protocol.parse_header(HEADER.pack(len(head) + 8, 0x8004, protocol.HALVES, 1), 100).halves
    found = protocol.parse_reply(0x8004, head + values.astype("<f2").tobytes(), halves=True)
    assert found.logits.dtype == np.float32
    np.testing.assert_array_equal(found.logits, values)
    encoded = struct.pack("<QII", 7, 1, 4) + values.astype("<f2").tobytes()
    np.testing.assert_array_equal(protocol.parse_reply(0x8002, encoded, halves=True).values, values.ravel())
    with pytest.raises(ProtocolError, match="behind its last field"):
        protocol.parse_reply(0x8004, head + values.tobytes(), halves=True)


def packed(bits: int, escapes: int, rest: str) -> bytes:
    return struct.pack("<QQIIII", 7, 8, 1, 5, bits, escapes) + bytes.fromhex(rest)


def test_packed_logits_come_back_bit_for_bit():
    """The bytes that the runner's own check writes; codes that cannot be are refused."""
    head, data = HEADER.pack(0, 0x8004, protocol.PACKED, 1), packed(1, 2, "3c000100020028bc42")
    assert protocol.parse_header(head, 100).packed
    found = protocol.parse_reply(0x8004, data, packed=True)
    np.testing.assert_array_equal(found.logits, np.array([[1, 1 + 2**-10, -1, 1 + 2**-9, 3]], np.float32))
    assert found.logits.dtype == np.float32
    for wrong in (packed(0, 2, "00"), packed(8, 2, "00"), packed(1, 1, "3c000100020028bc"), data[:-1], data + b"0"):
        with pytest.raises(ProtocolError):
            protocol.parse_reply(0x8004, wrong, packed=True)


@given(st.binary(max_size=200))
def test_any_packed_bytes_give_logits_or_a_protocol_error(payload):
    with suppress(ProtocolError):
        assert protocol.parse_reply(0x8004, payload, packed=True).logits.dtype == np.float32


@pytest.mark.parametrize(
    "message",
    [
        replace(MESSAGES["HELLO"][1], token=b"short"),
        replace(MESSAGES["HELLO"][1], owner="x" * 4097),
        replace(MESSAGES["HELLO"][1], owner="\ud800"),
        replace(MESSAGES["DECODE"][1], tokens=(1 << 40,)),
        replace(MESSAGES["DECODE"][1], encoding_id=-1),
        replace(MESSAGES["OUTPUT"][1], length=-1),
    ],
    ids=["token", "long text", "surrogate", "token id", "encoding id", "length"],
)
def test_what_cannot_be_carried_is_refused(message):
    """Nothing is cut or wrapped around in silence."""
    with pytest.raises(ProtocolError):
        protocol.pack(message, 1)


def test_top_k_says_logprobs():
    """A logprob is the logit less the row's logsumexp."""
    assert protocol.best_of(MESSAGES["DECODED_TOP"][1], 0) == [(400, -1.5), (7, -13.0)]


def test_digests():
    """A SHA-256 in HELLO is its 32 bytes."""
    assert protocol.digest_bytes("ab" * 32) == b"\xab" * 32
    for wrong in ("ab" * 31, "x" * 64, ""):
        with pytest.raises(ProtocolError):
            protocol.digest_bytes(wrong)
