"""A fork server whose workers inherit an imported converter; run with `python -m`.

Importing a converter takes as long as converting a small model, so one process imports it for all. Commands are JSON
lines on stdin, executed in order:

    {"prepare": ["MODULE", "convert"]}             import what such a task needs
    {"run": 3, "task": ["MODULE", "convert", ...]} the same, then call MODULE.main(...) in a forked process
    {"cancel": 3}                                  kill it, and answer when it is gone

Each task that ends yields a JSON line on stdout: {"run": 3, "exit_code": 1, "last_line": "..."}. The end of stdin or
Ctrl-C ends all tasks.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from tempfile import TemporaryFile
from typing import IO, Any

LINE_LIMIT = 300
TAIL_BYTES = 16_384
GONE_POLLS, GONE_POLL_S = 400, 0.005


def serve(commands: IO[str], answers: int) -> None:
    """Execute commands until there are no more.

    Args:
        commands: JSON lines.
        answers: file descriptor.
    """
    supervisors: dict[int, int] = {}
    try:
        for line in commands:
            command: dict[str, Any] = json.loads(line)
            if "cancel" in command:
                _cancel(command["cancel"], supervisors.pop(command["cancel"], None), answers)
                continue
            _prepare(command.get("prepare") or command["task"])
            if "run" in command:
                supervisors[command["run"]] = _fork(command["run"], command["task"], answers)
    finally:
        for supervisor in supervisors.values():
            _kill(supervisor)


def last_line(log: IO[bytes]) -> str:
    """The last line that a process printed; "" if none."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:LINE_LIMIT] if lines else ""


def _prepare(task: list[str]) -> None:
    """Import what the task needs. Ignore errors here: the worker will raise and report them."""
    with suppress(Exception):
        import_module(task[0]).prepare(*task[1:])
        gc.freeze()


def _fork(run: int, task: list[str], answers: int) -> int:
    """Start a task under a supervisor that leads their process group; return its process id."""
    with TemporaryFile() as log:
        supervisor = os.fork()
        with suppress(OSError):  # parent and child both set it: neither may continue before
            os.setpgid(supervisor, supervisor)
        if not supervisor:
            _supervise(run, task, log, answers)
    return supervisor


def _supervise(run: int, task: list[str], log: IO[bytes], answers: int) -> None:
    """Run a task in a worker, answer how it ended, and exit."""
    answer = {"run": run, "exit_code": 1, "last_line": "no process could be started for it"}
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if not (worker := os.fork()):
            _work(task, log.fileno())
        answer["exit_code"] = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        answer["last_line"] = last_line(log)
    finally:
        os.write(answers, f"{json.dumps(answer)}\n".encode())
        os._exit(0)


def _work(task: list[str], log: int) -> None:
    """Run the task and exit, skipping the exit handlers inherited from the server."""
    exit_code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        import_module(task[0]).main(*task[1:])
        sys.stdout.flush()
        exit_code = 0
    except BaseException:  # noqa: BLE001 (the server's code must not continue in a worker)
        traceback.print_exc()
    finally:
        os._exit(exit_code)


def _cancel(run: int, supervisor: int | None, answers: int) -> None:
    """Kill a task, and answer when it writes no more: who asked may now remove what it wrote."""
    if supervisor is not None:
        _kill(supervisor)
        _wait_until_gone(supervisor)
    answer = {"run": run, "exit_code": -int(signal.SIGKILL), "last_line": "cancelled"}
    os.write(answers, f"{json.dumps(answer)}\n".encode())


def _wait_until_gone(group: int) -> None:
    for _ in range(GONE_POLLS):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(GONE_POLL_S)


def _kill(supervisor: int | None) -> None:
    if supervisor is not None:
        with suppress(ProcessLookupError):
            os.killpg(supervisor, signal.SIGKILL)


def main() -> None:
    """Serve stdin; output of imports goes to stderr, since stdout carries answers."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need no wait
    gc.set_threshold(200_000, 20, 20)  # the converter makes millions of permanent objects; saves a quarter of the time
    answers = os.dup(1)
    os.dup2(2, 1)
    with suppress(KeyboardInterrupt):
        serve(sys.stdin, answers)
    os._exit(0)


if __name__ == "__main__":
    main()
