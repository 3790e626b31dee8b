"""Bytes that are not adb close the connection to a simulated device, which serves on."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from tests.support.simulated import until
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.packet import CNXN, HEADER, OPEN, VERSION_SKIP_CHECKSUMS, WRTE, pack

HELLO = pack(CNXN, VERSION_SKIP_CHECKSUMS, 1 << 20, b"host::features=shell_v2", summed=True)


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
    "second CNXN": HELLO + HELLO,
    "huge OPEN": HELLO + header(OPEN, 0x7FFFFFFF),
}


def address(device: SimulatedDevice) -> tuple[str, int]:
    host, _, port = device.serial.partition(":")
    return host, int(port)


def closes(device: SimulatedDevice, sent: bytes, *, hang_up: bool = False) -> bool:
    """Send bytes; whether the device closes the connection within five seconds."""
    with socket.create_connection(address(device), timeout=5) as opened:
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


def greets(device: SimulatedDevice, after_s: float = 0.0) -> bool:
    """Whether the device answers a host that is as it should be."""
    with socket.create_connection(address(device), timeout=5) as opened:
        time.sleep(after_s)
        opened.sendall(HELLO)
        return adb.exactly(opened, HEADER.size)[:4] == b"CNXN"


@pytest.mark.parametrize("name", WRONG)
def test_bytes_that_are_not_adb_close_the_connection(name):
    """At once, without waiting for more, and the next host is served."""
    with SimulatedDevice() as device:
        assert closes(device, WRONG[name])
        assert greets(device)


def test_a_message_that_stops_closes_the_connection(monkeypatch):
    """At every length, whether the host hangs up or just goes silent; silence between messages is fine."""
    monkeypatch.setattr("whisper_parity.backends.dla.simulator.device.STALL_S", 0.3)
    with SimulatedDevice() as device:
        for length in (*range(1, len(HELLO), 7), len(HELLO) - 1):
            assert closes(device, HELLO[:length], hang_up=True)
        assert closes(device, HELLO[:10])
        assert closes(device, HELLO[:-1])
        assert greets(device, after_s=0.6)


def test_mutated_messages_never_hang_the_device():
    """Each byte of a conversation flipped in turn: answered or closed, and it serves on."""
    talk = HELLO + pack(OPEN, 1, 0, b"shell,v2,raw:true\0", summed=False)
    with SimulatedDevice() as device:
        for place in range(len(talk)):
            mutated = bytearray(talk)
            mutated[place] ^= 1 << (place % 8)
            assert closes(device, bytes(mutated), hang_up=True)
        assert greets(device)
        assert until(lambda: not device.processes)


@pytest.mark.parametrize(
    "request_", [b"SEND" + b"\xff" * 4, b"DATA\x04\0\0\0abcd", b"SND2\x01\0\0\0x", b"STAT\x01\x04\0\0"]
)
def test_sync_requests_that_are_none_end_the_stream(request_):
    """The device answers FAIL, then CLSE; no length makes it allocate memory."""
    with SimulatedDevice() as device, socket.create_connection(address(device), timeout=5) as opened:
        opened.sendall(HELLO + pack(OPEN, 7, 0, b"sync:\0", summed=False))
        commands = []
        while not commands or commands[-1] != b"CLSE":
            head = adb.exactly(opened, HEADER.size)
            payload = adb.exactly(opened, struct.unpack_from("<I", head, 12)[0])
            commands.append(head[:4])
            if commands[-1] == b"OKAY" and b"WRTE" not in commands:
                opened.sendall(pack(WRTE, 7, 1, request_, summed=False)) if commands.count(b"OKAY") == 1 else None
            if commands[-1] == b"WRTE":
                assert payload[:4] == b"FAIL"
        assert b"WRTE" in commands


def test_what_nobody_reads_is_kept_up_to_a_limit():
    """A host that never waits for an acknowledgement is cut off, whatever it sends."""
    with SimulatedDevice() as device:
        flood = pack(WRTE, 7, 1, bytes(1 << 20), summed=False) * 40
        assert closes(device, HELLO + pack(OPEN, 7, 0, b"shell:sleep 97\0", summed=False) + flood)
        assert greets(device)
