"""The journal of a run: one line for each thing that is finished, appended, checked and never changed.

A line is JSON: `{"crc":"5f3a9c01","kind":"cell","key":["clip","stage"],"value":{...}}`, its first member the CRC-32 of
every byte behind it. Several processes append to one journal: each writes whole lines under a lock. What was appended
survives the death of the process; what was appended `GROUP` lines or `GROUP_S` seconds ago survives that of the
machine. A last line that was cut off is dropped by the next writer, so that its work is done again. A later line of a
key replaces an earlier one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TypeVar

from whisper_parity.errors import OutputError, RecordError
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import inputs, serial

T = TypeVar("T")

GROUP = 64
"""Lines that are brought to the disk at once."""
GROUP_S = 2.0
"""After so long the next line takes all before it to the disk: a machine that fails costs two seconds of work."""
LINE_BYTES = 64 * inputs.MIB
"""Limit of a line; a cell of three hours of speech has 1 MiB."""

MAX_BYTES = 1 << 40
"""Limit of a journal, which is never held in memory."""

_HEAD, _AT_CRC, _AT_BODY = b'{"crc":"', 8, 17
_BLOCK = 1 << 20

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One finished thing."""

    kind: str
    """What it is: "cell"."""
    key: Key
    """Which one: (clip, stage)."""
    value: str
    """JSON, on one line."""

    @classmethod
    def of(cls, kind: str, key: Key, value: object) -> Record:
        """The record of a dataclass."""
        return cls(kind, key, serial.line(value))

    def read(self, kind: type[T]) -> T:
        """Its value as a dataclass.

        Raises:
            RecordError: it is of another form.
        """
        return serial.loads(kind, self.value, f"{self.kind} {' '.join(self.key)} in the journal")

    def line(self) -> bytes:
        """As the journal has it."""
        head = f'"kind":{json.dumps(self.kind)},"key":{json.dumps(self.key, separators=(",", ":"))}'
        body = f',{head},"value":{self.value}}}\n'.encode()
        return b'%s%08x"%s' % (_HEAD, zlib.crc32(body), body)


@dataclass(slots=True)
class _Index:
    """Where the last line of each key lies, as far as the journal was read."""

    places: dict[tuple[str, Key], tuple[int, int]] = field(default_factory=dict)
    """By kind and key: offset and length [bytes]."""
    end: int = 0
    """Behind the last line that is whole [bytes]."""
    lines: int = 0

    def add(self, record: tuple[str, Key], length: int) -> None:
        """A line that follows."""
        self.places[record] = (self.end, length)
        self.end, self.lines = self.end + length, self.lines + 1


class Journal:
    """What a run has finished, in its folder; safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        """Read-only until something is appended; see `open` for a writer."""
        self.path = path
        self.dropped = 0
        """Bytes of a last line that was cut off, which `open` took away."""
        self._index = _Index()
        self._lock = RLock()
        self._file = -1
        self._process = 0
        self._pending, self._synced = 0, time.monotonic()

    @classmethod
    def open(cls, folder: RunFolder) -> Journal:
        """The journal of a run that is begun or goes on, without a last line that was cut off.

        Raises:
            RecordError: it is damaged before its last line.
            OutputError: the folder cannot be written.
        """
        journal = cls(folder.journal)
        with journal._writing() as file:
            journal._scan()
            journal.dropped = os.fstat(file).st_size - journal._index.end
            if journal.dropped:
                os.ftruncate(file, journal._index.end)
        return journal

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Write a record; when this returns, no end of the process loses it.

        Raises:
            OutputError: the disk is full, or the folder cannot be written; nothing half is left.
        """
        line = record.line()
        with self._writing() as file:
            start = _end_of_lines(file)
            try:
                _write(file, line)
            except OSError:
                os.ftruncate(file, start)
                raise
            if start == self._index.end:
                self._index.add((record.kind, record.key), len(line))
            self._pending += 1
            if self._pending >= GROUP or time.monotonic() - self._synced >= GROUP_S:
                self._sync(file)

    def note(self, kind: str, key: str, value: object) -> None:
        """Append a dataclass, unless that is what the journal says already.

        Raises:
            OutputError: as of `append`.
            RecordError: as of `find`.
        """
        record = Record.of(kind, (key,), value)
        if self.find(kind, key) != record:
            self.append(record)

    def records(self, kind: str = "") -> Iterator[Record]:
        """The last record of each key, read as it is asked for; of one kind, or of all for "".

        Raises:
            RecordError: the journal is damaged before its last line.
        """
        for (own, _), place in sorted(self._scanned().items(), key=lambda entry: entry[1]):
            if not kind or own == kind:
                yield self._at(place)

    def keys(self, kind: str) -> list[Key]:
        """Keys of a kind, in the order of their last records.

        Raises:
            RecordError: the journal is damaged before its last line.
        """
        places = sorted((place, key) for (own, key), place in self._scanned().items() if own == kind)
        return [key for _, key in places]

    def find(self, kind: str, *key: str) -> Record | None:
        """The last record of a key, of whichever process; None where there is none.

        Raises:
            RecordError: the journal is damaged before its last line.
        """
        place = self._scanned().get((kind, key))
        return self._at(place) if place else None

    def sync(self) -> None:
        """Bring all that was appended to the disk.

        Raises:
            OutputError: that failed.
        """
        if self._pending and self._process == os.getpid():
            with self._writing() as file:
                self._sync(file)

    def close(self) -> None:
        """Bring all to the disk, and close the file."""
        with self._lock:
            try:
                self.sync()
            finally:
                if self._file >= 0 and self._process == os.getpid():
                    os.close(self._file)
                self._file = -1

    def _sync(self, file: int) -> None:
        os.fsync(file)
        self._pending, self._synced = 0, time.monotonic()

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """The open file under its lock; opened again behind a fork, whose sides would share one lock."""
        with self._lock:
            try:
                if self._file < 0 or self._process != os.getpid():
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                    self._file, self._process, self._pending = os.open(self.path, flags, 0o644), os.getpid(), 0
                fcntl.flock(self._file, fcntl.LOCK_EX)
                try:
                    yield self._file
                finally:
                    fcntl.flock(self._file, fcntl.LOCK_UN)
            except OSError as error:
                raise OutputError(
                    f"{self.path}: cannot be written ({error.strerror})", hint="Free some space, or check permissions"
                ) from error

    def _scanned(self) -> dict[tuple[str, Key], tuple[int, int]]:
        with self._lock:
            if self.path.is_file() and self.path.stat().st_size != self._index.end:
                with self.path.open("rb") as file:
                    with suppress(OSError):  # a disk without locks; what is read is checked anyway
                        fcntl.flock(file, fcntl.LOCK_SH)
                    self._scan()
            return self._index.places

    def _scan(self) -> None:
        """Read on from where the index ends.

        Raises:
            RecordError: a line is damaged, and a whole one follows.
        """
        if inputs.require_regular(self.path, MAX_BYTES, RecordError) < self._index.end:
            self._index = _Index()  # it was cut by somebody
        index, bad = self._index, ""
        with self.path.open("rb") as file:
            file.seek(index.end)
            for number, line in enumerate(_lines(file.fileno()), index.lines + 1):
                reason, key = _checked(line)
                if reason:
                    bad = bad or f"line {number} {reason}"
                elif bad:
                    raise RecordError(f"{self.path}: {bad}, and good lines follow it", hint=_HINT)
                else:
                    index.add(key, len(line))

    def _at(self, place: tuple[int, int]) -> Record:
        offset, length = place
        with self.path.open("rb") as file:
            file.seek(offset)
            line = file.read(length)
        reason, (kind, key) = _checked(line)
        if reason:
            raise RecordError(f"{self.path}: the line at byte {offset} {reason} while it was read", hint=_HINT)
        return Record(kind, key, _value(line))


_HINT = "Delete that line: its work is done again when the run is continued, and all other lines stay"
_NO_KEY: tuple[str, Key] = ("", ())


def _lines(file: int) -> Iterator[bytes]:
    """Lines with their ends, the last one perhaps without; one of more than LINE_BYTES comes in pieces."""
    rest = b""
    while block := os.read(file, _BLOCK):
        *whole, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in whole)
        if len(rest) > LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _checked(line: bytes) -> tuple[str, tuple[str, Key]]:
    """What is wrong with a line, "" for nothing, and its kind and key."""
    if not line.endswith(b"}\n"):
        return "is cut off", _NO_KEY
    if not line.startswith(_HEAD) or line[_AT_BODY - 1 : _AT_BODY] != b'"':
        return "is no line of a journal", _NO_KEY
    if line[_AT_CRC : _AT_BODY - 1] != b"%08x" % zlib.crc32(line[_AT_BODY:]):
        return "is damaged: its checksum is another", _NO_KEY
    try:
        return "", _key(line)
    except (ValueError, KeyError, TypeError):
        return "is no line of a journal", _NO_KEY


def _key(line: bytes) -> tuple[str, Key]:
    head, _ = _split(line)
    facts = json.loads(head + b"}")
    return str(facts["kind"]), tuple(map(str, facts["key"]))


def _value(line: bytes) -> str:
    return _split(line)[1].decode()


def _split(line: bytes) -> tuple[bytes, bytes]:
    """A line's head and its value: keys hold no `],"value":`, since a quote in them is escaped."""
    head, found, value = line.partition(b'],"value":')
    if not found:
        raise ValueError("no value")
    return head + b"]", value[:-2]


def _end_of_lines(file: int) -> int:
    """Behind the last whole line [bytes]; what another process left half is taken away."""
    end = os.fstat(file).st_size
    if not end or os.pread(file, 1, end - 1) == b"\n":
        return end
    start = end
    while start:
        block = os.pread(file, min(_BLOCK, start), start - min(_BLOCK, start))
        if (at := block.rfind(b"\n")) >= 0:
            start += at + 1 - len(block)
            break
        start -= len(block)
    os.ftruncate(file, start)
    return start


def _write(file: int, line: bytes) -> None:
    while line:
        line = line[os.write(file, line) :]
