"""A simulated device with everything on it that a board has: the stand-in runtime beside the stand-in tools."""

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

    Without a C++ compiler it has no runtime library, as some boards have none that the shell may load: neuronrt is
    there all the same.

    Args:
        threads: threads of its "NPU".
        environment: variables of its commands: PARITY_SIM_FAULT and the like.
        root: its folder, which is kept; None for a temporary one.
        settings: as `SimulatedDevice` has them.
    """
    own = {"PARITY_SIM_THREADS": str(threads), **_library(), **(environment or {})}
    with SimulatedDevice(environment=own, root=root, **settings) as device:
        yield device


def write_sdk(folder: Path) -> Path:
    """A folder laid out as the Neuron SDK, its compiler the stand-in: to try a CI before the real one is there."""
    tool = folder / "host" / "bin" / "ncc-tflite"
    tool.parent.mkdir(parents=True, exist_ok=True)
    (folder / "host" / "lib").mkdir(exist_ok=True)
    call = f"{shlex.quote(sys.executable)} -m whisper_parity.backends.dla.simulator.ncc_tflite"
    tool.write_text(f'#!/bin/sh\n# A stand-in: compiles nothing.\nexec {call} "$@"\n')
    tool.chmod(0o755)
    return folder


def _library() -> dict[str, str]:
    """Where the device's linker finds the stand-in runtime; nothing when it cannot be built here."""
    try:
        library = native.stand_in_runtime()
        return {"LD_LIBRARY_PATH": str(library.parent), "PARITY_SIM_LITERT": str(native.litert_library())}
    except (BuildError, UnavailableError):
        return {}
