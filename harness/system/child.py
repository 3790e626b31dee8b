"""A confined child process, as its parent sees it: what it answers is parsed, not believed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity.errors import ArtifactError, BackendError
from whisper_parity.system import frames
from whisper_parity.system.frames import FAILED, REFUSED, Float32, GarbageError, Message
from whisper_parity.system.pipes import EndedError, LateError, Pipes, StoppedError
from whisper_parity.system.process import python_module

ARRAYS_LIMIT = 2**29
"""Most bytes of the arrays of one answer."""
REASON_LIMIT = 1000
FILE_COPIES = 4
"""Copies of a file that its loading and running may take, beside what the settings allow."""
START_LIMIT_S = 120.0
KEPT_VARIABLES = ("PATH", "LANG", "LANGUAGE", "TZ", "HOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT")
KEPT_FAMILIES = ("LC_", "OMP_", "GOMP_", "KMP_", "MKL_", "ATEN_", "PYTHON")
"""Of the environment, which may hold secrets, the child gets what Python and its arithmetic read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may take."""

    call_s: float = 300.0
    """For one answer."""
    memory_bytes: int = 4 * 2**30
    """Beyond what it has before it opens a file."""

    @classmethod
    def of(cls, files: Sequence[Path], call_s: float, memory_gib: float) -> Limits:
        """Limits for these files: `memory_gib`, and room for FILE_COPIES of them."""
        size = sum(path.stat().st_size for path in files)
        return cls(call_s, int(memory_gib * 2**30) + FILE_COPIES * size)

    @property
    def processor_s(self) -> float:
        """Processor time of one answer: the backstop where nobody is left to watch the clock."""
        return self.call_s * (os.cpu_count() or 1)


class Child:
    """One confined process; takes one request at a time, and is not restarted once it failed."""

    def __init__(self, module: str, readable: Sequence[Path], limits: Limits) -> None:
        """Start it and wait until it is confined.

        Args:
            module: offers `answer`, see confined.py.
            readable: the foreign files.
            limits: of the process.

        Raises:
            BackendError: it does not start.
        """
        self._limits, self._failure = limits, ""
        self._folder = tempfile.TemporaryDirectory(prefix="parity-")  # its working folder: empty, and not writable
        specification = {
            "module": module,
            "parent": os.getpid(),
            "readable": [str(path.resolve()) for path in readable],
            "memory": limits.memory_bytes,
            "seconds": limits.processor_s,
        }
        self._pipes = Pipes(_nursery.submit(_started, json.dumps(specification), self._folder.name).result())
        try:
            self.confinement = self._receive("the child process", time.monotonic() + START_LIMIT_S).text
        except BaseException:
            self.close()
            raise

    def call(self, what: str, request: Mapping[str, Any], arrays: Sequence[Float32] = ()) -> Message:
        """Send a request and wait for the answer.

        Args:
            what: the file or its part, for messages.
            request: the text of the frame, as JSON.
            arrays: of the frame.

        Raises:
            ArtifactError: the child refused it.
            BackendError: the child could not, died, did not answer in time or sent what is no answer.
        """
        if self._failure:
            raise BackendError(self._failure)
        deadline = time.monotonic() + self._limits.call_s
        try:
            for part in frames.parts(Message(0, json.dumps(request), tuple(arrays))):
                self._pipes.write(part, deadline)
        except (LateError, EndedError, StoppedError) as error:
            raise self._failed(what, error) from None
        answer = self._receive(what, deadline)
        reason = answer.text[:REASON_LIMIT]
        if answer.status == REFUSED:
            raise ArtifactError(reason)
        if answer.status == FAILED:
            raise BackendError(reason)
        return answer

    def close(self) -> None:
        """Kill it."""
        self._pipes.close()
        self._folder.cleanup()

    def _receive(self, what: str, deadline: float) -> Message:
        try:
            return frames.receive(lambda count: self._pipes.read(count, deadline), ARRAYS_LIMIT)
        except (LateError, EndedError, StoppedError, GarbageError) as error:
            raise self._failed(what, error) from None

    def _failed(self, what: str, error: Exception) -> BackendError:
        """End the child, which is of no use any more; the reason stands for all further calls."""
        if isinstance(error, LateError):
            reason = f"no answer in {self._limits.call_s:g} s; its process was ended"
        elif isinstance(error, StoppedError):
            reason = "interrupted"
        elif isinstance(error, GarbageError):
            reason = f"its process sent what is no answer ({error}) and was ended"
        else:
            reason = f"its process {self._pipes.exit_status()}"
        self._pipes.close()
        words = self._pipes.last_words()
        said = f"; it last said: {words[-1][:200]}" if words and isinstance(error, EndedError) else ""
        self._failure = f"{what}: {reason}{said}"
        return BackendError(self._failure)


_nursery = ThreadPoolExecutor(1, "parity-nursery")
"""Starts all children: Linux ends them with the thread that started them, and this one lives as long as the process."""


def _renew_nursery() -> None:
    """A forked process has none of its parent's threads."""
    global _nursery
    _nursery = ThreadPoolExecutor(1, "parity-nursery")


os.register_at_fork(after_in_child=_renew_nursery)


def _started(specification: str, folder: str) -> subprocess.Popen[bytes]:
    kept = {
        name: value for name, value in os.environ.items() if name in KEPT_VARIABLES or name.startswith(KEPT_FAMILIES)
    }
    return subprocess.Popen(
        python_module("whisper_parity.system.confined", specification), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=folder, env={**kept, "TMPDIR": folder}, bufsize=0, start_new_session=True,
    )  # fmt: skip
