"""Check what a device has and what a run would lack."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from whisper_parity.backends.dla.link import device as link_device
from whisper_parity.backends.dla.link.adb import SHORT_S
from whisper_parity.backends.dla.link.device import Device
from whisper_parity.backends.dla.link.faults import DeviceError
from whisper_parity.backends.dla.sessions.neuronrt import USUAL_PLACES

LIBRARY_FOLDERS = ("/vendor/lib64/mt8189", "/vendor/lib64", "/usr/lib", "/usr/lib64")
LIBRARY_NAMES = ("libneuron_runtime.8.so", "libneuron_runtime.7.so", "libneuron_runtime.6.so", "libneuron_runtime.so")
NEEDED_BYTES = 300 << 20
"""Encoder, decoder and token embedding of Whisper base, and the files of a run."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a run needs."""

    name: str
    good: bool
    found: str


def checks(device: Device) -> list[Check]:
    """All checks, from the link to the runtime."""
    try:
        facts = link_device.facts(device)
    except DeviceError as error:
        return [Check("work folder", False, str(error))]
    space_ok = facts.free_bytes < 0 or facts.free_bytes >= NEEDED_BYTES
    clock_ok = abs(facts.clock_s - link_device.now()) < 86_400
    return [
        Check("shell", True, f"{facts.name}, {facts.system or 'unknown system'}, {facts.machine}"),
        Check("work folder", True, facts.work_folder),
        Check("free space", space_ok, f"{facts.free_bytes / 2**20:.0f} MiB" if facts.free_bytes >= 0 else "unknown"),
        Check("sha256sum", device.script("command -v sha256sum").code == 0, "verifies what was pushed"),
        Check("clock", True, link_device.date(facts.clock_s) + ("" if clock_ok else " (wrong, and not used)")),
        *tools(device),
    ]


def tools(device: Device) -> list[Check]:
    """The runtimes: the library or neuronrt is enough."""
    library, version = runtime_library(device), neuronrt(device)
    either = bool(library or version)
    return [
        Check("libneuron_runtime", either, library or f"not found{', not needed beside neuronrt' if either else ''}"),
        Check("neuronrt", either, version or f"not found{', not needed beside the library' if either else ''}"),
        Check("loads", either, _loads(version) or "DLA files of the runtime's own major version"),
    ]


def features(device: Device) -> str:
    """Features of the device's adbd, as adb lists them."""
    completed = device.adb.run("-s", device.serial, "features", limit_s=SHORT_S)
    return ", ".join(completed.out.decode(errors="replace").split()) if completed.code == 0 else ""


def runtime_library(device: Device) -> str:
    """Path of the Neuron runtime's library; "" if it is in no known place."""
    configured = device.settings.runtime_library
    paths = [configured] if configured else [f"{folder}/{name}" for folder in LIBRARY_FOLDERS for name in LIBRARY_NAMES]
    quoted = " ".join(shlex.quote(place) for place in paths)
    search = f'for f in {quoted} $(echo "$LD_LIBRARY_PATH" | tr ":" "\\n" | sed "s,$,/libneuron_runtime.so,")'
    completed = device.script(f'{search}; do [ -e "$f" ] && echo "$f" && exit 0; done; exit 1')
    return completed.out.decode(errors="replace").strip() if completed.code == 0 else ""


def neuronrt(device: Device) -> str:
    """Path and version of neuronrt; "" if there is none."""
    paths = [device.settings.neuronrt] if device.settings.neuronrt else ["neuronrt", *USUAL_PLACES]
    search = " || ".join(f"command -v {shlex.quote(place)}" for place in paths)
    completed = device.script(f'p=$({search}) && echo "$p" && "$p" -v 2>&1')
    return " ".join(completed.out.decode(errors="replace").split())[:120] if completed.code == 0 else ""


def _loads(version: str) -> str:
    major = re.search(r"Version:\s*(\d+)", version)
    return f"DLA files of major version {major[1]}" if major else ""
