"""How much memory this process may still take: not all of the machine's in a container."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def available() -> int:
    """Free memory [bytes] of the machine, and of the control groups that this process is in; 0 where nobody says."""
    return min([*_of_machine(), *_of_groups()], default=0)


def _of_machine() -> Iterator[int]:
    with suppress(OSError, ValueError, IndexError):
        for line in MEMINFO.read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _of_groups() -> Iterator[int]:
    """What memory.max of version 2 leaves, here and in the groups around; "max" is no limit."""
    with suppress(OSError):
        for line in OWN_CGROUP.read_text("utf-8").splitlines():
            number, _, place = line.split(":", 2)
            folder = CGROUP / place.lstrip("/")
            for group in (folder, *folder.parents) if number == "0" else ():
                if group.is_relative_to(CGROUP):
                    with suppress(OSError, ValueError):
                        files = (group / "memory.max", group / "memory.current")
                        limit, used = (int(file.read_text("utf-8")) for file in files)
                        yield max(0, limit - used)
