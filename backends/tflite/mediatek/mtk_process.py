"""The process of MediaTek's Python: every call has a time limit, and closing leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tempfile
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
from whisper_parity.system import tool
from whisper_parity.system.pipes import EndedError, LateError, Pipes, StoppedError

HINT = "Set mtk_python in [backends.tflite] of parity.toml to the Python that mtk_converter is installed for"
HEADER_LIMIT = 2**20
ARRAYS_LIMIT = 2**30
PREAMBLE_LIMIT = 2**16
"""Most bytes that a start-up file of that Python may print before our script runs."""
DROPPED_VARIABLES = ("PYTHONPATH", "PYTHONHOME")
"""Variables for our Python that would break the other one."""

Arrays = list[NDArray[Any]]


class _GarbageError(Exception):
    """The bytes received are not a message."""


class Process:
    """One worker process; takes one request at a time."""

    def __init__(self, settings: Settings, writable: Sequence[Path] | None = None) -> None:
        """Start the process and import mtk_converter in it.

        Args:
            settings: of this site.
            writable: the folders in which it may write, beside its own, and no network: for files of others; None for
                no such limits.

        Raises:
            UnavailableError: no such Python, no mtk_converter in it, or it does not start in time.
        """
        self._closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="parity-mtk-")  # collects files that the package leaves
        try:
            self._process = _started(_python(settings), self._folder.name, writable)
        except BaseException:
            self._folder.cleanup()
            raise
        self._pipes = Pipes(self._process)
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
        except LateError:
            raise self._failure(f"{what} took more than {limit_s:g} s") from None
        except StoppedError:
            raise self._failure(f"{what} was interrupted") from None
        except EndedError:
            raise self._failure(f"{what} {self._pipes.exit_status()}") from None
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
        self._pipes.close()
        self._folder.cleanup()

    def _raise_error(self, what: str, header: Mapping[str, Any]) -> None:
        if header.get("kind") == "missing":
            raise UnavailableError(f"mtk_converter cannot be imported ({header['error']!s:.300})", hint=HINT)
        raise BackendError(f"{what} failed ({header['error']!s:.300}){self._stderr_tail()}")

    def _failure(self, what: str) -> BackendError:
        """Close the process, which is unusable now; return the error."""
        self.close()
        return BackendError(f"{what}{self._stderr_tail()}")

    def _stderr_tail(self) -> str:
        """The last lines of stderr, for messages."""
        lines = self._pipes.last_words()
        return f"; it last said: {' | '.join(line[:120] for line in lines[-3:])}" if lines else ""

    def _send(self, request: Mapping[str, Any], arrays: Sequence[NDArray[Any]], deadline: float) -> None:
        blobs = [_npy(array) for array in arrays]
        header = json.dumps({**request, "sizes": [len(blob) for blob in blobs]}).encode()
        for part in (PREFIX.pack(MAGIC, len(header)) + header, *blobs):
            self._pipes.write(memoryview(part), deadline)

    def _receive(self, deadline: float, starting: bool) -> tuple[dict[str, Any], Arrays]:
        magic, skipped = self._pipes.read(len(MAGIC), deadline), 0
        while magic != MAGIC and starting and skipped < PREAMBLE_LIMIT:
            magic, skipped = magic[1:] + self._pipes.read(1, deadline), skipped + 1
        if magic != MAGIC:
            raise _GarbageError(f"it starts with {magic!r}")
        length = int.from_bytes(self._pipes.read(4, deadline), "little")
        if length > HEADER_LIMIT:
            raise _GarbageError(f"a header of {length} bytes")
        header, sizes = _header(self._pipes.read(length, deadline))
        return header, [_array(self._pipes.read(size, deadline)) for size in sizes]


def _python(settings: Settings) -> str:
    if settings.mtk_python is None:
        raise UnavailableError("MediaTek's converter and interpreter are not set up here", hint=HINT)
    program = str(Path(settings.mtk_python).expanduser())
    # Absolute, but not resolved: a venv's python is a link.
    path = str(Path(program).absolute()) if os.sep in program else shutil.which(program)
    if path is None:
        raise UnavailableError(f"{program}: no such program on PATH", hint=HINT)
    return path


def _started(python: str, folder: str, writable: Sequence[Path] | None) -> subprocess.Popen[bytes]:
    words = [python, str(Path(mtk_worker.__file__).absolute())]
    command = words if writable is None else tool.command(words, [*writable, Path(folder)])
    environment = {key: value for key, value in os.environ.items() if key not in DROPPED_VARIABLES}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
            env=environment, bufsize=0, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise UnavailableError(f"{python}: cannot be started ({error.strerror or first_line(error)})", hint=HINT) from (
            error
        )
    return process


def _package_folders(settings: Settings) -> list[str]:
    """Folders to search for mtk_converter before those of that Python."""
    folders = [Path(settings.mtk_converter_path)] if settings.mtk_converter_path else []
    library = Path(settings.mtk_sdk, "host", "lib", "python") if settings.mtk_sdk else None
    return [
        str(folder.expanduser().absolute()) for folder in (*folders, *([library] if library else [])) if folder.is_dir()
    ]


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
