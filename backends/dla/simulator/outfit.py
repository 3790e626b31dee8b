"""A simulated device equipped like a board: the stand-in runtime and the stand-in tools."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.errors import BuildError, UnavailableError


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
