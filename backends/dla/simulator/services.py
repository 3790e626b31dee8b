"""The services of the simulated adbd other than sync: shell, exec, sockets, reboot."""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from whisper_parity.backends.dla.simulator.fault import IN_RUN, Kind, LinkFault
from whisper_parity.backends.dla.simulator.machine import Machine
from whisper_parity.backends.dla.simulator.streams import Stream, StreamClosed, StreamReader
from whisper_parity.backends.dla.simulator.sync import SyncService

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
"""Packets of shell v2; all others are ignored, such as 5, the window size."""
SHELL_PACKET = struct.Struct("<BI")
MAX_SHELL_PACKET = 1 << 20
CHUNK = 1 << 16
EXEC_LINGER_S = 2.0
"""`adb exec-in` hangs up after sending everything, so the command may finish its input first."""
CONNECT_LIMIT_S = 5.0
REBOOT_S = 0.5


class Services:
    """Runs the services that the host opens."""

    def __init__(self, machine: Machine, strike: Callable[[LinkFault], None]) -> None:
        self.machine = machine
        self._strike = strike

    def run(self, stream: Stream) -> None:
        """Serve one stream until it ends."""
        self.machine.log.append(stream.service)
        try:
            self._dispatch(stream)
        except StreamClosed:
            pass
        finally:
            stream.close()

    def _dispatch(self, stream: Stream) -> None:
        kind, _, rest = stream.service.partition(":")
        name, *arguments = kind.split(",")
        if name in ("shell", "exec"):
            self._command(stream, rest, framed="v2" in arguments, linger_s=EXEC_LINGER_S if name == "exec" else 0.0)
        elif name == "sync":
            stream.accept()
            SyncService(stream, self.machine, self._strike).serve()
        elif name in ("localabstract", "tcp"):
            self._socket(stream, name, rest)
        elif name == "reboot":
            stream.accept()
            self._strike(LinkFault(Kind.REBOOT, after_s=REBOOT_S))
        else:
            stream.refuse()

    def _watch(self, stream: Stream) -> None:
        """Let a fault of a run strike this stream, at most once."""
        lock, faults = threading.Lock(), self.machine.faults

        def check() -> None:
            with lock:
                fault = faults.take(IN_RUN, stream.service, stream.carried) if stream.observe is check else None
                if fault:
                    stream.observe = lambda: None
            if fault:
                self._strike(fault)

        stream.observe = check
        stream.accept()
        check()

    def _command(self, stream: Stream, command: str, *, framed: bool, linger_s: float) -> None:
        try:
            process = self.machine.start(command, merged=not framed)
        except (OSError, ValueError):
            stream.refuse()
            return
        run = Command(process, stream, framed=framed)
        try:
            self._watch(stream)
            run.feed()
            run.copy_output()
            code = run.wait()
            self.machine.ended(process)
            run.report(code)
        except StreamClosed:
            run.linger(linger_s)
            self.machine.hang_up(process)
            self.machine.ended(process)
        finally:
            run.close()

    def _socket(self, stream: Stream, kind: str, address: str) -> None:
        try:
            connection = _connect(kind, address)
        except (OSError, ValueError, OverflowError):
            stream.refuse()
            return
        with connection:
            stream.when_closed(lambda: _shut(connection))
            self._watch(stream)
            sender = threading.Thread(target=_forward_to_socket, args=(stream, connection), daemon=True)
            sender.start()
            self._forward_to_host(stream, connection)
            stream.close()
            sender.join()

    def _forward_to_host(self, stream: Stream, connection: socket.socket) -> None:
        sent, garbage = 0, None
        with suppress(OSError, StreamClosed):
            while data := connection.recv(CHUNK):
                garbage = garbage or self.machine.faults.take([Kind.GARBAGE], stream.service, sent + len(data))
                if garbage:
                    real = data[: max(0, garbage.after_bytes - sent)]
                    data = real + random.Random(sent).randbytes(len(data) - len(real))  # noqa: S311 - noise, not a key
                stream.write(data)
                sent += len(data)


class Command:
    """A process with its input, output and exit code on a stream."""

    def __init__(self, process: subprocess.Popen[bytes], stream: Stream, *, framed: bool) -> None:
        """Connect the two. `framed` is shell v2; without it, stdout and stderr merge and the exit code is lost."""
        self._process = process
        self._stream = stream
        self._framed = framed
        self._done = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._hung_up, self._hanging_up = socket.socketpair()
        """`_hung_up` becomes readable when the host hangs up; polled together with the pipes."""
        stream.when_closed(lambda: _shut(self._hanging_up))

    def feed(self) -> None:
        """Start copying the host's bytes to the command."""
        self._feeder.start()

    def copy_output(self) -> None:
        """Copy the command's output until every process that holds it has closed it.

        Raises:
            StreamClosed: the host hung up.
        """
        outputs = ((self._process.stdout, STDOUT), (self._process.stderr, STDERR))
        pipes = {pipe.fileno(): number for pipe, number in outputs if pipe}
        poller = select.poll()
        for descriptor in (*pipes, self._hung_up.fileno()):
            poller.register(descriptor, select.POLLIN)
        while pipes:
            for descriptor, _ in poller.poll():
                if descriptor == self._hung_up.fileno():
                    raise StreamClosed(self._stream.service)
                if data := os.read(descriptor, CHUNK):
                    self._stream.write(self._packed(pipes[descriptor], data))
                else:
                    poller.unregister(descriptor)
                    del pipes[descriptor]

    def wait(self) -> int:
        """Wait for the command to end; return its exit code, 128 + n after signal n.

        Raises:
            StreamClosed: the host hung up first.
        """
        poller, pause_ms = select.poll(), 1
        poller.register(self._hung_up.fileno(), select.POLLIN)
        while (code := self._process.poll()) is None:
            if poller.poll(pause_ms):
                raise StreamClosed(self._stream.service)
            pause_ms = min(2 * pause_ms, 50)
        return code if code >= 0 else 128 - code

    def report(self, code: int) -> None:
        """Send the exit code, which only shell v2 can carry."""
        if self._framed:
            self._stream.write(self._packed(EXIT, bytes([code])))

    def linger(self, seconds: float) -> None:
        """After the host hung up, let the command finish the input it was sent."""
        deadline = time.monotonic() + (seconds if self._stream.has_input else 0.0)
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)

    def close(self) -> None:
        """Hang up and close every pipe; the process has ended."""
        self._stream.close()
        self._done.set()
        if self._feeder.ident:
            self._feeder.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        self._hung_up.close()
        self._hanging_up.close()

    def _packed(self, number: int, data: bytes) -> bytes:
        return SHELL_PACKET.pack(number, len(data)) + data if self._framed else data

    def _feed(self) -> None:
        """Keep reading after the end of the input, to notice when the host hangs up."""
        with suppress(StreamClosed):
            self._feed_packets() if self._framed else self._feed_raw()
        self._close_stdin()

    def _feed_raw(self) -> None:
        while data := self._stream.read():
            self._write(data)

    def _feed_packets(self) -> None:
        reader = StreamReader(self._stream)
        while True:
            number, size = SHELL_PACKET.unpack(reader.exactly(SHELL_PACKET.size))
            if size > MAX_SHELL_PACKET:
                self._stream.close()
                return
            data = reader.exactly(size)
            if number == STDIN:
                self._write(data)
            elif number == CLOSE_STDIN:
                self._close_stdin()

    def _close_stdin(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()

    def _write(self, data: bytes) -> None:
        """Write to the command, unless it closed its stdin, or ended while a child still holds the pipe."""
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            return
        os.set_blocking(pipe.fileno(), False)
        poller = select.poll()
        poller.register(pipe.fileno(), select.POLLOUT)
        view = memoryview(data)
        try:
            while view and not self._done.is_set():
                if poller.poll(100):
                    view = view[os.write(pipe.fileno(), view) :]
        except BrokenPipeError:
            self._close_stdin()


def _connect(kind: str, address: str) -> socket.socket:
    """Connect to a program of the host.

    Raises:
        OSError: nothing listens.
        ValueError: no such address, or one that is not on the loopback.
    """
    if kind == "tcp":
        connection = socket.create_connection(("127.0.0.1", int(address)), timeout=CONNECT_LIMIT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_LIMIT_S)
            connection.connect(b"\0" + os.fsencode(address))
        except OSError:
            connection.close()
            raise
    connection.settimeout(None)
    return connection


def _forward_to_socket(stream: Stream, connection: socket.socket) -> None:
    with suppress(OSError):
        while data := stream.read():
            connection.sendall(data)
    _shut(connection)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
