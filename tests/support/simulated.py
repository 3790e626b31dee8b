"""A simulated device that a real adb client and server talk to."""

from __future__ import annotations

import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from whisper_parity.backends.dla.link.adb import Adb, Completed
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.fault import LinkFault

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
        command = [str(self.adb.binary), "-P", str(self.adb.port), "-s", self.device.serial, *words]
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
def bench_of(server: Adb, *faults: LinkFault, connect: bool = True, **settings: object) -> Iterator[Bench]:
    """A simulated device with faults and settings, connected to the server unless told otherwise."""
    with SimulatedDevice(faults=faults, **settings) as device:
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
