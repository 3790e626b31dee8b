"""The adb daemon of a simulated device: transports over TCP on a loopback port."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from whisper_parity.backends.dla.simulator import auth, packet
from whisper_parity.backends.dla.simulator.auth import PublicKey
from whisper_parity.backends.dla.simulator.fault import Kind, LinkFault
from whisper_parity.backends.dla.simulator.link import Link
from whisper_parity.backends.dla.simulator.machine import Machine
from whisper_parity.backends.dla.simulator.packet import AUTH, CLSE, CNXN, OKAY, OPEN, WRTE, Packet, ProtocolError
from whisper_parity.backends.dla.simulator.services import Services
from whisper_parity.backends.dla.simulator.streams import Stream

log = logging.getLogger(__name__)

FEATURES = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir"
"""Only what is implemented: a host uses delayed_ack or sendrecv_v2 if it sees them."""
STALL_S = 10.0
"""How long the host may pause within a message, in either direction."""
STOP_LIMIT_S = 10.0
MAX_TRANSPORTS = 16
MAX_STREAMS = 128
MAX_SIGNATURES = 32
"""Of one connection; a host tries each of its keys once."""
MAX_SERVICE_NAME = 256 << 10
"""Long, since a shell command is part of its service's name."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What an adbd announces about itself."""

    version: int
    max_payload: int
    features: str | None
    """None for an adbd too old to have any."""

    def banner(self, machine: Machine) -> bytes:
        """The text of CNXN."""
        name = machine.model.replace(" ", "_").replace(";", "_")
        about = f"device::ro.product.name={name};ro.product.model={machine.model};ro.product.device={name};"
        return (about if self.features is None else f"{about}features={self.features}").encode()


MODERN = Dialect(packet.VERSION_SKIP_CHECKSUMS, packet.MAX_PAYLOAD, FEATURES)
LEGACY = Dialect(packet.VERSION_CHECKSUMS, packet.LEGACY_MAX_PAYLOAD, None)
"""Like adbd 5.1: no shell_v2, checksums, messages of at most 4 KiB."""


class Transport:
    """One connection of an adb server."""

    def __init__(
        self,
        connection: socket.socket,
        dialect: Dialect,
        services: Services,
        link: Link,
        keys: Sequence[PublicKey],
    ) -> None:
        self.closed = threading.Event()
        self.max_payload = dialect.max_payload
        self._dialect = dialect
        self._connection = connection
        self._services = services
        self._link = link
        self._sending = threading.Lock()
        self._summed = True
        self._streams: dict[int, Stream] = {}
        self._streams_lock = threading.Lock()
        self._last_id = 0
        self._keys = tuple(keys)
        self._greeting: Packet | None = None
        """The host's CNXN."""
        self._token = b""
        """What the host is to sign; used once."""
        self._signatures = 0
        self.is_online = False
        """Whether the host has proved that it holds an accepted key."""
        self.threads: list[threading.Thread] = []

    def serve(self) -> None:
        """Answer the host until either side hangs up or violates the protocol."""
        try:
            while message := packet.receive(self._connection, self._longest):
                self._handle(message)
        except (ProtocolError, OSError) as error:
            log.info("transport closed: %s", error)
        finally:
            self.close()
            with self._sending:
                self._connection.close()

    def close(self) -> None:
        """Cut the connection: every stream hangs up."""
        self.closed.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with self._streams_lock:
            streams = list(self._streams.values())
            self._streams.clear()
        for stream in streams:
            stream.hang_up()

    def send(self, command: int, arg0: int, arg1: int, payload: bytes = b"") -> None:
        """Send one message; drop it once the connection is cut."""
        if command == WRTE:
            self._link.carry(len(payload), sending=True, cut=self.closed)
        data = packet.pack(command, arg0, arg1, payload, summed=self._summed)
        with self._sending:
            if self.closed.is_set():
                return
            try:
                self._connection.sendall(data)
            except OSError:
                self.closed.set()
        if self.closed.is_set():
            self.close()

    def forget(self, local_id: int) -> None:
        """Drop a stream that both sides have closed."""
        with self._streams_lock:
            self._streams.pop(local_id, None)

    @property
    def _longest(self) -> int:
        """Bytes of the longest payload that is taken, little from a stranger."""
        return self._dialect.max_payload if self.is_online else packet.LEGACY_MAX_PAYLOAD

    def _handle(self, message: Packet) -> None:
        if self._summed:
            message.check()
        if message.command == CNXN:
            self._greet(message)
        elif message.command == AUTH:
            self._authenticate(message)
        elif not self.is_online:
            raise ProtocolError("a message before authentication")
        elif message.command == OPEN:
            self._open(message)
        else:
            self._forward(message)

    def _greet(self, message: Packet) -> None:
        if self._greeting:
            raise ProtocolError("a second CNXN")
        self._greeting = message
        if not self._services.machine.faults.standing(Kind.OFFLINE):
            self._challenge()

    def _challenge(self) -> None:
        self._token = auth.new_token()
        self.send(AUTH, packet.AUTH_TOKEN, 0, self._token)

    def _authenticate(self, message: Packet) -> None:
        """Let in whoever signed the token; ignore a public key, as if nobody ever accepted it at the screen."""
        token, self._token = self._token, b""
        if self._greeting is None or self.is_online or (message.arg0 == packet.AUTH_SIGNATURE and not token):
            raise ProtocolError("an AUTH that nobody asked for")
        if message.arg0 != packet.AUTH_SIGNATURE:
            return
        if self._accepts(message.payload, token):
            self._connect(self._greeting)
            return
        self._signatures += 1
        if self._signatures >= MAX_SIGNATURES:
            raise ProtocolError("too many wrong signatures")
        self._challenge()

    def _accepts(self, signature: bytes, token: bytes) -> bool:
        keys = () if self._services.machine.faults.standing(Kind.UNAUTHORIZED) else self._keys
        return any(key.verifies(signature, token) for key in keys)

    def _connect(self, greeting: Packet) -> None:
        self.max_payload = min(self._dialect.max_payload, max(greeting.arg1, 1))
        self.is_online = True
        self.send(CNXN, self._dialect.version, self._dialect.max_payload, self._dialect.banner(self._services.machine))
        self._summed = min(self._dialect.version, greeting.arg0) < packet.VERSION_SKIP_CHECKSUMS

    def _open(self, message: Packet) -> None:
        name = message.payload.rstrip(b"\0")
        with self._streams_lock:
            refused = len(self._streams) >= MAX_STREAMS or not message.arg0 or not 0 < len(name) <= MAX_SERVICE_NAME
            if not refused:
                self._last_id += 1
                stream = Stream(self, self._last_id, message.arg0, name.decode(errors="surrogateescape"))
                self._streams[self._last_id] = stream
        if refused:
            self.send(CLSE, 0, message.arg0)
            return
        # A daemon thread, like all here: a dying test must not wait for a stream that never ends.
        thread = threading.Thread(target=self._services.run, args=(stream,), daemon=True)
        self.threads = [*(running for running in self.threads if running.is_alive()), thread]
        thread.start()

    def _forward(self, message: Packet) -> None:
        """Pass a message to its stream; ignore one for a closed stream, since it crossed our CLSE."""
        if message.command == WRTE:
            self._link.carry(len(message.payload), sending=False, cut=self.closed)
        with self._streams_lock:
            stream = self._streams.get(message.arg1)
        if stream is None:
            return
        if message.command == WRTE:
            stream.deliver(message.payload)
        elif message.command == OKAY:
            stream.acknowledge()
        else:
            stream.hang_up()


class Adbd:
    """Listens on one port while plugged in."""

    def __init__(
        self,
        machine: Machine,
        link: Link,
        dialect: Dialect = MODERN,
        *,
        keys: Sequence[PublicKey] = (),
        stall_s: float = STALL_S,
    ) -> None:
        """Reserve a port.

        Args:
            machine: what it gives access to.
            link: the cable.
            dialect: modern or legacy.
            keys: of the hosts that are let in; nobody is without one.
            stall_s: how long a host may pause within a message.
        """
        self._machine = machine
        self._keys = tuple(keys)
        self._link = link
        self._dialect = dialect
        self._stall_s = stall_s
        self._services = Services(machine, self.strike)
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._transports: dict[Transport, threading.Thread] = {}
        self._listener = _reserved(0)
        self._is_plugged_in = False
        self.port = int(self._listener.getsockname()[1])
        """The same after every `plug_in`."""

    def plug_in(self) -> None:
        """Start to listen, unless it listens already."""
        with self._lock:
            if self._is_plugged_in or self._stopped.is_set():
                return
            self._listener.listen(MAX_TRANSPORTS)
            self._is_plugged_in = True
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def unplug(self) -> None:
        """Cut every transport and refuse new ones; the port stays reserved."""
        with self._lock:
            if not self._is_plugged_in:
                return
            self._is_plugged_in = False
            _shut(self._listener)
            self._listener = _reserved(self.port)
            transports = list(self._transports)
        for transport in transports:
            transport.close()

    def away(self, back_after_s: float | None, meanwhile: Callable[[], None] | None = None) -> None:
        """Unplug, call `meanwhile`, and come back after `back_after_s`; None for never."""
        self.unplug()
        if meanwhile:
            meanwhile()
        if back_after_s is not None:
            self._later(back_after_s, self.plug_in)

    def strike(self, fault: LinkFault) -> None:
        """Inject a link fault, after its delay."""
        meanwhile = self._machine.reboot if fault.kind is Kind.REBOOT else None
        if fault.wait_s:
            self._later(fault.wait_s, lambda: self.away(fault.back_after_s, meanwhile))
        else:
            self.away(fault.back_after_s, meanwhile)

    def stop(self) -> None:
        """Unplug for good, and wait for running services to end."""
        self._stopped.set()
        self.unplug()
        self._listener.close()
        deadline = time.monotonic() + STOP_LIMIT_S
        with self._lock:
            transports = dict(self._transports)
        for transport, thread in transports.items():
            for running in (thread, *transport.threads):
                running.join(max(0.0, deadline - time.monotonic()))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        def wait() -> None:
            if not self._stopped.wait(seconds):
                action()

        threading.Thread(target=wait, daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # unplugged
                return
            connection.settimeout(self._stall_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if listener is not self._listener or not self._has_room():
                    connection.close()
                    continue
                transport = Transport(connection, self._dialect, self._services, self._link, self._keys)
                thread = threading.Thread(target=transport.serve, daemon=True)
                self._transports[transport] = thread
                thread.start()

    def _has_room(self) -> bool:
        """Whether one more may connect: strangers who prove nothing do not keep others out."""
        # Keep a transport until its services have ended, so that `stop` can wait for them.
        self._transports = {other: thread for other, thread in self._transports.items() if _is_busy(other, thread)}
        held = [other for other in self._transports if not other.closed.is_set()]
        strangers = [other for other in held if not other.is_online]
        if len(held) >= MAX_TRANSPORTS and strangers:
            strangers[0].close()
            return True
        return len(held) < MAX_TRANSPORTS


def _is_busy(transport: Transport, thread: threading.Thread) -> bool:
    return thread.is_alive() or any(service.is_alive() for service in transport.threads)


def _reserved(port: int) -> socket.socket:
    """A socket that reserves a loopback port (0: any free one) without listening, so connecting is refused."""
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", port))
    except OSError:
        reserved.close()
        raise
    return reserved


def _shut(listener: socket.socket) -> None:
    """Close a listening socket and wake the thread that accepts on it."""
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
