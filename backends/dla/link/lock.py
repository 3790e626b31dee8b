"""One harness at a time on a device: a folder there, made in one step, that names its owner."""

from __future__ import annotations

import getpass
import os
import posixpath
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from whisper_parity.backends.dla.link import faults
from whisper_parity.backends.dla.link.device import Device, Facts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault

POLL_S = 0.5


def owner() -> str:
    """Who we are: "user@host pid 123"."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


@contextmanager
def held(device: Device, facts: Facts) -> Iterator[None]:
    """Hold the device's lock.

    A lock of a process of this machine that no longer lives, or from before the device's last boot, is taken over.

    Raises:
        DeviceError: BUSY, when another one holds it for longer than `lock_wait_s`.
    """
    folder = f"{facts.work_folder}/lock"
    deadline = time.monotonic() + device.settings.lock_wait_s
    while (other := _take(device, folder, facts.boot_id)) is not None:
        if _is_stale(other, facts.boot_id):
            device.shell("rm", "-rf", folder)
        elif time.monotonic() > deadline:
            raise DeviceError(
                Fault.BUSY, device.serial, f"used by {other.partition(chr(10))[0] or 'an unnamed harness'}",
                hint="Wait for it, set lock_wait_s, or run `parity device clean` if it is gone",
            )  # fmt: skip
        else:
            time.sleep(POLL_S)
    try:
        yield
    finally:
        with suppress(DeviceError):  # a device that went away takes its lock with it, or it is found stale
            device.shell("rm", "-rf", folder, limit_s=10.0)


def _take(device: Device, folder: str, boot_id: str) -> str | None:
    """Try to take the lock; None when it is ours, else what the other one wrote."""
    line = shlex.quote(f"{owner()}\n{boot_id}\n")
    place = shlex.quote(folder)
    found = device.script(
        f"mkdir -p {shlex.quote(posixpath.dirname(folder))} && if mkdir {place} 2>/dev/null; "
        f"then printf %s {line} > {place}/owner; else [ -d {place} ] || exit 1; "
        f"cat {place}/owner 2>/dev/null; exit 7; fi"
    )
    if found.code == 7:
        return found.out.decode(errors="replace").strip()
    if found.code:
        fault = faults.of_adb(found.message) or Fault.READ_ONLY
        raise DeviceError(fault, device.serial, f"{folder}: {found.message}")
    return None


def _is_stale(other: str, boot_id: str) -> bool:
    """Whether the owner is gone for sure, or was ourselves before the link was lost."""
    name, _, boot = other.partition("\n")
    if name == owner() or (boot and boot != boot_id):
        return True
    who, _, pid = name.partition(" pid ")
    if who != owner().partition(" pid ")[0] or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
