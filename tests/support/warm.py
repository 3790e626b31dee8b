"""Commands in processes that a warm one forks: each has its own arguments, folder, environment and streams.

Importing torch takes a second and a half, which eighty commands would pay one by one. What a command does is what it
does in a process of its own: it is one, from the fork on.

    python warm.py serve SOCKET           imports, then listens; says "ready"
    python -S warm.py run SOCKET MODULE ARGUMENT...
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys

PRELOADED = (
    "torch", "whisper", "jinja2", "pydantic", "rich.table", "scipy.stats", "av", "ai_edge_litert.interpreter", "pytest",
    "whisper_parity.cli_run", "whisper_parity.cli_runs", "whisper_parity.run.schedule", "whisper_parity.report.console",
    "whisper_parity.explain.explain", "whisper_parity.report.html.page",
)  # fmt: skip
INTS = array.array("i").itemsize


def serve(path: str) -> None:
    """Fork a process for each request, until this one is ended."""
    import importlib
    import signal

    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)  # noqa: T201
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _middle(connection)
            connection.close()
            os.wait()


def _middle(connection: socket.socket) -> None:
    """Fork once more, so that the server waits for nobody; run the command, and send its exit code."""
    if os.fork():
        os._exit(0)
    received, streams = _received(connection)
    request = json.loads(received)
    child = os.fork()
    if child == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        _run(request)
    for stream in streams:
        os.close(stream)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A request to its end, and the three streams that came with it."""
    data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(3 * INTS))
    streams = array.array("i")
    for _, _, content in ancillary:
        streams.frombytes(content[: 3 * INTS])
    while part := connection.recv(1 << 16):
        data += part
    return data, list(streams)


def _run(request: dict) -> None:
    """As `python -m MODULE ARGUMENT...` in the folder and environment of who asked."""
    import atexit
    import importlib
    import runpy
    import threading

    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["", *request["arguments"]]
    importlib.invalidate_caches()
    code: object = 0
    try:
        sys.modules.pop(request["module"], None)
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - as Python itself ends
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def run(path: str, module: str, arguments: list[str]) -> int:
    """Ask for a command, and wait for its end."""
    request: dict = {"module": module, "arguments": arguments, "folder": os.getcwd()}  # noqa: PTH109 - starts fast
    request["environment"] = dict(os.environ)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        data = json.dumps(request).encode()
        streams = array.array("i", [0, 1, 2])
        sent = connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        connection.sendall(data[sent:])
        connection.shutdown(socket.SHUT_WR)
        return int(connection.recv(16) or b"70")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(run(sys.argv[2], sys.argv[3], sys.argv[4:]))
