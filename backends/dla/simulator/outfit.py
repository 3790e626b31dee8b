"""A simulated device equipped like a board: the stand-in runtime and the stand-in tools."""

from __future__ import annotations

import shlex
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.link.adb import Adb
from whisper_parity.backends.dla.simulator import auth
from whisper_parity.backends.dla.simulator.auth import PublicKey
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.errors import BuildError, InputError, OutputError, UnavailableError, first_line


@contextmanager
def started(
    *, threads: int = 2, environment: Mapping[str, str] | None = None, root: Path | None = None, **settings: Any
) -> Iterator[SimulatedDevice]:
    """A running simulated device.

    Without a C++ compiler it has no runtime library, only neuronrt, like boards whose library the shell may not load.

    Args:
        threads: threads of its "NPU".
        environment: extra variables of its commands, such as PARITY_SIM_FAULT.
        root: its folder, which is kept; None for a temporary one.
        settings: see `SimulatedDevice`.
    """
    variables = {"PARITY_SIM_THREADS": str(threads), **_library(), **(environment or {})}
    with SimulatedDevice(environment=variables, root=root, **settings) as device:
        yield device


def keys_of(server: Adb) -> tuple[PublicKey, ...]:
    """What a device has to accept so that a server of our own gets in."""
    return (auth.read(server.key),) if server.key else ()


@dataclass(frozen=True, slots=True)
class Admission:
    """Who is let in to a simulated device that a user starts."""

    key: Path
    """Private key of the device's own pair: ADB_VENDOR_KEYS of whoever is to get in."""
    accepted: tuple[PublicKey, ...]
    note: str
    """What became of the user's own key; "" when there is none."""


def admission(binary: Path, folder: Path) -> Admission:
    """A new key in a device's folder, and the key by which adb servers of the same user introduce themselves.

    Raises:
        DeviceError: adb makes no key.
        OutputError: the folder cannot be written, or everybody may write it: the device runs what lies there.
    """
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & stat.S_IWOTH:
            raise OutputError(f"{folder}: every user may write it", hint=f"chmod o-w {shlex.quote(str(folder))}")
        key = adb.new_key(binary, folder)
    except OSError as error:
        raise OutputError(f"{folder}: no folder for a device ({first_line(error)})") from error
    users = Path.home() / ".android" / "adbkey.pub"
    accepted = (auth.read(key.with_suffix(".pub")),)
    if not users.is_file():
        return Admission(key, accepted, "")
    try:
        return Admission(key, (*accepted, auth.read_own(users)), f"your own key is accepted too ({users})")
    except InputError as error:
        return Admission(key, accepted, f"your own key is not accepted: {error}")


def write_sdk(folder: Path) -> Path:
    """Write a folder laid out like the Neuron SDK with the stand-in compiler, to test a CI without the real one."""
    tool = folder / "host" / "bin" / "ncc-tflite"
    tool.parent.mkdir(parents=True, exist_ok=True)
    (folder / "host" / "lib").mkdir(exist_ok=True)
    call = f"{shlex.quote(sys.executable)} -m whisper_parity.backends.dla.simulator.ncc_tflite"
    tool.write_text(f'#!/bin/sh\n# A stand-in: compiles nothing.\nexec {call} "$@"\n')
    tool.chmod(0o755)
    return folder


def _library() -> dict[str, str]:
    """Variables that point to the stand-in runtime; none if it cannot be built here."""
    try:
        library = native.stand_in_runtime()
        return {"LD_LIBRARY_PATH": str(library.parent), "PARITY_SIM_LITERT": str(native.litert_library())}
    except (BuildError, UnavailableError):
        return {}
