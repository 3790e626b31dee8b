"""How many cores this process may really use: not all of the machine's in a container or under taskset."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def available() -> int:
    """Cores that the scheduler gives to this process: its affinity, and the quota of its control groups; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """Quotas [cores] of the control groups that this process is in, and of those around them."""
    try:
        lines = OWN_CGROUPS.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        root = CGROUPS / controllers if controllers else CGROUPS
        folder = root / place.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):
                yield from _quota(group)


def _quota(group: Path) -> Iterator[float]:
    """cpu.max of version 2, "max 100000" without a limit; two files of version 1, -1 without one."""
    with suppress(OSError, ValueError):
        share, period = (group / "cpu.max").read_text("utf-8").split()
        yield int(share) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        share, period = ((group / f"cpu.cfs_{name}_us").read_text("utf-8") for name in ("quota", "period"))
        if int(share) > 0:
            yield int(share) / int(period)
