"""The sync service: push, pull, list and stat files, all below the root."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from whisper_parity.backends.dla.simulator.fault import Kind, LinkFault
from whisper_parity.backends.dla.simulator.machine import Machine
from whisper_parity.backends.dla.simulator.streams import Stream, StreamClosed, StreamReader

REQUEST = struct.Struct("<4sI")
STAT_V1 = struct.Struct("<4s3I")
STAT_V2 = struct.Struct("<4sI2Q4IQ3q")
MAX_PATH = 1024
MAX_DATA = 64 << 10
SIZE_V1 = 0xFFFFFFFF


class SyncError(Exception):
    """A request to be answered with FAIL."""


class SyncService:
    """One sync stream."""

    def __init__(self, stream: Stream, machine: Machine, strike: Callable[[LinkFault], None]) -> None:
        self._stream = stream
        self._reader = StreamReader(stream)
        self._machine = machine
        self._strike = strike
        self._is_done = False
        """Whether DONE was read for the current push."""
        self._time = 0
        self._requests: dict[bytes, Callable[[bytes], None]] = {
            b"STAT": self._stat_v1,
            b"STA2": lambda path: self._stat_v2(b"STA2", path, follow=True),
            b"LST2": lambda path: self._stat_v2(b"LST2", path, follow=False),
            b"LIST": self._list_v1,
            b"LIS2": self._list_v2,
            b"SEND": self._send,
            b"RECV": self._receive,
        }

    def serve(self) -> None:
        """Answer requests until the host quits, hangs up, or sends an invalid one.

        Raises:
            StreamClosed: the host hung up.
        """
        while True:
            name, size = REQUEST.unpack(self._reader.exactly(REQUEST.size))
            request = self._requests.get(name)
            if request is None or size > MAX_PATH:
                if name != b"QUIT":
                    self._fail("unknown command or path too long")
                return
            argument = self._reader.exactly(size)
            self._machine.log.append(f"sync:{name.decode()} {os.fsdecode(argument)}")
            try:
                request(argument)
            except SyncError as error:
                self._fail(str(error))

    def _fail(self, reason: str) -> None:
        text = reason.encode()
        self._stream.write(REQUEST.pack(b"FAIL", len(text)) + text)

    def _resolve(self, path: bytes, *, follow: bool) -> Path:
        """Resolve a path's links, the last one only with `follow`.

        Raises:
            PermissionError: outside the root.
            OSError, ValueError: no such path.
        """
        requested = self._machine.root / os.fsdecode(path)
        resolved = (
            Path(os.path.realpath(requested)) if follow else Path(os.path.realpath(requested.parent), requested.name)
        )
        resolved = resolved.parent.parent if resolved.name == ".." else resolved
        if resolved != self._machine.root and self._machine.root not in resolved.parents:
            raise PermissionError(errno.EACCES, "Permission denied")
        return resolved

    def _stat_v1(self, path: bytes) -> None:
        """Answer zeros for a missing or forbidden file: version 1 has no error reply."""
        mode = size = mtime = 0
        with suppress(OSError, ValueError):
            status = self._resolve(path, follow=False).lstat()
            mode, size, mtime = status.st_mode, status.st_size, int(status.st_mtime)
        self._stream.write(STAT_V1.pack(b"STAT", mode, size & SIZE_V1, mtime & SIZE_V1))

    def _stat_v2(self, name: bytes, path: bytes, *, follow: bool) -> None:
        try:
            file = self._resolve(path, follow=follow)
            self._stream.write(_packed_v2(name, file.stat() if follow else file.lstat()))
        except (OSError, ValueError) as error:
            code = error.errno if isinstance(error, OSError) and error.errno else errno.ENOENT
            self._stream.write(STAT_V2.pack(name, code, *[0] * 10))

    def _list_v1(self, path: bytes) -> None:
        for name, status in self._entries(path):
            head = STAT_V1.pack(b"DENT", status.st_mode, status.st_size & SIZE_V1, int(status.st_mtime) & SIZE_V1)
            self._stream.write(head + struct.pack("<I", len(name)) + name)
        self._stream.write(b"DONE" + bytes(16))

    def _list_v2(self, path: bytes) -> None:
        for name, status in self._entries(path):
            self._stream.write(_packed_v2(b"DNT2", status) + struct.pack("<I", len(name)) + name)
        self._stream.write(b"DONE" + bytes(72))

    def _entries(self, path: bytes) -> list[tuple[bytes, os.stat_result]]:
        """Names and stats of a folder's entries; none for a missing or forbidden folder, like adbd."""
        entries = []
        with suppress(OSError, ValueError):
            folder = self._resolve(path, follow=True)
            names = self._machine.inside.call(lambda: sorted(file.name for file in folder.iterdir()))
            for name in (".", "..", *names):
                with suppress(OSError):
                    entries.append((os.fsencode(name), (folder / name).lstat()))
        return entries

    def _send(self, argument: bytes) -> None:
        """SEND "path,mode": DATA until DONE, which carries the mtime."""
        path, _, mode_text = argument.rpartition(b",")
        target: Path | None = None
        self._is_done = False
        try:
            mode = int(mode_text)
            self._require_writable()
            target = self._resolve(path, follow=False)
            self._write_file(target, mode, os.fsdecode(path))
        except (OSError, ValueError, SyncError, StreamClosed) as error:
            if target is not None and not isinstance(error, PermissionError):
                self._remove(target)
            if isinstance(error, StreamClosed):
                raise
            self._fail(_reason(error))
            self._discard()
            return
        self._stream.write(REQUEST.pack(b"OKAY", 0))

    def _require_writable(self) -> None:
        if self._machine.faults.standing(Kind.READ_ONLY):
            raise SyncError("couldn't create file: Read-only file system")

    def _write_file(self, target: Path, mode: int, path: str) -> None:
        if stat.S_ISLNK(mode):
            self._write_link(target)
            return
        descriptor = self._machine.inside.call(lambda: _created(target))
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            mtime = self._copy_in(file, path)
            os.fchmod(descriptor, (mode & 0o777) | 0o600)
            time_s = self._machine.clock_s() if self._machine.faults.standing(Kind.WRONG_CLOCK) else mtime
            os.utime(descriptor, (time_s, time_s))

    def _write_link(self, target: Path) -> None:
        parts = []
        while (chunk := self._next_chunk()) is not None:
            parts.append(chunk)
            if sum(map(len, parts)) > MAX_PATH:
                raise SyncError("link too long")
        self._machine.inside.call(lambda: _linked(target, os.fsdecode(b"".join(parts).rstrip(b"\0"))))

    def _remove(self, target: Path) -> None:
        self._machine.inside.call(lambda: _unlink(target))

    def _copy_in(self, file: BinaryIO, path: str) -> int:
        """Write DATA until DONE; return its mtime."""
        done = 0
        while (chunk := self._next_chunk()) is not None:
            if not self._machine.accept_bytes(len(chunk)):
                raise SyncError("write failed: No space left on device")
            file.write(chunk)
            done += len(chunk)
            self._inject_fault(Kind.UNPLUG_IN_PUSH, path, done)
        self._inject_fault(Kind.UNPLUG_IN_PUSH, path, done)
        return self._time

    def _next_chunk(self) -> bytes | None:
        """The next DATA; None at DONE.

        Raises:
            SyncError: neither.
            StreamClosed: the host hung up.
        """
        name, size = REQUEST.unpack(self._reader.exactly(REQUEST.size))
        if name == b"DONE":
            self._time = size
            self._is_done = True
            return None
        if name != b"DATA" or size > MAX_DATA:
            self._fail(f"expected DATA of at most {MAX_DATA} bytes, or DONE")
            self._stream.close()
            raise StreamClosed(self._stream.service)
        return self._reader.exactly(size)

    def _discard(self) -> None:
        """Read and drop the rest of a refused file."""
        while not self._is_done and self._next_chunk() is not None:
            pass

    def _receive(self, path: bytes) -> None:
        try:
            source = self._resolve(path, follow=True)
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW  # its links are resolved
            descriptor = self._machine.inside.call(lambda: os.open(source, flags))
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise SyncError("open failed: not a file")
                self._copy_out(file, os.fsdecode(path))
        except (OSError, ValueError) as error:
            raise SyncError(_reason(error)) from error

    def _copy_out(self, file: BinaryIO, path: str) -> None:
        """Send a file, with as many chunks per message as fit."""
        buffer, done = bytearray(), 0
        while chunk := file.read(MAX_DATA):
            buffer += REQUEST.pack(b"DATA", len(chunk)) + chunk
            done += len(chunk)
            if len(buffer) + MAX_DATA + REQUEST.size > self._stream.max_payload:
                self._stream.write(bytes(buffer))
                buffer.clear()
                self._inject_fault(Kind.UNPLUG_IN_PULL, path, done)
        self._inject_fault(Kind.UNPLUG_IN_PULL, path, done)
        self._stream.write(bytes(buffer) + REQUEST.pack(b"DONE", 0))

    def _inject_fault(self, kind: Kind, path: str, done: int) -> None:
        if fault := self._machine.faults.take([kind], path, done):
            self._strike(fault)
            if not fault.wait_s:
                raise StreamClosed(self._stream.service)


def _packed_v2(name: bytes, status: os.stat_result) -> bytes:
    return STAT_V2.pack(
        name, 0, status.st_dev, status.st_ino, status.st_mode, status.st_nlink, status.st_uid, status.st_gid,
        status.st_size, int(status.st_atime), int(status.st_mtime), int(status.st_ctime),
    )  # fmt: skip


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)


def _created(target: Path) -> int:
    """Descriptor of a new file in place of an old one; its folders are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _unlink(target)
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _linked(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _unlink(target)
    target.symlink_to(text)


def _unlink(target: Path) -> None:
    """Remove the file that a push replaces; a folder stays, and the push fails."""
    with suppress(OSError):  # creating the file reports the cause
        target.unlink()
