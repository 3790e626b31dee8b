"""What a device has, and what a run would miss."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from whisper_parity.backends.dla.link import device as asking
from whisper_parity.backends.dla.link.adb import SHORT_S
from whisper_parity.backends.dla.link.device import Device
from whisper_parity.backends.dla.link.faults import DeviceError
from whisper_parity.backends.dla.sessions.neuronrt import USUAL_PLACES

LIBRARY_FOLDERS = ("/vendor/lib64/mt8189", "/vendor/lib64", "/usr/lib", "/usr/lib64")
LIBRARY_NAMES = ("libneuron_runtime.8.so", "libneuron_runtime.7.so", "libneuron_runtime.6.so", "libneuron_runtime.so")
NEEDED_BYTES = 300 << 20
"""Encoder, decoder and token embedding of Whisper base, and what runs write beside them."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a run needs."""

    name: str
    good: bool
    found: str


def checks(found: Device) -> list[Check]:
    """All of them, from the link to the runtime."""
    try:
        facts = asking.facts(found)
    except DeviceError as error:
        return [Check("work folder", False, str(error))]
    enough = facts.free_bytes < 0 or facts.free_bytes >= NEEDED_BYTES
    clock = abs(facts.clock_s - asking.now()) < 86_400
    return [
        Check("shell", True, f"{facts.name}, {facts.system or 'unknown system'}, {facts.machine}"),
        Check("work folder", True, facts.work_folder),
        Check("free space", enough, f"{facts.free_bytes / 2**20:.0f} MiB" if facts.free_bytes >= 0 else "unknown"),
        Check("sha256sum", found.script("command -v sha256sum").code == 0, "verifies what was pushed"),
        Check("clock", True, asking.date(facts.clock_s) + ("" if clock else " (wrong, and not used)")),
        *tools(found),
    ]


def tools(found: Device) -> list[Check]:
    """What runs models there: one of the two is enough."""
    library, version = runtime_library(found), neuronrt(found)
    either = bool(library or version)
    return [
        Check("libneuron_runtime", either, library or f"not found{', not needed beside neuronrt' if either else ''}"),
        Check("neuronrt", either, version or f"not found{', not needed beside the library' if either else ''}"),
        Check("loads", either, _loads(version) or "DLA files of the runtime's own major version"),
    ]


def features(found: Device) -> str:
    """Features of the adbd, as adb lists them."""
    answer = found.adb.run("-s", found.serial, "features", limit_s=SHORT_S)
    return ", ".join(answer.out.decode(errors="replace").split()) if answer.code == 0 else ""


def runtime_library(found: Device) -> str:
    """Path of the Neuron runtime's library; "" when none is in a known place."""
    configured = found.settings.runtime_library
    places = (
        [configured] if configured else [f"{folder}/{name}" for folder in LIBRARY_FOLDERS for name in LIBRARY_NAMES]
    )
    quoted = " ".join(shlex.quote(place) for place in places)
    search = f'for f in {quoted} $(echo "$LD_LIBRARY_PATH" | tr ":" "\\n" | sed "s,$,/libneuron_runtime.so,")'
    answer = found.script(f'{search}; do [ -e "$f" ] && echo "$f" && exit 0; done; exit 1')
    return answer.out.decode(errors="replace").strip() if answer.code == 0 else ""


def neuronrt(found: Device) -> str:
    """Path and version of the tool; "" when it is not there."""
    places = [found.settings.neuronrt] if found.settings.neuronrt else ["neuronrt", *USUAL_PLACES]
    search = " || ".join(f"command -v {shlex.quote(place)}" for place in places)
    answer = found.script(f'p=$({search}) && echo "$p" && "$p" -v 2>&1')
    return " ".join(answer.out.decode(errors="replace").split())[:120] if answer.code == 0 else ""


def _loads(version: str) -> str:
    number = re.search(r"Version:\s*(\d+)", version)
    return f"DLA files of major version {number[1]}" if number else ""
