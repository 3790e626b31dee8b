"""One harness at a time on a device: the lock is a folder there, created atomically, that names its holder."""

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
    """This process: "user@host pid 123"."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


@contextmanager
def held(device: Device, facts: Facts) -> Iterator[None]:
    """Hold the device's lock.

    Takes over a lock whose process on this machine has ended, or that is older than the device's last boot.

    Raises:
        DeviceError: BUSY, when another process holds it for longer than `lock_wait_s`.
    """
    folder = f"{facts.work_folder}/lock"
    deadline = time.monotonic() + device.settings.lock_wait_s
    while (holder := _take(device, folder, facts.boot_id)) is not None:
        if _is_stale(holder, facts.boot_id):
            device.shell("rm", "-rf", folder)
        elif time.monotonic() > deadline:
            raise DeviceError(
                Fault.BUSY, device.serial, f"used by {holder.partition(chr(10))[0] or 'an unnamed harness'}",
                hint="Wait for it, set lock_wait_s, or run `parity device clean` if it is gone",
            )  # fmt: skip
        else:
            time.sleep(POLL_S)
    try:
        yield
    finally:
        with suppress(DeviceError):  # if the device is gone, the next harness finds the lock stale
            device.shell("rm", "-rf", folder, limit_s=10.0)


def _take(device: Device, folder: str, boot_id: str) -> str | None:
    """Try to take the lock; None when it is ours, else the record of its holder."""
    record = shlex.quote(f"{owner()}\n{boot_id}\n")
    quoted = shlex.quote(folder)
    completed = device.script(
        f"mkdir -p {shlex.quote(posixpath.dirname(folder))} && if mkdir {quoted} 2>/dev/null; "
        f"then printf %s {record} > {quoted}/owner; else [ -d {quoted} ] || exit 1; "
        f"cat {quoted}/owner 2>/dev/null; exit 7; fi"
    )
    if completed.code == 7:
        return completed.out.decode(errors="replace").strip()
    if completed.code:
        fault = faults.of_adb(completed.message) or Fault.READ_ONLY
        raise DeviceError(fault, device.serial, f"{folder}: {completed.message}")
    return None


def _is_stale(holder: str, boot_id: str) -> bool:
    """Whether the holder is certainly gone, or was this process before the link was lost."""
    identity, _, boot = holder.partition("\n")
    if identity == owner() or (boot and boot != boot_id):
        return True
    user, _, pid = identity.partition(" pid ")
    if user != owner().partition(" pid ")[0] or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
