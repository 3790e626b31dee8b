"""A simulated device lets nobody in but who holds a key that it accepts, by a signature of a fresh token."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.adbhost import HELLO, PUBLIC_KEY, TOKEN, Host, answer, signed
from tests.support.simulated import LIMIT_S, Bench
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.link.adb import Adb
from whisper_parity.backends.dla.simulator import auth
from whisper_parity.backends.dla.simulator.adbd import MAX_SIGNATURES, MAX_TRANSPORTS
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.outfit import keys_of
from whisper_parity.backends.dla.simulator.packet import AUTH, OPEN, pack
from whisper_parity.errors import InputError

LISTENING = "0A"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key of somebody else."""
    return adb.new_key(adb.find(None), tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def host(adb_server: Adb) -> Host:
    """Who holds the key of the server."""
    return Host.of(adb_server.key.with_suffix(""))


@contextmanager
def greeted(device: SimulatedDevice) -> Iterator[tuple[socket.socket, bytes]]:
    """A connection that was asked to sign a token."""
    name, _, port = device.serial.partition(":")
    with socket.create_connection((name, int(port)), timeout=5) as opened:
        opened.sendall(HELLO)
        kind, argument, token = answer(opened)
        assert (kind, argument) == (b"AUTH", TOKEN)
        yield opened, token


def test_a_server_with_another_key_is_unauthorized_and_gets_nothing(bench: Bench, tmp_path: Path):
    """No command runs, no file is read or written, no service is even asked for; the right server goes on."""
    (bench.device.work_folder / "secret").write_text("secret")
    before = bench.device.log
    with adb.private_server(bench.adb.binary, usb=False) as other:
        refused = Bench(other, bench.device)
        assert "failed to authenticate" in refused.reconnect().out.decode()
        assert refused.state() == "unauthorized"
        for words in (
            ("shell", "touch", bench.remote("pwned")),
            ("exec-out", "id"),
            ("pull", bench.remote("secret"), str(tmp_path / "got")),
            ("push", __file__, bench.remote("pwned")),
            ("reboot",),
        ):
            found = refused.run(*words)
            assert (found.code != 0, "unauthorized" in f"{found.out!r}{found.err}") == (True, True)
    assert bench.device.log == before
    assert (list(bench.device.work_folder.rglob("pwned")), (tmp_path / "got").exists()) == ([], False)
    assert bench.run("shell", "cat", bench.remote("secret")).out == b"secret"


def test_a_device_without_keys_lets_nobody_in(adb_server: Adb, host: Host):
    """That is what it is unless told otherwise."""
    with SimulatedDevice() as device, greeted(device) as (opened, token):
        opened.sendall(signed(host.signature(token)))
        assert answer(opened)[:2] == (b"AUTH", TOKEN)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_signature_opens_once(adb_server: Adb, host: Host, legacy: bool):
    """The same one fails on the same connection and on another: each attempt has a token of its own."""
    with SimulatedDevice(keys=keys_of(adb_server), legacy=legacy) as device:
        with greeted(device) as (opened, token):
            recorded = host.signature(token)
            opened.sendall(signed(bytes(256)))
            assert answer(opened)[:2] == (b"AUTH", TOKEN)
            opened.sendall(signed(recorded))
            kind, _, third = answer(opened)
            assert kind == b"AUTH"
            opened.sendall(signed(host.signature(third)))
            assert answer(opened)[0] == b"CNXN"
        with greeted(device) as (opened, _):
            opened.sendall(signed(recorded))
            assert answer(opened)[0] == b"AUTH"


def test_a_public_key_is_never_accepted(adb_server: Adb, stranger: Path):
    """The host offers its own and waits; nobody is there to press a button, and nothing opens."""
    with SimulatedDevice(keys=keys_of(adb_server)) as device, greeted(device) as (opened, _):
        offered = stranger.with_suffix(".pub").read_bytes() + b"\0"
        opened.sendall(pack(AUTH, PUBLIC_KEY, 0, offered, summed=True))
        opened.sendall(pack(OPEN, 7, 0, b"shell:touch pwned\0", summed=True))
        assert answer(opened)[0] == b""
        assert device.log == ()


def test_guesses_are_counted_and_their_tokens_differ(adb_server: Adb, stranger: Path):
    """A connection has so many, then it is cut."""
    tokens, other = [], Host.of(stranger)
    with SimulatedDevice(keys=keys_of(adb_server)) as device, greeted(device) as (opened, token):
        while token:
            tokens.append(token)
            opened.sendall(signed(other.signature(token)))
            kind, _, token = answer(opened)
            assert kind in (b"AUTH", b"")
    assert len(set(tokens)) == len(tokens) == MAX_SIGNATURES


def test_strangers_do_not_take_all_places(adb_server: Adb, host: Host):
    """As many as there are, and more; who holds the key still gets in, and stays."""
    with SimulatedDevice(keys=keys_of(adb_server)) as device, ExitStack() as stack:
        inside, token = stack.enter_context(greeted(device))
        inside.sendall(signed(host.signature(token)))
        assert answer(inside)[0] == b"CNXN"
        for _ in range(2 * MAX_TRANSPORTS):
            stack.enter_context(greeted(device))
        opened, token = stack.enter_context(greeted(device))
        opened.sendall(signed(host.signature(token)))
        assert answer(opened)[0] == b"CNXN"
        inside.sendall(pack(OPEN, 7, 0, b"shell:true\0", summed=False))
        assert answer(inside)[0] == b"OKAY"


def test_a_signature_is_compared_whole(adb_server: Adb, host: Host):
    """Wrong padding, another digest, another length, a number beyond the modulus: each is refused."""
    (key,), token = keys_of(adb_server), bytes(range(20))
    right = host.signature(token)
    assert key.verifies(right, token)
    assert not key.verifies(right, token[::-1])
    assert not key.verifies(right[1:], token)
    assert not key.verifies(b"\0" + right, token)
    assert not key.verifies((int.from_bytes(right, "big") + key.modulus).to_bytes(257, "big")[-256:], token)
    info = bytes.fromhex("3021300906052b0e03021a05000414") + token
    for block in (
        b"\0\1\xff\0" + info + bytes(252 - len(info)),  # the digest in front, room for anything behind
        b"\0\1" + b"\xff" * 252 + b"\0" + token[:1],
        b"\0\2" + b"\xff" * (253 - len(info)) + b"\0" + info,
        b"\0\1" + b"\xff" * (253 - len(info)) + b"\0" + info.replace(b"\x2b\x0e", b"\x2b\x0f"),
    ):
        forged = pow(int.from_bytes(block, "big"), host.exponent, host.modulus).to_bytes(256, "big")
        assert not key.verifies(forged, token)


def test_a_damaged_key_is_one_line(stranger: Path, tmp_path: Path):
    """Nothing but a whole key is accepted from a file."""
    text = stranger.with_suffix(".pub").read_text()
    damaged = tmp_path / "adbkey.pub"
    for content in (
        "",
        "no base64",
        text[:400],
        "A" * 4 + text[4:],
        text[:20] + "A" * 20 + text[40:],
        text[:690] + "A",
    ):
        damaged.write_text(content)
        with pytest.raises(InputError, match="expected an adb public key of 2048 bits, found"):
            auth.read(damaged)
    damaged.write_text(text)
    assert auth.read(damaged).modulus == Host.of(stranger).modulus


def test_a_server_of_our_own_is_reached_by_its_user_alone(adb_server: Adb):
    """No port, which every user of the machine could reach; a socket and a key in a folder for its user."""
    address = Path(adb_server.address.partition(":")[2])
    assert (address.is_socket(), address.parent.stat().st_mode & 0o777) == (True, 0o700)
    assert adb_server.key.with_suffix("").stat().st_mode & 0o777 == 0o600
    (pid,) = (path.name for path in Path("/proc").glob("[0-9]*") if adb_server.address in command_of(path))
    held = {str(link.readlink()) for link in Path("/proc", pid, "fd").iterdir()}
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    assert held
    assert not [row for row in rows if row[3] == LISTENING and f"socket:[{row[9]}]" in held]
    assert adb_server.run("version", limit_s=LIMIT_S).code == 0


def command_of(process: Path) -> str:
    """Command line of a process; "" when it is gone."""
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
