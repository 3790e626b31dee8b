"""Workers forked from one process that has imported the converter: `python -m whisper_parity.backends.tflite.litert.forkserver`.

litert-torch takes as long to import as a small model takes to be converted, so one process imports it for all. Commands
are JSON lines on stdin, carried out in their order:

    {"prepare": ["whisper_parity.backends.tflite.litert.convert", "convert"]}                  import what such a task needs
    {"run": 3, "task": ["whisper_parity.backends.tflite.litert.convert", "convert", ...]}      the same, then `main` in a process of its own
    {"cancel": 3}                                                        kill it

For each task that ends there is a JSON line on stdout: {"run": 3, "exit_code": 1, "said": "its last line"}. Where stdin
ends, or Ctrl-C is pressed, all tasks do.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from tempfile import TemporaryFile
from typing import IO, Any

SAID_LIMIT = 300
TAIL_BYTES = 16_384


def serve(commands: IO[str], answers: int) -> None:
    """Carry out commands until there are no more.

    Args:
        commands: JSON lines.
        answers: file descriptor.
    """
    supervisors: dict[int, int] = {}
    try:
        for line in commands:
            command: dict[str, Any] = json.loads(line)
            if "cancel" in command:
                _kill(supervisors.pop(command["cancel"], None))
                continue
            _prepare(command.get("prepare") or command["task"])
            if "run" in command:
                supervisors[command["run"]] = _forked(command["run"], command["task"], answers)
    finally:
        for supervisor in supervisors.values():
            _kill(supervisor)


def last_line(log: IO[bytes]) -> str:
    """The last line that a process printed; "" when it printed none."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:SAID_LIMIT] if lines else ""


def _prepare(task: list[str]) -> None:
    """Import here what the task needs. What goes wrong is left to the worker, which is heard."""
    with suppress(Exception):
        import_module(task[0]).prepare(*task[1:])
        gc.freeze()


def _forked(number: int, task: list[str], answers: int) -> int:
    """Start a task; the process that waits for it leads their group."""
    with TemporaryFile() as log:
        supervisor = os.fork()
        with suppress(OSError):  # both do it: neither may go on before it is done
            os.setpgid(supervisor, supervisor)
        if not supervisor:
            _supervise(number, task, log, answers)
    return supervisor


def _supervise(number: int, task: list[str], log: IO[bytes], answers: int) -> None:
    """Wait for the worker of a task, tell how it ended, and end."""
    answer = {"run": number, "exit_code": 1, "said": "no process could be started for it"}
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if not (worker := os.fork()):
            _work(task, log.fileno())
        answer["exit_code"] = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        answer["said"] = last_line(log)
    finally:
        os.write(answers, f"{json.dumps(answer)}\n".encode())
        os._exit(0)


def _work(task: list[str], log: int) -> None:
    """Do the task and end the process, past whatever wants to be done at the exit of an ordinary one."""
    exit_code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        import_module(task[0]).main(*task[1:])
        sys.stdout.flush()
        exit_code = 0
    except BaseException:  # noqa: BLE001 (nothing of the server may go on in a worker)
        traceback.print_exc()
    finally:
        os._exit(exit_code)


def _kill(supervisor: int | None) -> None:
    if supervisor is not None:
        with suppress(ProcessLookupError):
            os.killpg(supervisor, signal.SIGKILL)


def main() -> None:
    """Serve stdin; what imports print goes to stderr, for stdout is answers."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for supervisors
    gc.set_threshold(200_000, 20, 20)  # the converter makes millions of objects that stay: a quarter of the time
    answers = os.dup(1)
    os.dup2(2, 1)
    with suppress(KeyboardInterrupt):
        serve(sys.stdin, answers)
    os._exit(0)


if __name__ == "__main__":
    main()
