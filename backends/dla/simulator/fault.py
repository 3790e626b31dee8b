"""Scripted faults of the link and the file system, as data. The stand-in tools have their own (PARITY_SIM_FAULT)."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """What goes wrong."""

    UNPLUG_IN_PUSH = "unplug_in_push"
    UNPLUG_IN_PULL = "unplug_in_pull"
    UNPLUG_IN_RUN = "unplug_in_run"
    """In a shell, exec or local stream."""
    ADBD_RESTART = "adbd_restart"
    """The transport drops in a shell, exec or local stream; the adbd comes back, detached processes live on."""
    REBOOT = "reboot"
    """Like ADBD_RESTART, and every process dies and the boot id changes."""
    GARBAGE = "garbage"
    """A local stream delivers random bytes from `after_bytes` to its end."""
    OFFLINE = "offline"
    """CNXN is never answered."""
    UNAUTHORIZED = "unauthorized"
    """No key is accepted."""
    DISK_FULL = "disk_full"
    """Pushes fail after `after_bytes` in total, and `df` then shows nothing free."""
    READ_ONLY = "read_only"
    """Pushes and commands that change files fail."""
    WRONG_CLOCK = "wrong_clock"
    """The clock starts at 1970 on boot; affects `date` and the times of new files."""

    @property
    def is_standing(self) -> bool:
        """Whether it lasts until `heal`; the others strike `times` times."""
        return self in _STANDING


RUNTIME_FAULTS = (
    "inference_error", "out_of_memory", "hang", "crash", "nan_output", "swapped_output", "short_output", "wrong_shape",
    "bad_data", "no_output", "stale_output",
)  # fmt: skip
"""Values of PARITY_SIM_FAULT; "hang:3" starts at a process's third inference."""

_STANDING = frozenset({Kind.OFFLINE, Kind.UNAUTHORIZED, Kind.DISK_FULL, Kind.READ_ONLY, Kind.WRONG_CLOCK})

IN_RUN = frozenset({Kind.UNPLUG_IN_RUN, Kind.ADBD_RESTART, Kind.REBOOT})
BACK_AFTER_S = 0.5
"""How long a restart takes if `after_s` is None."""


@dataclass(frozen=True, slots=True)
class LinkFault:
    """One fault and when it strikes.

    Raises:
        ValueError: a count below 1, or above 1 for a standing fault; negative bytes or seconds.
    """

    kind: Kind
    after_bytes: int = 0
    """Payload bytes of a matching stream or file before it strikes (see `Kind` for DISK_FULL and GARBAGE)."""
    times: int = 1
    """How often it strikes."""
    after_s: float | None = None
    """How long the device is away; None: until `plug_in`, or 0.5 s for a restart."""
    service: str = ""
    """Text that the service ("shell,v2:neuronrt ...", "localabstract:...") or the path of the file must contain."""
    wait_s: float = 0.0
    """Delay from `after_bytes` to the strike, so that a silent command is already running."""

    def __post_init__(self) -> None:
        if self.times < 1 or (self.times != 1 and self.kind.is_standing):
            raise ValueError(f"{self.kind.value}: times is {self.times}, expected 1, or more unless it is standing")
        if min(self.after_bytes, self.after_s or 0.0, self.wait_s) < 0:
            raise ValueError(f"{self.kind.value}: bytes and seconds cannot be negative")

    @property
    def back_after_s(self) -> float | None:
        """Seconds until the device is back; None for never."""
        restarts = self.kind in (Kind.ADBD_RESTART, Kind.REBOOT)
        return BACK_AFTER_S if restarts and self.after_s is None else self.after_s


class Faults:
    """The faults of one device that have not struck yet. Thread-safe."""

    def __init__(self, faults: Iterable[LinkFault] = ()) -> None:
        self._lock = threading.Lock()
        self._left = [(fault, fault.times) for fault in faults]

    def standing(self, kind: Kind) -> LinkFault | None:
        """The standing fault of a kind, or None."""
        with self._lock:
            return next((fault for fault, _ in self._left if fault.kind is kind), None)

    def take(self, kinds: Iterable[Kind], service: str, carried: int) -> LinkFault | None:
        """Take the first fault that strikes now, or None."""
        matching = frozenset(kinds)
        with self._lock:
            for index, (fault, left) in enumerate(self._left):
                if left and fault.kind in matching and fault.service in service and carried >= fault.after_bytes:
                    self._left[index] = (fault, left - 1)
                    return fault
        return None

    def add(self, fault: LinkFault) -> None:
        """Add one more fault."""
        with self._lock:
            self._left.append((fault, fault.times))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._left.clear()
