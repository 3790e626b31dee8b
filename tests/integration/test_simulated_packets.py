"""Bytes that are not adb close the connection to a simulated device, which serves on."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.adbhost import HELLO, Host, answer
from tests.support.simulated import until
from whisper_parity.backends.dla.link.adb import Adb
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.outfit import keys_of
from whisper_parity.backends.dla.simulator.packet import AUTH, CNXN, HEADER, OPEN, WRTE, pack


def header(command: int, size: int, magic: int | None = None) -> bytes:
    return HEADER.pack(command, 1, 0, size, 0, command ^ 0xFFFFFFFF if magic is None else magic)


WRONG = {
    "not adb at all": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "random": bytes(range(100, 200)),
    "wrong magic": header(CNXN, 0, magic=5),
    "unknown command": header(0x12345678, 0),
    "huge length": header(CNXN, 0xFFFFFFFF),
    "a byte too long": header(CNXN, (1 << 20) + 1),
    "wrong checksum": header(CNXN, 4) + b"host",
    "OPEN before CNXN": header(OPEN, 0),
    "AUTH before CNXN": header(AUTH, 0),
    "OPEN before AUTH": HELLO + pack(OPEN, 7, 0, b"shell:touch pwned\0", summed=True),
    "WRTE before AUTH": HELLO + pack(WRTE, 7, 1, b"touch pwned\n", summed=True),
    "second CNXN": HELLO + HELLO,
    "huge OPEN": HELLO + header(OPEN, 0x7FFFFFFF),
    "more than a stranger may send": HELLO + header(AUTH, 4097),
}
WRONG_INSIDE = {
    "second CNXN": HELLO,
    "AUTH again": pack(AUTH, 2, 0, bytes(256), summed=False),
    "huge OPEN": header(OPEN, 0x7FFFFFFF),
    "a byte too long": header(OPEN, (1 << 20) + 1),
    "wrong magic": header(OPEN, 0, magic=5),
}


@pytest.fixture(scope="module")
def host(adb_server: Adb) -> Host:
    """Who holds the key of the server, without being it."""
    return Host.of(adb_server.key.with_suffix(""))


@pytest.fixture
def device(adb_server: Adb) -> Iterator[SimulatedDevice]:
    """A device that lets that key in."""
    with SimulatedDevice(keys=keys_of(adb_server)) as found:
        yield found


def address(device: SimulatedDevice) -> tuple[str, int]:
    host, _, port = device.serial.partition(":")
    return host, int(port)


def closes(device: SimulatedDevice, sent: bytes, *, host: Host | None = None, hang_up: bool = False) -> bool:
    """Send bytes, as a host that was let in if one is given; whether the device hangs up within five seconds."""
    with socket.create_connection(address(device), timeout=5) as opened:
        if host:
            assert host.enter(opened) == b"CNXN"
        try:
            opened.sendall(sent)
            if hang_up:
                opened.shutdown(socket.SHUT_WR)
            while opened.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:  # closed before we had sent everything
            return True
    return True


def greets(device: SimulatedDevice, host: Host, after_s: float = 0.0) -> bool:
    """Whether the device answers a host that is as it should be."""
    with socket.create_connection(address(device), timeout=5) as opened:
        time.sleep(after_s)
        return host.enter(opened) == b"CNXN"


@pytest.mark.parametrize("name", WRONG)
def test_bytes_that_are_not_adb_close_the_connection(device: SimulatedDevice, host: Host, name: str):
    """At once, without waiting for more, and the next host is served."""
    assert closes(device, WRONG[name])
    assert greets(device, host)
    assert device.log == ()


@pytest.mark.parametrize("name", WRONG_INSIDE)
def test_a_host_that_was_let_in_is_held_to_the_protocol_too(device: SimulatedDevice, host: Host, name: str):
    """It is cut off as a stranger is."""
    assert closes(device, WRONG_INSIDE[name], host=host)
    assert greets(device, host)


def test_a_message_that_stops_closes_the_connection(adb_server: Adb, host: Host, monkeypatch):
    """At every length, whether the host hangs up or just goes silent; silence between messages is fine."""
    monkeypatch.setattr("whisper_parity.backends.dla.simulator.device.STALL_S", 0.3)
    with SimulatedDevice(keys=keys_of(adb_server)) as device:
        for length in (*range(1, len(HELLO), 7), len(HELLO) - 1):
            assert closes(device, HELLO[:length], hang_up=True)
        assert closes(device, HELLO[:10])
        assert closes(device, HELLO[:-1])
        assert greets(device, host, after_s=0.6)


def test_mutated_messages_never_hang_the_device(device: SimulatedDevice, host: Host):
    """Each byte of a conversation flipped in turn: answered or closed, and it serves on."""
    for place in range(len(HELLO)):
        assert closes(device, mutated(HELLO, place), hang_up=True)
    talk = pack(OPEN, 1, 0, b"shell,v2,raw:true\0", summed=False)
    for place in range(len(talk)):
        assert closes(device, mutated(talk, place), host=host, hang_up=True)
    assert greets(device, host)
    assert until(lambda: not device.processes)


def mutated(talk: bytes, place: int) -> bytes:
    """The same with one bit of one byte flipped."""
    return talk[:place] + bytes([talk[place] ^ 1 << (place % 8)]) + talk[place + 1 :]


@pytest.mark.parametrize(
    "request_", [b"SEND" + b"\xff" * 4, b"DATA\x04\0\0\0abcd", b"SND2\x01\0\0\0x", b"STAT\x01\x04\0\0"]
)
def test_sync_requests_that_are_none_end_the_stream(device: SimulatedDevice, host: Host, request_: bytes):
    """The device answers FAIL, then CLSE; no length makes it allocate memory."""
    with socket.create_connection(address(device), timeout=5) as opened:
        assert host.enter(opened) == b"CNXN"
        opened.sendall(pack(OPEN, 7, 0, b"sync:\0", summed=False))
        assert answer(opened)[0] == b"OKAY"
        opened.sendall(pack(WRTE, 7, 1, request_, summed=False))
        answers = [answer(opened)]
        while answers[-1][0] not in (b"CLSE", b""):
            answers.append(answer(opened))
        assert [payload[:4] for kind, _, payload in answers if kind == b"WRTE"] == [b"FAIL"]
        assert answers[-1][0] == b"CLSE"


def test_what_nobody_reads_is_kept_up_to_a_limit(device: SimulatedDevice, host: Host):
    """A host that never waits for an acknowledgement is cut off, whatever it sends."""
    flood = pack(WRTE, 7, 1, bytes(1 << 20), summed=False) * 40
    assert closes(device, pack(OPEN, 7, 0, b"shell:sleep 97\0", summed=False) + flood, host=host)
    assert greets(device, host)
