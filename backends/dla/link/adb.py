"""The adb client and its server, which is started when none runs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.backends.dla.link import faults
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.errors import ConfigError, UnavailableError, first_line

DEFAULT_PORT = 5037
NO_PERMISSIONS = "no permissions"
START_LIMIT_S = 15.0
CONNECT_S = 20.0
"""adb itself gives up on a device that does not answer after 10 s."""
SOCKET_FOLDER_BYTES = 70
"""Longest folder of a socket's folder: the system takes names of 108 bytes, 104 on some."""
SHORT_S = 10.0
"""Time limit of a request to the adb server itself."""

_QUIET = {"ADB_MDNS": "0", "ADB_EMU": "0"}
"""adb 36 opens mDNS on all interfaces and takes TCP ports near 5555 for emulators unless told not to."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Exit code and output of an adb command."""

    code: int
    out: bytes
    err: str

    @property
    def message(self) -> str:
        """The line that explains a failure."""
        lines = [line.strip() for line in f"{self.out.decode(errors='replace')}\n{self.err}".splitlines()]
        informative = [line for line in lines if line and not line.startswith("*")]
        errors = [line for line in informative if "error" in line.lower() or "fail" in line.lower()]
        last = (errors or informative or [f"exit code {self.code}, no reason given"])[-1]
        return last.removeprefix("adb: ").removeprefix("error: ")


@dataclass(frozen=True, slots=True)
class Attached:
    """One line of `adb devices -l`."""

    serial: str
    state: str
    """"device", "unauthorized", "offline", ..."""
    details: str


@dataclass(frozen=True)
class Adb:
    """An adb client, bound to one server."""

    binary: Path
    address: str = f"tcp:{DEFAULT_PORT}"
    """Where the server listens, as adb writes it: "tcp:5037" or "localfilesystem:/a/path"."""
    environment: Mapping[str, str] | None = None
    """Variables added for the client; None to add none."""
    key: Path | None = None
    """Public key by which devices know a server of our own; None for the user's keys."""

    @property
    def command(self) -> tuple[str, ...]:
        """The client, told which server to use."""
        return (str(self.binary), "-L", self.address)

    def run(self, *words: str, limit_s: float, stdin: bytes | None = None) -> Completed:
        """Run one command; kill the client at the time limit.

        Raises:
            DeviceError: HANG, at the time limit.
        """
        try:
            process = subprocess.run(
                [*self.command, *words],
                input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True,
                timeout=limit_s, env={**os.environ, **_QUIET, **(self.environment or {})}, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise DeviceError(Fault.HANG, "", f"adb {words[0]} took more than {limit_s:.0f} s") from error
        except OSError as error:
            raise UnavailableError(f"{self.binary}: cannot be run ({first_line(error)})") from error
        return Completed(process.returncode, process.stdout, process.stderr.decode(errors="replace"))

    def devices(self) -> tuple[Attached, ...]:
        """The devices that the server sees.

        Raises:
            DeviceError: ADB_SERVER, when it does not answer.
        """
        completed = self.run("devices", "-l", limit_s=SHORT_S)
        if completed.code:
            raise DeviceError(Fault.ADB_SERVER, "", completed.message)
        lines = completed.out.decode(errors="replace").splitlines()[1:]
        return tuple(_attached(line) for line in lines if len(line.split()) > 1)

    def connect(self, serial: str) -> None:
        """Connect to a device on the network (HOST:PORT); do nothing for one on a cable.

        adb reports "already connected" even for an offline device, so drop an old connection first.

        Raises:
            DeviceError: the device does not answer.
        """
        if not is_network(serial):
            return
        if any(attached.serial == serial and attached.state == "device" for attached in self.devices()):
            return
        self.run("disconnect", serial, limit_s=SHORT_S)
        completed = self.run("connect", serial, limit_s=CONNECT_S)
        text = completed.out.decode(errors="replace") + completed.err
        if "connected to" not in text:
            fault = faults.of_adb(text) or Fault.NO_DEVICE
            fault = Fault.NO_DEVICE if fault is Fault.UNPLUGGED else fault
            raise DeviceError(fault, serial, completed.message)

    def stream(self, serial: str, service: str, limit_s: float) -> socket.socket:
        """Open a stream to a device service ("localabstract:NAME") through the server's own socket.

        No forward and no port, so it fails at once when nothing listens.

        Raises:
            DeviceError: the server, the device or the service is missing.
        """
        try:
            connection = _connected(self.address, limit_s)
        except OSError as error:
            raise DeviceError(Fault.ADB_SERVER, serial, first_line(error)) from error
        try:
            for request in (f"host:transport:{serial}", service):
                _request_checked(connection, request, serial)
        except BaseException:
            connection.close()
            raise
        return connection


def _attached(line: str) -> Attached:
    """Parse a line of `adb devices -l`; one of the states is two words."""
    serial, rest = line.split(None, 1)
    if rest.startswith(NO_PERMISSIONS):
        return Attached(serial, NO_PERMISSIONS, rest.removeprefix(NO_PERMISSIONS).strip())
    state, _, details = rest.partition(" ")
    return Attached(serial, state, details.strip())


def is_network(serial: str) -> bool:
    """Whether a serial names a host and a port."""
    host, _, port = serial.rpartition(":")
    return bool(host) and port.isdigit()


def find(configured: str | None) -> Path:
    """Find the adb client: the configured one, else the one on PATH, else the one in the adbutils package.

    Raises:
        UnavailableError: no client.
    """
    if configured:
        if path := shutil.which(configured):
            return Path(path).absolute()
        raise UnavailableError(f"adb {configured}: no such program", hint="Check adb under [backends.dla], or ADB")
    if on_path := shutil.which("adb"):
        return Path(on_path)
    spec = importlib.util.find_spec("adbutils")
    folder = Path(spec.origin).parent / "binaries" if spec and spec.origin else None
    names = ("adb", "adb.exe")
    if folder and (bundled := [folder / name for name in names if (folder / name).is_file()]):
        return bundled[0]
    raise UnavailableError(
        "no adb client", hint="Run `pip install 'whisper-parity[device]'`, which includes one, or set ADB"
    )


@contextmanager
def server(binary: Path, serials: Sequence[str]) -> Iterator[Adb]:
    """A client with a running server: the user's if there is one, else a private one, stopped afterwards.

    Args:
        binary: the adb client.
        serials: the devices to use; empty when not yet known.

    Raises:
        DeviceError: ADB_SERVER, when it does not start.
    """
    users = f"tcp:{_configured_port()}"
    if answers(users):
        yield Adb(binary, users)
        return
    networked = bool(serials) and all(map(is_network, serials))
    with private_server(binary, usb=not networked) as adb:
        yield adb


@contextmanager
def private_server(binary: Path, *, usb: bool) -> Iterator[Adb]:
    """Start a server of our own, and stop it afterwards.

    It listens on a socket in a folder that only its user may enter: whoever reaches a server has all its devices, and a
    port is reached by every user of the machine.

    With `usb` it keeps the user's HOME, because USB devices trust the key stored there; a server for network devices
    gets a temporary HOME with a key of its own, and leaves USB alone.

    Raises:
        DeviceError: ADB_SERVER, when it does not start.
    """
    with _private_folder() as folder:
        address = f"localfilesystem:{folder}/adb.sock"
        overrides = {**_QUIET, "ANDROID_ADB_LOG_PATH": f"{folder}/adb.log"}
        overrides |= {} if usb else {"HOME": str(folder), "ADB_USB": "0"}
        adb = Adb(binary, address, overrides, None if usb else new_key(binary, folder / ".android").with_suffix(".pub"))
        process = subprocess.Popen(
            [*adb.command, "nodaemon", "server"], env={**os.environ, **overrides},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not reach it before the device locks are released
        )  # fmt: skip
        try:
            _wait_for(address, process)
            yield adb
        finally:
            if process.poll() is not None:  # killed from outside; a client may have started a replacement
                adb.run("kill-server", limit_s=SHORT_S)
            process.terminate()
            try:
                process.wait(SHORT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def new_key(binary: Path, folder: Path) -> Path:
    """Let adb make a key pair, "adbkey" and "adbkey.pub", in place of an old one; only its user can read it.

    Returns:
        The private key.

    Raises:
        DeviceError: ADB_SERVER, when adb makes none.
    """
    folder.mkdir(0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adbkey-", dir=folder) as made:  # adb would write through a link
        completed = Adb(binary).run("keygen", f"{made}/adbkey", limit_s=SHORT_S)
        if completed.code:
            raise DeviceError(Fault.ADB_SERVER, "", f"adb keygen: {completed.message}")
        for name in ("adbkey.pub", "adbkey"):
            file = Path(made, name)
            file.chmod(0o600)
            file.replace(folder / name)
    return folder / "adbkey"


def answers(address: str) -> bool:
    """Whether an adb server listens there."""
    try:
        with _connected(address, 1) as connection:
            return _request(connection, "host:version")[:4] == b"OKAY"
    except OSError:
        return False


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A temporary folder that only its user may enter, where TMPDIR is short enough for the name of a socket."""
    place = tempfile.gettempdir()
    place = place if len(os.fsencode(place)) <= SOCKET_FOLDER_BYTES else "/tmp"  # noqa: S108 - mkdtemp makes it 0700
    with tempfile.TemporaryDirectory(prefix="parity-adb-", dir=place) as folder:
        yield Path(folder)


def _connected(address: str, limit_s: float) -> socket.socket:
    """A connection to an adb server.

    Raises:
        OSError: none listens there.
    """
    kind, _, place = address.partition(":")
    if kind == "tcp":
        connection = socket.create_connection(("127.0.0.1", int(place)), timeout=limit_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(limit_s)
        connection.connect(place)
    except OSError:
        connection.close()
        raise
    return connection


def _configured_port() -> int:
    text = os.environ.get("ANDROID_ADB_SERVER_PORT") or str(DEFAULT_PORT)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigError(f"ANDROID_ADB_SERVER_PORT is {text!r}: expected a port from 1 to 65535")
    return int(text)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not answers(address):
        if process.poll() is not None or time.monotonic() > deadline:
            raise DeviceError(Fault.ADB_SERVER, "", f"our own adb server did not start (exit code {process.poll()})")
        time.sleep(0.02)


def _request(connection: socket.socket, request: str) -> bytes:
    """Send a request to the server; return its 4-byte status, or fewer bytes when it hangs up."""
    connection.sendall(f"{len(request.encode()):04x}{request}".encode())
    return exactly(connection, 4)


def _request_checked(connection: socket.socket, request: str, serial: str) -> None:
    try:
        answer = _request(connection, request)
        if answer == b"OKAY":
            return
        size = exactly(connection, 4) if answer == b"FAIL" else b""
        reason = exactly(connection, int(size, 16)).decode(errors="replace") if size else "closed"
    except (OSError, ValueError) as error:
        raise DeviceError(Fault.UNPLUGGED, serial, first_line(error)) from error
    fault = faults.of_adb(reason) or Fault.UNPLUGGED
    if not request.startswith("host:") and fault is Fault.UNPLUGGED:
        fault = Fault.LOST_RUNNER
    raise DeviceError(fault, serial, f"{request}: {reason}")


def exactly(connection: socket.socket, size: int, deadline: float | None = None) -> bytes:
    """Read `size` bytes, until `deadline` (monotonic) at most; fewer when the other side hangs up.

    Raises:
        TimeoutError: the deadline has passed.
    """
    received = bytearray()
    while len(received) < size:
        if deadline is not None:
            connection.settimeout(max(deadline - time.monotonic(), 1e-3))
        chunk = connection.recv(min(size - len(received), 1 << 20))
        if not chunk:
            break
        received += chunk
    return bytes(received)
