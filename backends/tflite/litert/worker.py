"""Conversion, quantisation and the first try of foreign files in processes of their own.

The converters print to stdout, log from C++, keep gigabytes, and can die without an exception: none of that may reach
the harness. Encoder and decoder are converted side by side, by workers that forkserver.py forks.

The interpreter holds a file against the flatbuffer schema before it loads it, so truncated and foreign files are
refused. One that keeps the schema can still kill the process or never end: an operator without an input that it needs,
a tensor of 2**31 elements. Files that we converted are known by their hash and are not tried.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as PastItsTime
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, cast

from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backends.split.embedding import adopt_token_embedding, write_token_embedding
from whisper_parity.backends.tflite.litert import trial
from whisper_parity.backends.tflite.litert.forkserver import last_line
from whisper_parity.backends.torchscript import mask_value
from whisper_parity.errors import BuildError
from whisper_parity.system.process import python_module

TIME_LIMIT_S = 1800.0
STOP_LIMIT_S = 30.0
"""For the fork server to kill its workers and end."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended."""

    exit_code: int
    said: str
    """Its last line."""


@dataclass(frozen=True, slots=True)
class Job:
    """One file that a worker writes."""

    what: str
    """As errors name it."""
    path: Path
    task: Sequence[str]
    """Module and arguments, see forkserver.py."""


class Workers:
    """A fork server, and what it was asked to do."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._running: dict[int, Future[Ended]] = {}
        self._over: Ended | None = None
        self._cancelled = False
        self._lock = threading.Lock()
        self._log = TemporaryFile()  # noqa: SIM115 (closed by the listener)
        self._server = subprocess.Popen(
            python_module("whisper_parity.backends.tflite.litert.forkserver"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # conversion is one thread's work; idle ones only spin
        )
        self._commands, self._answers = cast("IO[str]", self._server.stdin), cast("IO[str]", self._server.stdout)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def prepare(self, task: Sequence[str]) -> None:
        """Import what a task needs, beside what is done here."""
        self._tell({"prepare": [*task]})

    @contextmanager
    def doing(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Do jobs side by side, and beside the block; all are done at its end.

        Raises:
            BuildError: one failed, died or ran past TIME_LIMIT_S.
        """
        started = {self._start(job.task): job for job in jobs}
        try:
            yield
            for number, job in started.items():
                self._check(job, self._running[number])
        finally:
            for number in started:
                self._leave(number)

    def stop(self) -> None:
        """Kill what still runs, and end the server."""
        self._tell(None)
        try:
            if self._cancelled:  # only the server knows whom to kill, and may have an import to finish first
                with suppress(subprocess.TimeoutExpired):
                    self._server.wait(STOP_LIMIT_S)
        finally:
            self._server.kill()
            self._server.wait()
            self._listener.join(STOP_LIMIT_S)

    def _start(self, task: Sequence[str]) -> int:
        with self._lock:
            number = next(self._numbers)
            future = self._running[number] = Future()
            if self._over:
                future.set_result(self._over)
        self._tell({"run": number, "task": [*task]})
        return number

    def _check(self, job: Job, future: Future[Ended]) -> None:
        try:
            ended = future.result(TIME_LIMIT_S)
        except PastItsTime as error:
            raise BuildError(
                f"converting the {job.what} took more than {TIME_LIMIT_S:.0f} s", hint="Is the machine busy?"
            ) from error
        if ended.exit_code != 0 or not job.path.is_file():
            reason = ended.said or "it printed nothing"
            raise BuildError(f"converting the {job.what} failed (exit code {ended.exit_code}): {reason}")

    def _leave(self, number: int) -> None:
        with self._lock:
            done = self._running.pop(number).done()
        if not done:
            self._cancelled = True
            self._tell({"cancel": number})

    def _tell(self, command: dict[str, Any] | None) -> None:
        """Send a command; None ends all. Of a server that is dead the listener hears."""
        with self._lock, suppress(OSError, ValueError):
            if command is None:
                self._commands.close()
                return
            self._commands.write(f"{json.dumps(command)}\n")
            self._commands.flush()

    def _listen(self) -> None:
        """Hear answers until the server is gone, with which all ends; nobody else may close what is read here."""
        with self._answers:
            for line in self._answers:
                answer = json.loads(line)
                self._end(answer["run"], Ended(answer["exit_code"], answer["said"]))
        with self._log:
            over = Ended(self._server.wait(), last_line(self._log))
        with self._lock:
            self._over, left = over, [*self._running]
        for number in left:
            self._end(number, over)

    def _end(self, number: int, ended: Ended) -> None:
        with self._lock:
            future = self._running.get(number)
        if future and not future.done():
            future.set_result(ended)


_lock = threading.Lock()
_shared: list[Workers] = []
"""Those that are in use, once for each user: all the same."""


@contextmanager
def workers() -> Iterator[Workers]:
    """This process's workers, stopped when nobody uses them any more."""
    with _lock:
        _shared.append(_shared[0] if _shared else Workers())
        found = _shared[0]
    try:
        yield found
    finally:
        with _lock:
            _shared.pop()
            last = not _shared
        if last:
            found.stop()


def build_files(parent: Artifact, out: Path, names: Mapping[str, str], variant: str, options: BuildOptions) -> None:
    """Write encoder, decoder and token embedding into `out`.

    Raises:
        BuildError: a converter failed, died or ran past TIME_LIMIT_S.
    """
    quantised = variant in ("fp16", "int8")
    jobs = []
    for role in ("encoder", "decoder"):
        source, target = parent.path(role) if quantised else parent.checkpoint.path, out / names[role]
        kind, mask = variant if quantised else "convert", str(mask_value(options))
        paths = [str(source.absolute()), str(target.absolute())]  # workers run in the project's folder
        jobs.append(
            Job(
                f"{variant or 'fp32'} {role}",
                target,
                ["whisper_parity.backends.tflite.litert.convert", kind, role, *paths, mask],
            )
        )
    with workers() as found, found.doing(jobs):
        write_embedding(parent, out, quantised)


def failure(path: Path, module: str, threads: int) -> str:
    """Why a file cannot be loaded and run once, tried in a process of its own; "" when it can."""
    return trial.failure("whisper_parity.backends.tflite.litert.attempt", [str(path.absolute()), module, str(threads)])


def write_embedding(parent: Artifact, out: Path, quantised: bool) -> None:
    """Write the token embedding of the parent's checkpoint into `out`; that of a float32 file is a quantised one's."""
    from whisper_parity.model.checkpoint import read

    if quantised:
        adopt_token_embedding(parent, out)
        return
    table = read(parent.checkpoint.path)["model_state_dict"]["decoder.token_embedding.weight"]
    write_token_embedding(table.float().numpy(), out)
