"""The process of MediaTek's Python: every call has a time limit, and closing leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backends.tflite.mediatek import mtk_worker
from whisper_parity.backends.tflite.mediatek.mtk_worker import MAGIC, PREFIX
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import BackendError, UnavailableError, first_line
from whisper_parity.system.threads import INTERRUPTED

HINT = "Set mtk_python in [backends.tflite] of parity.toml to the Python that mtk_converter is installed for"
HEADER_LIMIT = 2**20
ARRAYS_LIMIT = 2**30
PREAMBLE_LIMIT = 2**16
"""Most bytes that a start-up file of that Python may print before our script runs."""
STDERR_LIMIT = 4096
EXIT_LIMIT_S = 2.0
"""Time limit for a process to end after it closed its pipe."""
POLL_S = 0.2
"""Interval at which a wait checks whether the process still lives."""
DROPPED_VARIABLES = ("PYTHONPATH", "PYTHONHOME")
"""Variables for our Python that would break the other one."""

Arrays = list[NDArray[Any]]


class _LateError(Exception):
    """The time limit passed without an answer."""


class _EndedError(Exception):
    """The other end of a pipe is closed."""


class _StoppedError(Exception):
    """Ctrl-C was pressed."""


class _GarbageError(Exception):
    """The bytes received are not a message."""


class Process:
    """One worker process; takes one request at a time."""

    def __init__(self, settings: Settings) -> None:
        """Start the process and import mtk_converter in it.

        Raises:
            UnavailableError: no such Python, no mtk_converter in it, or it does not start in time.
        """
        self._tail = b""
        self._closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="parity-mtk-")  # collects files that the package leaves
        try:
            self._process = _started(_python(settings), self._folder.name)
        except BaseException:
            self._folder.cleanup()
            raise
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.version = ""
        try:
            answer, _ = self.call(
                {"do": "start", "paths": _package_folders(settings)}, [], settings.start_limit_s, starting=True
            )
            self.version = str(answer["version"])
        except BackendError as error:
            raise UnavailableError(str(error), hint=HINT) from error
        finally:
            if not self.version:
                self.close()

    def __enter__(self) -> Process:
        """Return it; it runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the process."""
        self.close()

    def call(
        self, request: Mapping[str, Any], arrays: Sequence[NDArray[Any]], limit_s: float, *, starting: bool = False
    ) -> tuple[dict[str, Any], Arrays]:
        """Send a request and wait for the answer.

        Args:
            request: "do" and its arguments.
            arrays: sent with it.
            limit_s: time limit of the call.
            starting: skip text before the answer, which start-up files may print.

        Raises:
            UnavailableError: mtk_converter is not installed there.
            BackendError: it failed, died, timed out, or sent something that is not a message.
        """
        what = f"mtk_converter ({request['do']})"
        deadline = time.monotonic() + limit_s
        try:
            self._send(request, arrays, deadline)
            header, outputs = self._receive(deadline, starting)
        except _LateError:
            raise self._failure(f"{what} took more than {limit_s:g} s") from None
        except _StoppedError:
            raise self._failure(f"{what} was interrupted") from None
        except _EndedError:
            raise self._failure(f"{what} {self._exit_status()}") from None
        except _GarbageError as error:
            raise self._failure(f"{what} wrote what is no answer to its pipe ({error})") from error
        if "error" in header:
            self._raise_error(what, header)
        return header, outputs

    def close(self) -> None:
        """Kill the process and its children, and wait for its end."""
        if self._closed:
            return
        self._closed = True
        _kill(self._process)  # even if it is dead: its children may live
        self._process.wait()
        self._listener.join(EXIT_LIMIT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def _raise_error(self, what: str, header: Mapping[str, Any]) -> None:
        if header.get("kind") == "missing":
            raise UnavailableError(f"mtk_converter cannot be imported ({header['error']!s:.300})", hint=HINT)
        raise BackendError(f"{what} failed ({header['error']!s:.300}){self._stderr_tail()}")

    def _failure(self, what: str) -> BackendError:
        """Close the process, which is unusable now; return the error."""
        self.close()
        return BackendError(f"{what}{self._stderr_tail()}")

    def _exit_status(self) -> str:
        """How the process ended, for messages."""
        try:
            code = self._process.wait(EXIT_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"died by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code}"

    def _stderr_tail(self) -> str:
        """The last lines of stderr, for messages."""
        lines = [line.strip() for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return f"; it last said: {' | '.join(line[:120] for line in lines[-3:])}" if lines else ""

    def _listen(self) -> None:
        """Drain stderr and keep its end."""
        assert self._process.stderr is not None  # noqa: S101 - narrows for the type checker
        with self._process.stderr as stream:
            while chunk := os.read(stream.fileno(), 65536):
                self._tail = (self._tail + chunk)[-STDERR_LIMIT:]

    def _send(self, request: Mapping[str, Any], arrays: Sequence[NDArray[Any]], deadline: float) -> None:
        blobs = [_npy(array) for array in arrays]
        header = json.dumps({**request, "sizes": [len(blob) for blob in blobs]}).encode()
        for part in (PREFIX.pack(MAGIC, len(header)) + header, *blobs):
            self._write(memoryview(part), deadline)

    def _write(self, data: memoryview, deadline: float) -> None:
        pipe = _descriptor(self._process.stdin)
        while data:
            self._wait(pipe, select.POLLOUT, deadline)
            try:
                data = data[os.write(pipe, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _EndedError from error

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        """Wait until a pipe is ready, or the process ends: a child may still hold its end of the pipe open."""
        poll = select.poll()
        poll.register(descriptor, event)
        while True:
            ended = self._process.poll() is not None
            remaining_s = 0.0 if ended else deadline - time.monotonic()
            if poll.poll(max(0.0, min(remaining_s, POLL_S)) * 1000):
                return
            if ended:
                raise _EndedError
            if INTERRUPTED.is_set():
                raise _StoppedError
            if remaining_s <= 0:
                raise _LateError

    def _receive(self, deadline: float, starting: bool) -> tuple[dict[str, Any], Arrays]:
        magic, skipped = self._read(len(MAGIC), deadline), 0
        while magic != MAGIC and starting and skipped < PREAMBLE_LIMIT:
            magic, skipped = magic[1:] + self._read(1, deadline), skipped + 1
        if magic != MAGIC:
            raise _GarbageError(f"it starts with {magic!r}")
        length = int.from_bytes(self._read(4, deadline), "little")
        if length > HEADER_LIMIT:
            raise _GarbageError(f"a header of {length} bytes")
        header, sizes = _header(self._read(length, deadline))
        return header, [_array(self._read(size, deadline)) for size in sizes]

    def _read(self, count: int, deadline: float) -> bytes:
        pipe, received = _descriptor(self._process.stdout), bytearray()
        while len(received) < count:
            self._wait(pipe, select.POLLIN, deadline)
            chunk = os.read(pipe, min(count - len(received), 2**20))
            if not chunk:
                raise _EndedError
            received += chunk
        return bytes(received)


def _python(settings: Settings) -> str:
    if settings.mtk_python is None:
        raise UnavailableError("MediaTek's converter and interpreter are not set up here", hint=HINT)
    program = str(Path(settings.mtk_python).expanduser())
    # Absolute, but not resolved: a venv's python is a link.
    path = str(Path(program).absolute()) if os.sep in program else shutil.which(program)
    if path is None:
        raise UnavailableError(f"{program}: no such program on PATH", hint=HINT)
    return path


def _started(python: str, folder: str) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if key not in DROPPED_VARIABLES}
    try:
        process = subprocess.Popen(
            [python, str(Path(mtk_worker.__file__).absolute())], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd=folder, env=environment, bufsize=0, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise UnavailableError(f"{python}: cannot be started ({error.strerror or first_line(error)})", hint=HINT) from (
            error
        )
    os.set_blocking(_descriptor(process.stdin), False)  # a sleeping reader must not block the writer
    return process


def _package_folders(settings: Settings) -> list[str]:
    """Folders to search for mtk_converter before those of that Python."""
    folders = [Path(settings.mtk_converter_path)] if settings.mtk_converter_path else []
    library = Path(settings.mtk_sdk, "host", "lib", "python") if settings.mtk_sdk else None
    return [
        str(folder.expanduser().absolute()) for folder in (*folders, *([library] if library else [])) if folder.is_dir()
    ]


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # it leads its own group
    except (ProcessLookupError, PermissionError):
        process.kill()


def _descriptor(pipe: Any) -> int:
    return int(pipe.fileno())


def _header(content: bytes) -> tuple[dict[str, Any], list[int]]:
    try:
        header = json.loads(content)
        sizes = [int(size) for size in header["sizes"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _GarbageError(f"malformed header: {first_line(error)}") from error
    if min(sizes, default=0) < 0 or sum(sizes) > ARRAYS_LIMIT:
        raise _GarbageError(f"arrays of {sum(sizes)} bytes")
    return header, sizes


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _array(content: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, SyntaxError) as error:
        raise _GarbageError(f"malformed array: {first_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise _GarbageError("expected an array, found an archive")
    return array
