"""The child in which foreign files are opened: `python -m whisper_parity.system.confined SPECIFICATION`.

The specification is JSON: {"module", "parent", "readable", "memory", "seconds"}. The module offers
`answer(request, arrays) -> Message`. Requests and answers are frames (frames.py) on stdin and stdout; a request's text
is JSON. The first answer says what the process is confined by: nothing foreign has been opened yet.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whisper_parity.errors import InputError, ParityError, first_line
from whisper_parity.system import confine

WITHOUT_LIMIT = 1 << 62
HIDDEN = ("dill",)
"""Packages that a runtime imports where they are installed and that no given file needs: this one opens /dev/null to
write when it is imported, which is refused here, and torch would not start."""


def main(specification: str) -> None:
    """Confine this process, then answer until stdin ends."""
    wanted = json.loads(specification)
    source, target = _channel()
    readable = [*map(Path, wanted["readable"]), *_package(wanted["module"])]
    confinement = confine.confine(readable, wanted["parent"])
    for package in HIDDEN:
        sys.modules[package] = None  # type: ignore[assignment] # not to be found
    answer = importlib.import_module(wanted["module"]).answer  # under confinement: its threads inherit it
    memory = confine.limit_memory(wanted["memory"])
    from whisper_parity.system.frames import ANSWERED, Message

    measures = confine.Confinement((*confinement.measures, *([memory] if memory else [])))
    _send(target, Message(ANSWERED, str(measures)))
    while _serve(source, target, answer, wanted["seconds"]):
        pass


def _package(module: str) -> list[Path]:
    """Folders of a module's package, which need not lie where Python's packages do."""
    specification = importlib.util.find_spec(".".join(module.split(".")[:2]))
    return [Path(folder) for folder in (specification and specification.submodule_search_locations) or []]


def _serve(source: int, target: int, answer: Callable[..., Any], seconds: float) -> bool:
    """Answer one request; False when there are no more."""
    from whisper_parity.system.frames import FAILED, REFUSED, Message, receive

    try:
        request = receive(lambda count: _read(source, count), WITHOUT_LIMIT)
    except EOFError:
        return False
    confine.limit_processor(seconds)
    try:
        reply = answer(json.loads(request.text), request.arrays)
    except ParityError as error:
        reply = Message(REFUSED if isinstance(error, InputError) else FAILED, str(error))
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything
        reply = Message(FAILED, f"{type(error).__name__}: {first_line(error)}")
    _send(target, reply)
    return True


def _channel() -> tuple[int, int]:
    """Stdin and stdout under other numbers: what a library prints goes to stderr."""
    source, target = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, target


def _read(descriptor: int, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        chunk = os.read(descriptor, min(count - len(received), 2**20))
        if not chunk:
            raise EOFError
        received += chunk
    return bytes(received)


def _send(descriptor: int, message: Any) -> None:
    from whisper_parity.system.frames import parts

    for part in parts(message):
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


if __name__ == "__main__":
    main(*sys.argv[1:])
