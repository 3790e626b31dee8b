"""A simulated device that a real adb client and server talk to."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.link.adb import Adb, Completed
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.fault import LinkFault
from whisper_parity.backends.dla.simulator.outfit import keys_of

LIMIT_S = 15.0
NOISE = bytes(range(256)) * 256


@dataclass(frozen=True)
class Bench:
    """A simulated device that a real adb server is connected to."""

    adb: Adb
    device: SimulatedDevice

    def run(self, *words: str, stdin: bytes | None = None) -> Completed:
        return self.adb.run("-s", self.device.serial, *words, limit_s=LIMIT_S, stdin=stdin)

    def started(self, *words: str) -> subprocess.Popen[bytes]:
        command = [*self.adb.command, "-s", self.device.serial, *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def reconnect(self) -> Completed:
        self.adb.run("disconnect", self.device.serial, limit_s=LIMIT_S)
        return self.adb.run("connect", self.device.serial, limit_s=LIMIT_S)

    def back(self) -> bool:
        return until(lambda: "connected to" in self.reconnect().out.decode() and self.run("get-state").code == 0)

    def state(self) -> str:
        return next((each.state for each in self.adb.devices() if each.serial == self.device.serial), "absent")

    def remote(self, name: str = "file") -> str:
        return f"{self.device.work_folder}/{name}"


def until(holds: Callable[[], object], limit_s: float = 5.0) -> bool:
    """Wait for a condition; whether it came true in time."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def users_server(home: Path) -> Iterator[Adb]:
    """A server as a user has one: on a port, with a key in its HOME."""
    binary = adb.find(os.environ.get("ADB"))
    key = adb.new_key(binary, home / ".android").with_suffix(".pub")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"HOME": str(home), "ADB_MDNS": "0", "ADB_EMU": "0", "ADB_USB": "0"}
    environment["ANDROID_ADB_LOG_PATH"] = str(home / "adb.log")
    server = Adb(binary, f"tcp:{port}", environment, key)
    process = subprocess.Popen(
        [*server.command, "nodaemon", "server"], env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert until(lambda: adb.answers(server.address), LIMIT_S)
        yield server
    finally:
        server.run("kill-server", limit_s=LIMIT_S)
        process.wait(LIMIT_S)


@contextmanager
def bench_of(server: Adb, *faults: LinkFault, connect: bool = True, **settings: object) -> Iterator[Bench]:
    """A simulated device with faults and settings, connected to the server unless told otherwise."""
    with SimulatedDevice(**{"faults": faults, "keys": keys_of(server), **settings}) as device:
        bench = Bench(server, device)
        if connect:
            assert bench.back()
        yield bench
        server.run("disconnect", device.serial, limit_s=LIMIT_S)


@contextmanager
def echo(family: socket.AddressFamily) -> Iterator[str]:
    """A service that gives everything back, to one client; the name of its adb service."""
    name = f"parity-echo-{secrets.token_hex(8)}"
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0{name}" if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                while data := client.recv(1 << 16):
                    client.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"localabstract:{name}" if family == socket.AF_UNIX else f"tcp:{listener.getsockname()[1]}"
        thread.join(LIMIT_S)
        assert not thread.is_alive(), "the service never saw the host hang up"
