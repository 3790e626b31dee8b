"""Files that somebody gave: regular ones of a plausible size, read and parsed without surprises.

Reading a FIFO waits for ever, a device may never end, and a sparse file of a terabyte fills memory: each of these is
refused before its first byte is read.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from whisper_parity.errors import InputError, first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MIB, GIB = 2**20, 2**30
TEXT_BYTES = 64 * MIB
"""Limit of text: results, manifests, settings, reports. A report of a thousand clips has 20 MiB."""
AUDIO_BYTES = 8 * GIB
"""Limit of an audio file: three hours of 5.1 sound at 48 kHz, 24 bit, have 9.3 GB; such a file is cut first."""
LIST_BYTES, LINE_BYTES = 4 * GIB, 8 * MIB
"""Limits of a list that is read line by line, unpacked, and of one of its lines."""
BLANK_LINES = 100
"""A list whose first line stands behind more blank ones is not recognised."""
HEAD_BYTES = 512
"""A zero byte among these says that a file is no text."""
MODEL_BYTES = 16 * GIB
"""Limit of a checkpoint, artifact or trace: Whisper large in float32 has 6.2 GB."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def require_regular(path: Path, limit: int, kind: type[InputError] = InputError, *, hint: str = "") -> int:
    """Refuse what is not a regular file, or is larger than `limit`; for libraries that open files by their path.

    Args:
        path: the file; links are followed.
        limit: largest accepted size [bytes].
        kind: error to raise.
        hint: what to do when it is missing or no file.

    Returns:
        The file's size [bytes].

    Raises:
        InputError: of the given kind: missing, not a regular file, not readable or larger than `limit`.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise kind(f"{path}: {_reason(error)}", hint=hint) from error
    _require(path, status, limit, kind, hint)
    if not os.access(path, os.R_OK):
        raise kind(f"{path}: cannot be read ({os.strerror(errno.EACCES)})", hint="Check the permissions")
    return status.st_size


def is_there(path: Path) -> bool:
    """Whether anything has this name: a file, a pipe, a link that leads nowhere. What is there is read or refused."""
    return os.path.lexists(path)


def read(path: Path, limit: int = TEXT_BYTES, kind: type[InputError] = InputError, *, hint: str = "") -> bytes:
    """The bytes of a regular file of at most `limit` bytes; arguments and errors as in `require_regular`."""
    require_regular(path, limit, kind, hint=hint)
    try:  # O_NONBLOCK: the file may have become a pipe since it was looked at
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _require(path, os.fstat(file.fileno()), limit, kind, hint)
            content = file.read(limit + 1)
    except OSError as error:
        raise kind(f"{path}: {_reason(error)}", hint=hint) from error
    if len(content) > limit:
        raise kind(f"{path}: grows while it is read, beyond {_size(limit)}", hint=hint)
    return content


def lines(
    path: Path, kind: type[InputError] = InputError, *, hint: str = "", packed: bool = False
) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers, one after the other; a byte order mark in front is let go.

    Args:
        path: the file.
        kind: error to raise.
        hint: what to do when it is missing or no file.
        packed: it is gzip.

    Raises:
        InputError: of the given kind: as `require_regular`, not UTF-8, a line beyond LINE_BYTES, or cut short.
    """
    require_regular(path, LIST_BYTES, kind, hint=hint)
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _require(path, os.fstat(file.fileno()), LIST_BYTES, kind, hint)
            yield from _decoded(gzip.GzipFile(fileobj=file).readline if packed else file.readline, path, kind, hint)
    except (OSError, EOFError, zlib.error) as error:
        raise kind(f"{path}: {_reason(error)}", hint=hint) from error


def _decoded(
    readline: Callable[[int], bytes], path: Path, kind: type[InputError], hint: str
) -> Iterator[tuple[int, str]]:
    number, total = 0, 0
    while line := readline(LINE_BYTES + 1):
        number, total = number + 1, total + len(line)
        if len(line) > LINE_BYTES:
            raise kind(f"{path}: line {number} is longer than {_size(LINE_BYTES)}", hint=hint)
        if total > LIST_BYTES:
            raise kind(f"{path}: unpacks to more than {_size(LIST_BYTES)}", hint=hint)
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise kind(f"{path}: not UTF-8 text ({first_line(error)})", hint=hint) from error
        yield number, text.removesuffix("\n").removesuffix("\r")


def start(path: Path, count: int) -> bytes:
    """The first bytes of a regular file; none of what is none, or cannot be read."""
    try:
        if not path.is_file():
            return b""
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read(count) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except (OSError, ValueError):
        return b""


def first_text(path: Path) -> str:
    """The first line that is not blank of a text, also of one packed by gzip; "" where there is none, or no text."""
    begins = start(path, HEAD_BYTES)
    packed = begins.startswith(b"\x1f\x8b")
    if not begins or (b"\0" in begins and not packed):
        return ""
    try:
        numbered = islice(lines(path, packed=packed), BLANK_LINES)
        return next((line.strip() for _, line in numbered if line.strip()), "")
    except InputError:
        return ""


def read_text(path: Path, limit: int = TEXT_BYTES, kind: type[InputError] = InputError, *, hint: str = "") -> str:
    """The text of a UTF-8 file; a byte order mark in front is let go. Arguments and errors as in `require_regular`."""
    try:
        return read(path, limit, kind, hint=hint).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise kind(f"{path}: not UTF-8 text ({first_line(error)})", hint=hint) from error


def parse_json(text: str | bytes, where: str, kind: type[InputError] = InputError, *, hint: str = "") -> Any:
    """JSON of any origin.

    Raises:
        InputError: of the given kind: not JSON, nested too deep, or a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise kind(f"{where}: nested too deep", hint=hint) from error
    except ValueError as error:
        raise kind(f"{where}: not JSON ({first_line(error)})", hint=hint) from error


def read_json(path: Path, kind: type[InputError] = InputError, *, hint: str = "") -> Any:
    """The value in a JSON file; errors of `read_text` and `parse_json`."""
    return parse_json(read_text(path, TEXT_BYTES, kind, hint=hint), str(path), kind, hint=hint)


def read_toml(path: Path, kind: type[InputError] = InputError, *, hint: str = "") -> dict[str, Any]:
    """The table in a TOML file; errors of `read_text`, and not TOML, nested too deep, or a number out of range."""
    text = read_text(path, TEXT_BYTES, kind, hint=hint)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise kind(f"{path}: nested too deep", hint=hint) from error
    except ValueError as error:  # TOMLDecodeError, and a number of thousands of digits
        raise kind(f"{path}: not TOML ({first_line(error)})", hint=hint) from error


def _require(path: Path, status: os.stat_result, limit: int, kind: type[InputError], hint: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
        raise kind(f"{path}: expected a file, found {what}", hint=hint)
    if status.st_size > limit:
        raise kind(f"{path}: {_size(status.st_size)}, at most {_size(limit)} are read", hint=hint)


def _reason(error: Exception) -> str:
    return f"cannot be read ({getattr(error, 'strerror', None) or first_line(error)})"


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"
